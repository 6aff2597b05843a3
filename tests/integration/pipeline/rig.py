"""A gateway without adapters and mappings: real journal, real stages, a toy format and two toy
destinations that keep their own account of what reached them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import Connection, text

from gateway import ins
from gateway.broker import make_broker
from gateway.drain import Drainer
from gateway.gate import PermissionGate
from gateway.intake import JournalIntake
from gateway.journal import deliveries, messages
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.journal.writer import GroupWriter
from gateway.mapping.running import MappingContext, MappingRejected
from gateway.model import (
    Cause,
    CauseCode,
    Delivered,
    Delivery,
    Embedded,
    Entry,
    Format,
    Identifier,
    Mapped,
    Outcome,
    Payload,
    Receipt,
    Received,
)
from gateway.normalise import Normaliser
from gateway.ports import Unreadable
from gateway.retry import RetryPolicy
from gateway.worker import WorkerPool

HOSPITAL = "urn:oid:1.2.250.1.71.4.2.7.1"
LABORATORY = "urn:oid:1.2.250.1.71.4.2.7.2"
V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"


def national(number: int) -> tuple[str, str, str]:
    """A valid INS-NIR of the test root."""
    body = f"2{number:012d}"
    return ins.NIR_TEST, body + ins.key(body), "INS"


def local(number: int | str, system: str = HOSPITAL) -> tuple[str, str, str]:
    """A permanent identifier of an institution."""
    return system, f"L{number}", "PI"


# --- a toy format: JSON in, entries out ---------------------------------------------


@dataclass(frozen=True)
class ToyScope:
    """The parsed JSON of one message (or of all instances of a study)."""

    parts: tuple[dict[str, Any], ...]
    path: str = ""


class ToyReader:
    """Reads JSON. Bytes that are none are Unreadable; ``bomb`` runs something first."""

    def __init__(self, format: Format = Format.HL7V2) -> None:  # noqa: A002
        self.format = format
        self.bombs: dict[str, Callable[[], None]] = {}

    def read(self, payloads: Sequence[Payload], *, encoding: str = "") -> ToyScope:
        del encoding
        parts = []
        for payload in payloads:
            try:
                part = json.loads(payload.read())
            except ValueError:
                raise Unreadable("not JSON", "MSH-1") from None
            if part.get("bomb") in self.bombs:
                self.bombs[part["bomb"]]()
            parts.append(part)
        return ToyScope(tuple(parts))


def _identifiers(stated: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return [
        {"system": s, "value": v, "type": {"coding": [{"system": V2_0203, "code": t}]}}
        for s, v, t in stated
    ]


def _id(*parts: object) -> str:
    return str(uuid5(NAMESPACE_OID, "|".join(map(str, parts))))


class ToyProgram:
    """Maps the toy format: ``patient`` and ``merges`` are lists of identifiers, ``facts`` name
    observations, ``feeding``/``record`` are permit or deny, ``inside`` is another message."""

    version = "1"
    repaired = False
    """Whether a new version of the mapping no longer makes ``broken`` entries."""

    def run(self, root: ToyScope, context: MappingContext, *, trace: bool = False) -> Mapped:
        del context, trace
        head = root.parts[0]
        if head.get("rejected"):
            raise MappingRejected(
                Cause(code=CauseCode.MAPPING_FAILED, detail="a rule said so", location="toy:1:1")
            )
        me = _id("patient", head["patient"])
        entries = [
            {"resourceType": "Patient", "id": me, "identifier": _identifiers(head["patient"])}
        ]
        for merged in head.get("merges", ()):
            entries.append(
                {
                    "resourceType": "Patient",
                    "id": _id("patient", merged),
                    "identifier": _identifiers(merged),
                    "link": [{"other": {"reference": f"Patient/{me}"}, "type": "replaced-by"}],
                }
            )
        facts = [(fact, part) for part in root.parts for fact in part.get("facts", ())]
        for fact, part in facts:
            entries.append(
                _observation(fact, me, broken=bool(part.get("broken")) and not self.repaired)
            )
        for kind in ("feeding", "record"):
            if kind in head:
                entries.append(_consent(kind, head[kind], me))
        inside = [
            Embedded(format=Format.CDA, data=json.dumps(each).encode(), source="OBX(1)-5")
            for each in head.get("inside", ())
        ]
        return Mapped(
            mapping="toy",
            version=self.version,
            digest="0" * 64,
            entries=tuple(Entry(resource=each) for each in entries),
            embedded=tuple(inside),
        )


def _observation(fact: str, patient: str, *, broken: bool) -> dict[str, Any]:
    observation = {
        "resourceType": "Observation",
        "id": _id("fact", fact, patient),
        "status": "final",
        "code": {"text": fact},
        "subject": {"reference": f"Patient/{patient}"},
    }
    if broken:
        del observation["status"]
    return observation


def _consent(kind: str, verdict: str, patient: str) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": _id("consent", kind, patient),
        "status": "active",
        "scope": {"text": "privacy"},
        "category": [{"coding": [{"system": "urn:ecluse:permission", "code": kind}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "policyRule": {"text": "PAM.FR ZFA"},
        "provision": {"type": verdict},
    }


class ToyLibrary:
    """One mapping, for everything but ``kind: unknown`` (until it is ``learned``)."""

    def __init__(self) -> None:
        self.program = ToyProgram()
        self.learned = False

    def match(self, root: ToyScope, format: Format) -> ToyProgram | None:  # noqa: A002
        del format
        unknown = root.parts[0].get("kind") == "unknown" and not self.learned
        return None if unknown else self.program


# --- destinations --------------------------------------------------------------------


def facts_of(delivery: Delivery) -> list[str]:
    """The names of the observations of a delivery."""
    return [
        entry.resource["code"]["text"]
        for entry in delivery.entries
        if entry.resource["resourceType"] == "Observation"
    ]


class ToyRecord:
    """Transactional: writes to a table of the journal's own database."""

    transactional = True

    def __init__(self, journal: Journal, name: str = "record") -> None:
        self.name = name
        self.answers: dict[str, list[Outcome | BaseException]] = {}
        """By fact: what the next attempts give instead of Delivered."""
        with journal.write() as connection:
            connection.execute(
                text(
                    "CREATE TABLE toy_record (place integer primary key, patient varchar(64), "
                    "fact varchar(100), sequence integer, merged varchar(400))"
                    if journal.dialect == "sqlite"
                    else "CREATE TABLE toy_record (place serial primary key, patient varchar(64), "
                    "fact varchar(100), sequence bigint, merged varchar(400))"
                )
            )

    def deliver(self, delivery: Delivery, connection: Connection | None) -> Outcome:
        assert connection is not None
        rows = [
            {
                "patient": delivery.patient_id,
                "fact": fact,
                "sequence": delivery.sequence,
                "merged": ",".join(delivery.merged_patients),
            }
            for fact in facts_of(delivery) or ["(none)"]
        ]
        for resource in (entry.resource for entry in delivery.entries):
            if resource["resourceType"] == "Observation":
                assert resource["subject"]["reference"] == f"Patient/{delivery.patient_id}"
        connection.execute(
            text(
                "INSERT INTO toy_record (patient, fact, sequence, merged) "
                "VALUES (:patient, :fact, :sequence, :merged)"
            ),
            rows,
        )
        for row in rows:
            answers = self.answers.get(str(row["fact"]))
            if answers:
                answer = answers.pop(0)
                if isinstance(answer, BaseException):
                    raise answer
                return answer
        return Delivered(evidence="kept")


