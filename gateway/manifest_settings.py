"""The configuration of imaging manifests."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from adapters.dicom.manifest_profiles import PROFILES, UID_ROOT, UID_ROOT_MAX, Origin, Profile
from adapters.dicom.settings import AeTitle

MANIFEST_SOURCE = "manifest"
"""The name of the source from which manifests come."""

_OID = r"^[0-2](\.(0|[1-9][0-9]*))+$"
_URL = r"^(https?://[!-~]{1,220}[!-.0-~])?$"


class ManifestSettings(BaseModel):
    """A manifest (Key Object Selection) of each imaging study in the record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: Literal["drim-m", "mado", "elga"] = Field(
        description="The dialect: drim-m (France), mado (IHE RAD MADO, Europe), elga (Austria)."
    )
    retrieve_url: str = Field(
        default="",
        pattern=_URL,
        description="Public base URL of the WADO-RS service at which instances are had, without "
        "a slash at its end; /studies/… is added. Needed by drim-m and mado.",
    )
    retrieve_ae_title: AeTitle | None = Field(
        default=None,
        description="AE title from which instances are retrieved. Needed by elga.",
    )
    retrieve_location_uid: str = Field(
        default="",
        pattern=_OID[:-1] + "$|^$",
        max_length=64,
        description="UID of the repository from which instances are retrieved (0040,E011). "
        "Needed by elga.",
    )
    report_url: str = Field(
        default="",
        pattern=_URL,
        description="Public base URL of the FHIR service at which reports are had. With it the "
        "manifest names the reports that are CDA documents (0040,A390).",
    )
    manufacturer: str = Field(
        default="Écluse", min_length=1, max_length=64, description="Manufacturer (0008,0070)."
    )
    institution: str = Field(
        default="",
        max_length=64,
        description="Institution Name (0008,0080), as an XON where the dialect wants its "
        "identifier: name^^^^^^^^^identifier.",
    )
    accession_issuer: str = Field(
        default="",
        pattern=_OID[:-1] + "$|^$",
        max_length=64,
        description="OID of who issues accession numbers of which neither images nor report say "
        "it. Empty: such a study waits where the dialect demands it.",
    )
    uid_root: str = Field(
        default=UID_ROOT,
        pattern=_OID,
        max_length=UID_ROOT_MAX,
        description="Root of the UIDs of manifests; 2.25 needs no registration (PS3.5 B.2).",
    )
    await_report: bool | None = Field(
        default=None,
        description="Whether there is no manifest before the study's report. Default: as the "
        "profile has it (drim-m waits, the others do not).",
    )
    zone: str = Field(
        default="Europe/Paris",
        description="IANA time zone of studies that do not say theirs (0008,0201).",
    )

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no such IANA time zone") from None
        return value

    @model_validator(mode="after")
    def _instances_can_be_had(self) -> ManifestSettings:
        if self.dialect.urls and not self.retrieve_url:
            raise ValueError(f"{self.profile} needs retrieve_url: where instances are had")
        if not self.dialect.urls and not (self.retrieve_ae_title and self.retrieve_location_uid):
            raise ValueError(
                f"{self.profile} needs retrieve_ae_title and retrieve_location_uid: where "
                "instances are had"
            )
        return self

    @property
    def dialect(self) -> Profile:
        """The profile's rules."""
        return PROFILES[self.profile]

    @property
    def after_report(self) -> bool:
        """Whether a manifest waits for its report."""
        return self.dialect.after_report if self.await_report is None else self.await_report

    def origin(self) -> Origin:
        """What every manifest says of its maker."""
        return Origin(
            manufacturer=self.manufacturer,
            institution=self.institution,
            retrieve_url=self.retrieve_url,
            retrieve_ae_title=self.retrieve_ae_title or "",
            retrieve_location_uid=self.retrieve_location_uid,
            report_url=self.report_url,
            uid_root=self.uid_root,
        )
