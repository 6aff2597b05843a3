"""Why an archive is refused: a cause, and the error code that XDS has for it."""

from __future__ import annotations

from gateway.model import Cause, CauseCode


class Refused(Exception):
    """The archive is not taken. ``cause.protocol_code`` is the error code of ITI TF-3 table
    4.2.4.1-2 where there is one; ``cause.location`` the file in the archive. No patient's value."""

    def __init__(self, code: CauseCode, detail: str, location: str = "", xds: str = "") -> None:
        super().__init__(detail)
        said = f"{detail} ({xds})" if xds else detail
        self.cause = Cause(code=code, detail=said, location=location, protocol_code=xds)


def hostile(detail: str, location: str = "") -> Refused:
    """Nothing that a well-meaning writer makes."""
    return Refused(CauseCode.HOSTILE_CONTENT, detail, location)


def no_archive(detail: str) -> Refused:
    """It is no zip, or no XDM."""
    return Refused(CauseCode.NOT_THE_FORMAT, detail)


def metadata(detail: str, location: str, xds: str = "XDSRepositoryMetadataError") -> Refused:
    """The metadata cannot be used."""
    return Refused(CauseCode.REQUIRED_FIELD_MISSING, detail, location, xds)


def mismatch(detail: str, location: str, xds: str = "XDSRepositoryMetadataError") -> Refused:
    """Metadata and content say different things."""
    return Refused(CauseCode.CONTENT_MISMATCH, detail, location, xds)
