"""What is held: studies, series and instances with the attributes by which they are asked for.

One index answers C-FIND, QIDO-RS, C-MOVE, C-GET, WADO-RS and the console. It is implemented by
``gateway.holdings``; what of an instance goes into it, and what may be asked, is said here.
Levels are those of the Study Root and Patient Root information models (PS3.4 C.6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from adapters.dicom.dataset import Instance
from adapters.dicom.json_model import Attributes, attributes_of
from gateway.model import Payload

PAGE_MAX = 1_000
"""Matches that are given at one time; more are asked for with an offset."""


class QueryLevel(StrEnum):
    """The levels of the query and retrieve information models (PS3.4 C.3)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


PATIENT_TAGS = (0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040)
"""Name, ID and its issuer, birth date, sex (PS3.4 C.6.1.1.2)."""

STUDY_TAGS = (
    *(0x00080005, 0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080080, 0x00080090),
    *(0x00080201, 0x00081030, 0x00081032, *PATIENT_TAGS, 0x00101010, 0x0020000D, 0x00200010),
)
"""What is kept of a study: the keys of PS3.4 table C.6-5 and PS3.18 10.6.3.3, the accession
number's issuer, the institution, the age and the procedure code."""

SERIES_TAGS = (
    *(0x00080021, 0x00080031, 0x00080060, 0x00080070, 0x00081010, 0x0008103E, 0x00081090),
    *(0x00180015, 0x00181030, 0x0020000E, 0x00200011, 0x00200060, 0x00400244, 0x00400245),
    0x00400275,
)
"""What is kept of a series: the keys of PS3.4 table C.6-6 and PS3.18 10.6.3.3, the equipment, the
body part, the side and the protocol."""

INSTANCE_TAGS = (
    *(0x00080008, 0x00080016, 0x00080018, 0x00080022, 0x00080023, 0x00080032, 0x00080033),
    *(0x0020000D, 0x0020000E, 0x00200013, 0x00280004, 0x00280008, 0x00280010, 0x00280011),
    *(0x00280100, 0x0040A043, 0x0040A491, 0x0040A493, 0x00420010),
)
"""What is kept of an instance: the keys of PS3.4 table C.6-7 and PS3.18 10.6.3.3, how its pixels
are arranged, the title and state of a report."""

MATCHED: Mapping[QueryLevel, frozenset[str]] = {
    QueryLevel.PATIENT: frozenset(
        {"PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"}
    ),
    QueryLevel.STUDY: frozenset(
        {"StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
         "StudyDescription", "ReferringPhysicianName", "ModalitiesInStudy", "SOPClassesInStudy"}
    ),
    QueryLevel.SERIES: frozenset(
        {"SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription",
         "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
         "ScheduledProcedureStepID", "RequestedProcedureID", "BodyPartExamined"}
    ),
    QueryLevel.IMAGE: frozenset({"SOPInstanceUID", "SOPClassUID", "InstanceNumber"}),
}  # fmt: skip
"""Keywords that may be matched at each level, and at every level below it."""

_ORDER = tuple(QueryLevel)


def matched_at(level: QueryLevel) -> frozenset[str]:
    """The keywords that are matched in a query of a level: its own and those above it."""
    above = _ORDER[: _ORDER.index(level) + 1]
    return frozenset().union(*(MATCHED[each] for each in above))


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One entity that fits a query. ``attributes`` are those of its level and of the levels above
    it in the DICOM JSON model, without what only the asking service can say (retrieve addresses,
    availability). Series and instance are empty above their level.

    Studies have NumberOfStudyRelatedSeries, NumberOfStudyRelatedInstances, ModalitiesInStudy and
    SOPClassesInStudy, series NumberOfSeriesRelatedInstances: of what is held now.
    """

    level: QueryLevel
    study: str
    series: str = ""
    instance: str = ""
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldInstance:
    """One instance that is held. ``message_id`` is its message in the journal, ``size`` the bytes
    of its DICOM file."""

    message_id: int
    source: str
    study: str
    series: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    number: int | None
    frames: int
    sha256: str
    size: int


class HoldingsUnavailable(Exception):
    """The journal cannot be asked now."""


class UnknownKey(ValueError):
    """A key cannot be matched at this level, or its value cannot be read as what it is."""

    def __init__(self, keyword: str, why: str) -> None:
        super().__init__(f"{keyword}: {why}")
        self.keyword = keyword


class Holdings(Protocol):
    """What is held, by all sources. Every method may be called from any thread, and raises
    HoldingsUnavailable.

    Instances are in it as soon as their sender has its answer. Of several different objects with
    one SOP Instance UID the one that came last is held; refused, discarded and replaced ones are
    not.
    """

    def find(
        self, level: QueryLevel, keys: Mapping[str, str], *, limit: int = PAGE_MAX, offset: int = 0
    ) -> Sequence[Match]:
        """What fits all keys, at most ``limit`` (up to :data:`PAGE_MAX`) after ``offset``.

        ``keys`` are keywords of :func:`matched_at` with values as C-FIND has them (PS3.4
        C.2.2.2): a single value, UIDs or codes separated by a backslash, ``*`` and ``?``, a range
        of dates or times; an empty value matches all. Person names match without regard to case
        and accents. Studies come with the latest first, series and instances by their number.
        Raises UnknownKey.
        """
        ...

    def instances(
        self, *, study: str = "", series: str = "", instance: str = "",
        limit: int = PAGE_MAX, offset: int = 0,
    ) -> Sequence[HeldInstance]:  # fmt: skip
        """The instances of a study, a series, or one, in the order of series and number; what is
        given must all hold. Raises ValueError when nothing is given."""
        ...

    def payload(self, instance: HeldInstance) -> Payload:
        """Its DICOM file (PS3.10), byte for byte as it is kept: ``part10.read_file_meta`` says
        where its data set begins. Raises KeyError when the bytes are gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedInstance:
    """What one instance says of itself, its series and its study, for the index."""

    study: str
    series: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    study_attributes: Attributes
    series_attributes: Attributes
    instance_attributes: Attributes


def indexed(payload: Payload) -> IndexedInstance:
    """Read an instance's header for the index. Raises NotPart10, DataSetError or OSError."""
    instance = Instance(payload)
    level = instance.level
    return IndexedInstance(
        study=instance.study,
        series=instance.series,
        sop_class=instance.sop_class,
        sop_instance=instance.sop_instance,
        transfer_syntax=instance.meta.transfer_syntax,
        study_attributes=attributes_of(level, STUDY_TAGS),
        series_attributes=attributes_of(level, SERIES_TAGS),
        instance_attributes=attributes_of(level, INSTANCE_TAGS),
    )
