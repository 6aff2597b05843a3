"""The configuration of an XDS.b endpoint: Document Repository and Document Registry."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from adapters.doors.settings import MIB, DocumentDoorSettings, HttpDoorSettings
from adapters.ebrim.names import DOCUMENT_CODES

_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+\Z")
_OID_MAX = 64
CODED = frozenset({*DOCUMENT_CODES, "contentTypeCode", "codeList"})


class XdsSourceSettings(DocumentDoorSettings, HttpDoorSettings):
    """``POST /intake/xds`` on the gateway's HTTP server: ITI-41, ITI-18 and ITI-43."""

    type: Literal["xds"] = "xds"
    repository_unique_id: str = Field(
        description="The OID of this Document Repository (repositoryUniqueId): what documents are "
        "fetched with."
    )
    home_community_id: str = Field(
        default="",
        description="The OID of the home community (homeCommunityId), said in answers when given.",
    )
    patient_authorities: tuple[str, ...] = Field(
        default=(),
        description="OIDs of the assigning authorities whose identifiers may be a patientId, the "
        "preferred one first. A submission with another is refused: XDSUnknownPatientId. Empty: "
        "any.",
    )
    unknown_patients: Literal["refuse", "hold"] = Field(
        default="refuse",
        description="What happens to documents of a patient whom the gateway does not know and "
        "whose patientId is no INS. refuse: XDSUnknownPatientId, as IHE has it. hold: they are "
        "accepted and wait for the patient's identity, as documents by other ways do; until then "
        "no query finds them.",
    )
    codes: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="The codes of the affinity domain by attribute (classCode, typeCode, "
        "formatCode, confidentialityCode, eventCodeList, healthcareFacilityTypeCode, "
        "practiceSettingCode, contentTypeCode, codeList of folders), each as code^^codingScheme. "
        "Other codes in these attributes are refused; attributes that are not named take any.",
    )
    queries: bool = Field(
        default=True,
        description="Whether ITI-18 and ITI-43 are answered. They read the whole record, whatever "
        "way its documents came.",
    )
    results_max: int = Field(
        default=2_000,
        ge=1,
        le=20_000,
        description="Most documents that one query looks through or gives as whole objects; beyond "
        "it, XDSTooManyResults.",
    )
    headers_passed_over: tuple[str, ...] = Field(
        default=(),
        description="Namespaces of SOAP header blocks that are passed over although the sender "
        "says that they must be understood, for instance the one of wsse:Security where another "
        "component has checked it. Without it, such a request gets the fault MustUnderstand.",
    )
    submission_bytes_max: int = Field(
        default=256 * MIB,
        ge=1024,
        le=1024 * MIB,
        description="Largest request taken, in bytes, all parts together. Parts lie on the disk.",
    )
    envelope_bytes_max: int = Field(
        default=16 * MIB,
        ge=1024,
        le=64 * MIB,
        description="Largest SOAP envelope, in bytes: metadata, and the documents that are not "
        "sent by MTOM but in Base64 within it. It is read in memory.",
    )
    parts_max: int = Field(
        default=500, ge=1, le=10_000, description="Most MIME parts of one request."
    )
    document_bytes_max: int = Field(
        default=64 * MIB, ge=1024, le=256 * MIB, description="Largest document taken, in bytes."
    )
    depth_max: int = Field(
        default=200, ge=20, le=400, description="Deepest nesting of XML elements in a document."
    )
    elements_max: int = Field(
        default=500_000, ge=1000, le=5_000_000, description="Most XML elements in one document."
    )
    check: Literal["report", "flag", "refuse"] = Field(
        default="report",
        description="What a validation report of a document does; as for sources of CDA. refuse: "
        "the submission is refused with InvalidDocumentContent.",
    )
    reads_max: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Documents read at the same time; each takes about four times its size.",
    )

    @field_validator("repository_unique_id", "home_community_id")
    @classmethod
    def _an_oid(cls, text: str) -> str:
        bare = text.removeprefix("urn:oid:")
        if bare and (_OID.match(bare) is None or len(bare) > _OID_MAX):
            raise ValueError("is no OID of at most 64 characters")
        return bare

    @field_validator("repository_unique_id")
    @classmethod
    def _given(cls, text: str) -> str:
        if not text:
            raise ValueError("is needed: the OID that your organisation gave this repository")
        return text

    @field_validator("codes")
    @classmethod
    def _known_attributes(cls, codes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, values in codes.items():
            if name not in CODED:
                raise ValueError(f"{name!r} is no coded attribute; there are {sorted(CODED)}")
            if any("^^" not in each for each in values):
                raise ValueError(f"{name}: a code is written code^^codingScheme")
        return codes
