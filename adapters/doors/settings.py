"""The configuration that every watched folder and every HTTP intake has."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20


class DoorSettings(BaseModel):
    """What both ways in have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="The source's name: lower case letters, digits, - and _, at most 63.",
    )
    commit_timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="Longest wait for the journal's commit."
    )


class DocumentDoorSettings(DoorSettings):
    """What every way in for documents has, alone or in an archive, a mail or a submission."""

    zone: str = Field(
        default="Europe/Paris",
        description="IANA time zone for times that a document gives without an offset.",
    )
    authorities: dict[str, str] = Field(
        default_factory=dict,
        description="Assigning authority name to OID, for identifiers that carry only a name.",
    )


class HttpDoorSettings(DoorSettings):
    """A route on the gateway's HTTP server."""

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
    large_bodies_max: int = Field(
        default=4,
        ge=1,
        le=1_000,
        description="Bodies beyond memory_bytes_max that are read, and await their commit, at the "
        "same time; a format that is read whole holds each of them in memory about twice.",
    )
    retry_after_seconds: int = Field(
        default=5, ge=1, le=3600, description="What Retry-After says when nothing can be kept."
    )


class FolderDoorSettings(DoorSettings):
    """A folder with ``incoming/``, ``accepted/`` and ``refused/``."""

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
