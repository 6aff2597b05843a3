"""The configuration of the sources of HPRIM: a watched folder and an HTTP route."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from adapters.doors.settings import MIB, DoorSettings, FolderDoorSettings, HttpDoorSettings
from adapters.hprim.charset import DEFAULT, Name


class HprimSourceSettings(DoorSettings):
    """What every HPRIM source has."""

    zone: str = Field(
        default="Europe/Paris", description="IANA time zone of the times, which have no offset."
    )
    authorities: dict[str, str] = Field(
        default_factory=dict,
        description="Assigning authority name to OID. Under the empty name: the authority of the "
        "patient identifiers P-2 (HPRIM Santé) and line 1 (HPRIM Médecin), which name none. "
        "Under INS-NIR and the like: what stands as type beside a number in P-11.",
    )
    charsets: tuple[Name, ...] = Field(
        default=DEFAULT,
        min_length=1,
        description="Character sets to try, in this order: utf-8, windows-1252, iso-8859-1, "
        "iso-8859-15, cp850, cp437, mac-roman. A file of which no one fits is refused.",
    )
    file_bytes_max: int = Field(
        default=16 * MIB, ge=1024, le=256 * MIB, description="Largest file taken, in bytes."
    )
    messages_max: int = Field(
        default=1_000, ge=1, le=100_000, description="Most patients in one file."
    )

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{zone!r} is not a time zone such as Europe/Paris") from None
        return zone


class HprimHttpSourceSettings(HprimSourceSettings, HttpDoorSettings):
    """``POST /intake/hprim`` on the gateway's HTTP server."""

    type: Literal["hprim-http"] = "hprim-http"


class HprimFolderSourceSettings(HprimSourceSettings, FolderDoorSettings):
    """A folder of HPRIM files with ``incoming/``, ``accepted/`` and ``refused/``."""

    type: Literal["hprim-folder"] = "hprim-folder"
