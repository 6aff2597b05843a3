"""What of the held studies others may find and retrieve."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class HoldingsSettings(BaseModel):
    """What queries and retrievals (C-FIND, C-MOVE, C-GET, DICOMweb) leave out. The bytes stay as
    evidence, and the console shows them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    denied: Literal["hide", "show"] = Field(
        default="hide",
        description="Studies of a patient who opposes that documents enter the record, or whose "
        "record is closed: not found and not retrieved, or as all others (the archive of a "
        "hospital that wants its own images back).",
    )
    rejected_for_quality: Literal["hide", "show"] = Field(
        default="hide",
        description="Instances that a rejection note takes out for quality reasons (113001 DCM, "
        "IHE IOCM): not found and not retrieved, or for regular use. What is rejected for patient "
        "safety, as an incorrect worklist entry or as expired is never shown.",
    )
