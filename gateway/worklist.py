"""The modality worklist, out of the orders that HL7 v2 sources bring.

An order is read into it shortly after it was kept, by a thread of its own; whoever asks meanwhile
has it read in first. Orders are taken as they came: whether their entries reach the record is
another matter.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import structlog

from adapters.dicom.holdings import UnknownKey
from adapters.dicom.identification import is_uid
from adapters.dicom.matching import Condition, condition, folded
from adapters.dicom.worklist import ScheduledStep, WorklistUnavailable
from adapters.hl7.imaging_orders import Code, ImagingOrder, imaging_orders
from adapters.hl7.message import Message as Hl7Message
from gateway.journal import worklist
from gateway.journal.faults import JournalFault, JournalUnavailable
from gateway.journal.journal import Journal
from gateway.journal.messages import payload
from gateway.journal.values import Message
from gateway.journal.worklist import OrderedStep
from gateway.ports import Unreadable
from gateway.stepping import Stepping

BATCH = 100
EVERY_SECONDS = 1.0
ASKER_SECONDS_MAX = 5.0
DAYS_KEPT = 30
"""A step is on the worklist until so many days after the day for which it is scheduled."""
MESSAGE_BYTES_MAX = 4 << 20

_PRIORITIES = {"S": "STAT", "A": "HIGH", "R": "ROUTINE"}
"""HL7 table 0485 as the defined terms of (0040,1003) (PS3.3 C.4.11)."""

log = structlog.get_logger("ecluse.dicom")


class JournalWorklist:
    """Implements :class:`adapters.dicom.worklist.Worklist`. With :meth:`start` a thread keeps it
    up to date until :meth:`stop`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turn = threading.Lock()
        self._forgotten = ""
        self._thread = Stepping(
            "ecluse-worklist", self.step, every_seconds=EVERY_SECONDS,
            failed="the worklist was not brought up to date",
        )  # fmt: skip

    def start(self) -> None:
        """Begin to keep it up to date."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand. Idempotent."""
        self._thread.stop()

    def step(self) -> bool:
        """Read one batch of orders in; whether there was a whole one. Raises
        JournalUnavailable."""
        with self._turn:
            with self._journal.read() as connection:
                found = worklist.unscheduled(connection, BATCH)
            since = _day(self._journal.now() - timedelta(days=DAYS_KEPT))
            if not found and since == self._forgotten:
                return False
            ordered: list[tuple[Message, Sequence[OrderedStep]]] = []
            for message in found:
                try:
                    ordered.append((message, self._steps(message)))
                except OSError as error:
                    # The disk may give it another time; the others go on.
                    log.warning("an order cannot be read now", message=message.id,
                                error=type(error).__name__)  # fmt: skip
            with self._journal.write() as connection:
                worklist.store(connection, ordered)
                if since != self._forgotten:
                    worklist.forget(connection, since)
            self._forgotten = since
        return len(found) == BATCH and bool(ordered)

    def _steps(self, message: Message) -> Sequence[OrderedStep]:
        """What a message orders; nothing of one that cannot be read. Raises OSError."""
        try:
            if message.size > MESSAGE_BYTES_MAX:
                raise Unreadable("too large")
            raw = payload(self._journal, message).read()
            read = Hl7Message.read(raw, encoding=message.encoding)
            return [_ordered(each) for each in imaging_orders(read) if _key(each)]
        except (KeyError, Unreadable) as error:
            # The message says at its own stage what is wrong with it.
            log.warning("an order cannot be read into the worklist", message=message.id,
                        error=type(error).__name__)  # fmt: skip
            return []

    # --- asking -----------------------------------------------------------------------

    def find(
        self, keys: Mapping[str, str], *, limit: int, after: int
    ) -> Sequence[tuple[int, ScheduledStep]]:
        """See the protocol."""
        wanted = {name: _condition(name, value) for name, value in keys.items()}
        days = wanted.pop("ScheduledProcedureStepStartDate", None)
        first, last = _bounds(days)
        since = _day(self._journal.now() - timedelta(days=DAYS_KEPT))
        found: list[tuple[int, ScheduledStep]] = []
        with _asked():
            self._catch_up()
            while len(found) < limit:
                with self._journal.read() as connection:
                    rows = worklist.find(
                        connection, after=after, limit=limit, since=since, first=first, last=last
                    )
                for number, content, performed in rows:
                    after = number
                    step = _step_of(content)
                    if performed == "IN PROGRESS":
                        step = replace(step, status="STARTED")
                    if len(found) < limit and all(
                        each is None or _fulfils(_column(step, name), each)
                        for name, each in wanted.items()
                    ):
                        found.append((number, step))
                    if len(found) == limit:
                        break
                if len(rows) < limit:
                    break
        return found

    def _catch_up(self) -> None:
        if self._journal.read_only:
            return
        until = time.monotonic() + ASKER_SECONDS_MAX
        while self.step() and time.monotonic() < until:
            pass


def _ordered(order: ImagingOrder) -> OrderedStep:
    """What an order says of a step, for the journal."""
    state = worklist.SCHEDULED
    if order.cancelled:
        state = worklist.CANCELLED
    elif order.completed:
        state = worklist.COMPLETED
    elif order.held:
        state = worklist.HELD
    key = _key(order)
    if not order.modality or (state != worklist.SCHEDULED and not order.names_step):
        return OrderedStep(
            order_key=key, step_id=order.step_id if order.names_step else "", state=state
        )
    step = scheduled_step(order)
    return OrderedStep(
        order_key=key, step_id=step.step_id, state=state, study_uid=step.study_uid,
        start_date=step.start_date, content=asdict(step),
    )  # fmt: skip


