"""The configuration of the two ways in for XDM archives: an HTTP route and a watched folder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from adapters.doors.settings import MIB, DocumentDoorSettings, FolderDoorSettings, HttpDoorSettings


class XdmSourceSettings(DocumentDoorSettings):
    """What every source of XDM archives has."""

    archive_bytes_max: int = Field(
        default=64 * MIB, ge=1024, le=256 * MIB, description="Largest archive taken, in bytes."
    )
    document_bytes_max: int = Field(
        default=64 * MIB, ge=1024, le=256 * MIB, description="Largest file in it, unpacked."
    )
    unpacked_bytes_max: int = Field(
        default=128 * MIB,
        ge=1024,
        le=512 * MIB,
        description="All files of an archive together, unpacked; they are in memory until they "
        "are kept.",
    )
    files_max: int = Field(
        default=1000, ge=1, le=10_000, description="Most files and folders in one archive."
    )
    ratio_max: int = Field(
        default=200,
        ge=10,
        le=1100,
        description="How many times its packed size a file above 1 MiB may unpack to.",
    )
    reads_max: int = Field(
        default=2, ge=1, le=16, description="Archives that are unpacked at the same time."
    )


class XdmHttpSourceSettings(XdmSourceSettings, HttpDoorSettings):
    """``POST /intake/xdm`` on the gateway's HTTP server."""

    type: Literal["xdm-http"] = "xdm-http"


class XdmFolderSourceSettings(XdmSourceSettings, FolderDoorSettings):
    """A folder with ``incoming/``, ``accepted/`` and ``refused/``."""

    type: Literal["xdm-folder"] = "xdm-folder"
