"""The configuration of the two ways in for CDA: an HTTP route and a watched folder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adapters.doors.settings import MIB, DoorSettings, FolderDoorSettings, HttpDoorSettings


class CdaSourceSettings(DoorSettings):
    """What every CDA source has."""

    zone: str = Field(
        default="Europe/Paris",
        description="IANA time zone for times that the document gives without an offset.",
    )
    authorities: dict[str, str] = Field(
        default_factory=dict,
        description="Assigning authority name to OID, for identifiers that carry only a name.",
    )
    document_bytes_max: int = Field(
        default=64 * MIB,
        ge=1024,
        le=256 * MIB,
        description="Largest document taken, in bytes. 64 MiB holds a PDF of 45 MB in Base64.",
    )
    depth_max: int = Field(
        default=200, ge=20, le=400, description="Deepest nesting of XML elements taken."
    )
    elements_max: int = Field(
        default=500_000, ge=1000, le=5_000_000, description="Most XML elements in one document."
    )
    reads_max: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Documents read at the same time; each takes about four times its size.",
    )


class CdaHttpSourceSettings(CdaSourceSettings, HttpDoorSettings):
    """``POST /intake/cda`` on the gateway's HTTP server."""

    type: Literal["cda-http"] = "cda-http"


class CdaFolderSourceSettings(CdaSourceSettings, FolderDoorSettings):
    """A folder with ``incoming/``, ``accepted/`` and ``refused/``."""

    type: Literal["cda-folder"] = "cda-folder"