def recorded(journal: Journal) -> list[tuple[str, str, int]]:
    """What the toy record holds, in the order in which it came: patient, fact, sequence."""
    with journal.read() as connection:
        rows = connection.execute(
            text("SELECT patient, fact, sequence FROM toy_record ORDER BY place")
        )
        return [(row.patient, row.fact, row.sequence) for row in rows]


class ToyRemote:
    """Not transactional: a list in memory that honours the idempotency key."""

    transactional = False

    def __init__(self, name: str = "remote") -> None:
        self.name = name
        self.lock = threading.Lock()
        self.answers: dict[str, list[Outcome | BaseException]] = {}
        self.always: Outcome | None = None
        self.calls: list[str] = []
        self.kept: dict[str, list[str]] = {}
        self.order: list[tuple[str, str]] = []

    def deliver(self, delivery: Delivery, connection: Any | None) -> Outcome:
        assert connection is None
        facts = facts_of(delivery)
        with self.lock:
            self.calls += facts
            if self.always is not None:
                return self.always
            for fact in facts:
                if self.answers.get(fact):
                    answer = self.answers[fact].pop(0)
                    if isinstance(answer, BaseException):
                        raise answer
                    return answer
            if delivery.idempotency_key not in self.kept:
                self.kept[delivery.idempotency_key] = facts
                self.order += [(delivery.patient_id, fact) for fact in facts]
        return Delivered(evidence="201")


# --- the whole ------------------------------------------------------------------------


class HeldClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **wait: float) -> None:
        self.at += timedelta(**wait)


