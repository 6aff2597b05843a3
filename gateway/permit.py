"""Stage 4: may it go in? What a message says of the permission, and what holds.

A mapping emits a ``Consent`` whose category is coded in ``urn:ecluse:permission``:

- ``feeding``: may documents enter the shared record? HL7 PAM France ZFA-9:
  ``IO`` (opposition) is ``deny``, ``INO`` is ``permit``.
- ``record``: is there a record to enter? ZFA-1: ``FERME`` is ``deny``,
  ``ACTIF`` is ``permit``.

A message's own statement is taken first and then judges the message itself: the
one that brings an opposition does not go in, the one that withdraws it does.
What was accepted before an opposition and is still on its way goes on: the
order of arrival decides, not the speed of a destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.index import PatientIndex
from gateway.journal.values import Feeding, RecordStatus
from gateway.model import Cause, CauseCode, Entry
from gateway.value_class import value_class

CATEGORY_SYSTEM = "urn:ecluse:permission"


@value_class(frozen=True, slots=True, kw_only=True)
class Statement:
    """What one message says; None where it says nothing."""

    feeding: Feeding | None = None
    record: RecordStatus | None = None

    def __bool__(self) -> bool:
        return self.feeding is not None or self.record is not None


def read_statement(entries: Sequence[Entry]) -> Statement:
    """The permission that a message states.

    When a message both permits and denies the same thing, the denial counts: it
    is the patient's right, and the sender sees the refusal and can correct it.
    """
    said: dict[str, set[str]] = {"feeding": set(), "record": set()}
    for entry in entries:
        if entry.resource["resourceType"] != "Consent":
            continue
        verdict = entry.resource.get("provision", {}).get("type")
        if verdict in ("deny", "permit"):
            for code in _categories(entry.resource):
                if code in said:
                    said[code].add(verdict)
    feeding, record = said["feeding"], said["record"]
    return Statement(
        feeding=None
        if not feeding
        else (Feeding.OPPOSED if "deny" in feeding else Feeding.PERMITTED),
        record=None
        if not record
        else (RecordStatus.CLOSED if "deny" in record else RecordStatus.OPEN),
    )


def _categories(consent: dict[str, Any]) -> list[str]:
    return [
        coding.get("code", "")
        for category in consent.get("category", ())
        for coding in category.get("coding", ())
        if coding.get("system") == CATEGORY_SYSTEM
    ]


@value_class(frozen=True, slots=True, kw_only=True)
class Judged:
    """Stage 4's word: the cause when it may not go in; whether the permission changed."""

    cause: Cause | None
    changed: bool


def permit(
    index: PatientIndex, *, patient_id: str, message_id: int, statement: Statement
) -> Judged:
    """Take a message's statement into the patient index, then judge the message.

    A message that arrived before the one which last spoke changes nothing
    (``patients.set_permission``): a replayed old opposition does not undo its
    withdrawal.
    """
    changed = bool(statement) and index.set_permission(
        patient_id, message_id, feeding=statement.feeding, record=statement.record
    )
    patient = index.survivor(patient_id)
    return Judged(cause=denial(patient.feeding, patient.record), changed=changed)


def denial(feeding: Feeding, record: RecordStatus) -> Cause | None:
    """Why nothing may go in under this state, or None when it may.

    What is unknown is permitted: feeding is lawful unless the patient opposed
    it (code de la santé publique, L. 1111-15 and R. 1111-47).
    """
    if record is RecordStatus.CLOSED:
        return Cause(code=CauseCode.RECORD_CLOSED, detail="the patient's shared record is closed")
    if feeding is Feeding.OPPOSED:
        return Cause(
            code=CauseCode.FEEDING_OPPOSED,
            detail="the patient opposes that documents enter the shared record",
        )
    return None
