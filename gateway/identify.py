"""Stage 3: whose record is it? Decided by the index of patients, never guessed.

An INS with a right key makes a patient; the identifiers that stand beside it in
a message become his. A message that names only identifiers which nobody has
linked to an INS waits. Whatever contradicts the index is a conflict for people:
everything is looked at before anything is written, so a conflict leaves the
index as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.index import PatientIndex, patient_id_of
from gateway.journal.values import Patient
from gateway.model import Cause, CauseCode, Identifier
from gateway.subjects import Claim, Subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """The patient of a message.

    ``merged`` are patients whom the message merges into this one. ``renamed``
    maps the references of the message's entries to those of the index, and
    ``dropped`` are Patient entries of people whom the index never knew (a merge
    of an unknown identifier links it; there is nobody to merge). ``linked`` are
    the identifiers that the message was the first to link.
    """

    patient_id: str
    merged: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    linked: tuple[Identifier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """Nobody knows yet whose identifiers these are."""

    identifiers: tuple[Identifier, ...]

    @property
    def cause(self) -> Cause:
        """The cause under which the message is held."""
        return Cause(
            code=CauseCode.IDENTITY_AWAITED,
            detail="no identifier of the patient is linked to an INS yet",
        )


class _Conflict(Exception):
    """Ends the stage. Its text is the cause's detail."""


def identify(
    index: PatientIndex, message_id: int, subjects: Subjects
) -> Identified | Awaited | Cause:
    """Resolve a message's subject and merges, and bring the index up to date.

    ``index`` was read for all claims of the message. A cause is always
    IDENTITY_CONFLICT.
    """
    subject = subjects.subject
    try:
        patient = _known(index, subject)
        others = [(claim, _known(index, claim)) for claim in subjects.subsumed]
        _check_circle(index, subject, patient, others)
    except _Conflict as conflict:
        return Cause(code=CauseCode.IDENTITY_CONFLICT, detail=str(conflict))
    if patient is None and not subject.national:
        return Awaited(identifiers=subject.local)
    if patient is None:
        patient = index.ensure(subject.national[0], message_id)
    linked = list(index.link(patient.id, subject.identifiers, message_id))
    renamed = {subject.reference: f"Patient/{patient.id}"}
    dropped: set[str] = set()
    merged: list[str] = []
    for claim in subjects.subsumed:
        gone, new = _merge(index, patient, claim, message_id)
        linked += new
        if gone is None or gone in merged:
            dropped.add(claim.reference)
        else:
            merged.append(gone)
        renamed[claim.reference] = f"Patient/{gone or patient.id}"
    return Identified(
        patient_id=patient.id,
        merged=tuple(merged),
        renamed=renamed,
        dropped=frozenset(dropped),
        linked=tuple(linked),
    )


def _known(index: PatientIndex, claim: Claim) -> Patient | None:
    """The patient whom a claim names, merges followed; None when nobody knows him."""
    owners = index.owners(claim)
    if not owners:
        return None
    if len({index.survivor(owner).id for owner in owners}) > 1:
        raise _Conflict("the message's identifiers belong to different patients")
    own = {patient_id_of(national) for national in claim.national}
    if own and own.isdisjoint(owners):
        raise _Conflict("a local identifier of the message belongs to a patient with another INS")
    return index.survivor(min(owners))


def _check_circle(
    index: PatientIndex,
    subject: Claim,
    patient: Patient | None,
    others: list[tuple[Claim, Patient | None]],
) -> None:
    """Refuse to merge somebody into one who was himself merged into that somebody.

    Both sides may already be one patient without any fault: the merge was done
    before, or both identifiers were always his. It is a circle when the side
    that shall survive is the one that was merged away, and the other side is
    the one that survived.
    """
    if patient is None:
        return
    if patient.id in index.owners(subject):
        return
    for claim, other in others:
        if other is not None and other.id == patient.id and other.id in index.owners(claim):
            raise _Conflict("the message merges a patient into one who was merged into him")


def _merge(
    index: PatientIndex, patient: Patient, claim: Claim, message_id: int
) -> tuple[str | None, tuple[Identifier, ...]]:
    """Merge whom a claim names into ``patient``: his id in the index, None when the index
    has nobody else under the claim; and the identifiers that were linked."""
    owners = index.owners(claim)
    # Looked at again, because a merge before it may have changed who survives.
    other = index.survivor(min(owners)) if owners else None
    if other is None and claim.national:
        other = index.ensure(claim.national[0], message_id)
    if other is None:
        return None, index.link(patient.id, claim.local, message_id)
    linked = index.link(other.id, claim.identifiers, message_id)
    if other.id == patient.id:
        # Done before: name the one who went, so that a destination that missed it catches up.
        gone = sorted(index.owners(claim) - {patient.id})
        return (gone[0] if gone else None), linked
    index.merge(patient.id, other.id, message_id)
    return other.id, linked
