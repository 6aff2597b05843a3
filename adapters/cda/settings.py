"""The configuration of the two ways in for CDA: an HTTP route and a watched folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.doors.settings import MIB, DocumentDoorSettings, FolderDoorSettings, HttpDoorSettings


class CdaSourceSettings(DocumentDoorSettings):
    """What every CDA source has."""

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
    check: Literal["report", "flag", "refuse"] = Field(
        default="report",
        description="What a validation report does. report: it is made when somebody looks at it. "
        "flag: each document is judged before it is kept, and its message says how many errors it "
        "has. refuse: a document with an error is refused, with the reasons.",
    )
    reads_max: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Documents read at the same time; each takes about four times its size.",
    )


class CdaSettings(BaseModel):
    """How CDA documents are judged, wherever they come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    packs: Path | None = Field(
        default=None,
        description="The folder of a validation pack: XML schema, schematrons and value sets "
        "(docs/cda-validation.md). Without one, documents are judged by Écluse's own rules alone.",
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Processes that judge documents, started when the first one is; each takes "
        "200 to 400 MB with the official rules.",
    )
    seconds_max: float = Field(
        default=30.0,
        gt=0,
        le=600,
        description="Longest time for one document; then the check is given up and says so.",
    )


class CdaHttpSourceSettings(CdaSourceSettings, HttpDoorSettings):
    """``POST /intake/cda`` on the gateway's HTTP server."""

    type: Literal["cda-http"] = "cda-http"
    documents_max: int = Field(
        default=100, ge=1, le=10_000, description="Most documents in one multipart body."
    )
    multipart_bytes_max: int = Field(
        default=256 * MIB,
        ge=1024,
        le=4096 * MIB,
        description="Largest multipart body, all its documents together, in bytes.",
    )


class CdaFolderSourceSettings(CdaSourceSettings, FolderDoorSettings):
    """A folder with ``incoming/``, ``accepted/`` and ``refused/``."""

    type: Literal["cda-folder"] = "cda-folder"
