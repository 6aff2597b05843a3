"""What every source that stores DICOM objects has, whichever way they come: by C-STORE, over
DICOMweb, on media.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Uid = Annotated[str, StringConstraints(pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$", max_length=64)]
"""A UID (PS3.5 9.1)."""


class StoreSettings(BaseModel):
    """What is accepted, how long a study is waited for, whose a patient's number is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$",
        description="The source's name in the journal, the console and the metrics.",
    )
    sop_classes: list[Uid] = Field(
        default_factory=list,
        max_length=500,
        description="Storage SOP classes that are accepted; empty: every one of the standard.",
    )
    transfer_syntaxes: list[Uid] = Field(
        default_factory=list,
        max_length=100,
        description="Transfer syntaxes that are accepted, in order of preference; empty: every "
        "one of the standard that carries its pixels, explicit VR little endian first.",
    )
    object_bytes_max: int = Field(
        default=4 << 30, ge=1 << 10, description="The largest object that is kept, in bytes."
    )
    free_bytes_min: int = Field(
        default=1 << 30,
        ge=0,
        description="Objects are refused (0xA700) when the spool's file system has less free.",
    )
    commit_timeout_seconds: float = Field(
        default=30.0, gt=0, le=300, description="How long a sender waits for the journal."
    )
    quiet_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="Silence after which a study is taken as whole."
    )
    reported_quiet_seconds: float = Field(
        default=5.0,
        ge=0,
        le=86_400,
        description="The same once a validated report of the study has come (ORU, MDM, CDA).",
    )
    partial_after_seconds: float = Field(
        default=3_600.0,
        gt=0,
        le=7 * 86_400,
        description="How long a study waits for instances that are announced, as by a performed "
        "procedure step or a commitment request; then it goes on as it is.",
    )
    patient_id_authority: Uid | None = Field(
        default=None,
        description="OID of the authority of a PatientID without an issuer; none: such a "
        "PatientID identifies nobody.",
    )
    zone: str = Field(default="Europe/Paris", description="IANA time zone of times without one.")
    authorities: dict[str, str] = Field(
        default_factory=dict,
        description="Issuer of Patient ID to OID of the authority; the empty name is the same as "
        "patient_id_authority.",
    )

    @model_validator(mode="after")
    def _default_authority(self) -> Self:
        # Mappings look the authority of what names none up under the empty name.
        if self.patient_id_authority is not None:
            self.authorities.setdefault("", self.patient_id_authority)
        return self
