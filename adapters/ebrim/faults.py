"""Why a submission is refused: a cause, and the error code that IHE has for it."""

from __future__ import annotations

from gateway.model import Cause, CauseCode


class Refused(Exception):
    """A submission is not taken. ``cause.protocol_code`` is the error code of ITI TF-3 table
    4.2.4.1-2 where there is one; ``cause.location`` the place in it. No patient's value.

    ``value`` is what of the sender's own is wrong: for the answer to that sender (the table
    wants it in codeContext), and for no other place.
    """

    def __init__(
        self, code: CauseCode, detail: str, location: str = "", xds: str = "", value: str = ""
    ) -> None:
        super().__init__(detail)
        said = f"{detail} ({xds})" if xds else detail
        self.cause = Cause(code=code, detail=said, location=location, protocol_code=xds)
        self.detail = detail
        self.value = value


def hostile(detail: str, location: str = "") -> Refused:
    """Nothing that a well-meaning writer makes."""
    return Refused(CauseCode.HOSTILE_CONTENT, detail, location)


def metadata(
    detail: str, location: str, xds: str = "XDSRepositoryMetadataError", value: str = ""
) -> Refused:
    """The metadata cannot be used."""
    return Refused(CauseCode.REQUIRED_FIELD_MISSING, detail, location, xds, value)


def mismatch(
    detail: str, location: str, xds: str = "XDSRepositoryMetadataError", value: str = ""
) -> Refused:
    """Metadata and content say different things."""
    return Refused(CauseCode.CONTENT_MISMATCH, detail, location, xds, value)
