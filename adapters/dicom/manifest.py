"""What a manifest says of a study: its series and instances, whose, ordered and reported how.

One model for all dialects of the Key Object Selection document (PS3.3 A.35.4);
:mod:`adapters.dicom.manifest_writing` makes the bytes in one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
"""SOP class Key Object Selection Document Storage."""

INSTANCES_MAX = 20_000
"""Instances of one manifest; as many as a study may have at the door."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code of a code sequence (PS3.3 table 8.8-1)."""

    value: str
    scheme: str
    meaning: str


MANIFEST = Code("113030", "DCM", "Manifest")
"""CID 7010, document title of a manifest."""

DESCRIBED_MANIFEST = Code("MADOTEMP001", "99IHE", "Manifest with Description")
"""IHE RAD MADO 6.X.2.9: the provisional code until DICOM CP-2595 is final."""

REJECTIONS = {
    "113001": Code("113001", "DCM", "Rejected for Quality Reasons"),
    "113037": Code("113037", "DCM", "Rejected for Patient Safety Reasons"),
    "113038": Code("113038", "DCM", "Incorrect Modality Worklist Entry"),
    "113039": Code("113039", "DCM", "Data Retention Policy Expired"),
}
"""CID 7011: titles of rejection notes (IHE RAD IOCM)."""

REVOCATION = ("REVOKE_REJECTION", "99DCM4CHEE")
"""The title by which the dcm4che archive lifts rejections; DICOM and IHE have none."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who issued an identifier (PS3.3 table 10-17, HL7v2 Hierarchic Designator).

    ``namespace`` is the local name, ``universal`` the global one, an OID unless ``kind`` (the
    Universal Entity ID Type) says otherwise.
    """

    namespace: str = ""
    universal: str = ""
    kind: str = "ISO"

    def __bool__(self) -> bool:
        return bool(self.namespace or self.universal)

    def contradicts(self, other: Issuer) -> bool:
        """Whether both name an authority in the same way, and not the same one."""
        if self.universal and other.universal:
            return self.universal != other.universal
        if self.universal or other.universal:
            return False
        return bool(self.namespace and other.namespace and self.namespace != other.namespace)


@dataclass(frozen=True, slots=True)
class Issued:
    """An identifier and who issued it."""

    value: str
    issuer: Issuer = Issuer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """The patient as the manifest names them.

    Names are as PN writes them (``FAMILY^GIVEN``); ``name`` is the birth name where identity is
    national, ``other_names`` the others. ``birth_date`` is YYYYMMDD, ``sex`` M, F, O or empty,
    ``birth_place`` the code of the place (COG) where the dialect says it.
    """

    identifier: Issued
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    other_names: tuple[str, ...] = ()
    birth_place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One procedure request that the study answers (PS3.3 table C.17-3c)."""

    accession: Issued = Issued("")
    placer: Issued = Issued("")
    filler: Issued = Issued("")
    procedure_id: str = ""
    description: str = ""
    codes: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report of the study, outside DICOM. ``identifier`` is ``root`` or ``root^extension`` of
    an HL7 structured document (PS3.3 C.12.1.1.6); empty for a report that is none."""

    identifier: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestInstance:
    """One instance. ``frames`` is 0 where the header has no count; ``title`` and ``description``
    are those of a key object selection."""

    uid: str
    sop_class: str
    number: str = ""
    frames: int = 0
    title: Code | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSeries:
    """One series of at least one instance. ``date`` and ``time`` are DA and TM."""

    uid: str
    modality: str
    instances: tuple[ManifestInstance, ...]
    number: str = ""
    description: str = ""
    date: str = ""
    time: str = ""
    region: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All that a manifest says. ``date`` and ``time`` are those of the study (DA, TM), ``offset``
    what all its times count from (``+0100``).

    ``at`` is the latest moment of what it says, never the clock's: so the same content gives the
    same bytes. ``version`` counts from 1; ``predecessor`` is the SOP Instance UID of the version
    before, empty for the first.
    """

    study: str
    patient: Person
    series: tuple[ManifestSeries, ...]
    at: datetime
    offset: str
    date: str = ""
    time: str = ""
    study_id: str = ""
    description: str = ""
    referrer: str = ""
    requests: tuple[Request, ...] = ()
    reports: tuple[Report, ...] = ()
    version: int = 1
    predecessor: str = ""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Distinct modalities of the series, in alphabetical order."""
        return tuple(sorted({each.modality for each in self.series} - {""}))

    @property
    def instances(self) -> int:
        """How many instances there are."""
        return sum(len(each.instances) for each in self.series)