@dataclass
class Rig:
    """Journal, intake and drainer; drained by hand (:meth:`settle`) or by a pool."""

    journal: Journal
    clock: Callable[[], datetime]
    reader: ToyReader = field(default_factory=ToyReader)
    library: ToyLibrary = field(default_factory=ToyLibrary)
    destinations: list[Any] = field(default_factory=list)
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    quiet: Mapping[str, timedelta] = field(default_factory=lambda: {"ct": timedelta(seconds=5)})
    remember_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not self.destinations:
            self.destinations = [ToyRecord(self.journal)]
        self.gate = PermissionGate(remember_seconds=self.remember_seconds)
        readers = {
            Format.HL7V2: self.reader,
            Format.DICOM: ToyReader(Format.DICOM),
            Format.CDA: ToyReader(Format.CDA),
        }
        self.normaliser = Normaliser(readers=readers, library=self.library)  # type: ignore[arg-type]
        self.drainer = self.new_drainer()
        self.writer = GroupWriter(self.journal, judge=self.judge)
        self.writer.start()
        self.intake = JournalIntake(self.writer, self.gate, quiet=self.quiet, now=self.clock)
        self.sent = 0
        self.pool: WorkerPool | None = None

    def judge(self, connection: Connection, messages: Sequence[Received]) -> list[Cause | None]:
        """The gate's judgement; looked up anew each time, so that a test may take its place."""
        return self.gate.judge(connection, messages)

    def new_drainer(self, **options: Any) -> Drainer:
        """Another worker over the same journal."""
        return Drainer(
            self.journal,
            self.normaliser,
            self.destinations,
            policy=self.policy,
            gate=self.gate,
            now=self.clock,
            draw=lambda: 1.0,
            **options,
        )

    def run_pool(
        self, url: str = "", *, threads: int = 2, sweep_seconds: float = 0.2
    ) -> WorkerPool:
        """Drain by threads, woken by a broker."""
        self.pool = WorkerPool(
            self.journal,
            self.drainer,
            make_broker(url),
            threads=threads,
            sweep_seconds=sweep_seconds,
            now=self.clock,
        )
        self.journal.on_ring = self.pool.ring_all
        self.pool.start()
        return self.pool

    def close(self) -> None:
        self.writer.stop()
        if self.pool is not None:
            self.pool.stop()
        self.journal.close()

    # --- sending ------------------------------------------------------------------

    def submit(self, content: Mapping[str, Any] | bytes, **fields: Any) -> Future[Receipt]:
        """Hand a message to intake; ``content`` as JSON, or bytes as they are."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.sent += 1
        subject: tuple[Identifier, ...] = ()
        carries = False
        if not isinstance(content, bytes):
            subject = self.message_subject(content)
            carries = "feeding" in content or "record" in content
        given = {
            "source": "lab",
            "format": Format.HL7V2,
            "control_id": f"C{self.sent}",
            "subject": subject,
            "carries_permission": carries,
            "answer": f"AA {self.sent}".encode(),
            "received_at": self.clock(),
            **fields,
        }
        return self.intake.submit(Received(payload=Payload.from_bytes(data), **given))

    def send(self, content: Mapping[str, Any] | bytes, **fields: Any) -> Receipt:
        """Hand a message to intake and wait for the receipt."""
        return self.submit(content, **fields).result(timeout=20)

    def settle(self, rounds: int = 200) -> None:
        """Drain whatever is due, as the sweep would, until nothing is."""
        from gateway.journal import lanes

        for _ in range(rounds):
            with self.journal.read() as connection:
                view = self.drainer.shares.look(connection, self.clock())
                due = lanes.due(connection, self.clock(), 500, rank=view.rank)
            if not due:
                return
            for lane in due:
                self.drainer.drain(lane)
        raise AssertionError("the lanes never come to rest")

    @staticmethod
    def message_subject(content: Mapping[str, Any]) -> tuple[Identifier, ...]:
        """The identifiers that an adapter would read from a message."""
        return tuple(
            Identifier(system=s, value=v, type=t) for s, v, t in content.get("patient", ())
        )

    # --- looking ------------------------------------------------------------------

    def message(self, receipt: Receipt | int) -> Message:
        with self.journal.read() as connection:
            message_id = receipt if isinstance(receipt, int) else receipt.message_id
            message = messages.get(connection, message_id)
        assert message is not None
        return message

    def state(self, receipt: Receipt | int) -> MessageState:
        return self.message(receipt).state

    def code(self, receipt: Receipt | int) -> CauseCode | None:
        cause = self.message(receipt).cause
        return cause.code if cause else None

    def events(self, receipt: Receipt) -> list[str]:
        with self.journal.read() as connection:
            return [event.what for event in messages.events(connection, receipt.message_id)]

    def facts(self) -> list[str]:
        return [fact for _, fact, _ in recorded(self.journal)]

    def delivery(self, receipt: Receipt) -> Any:
        with self.journal.read() as connection:
            found = deliveries.of_message(connection, receipt.message_id)
        assert len(found) == 1
        return found[0]


def open_journal(url: str, folder: Path, **options: Any) -> Journal:
    """A migrated journal."""
    journal = Journal(url, blob_directory=folder / "blobs", **options)
    journal.migrate()
    return journal
