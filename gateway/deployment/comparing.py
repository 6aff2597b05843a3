"""What a message's facts would become if it were read now: compared with what was kept of it.

Nothing is written: the patient is looked up in a connection that only reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.deployment.force import InForce
from gateway.identify import Awaited, identify
from gateway.index import PatientIndex
from gateway.journal import messages
from gateway.journal.entries import EDITED
from gateway.journal.faults import JournalFault
from gateway.journal.journal import Journal
from gateway.journal.values import Message
from gateway.model import Cause, CauseCode, Entry
from gateway.normalise import Reading, Unusable
from gateway.originals import original_of
from gateway.permit import denial
from gateway.serialise import dumps
from gateway.subjects import Subjects, rewrite


class Verdict(StrEnum):
    """What a reading anew would do with one message."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    FAILED = "failed"
    """The mappings in force cannot read it; it stays as it is."""
    WITHHELD = "withheld"
    """Its patient opposes feeding or has closed the record meanwhile; it stays as it is."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry before and after; None where it is not there."""

    reference: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One message. ``cause`` says why it was FAILED or WITHHELD."""

    message_id: int
    verdict: Verdict
    cause: Cause | None = None
    mapping: str = ""
    version: str = ""
    added: tuple[Fact, ...] = ()
    changed: tuple[Fact, ...] = ()
    vanished: tuple[Fact, ...] = ()
    same: int = 0

    def counts(self) -> Counter[str]:
        """What it adds to the counts of many."""
        return Counter(
            {
                self.verdict.value: 1,
                "facts_added": len(self.added),
                "facts_changed": len(self.changed),
                "facts_vanished": len(self.vanished),
                "facts_same": self.same,
            }
        )


@dataclass(slots=True)
class Facts:
    """How two readings of one message differ."""

    added: list[Fact] = field(default_factory=list)
    changed: list[Fact] = field(default_factory=list)
    vanished: list[Fact] = field(default_factory=list)
    same: int = 0


def compare(journal: Journal, now: InForce, message: Message) -> Compared:
    """Read one message with the mappings in force and compare. Raises JournalUnavailable and
    OSError: the machine could not read the bytes, which says nothing of the message."""
    if EDITED in message.attributes:
        said = "a person corrected its entries: they are not made anew"
        return _failed(message, CauseCode.MAPPING_FAILED, said)
    try:
        prepared = now.normaliser.normalise(original_of(journal, message))
    except KeyError:
        return _failed(message, CauseCode.UNREADABLE, "the message's bytes are not in the store")
    except OverflowError:
        return _failed(message, CauseCode.HOSTILE_CONTENT, "too many instances, or too large")
    if isinstance(prepared, Unusable):
        return Compared(message_id=message.id, verdict=Verdict.FAILED, cause=prepared.cause)
    if isinstance(prepared.subjects, Cause):
        return Compared(message_id=message.id, verdict=Verdict.FAILED, cause=prepared.subjects)
    try:
        return _compared(journal, message, prepared, prepared.subjects)
    except JournalFault:
        # What it says of patients would change the index, which is not to be done here.
        said = "what it says of its patient is not what the index has"
        return _failed(message, CauseCode.IDENTITY_CONFLICT, said)


def _failed(message: Message, code: CauseCode, detail: str) -> Compared:
    cause = Cause(code=code, detail=detail)
    return Compared(message_id=message.id, verdict=Verdict.FAILED, cause=cause)


def _compared(journal: Journal, message: Message, reading: Reading, subjects: Subjects) -> Compared:
    with journal.read() as connection:
        index = PatientIndex(connection, (subjects.subject, *subjects.subsumed))
        found = identify(index, message.id, subjects)
        if isinstance(found, Cause):
            return Compared(message_id=message.id, verdict=Verdict.FAILED, cause=found)
        if isinstance(found, Awaited):
            return Compared(message_id=message.id, verdict=Verdict.FAILED, cause=found.cause)
        patient = index.survivor(found.patient_id)
        denied = denial(patient.feeding, patient.record)
        if denied is not None:
            return Compared(message_id=message.id, verdict=Verdict.WITHHELD, cause=denied)
        kept = messages.normalised(connection, message.id)
    before: Sequence[Entry] = kept.entries if kept is not None else ()
    if message.patient_id and message.patient_id != found.patient_id:
        # A merge since then: the same facts, under the survivor's name.
        survivor = f"Patient/{found.patient_id}"
        before = rewrite(before, {f"Patient/{message.patient_id}": survivor})
    after = rewrite(reading.mapped.entries, found.renamed, drop=found.dropped)
    facts = facts_between(before, after)
    touched = facts.added or facts.changed or facts.vanished
    return Compared(
        message_id=message.id,
        verdict=Verdict.CHANGED if touched else Verdict.UNCHANGED,
        mapping=reading.mapped.mapping,
        version=reading.mapped.version,
        added=tuple(facts.added),
        changed=tuple(facts.changed),
        vanished=tuple(facts.vanished),
        same=facts.same,
    )


def facts_between(before: Sequence[Entry], after: Sequence[Entry]) -> Facts:
    """What was added, changed and left out, by reference."""
    old = {each.reference: each for each in before}
    new = {each.reference: each for each in after}
    facts = Facts()
    for reference in dict.fromkeys((*old, *new)):
        was, becomes = old.get(reference), new.get(reference)
        if was is None and becomes is not None:
            facts.added.append(Fact(reference, None, becomes.resource))
        elif becomes is None and was is not None:
            facts.vanished.append(Fact(reference, was.resource, None))
        elif was is not None and becomes is not None:
            if _said(was) == _said(becomes):
                facts.same += 1
            else:
                facts.changed.append(Fact(reference, was.resource, becomes.resource))
    return facts


def _said(entry: Entry) -> bytes:
    return (b"1" if entry.create_only else b"0") + dumps(entry.resource, sort_keys=True)