def _key(order: ImagingOrder) -> str:
    """The order's own name: its placer's number, else its filler's; empty without either."""
    for who, (number, namespace) in (("P", order.placer), ("F", order.filler)):
        if number:
            return sha256("\0".join((who, namespace, number)).encode()).hexdigest()
    return ""


def scheduled_step(order: ImagingOrder) -> ScheduledStep:
    """A step of the worklist.

    Without an accession number of its own an order has its filler's number, else its placer's;
    without numbers of procedure and step both have the accession number. Without a UID of its
    own the study gets one that follows from the order's number, the same at each asking. An order
    without a time is scheduled for when it was made.
    """
    number = order.filler[0] or order.placer[0]
    accession = order.accession or number
    procedure_id = order.procedure_id or accession
    study = order.study_uid if is_uid(order.study_uid) else ""
    if not study:
        named = sha256(f"{_key(order)}\0{procedure_id}".encode()).digest()
        study = f"2.25.{int.from_bytes(named[:15])}"
    date, at = order.start if order.start[0] else order.ordered
    who = order.patient
    return ScheduledStep(
        step_id=order.step_id or procedure_id, procedure_id=procedure_id, accession=accession,
        study_uid=study, modality=order.modality, start_date=date, start_time=at,
        station_title=order.station_title, station_name=order.station_name, place=order.place,
        protocol=_coded(order.protocol), procedure=_coded(order.procedure),
        performing=order.performing, requesting=order.requesting, referring=who.referring,
        reason=order.reason, priority=_PRIORITIES.get(order.priority, ""),
        placer=order.placer[0], filler=order.filler[0], patient_id=who.number,
        issuer=who.authority, name=who.name, birth_date=who.birth_date,
        sex=who.sex if who.sex in {"M", "F", "O"} else "", allergies=who.allergies,
        location=who.location, admission=who.admission,
    )  # fmt: skip


def _coded(code: Code) -> tuple[str, str, str]:
    return code.code, code.system, code.text


def _step_of(content: Mapping[str, Any]) -> ScheduledStep:
    known = {each.name for each in fields(ScheduledStep)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content.items()
        if name in known
    }
    return ScheduledStep(**values)


# --- matching -----------------------------------------------------------------------------

_LIKE = {
    "ScheduledStationAETitle": ("AccessionNumber", "station_title"),
    "ScheduledProcedureStepStartDate": ("StudyDate", "start_date"),
    "ScheduledProcedureStepStartTime": ("StudyTime", "start_time"),
    "Modality": ("Modality", "modality"),
    "ScheduledPerformingPhysicianName": ("PatientName", "performing"),
    "ScheduledProcedureStepID": ("AccessionNumber", "step_id"),
    "ScheduledStationName": ("AccessionNumber", "station_name"),
    "ScheduledProcedureStepStatus": ("AccessionNumber", "status"),
    "PatientName": ("PatientName", "name"),
    "PatientID": ("PatientID", "patient_id"),
    "IssuerOfPatientID": ("IssuerOfPatientID", "issuer"),
    "PatientBirthDate": ("PatientBirthDate", "birth_date"),
    "PatientSex": ("PatientSex", "sex"),
    "AccessionNumber": ("AccessionNumber", "accession"),
    "RequestedProcedureID": ("AccessionNumber", "procedure_id"),
    "StudyInstanceUID": ("StudyInstanceUID", "study_uid"),
    "ReferringPhysicianName": ("PatientName", "referring"),
    "AdmissionID": ("AccessionNumber", "admission"),
}
"""Each key: a key of what is held whose kind of matching it has, and the step's field."""
_PEOPLE = frozenset({"performing", "name", "referring"})


def _condition(keyword: str, value: str) -> Condition | None:
    like, _ = _LIKE.get(keyword, ("", ""))
    if not like:
        raise UnknownKey(keyword, "is not matched here")
    try:
        return condition(like, value)
    except UnknownKey as error:
        raise UnknownKey(keyword, str(error)) from None


def _column(step: ScheduledStep, keyword: str) -> str:
    """A step's value in the form that conditions compare (:mod:`adapters.dicom.matching`)."""
    name = _LIKE[keyword][1]
    value = str(getattr(step, name))
    if name in _PEOPLE:
        return f"={folded(value)}=" if value else ""
    if name == "start_time" and value:
        return f"{value:0<6}.000000"
    return value


def _fulfils(value: str, wanted: Condition) -> bool:
    if wanted.pattern:
        parts = re.split(r"([*?])", wanted.pattern)
        marks = {"*": ".*", "?": "."}
        expression = "".join(marks.get(part, re.escape(part)) for part in parts)
        return re.fullmatch(expression, value, re.DOTALL) is not None
    if wanted.anyof:
        return value in wanted.anyof
    return value >= wanted.least and (not wanted.most or value <= wanted.most)


def _bounds(days: Condition | None) -> tuple[str, str]:
    if days is None:
        return "", ""
    if days.anyof:
        return str(days.anyof[0]), str(days.anyof[0])
    return days.least, days.most


def _day(moment: datetime) -> str:
    return f"{moment:%Y%m%d}"


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except (JournalUnavailable, JournalFault) as error:
        raise WorklistUnavailable(str(error)) from None
