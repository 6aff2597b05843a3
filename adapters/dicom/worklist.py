"""Modality worklist as SCP (PS3.4 annex K): the scheduled procedure steps that orders brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.dicom.find_service import Answers, FindProvider
from adapters.dicom.identifier import Asked, answer, nested_keys
from adapters.dicom.json_model import Attributes
from adapters.dicom.negotiation import AcceptedContext
from adapters.dicom.settings import DicomSourceSettings

SOP_CLASS = "1.2.840.10008.5.1.4.31"
STEP_SEQUENCE = "00400100"
PAGE_MAX = 500

MATCHED = frozenset(
    {
        "ScheduledStationAETitle", "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime", "Modality", "ScheduledPerformingPhysicianName",
        "ScheduledProcedureStepID", "ScheduledStationName", "ScheduledProcedureStepStatus",
        "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
        "AccessionNumber", "RequestedProcedureID", "StudyInstanceUID", "ReferringPhysicianName",
        "AdmissionID",
    }
)  # fmt: skip
"""Keys that are matched: all that PS3.4 table K.6-1 requires, and some more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStep:
    """A scheduled procedure step with what it belongs to. Names are as DICOM writes them, dates
    ``YYYYMMDD``, times ``HHMMSS`` or shorter; ``status`` is SCHEDULED or STARTED; a code is code
    value, coding scheme and meaning."""

    step_id: str
    procedure_id: str
    accession: str
    study_uid: str
    modality: str
    start_date: str
    start_time: str
    status: str = "SCHEDULED"
    station_title: str = ""
    station_name: str = ""
    place: str = ""
    protocol: tuple[str, str, str] = ("", "", "")
    procedure: tuple[str, str, str] = ("", "", "")
    performing: str = ""
    requesting: str = ""
    referring: str = ""
    reason: str = ""
    priority: str = ""
    placer: str = ""
    filler: str = ""
    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: str = ""
    sex: str = ""
    allergies: str = ""
    location: str = ""
    admission: str = ""


class WorklistUnavailable(Exception):
    """The journal cannot be asked now."""


class Worklist(Protocol):
    """What is to be made. From any thread."""

    def find(
        self, keys: Mapping[str, str], *, limit: int, after: int
    ) -> Sequence[tuple[int, ScheduledStep]]:
        """Steps that fit all keys (those of :data:`MATCHED`, with values as C-FIND has them),
        each with its number, in the order of their numbers from ``after`` on. Steps that are
        cancelled, held or done are not among them. Raises UnknownKey, WorklistUnavailable.
        """
        ...


class WorklistProvider(FindProvider):
    """Answers C-FIND of the worklist. Thread-safe."""

    counted = "worklist"
    unavailable = WorklistUnavailable

    def __init__(self, settings: DicomSourceSettings, worklist: Worklist) -> None:
        super().__init__(settings)
        self._worklist = worklist

    def _find(self, asked: Asked, context: AcceptedContext) -> Answers:
        del context
        given = {**asked.keys, **nested_keys(asked.requested, STEP_SEQUENCE)}
        keys = {name: value for name, value in given.items() if name in MATCHED and value}
        # What is neither matched nor known is returned without a value (K.6.1.2.2).
        others = any(value for name, value in given.items() if name not in MATCHED)
        made = (answer(asked.requested, attributes_of_step(step)) for step in self._steps(keys))
        return Answers(made, others)

    def _steps(self, keys: Mapping[str, str]) -> Iterator[ScheduledStep]:
        after = 0
        while some := self._worklist.find(keys, limit=PAGE_MAX, after=after):
            for after, step in some:  # noqa: B007  the next page begins behind the last
                yield step
            if len(some) < PAGE_MAX:
                return


def attributes_of_step(step: ScheduledStep) -> Attributes:
    """A worklist item in the DICOM JSON model: the return keys of PS3.4 table K.6-1."""
    item: Attributes = {
        "00080060": _text("CS", step.modality),
        "00321070": _text("LO", ""),
        "00400001": _text("AE", step.station_title),
        "00400002": _text("DA", step.start_date),
        "00400003": _text("TM", step.start_time),
        "00400006": _person(step.performing),
        "00400007": _text("LO", step.protocol[2] or step.procedure[2]),
        "00400008": _codes(step.protocol),
        "00400009": _text("SH", step.step_id),
        "00400010": _text("SH", step.station_name),
        "00400011": _text("SH", step.place),
        "00400012": _text("LO", ""),
        "00400020": _text("CS", step.status),
    }
    return {
        "00080050": _text("SH", step.accession),
        "00080090": _person(step.referring),
        "00081110": {"vr": "SQ"},
        "00081120": {"vr": "SQ"},
        "00100010": _person(step.name),
        "00100020": _text("LO", step.patient_id),
        "00100021": _text("LO", step.issuer),
        "00100030": _text("DA", step.birth_date),
        "00100040": _text("CS", step.sex),
        "00101030": {"vr": "DS"},
        "00102000": {"vr": "LO"},
        "00102110": _text("LO", step.allergies),
        "001021C0": {"vr": "US"},
        "0020000D": _text("UI", step.study_uid),
        "00321032": _person(step.requesting),
        "00321060": _text("LO", step.procedure[2]),
        "00321064": _codes(step.procedure),
        "00380010": _text("LO", step.admission),
        "00380050": {"vr": "LO"},
        "00380300": _text("LO", step.location),
        "00380500": {"vr": "LO"},
        STEP_SEQUENCE: {"vr": "SQ", "Value": [item]},
        "00401001": _text("SH", step.procedure_id),
        "00401002": _text("LO", step.reason),
        "00401003": _text("SH", step.priority),
        "00401004": {"vr": "LO"},
        "00402016": _text("LO", step.placer),
        "00402017": _text("LO", step.filler),
        "00403001": {"vr": "LO"},
    }


def _text(vr: str, value: str) -> dict[str, Any]:
    # A backslash would make several values of it.
    plain = value.replace("\\", "/")
    return {"vr": vr, "Value": [plain]} if plain else {"vr": vr}


def _person(name: str) -> dict[str, Any]:
    if not name:
        return {"vr": "PN"}
    return {"vr": "PN", "Value": [{"Alphabetic": name.replace("\\", " ")}]}


def _codes(code: tuple[str, str, str]) -> dict[str, Any]:
    """A code sequence of one item; none without a code and its scheme (PS3.3 8.3)."""
    value, scheme, meaning = code
    if not value or not scheme:
        return {"vr": "SQ"}
    item = {
        "00080100": _text("SH", value),
        "00080102": _text("SH", scheme),
        "00080104": _text("LO", meaning or value),
    }
    return {"vr": "SQ", "Value": [item]}
