"""The configuration of a watched folder for interchange media."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from adapters.dicom.store_settings import StoreSettings


class DicomFolderSourceSettings(StoreSettings):
    """A folder with ``incoming/``, ``accepted/`` and ``refused/`` in which media are put: each a
    folder, with its DICOMDIR where it has one, or a single DICOM file."""

    type: Literal["dicom-folder"] = Field(default="dicom-folder", description="The kind of source.")
    path: Path = Field(
        description="The folder that holds incoming/, accepted/ and refused/; all three must "
        "be on one file system, and are made when they are not there."
    )
    poll_seconds: float = Field(
        default=1.0, gt=0, le=3_600, description="Time between two looks into incoming/."
    )
    settle_seconds: float = Field(
        default=5.0,
        ge=0,
        le=3_600,
        description="How long everything in a medium must have stayed the same before it is read. "
        "Writers that rename their finished folder into incoming/ need none of it.",
    )
    medium_is_study: bool = Field(
        default=True,
        description="A medium whose DICOMDIR names nothing that is missing or refused holds all "
        "of its studies: they go on at once. Set to false where one study comes on several.",
    )
