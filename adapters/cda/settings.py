"""The configuration of the two ways in for CDA: an HTTP route and a watched folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20


class CdaSourceSettings(BaseModel):
    """What every CDA source has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="The source's name: lower case letters, digits, - and _, at most 63.",
    )
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
    commit_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="Longest wait for the journal's commit."
    )


class CdaHttpSourceSettings(CdaSourceSettings):
    """``POST /intake/cda`` on the gateway's HTTP server."""

    type: Literal["cda-http"] = "cda-http"
    memory_bytes_max: int = Field(
        default=MIB,
        ge=1024,
        le=64 * MIB,
        description="A body up to this size stays in memory; a larger one goes to a file.",
    )
    spool_folder: Path | None = Field(
        default=None,
        description="Where larger bodies wait for the commit; the system's temporary folder "
        "when not given. The source makes its own folder there and, where the place is "
        "configured, removes what a crash left of it.",
    )
    idle_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="Longest silence while a body arrives."
    )
    body_timeout_seconds: float = Field(
        default=300.0, gt=0, le=86_400, description="Longest time for a whole body."
    )
    uploads_max: int = Field(
        default=64, ge=1, le=10_000, description="Bodies that may be arriving at the same time."
    )
    retry_after_seconds: int = Field(
        default=5, ge=1, le=3600, description="What Retry-After says when nothing can be kept."
    )


class CdaFolderSourceSettings(CdaSourceSettings):
    """A folder with ``incoming/``, ``accepted/`` and ``refused/``."""

    type: Literal["cda-folder"] = "cda-folder"
    path: Path = Field(
        description="The folder that holds incoming/, accepted/ and refused/; all three must "
        "be on one file system, and are made when they are not there."
    )
    poll_seconds: float = Field(
        default=1.0, gt=0, le=3600, description="Time between two looks into incoming/."
    )
    settle_seconds: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="How long a file's size and time must have stayed the same before it is "
        "read. Writers that rename their finished file into incoming/ need none of it.",
    )
    files_per_look_max: int = Field(
        default=500, ge=1, le=100_000, description="Most files taken up in one look."
    )
