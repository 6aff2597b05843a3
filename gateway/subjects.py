"""What a message's entries say about whose they are. Pure: no database, no guess.

A mapping emits one ``Patient`` entry per person that its message names. One of
them is the *subject*; those that carry a ``link`` of type ``replaced-by`` are
*subsumed* (FHIR R4 Patient.link: «The patient resource containing this link must
no longer be used»): the message merges them into the subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway import ins
from gateway.journal.tables import KEY_MAX
from gateway.model import Cause, CauseCode, Entry, Identifier
from gateway.value_class import value_class

VISIT_TYPES = frozenset({"AN", "VN"})
"""HL7 table 0203: account number and visit number. They name a stay, not a person."""

SHARED_TYPES = frozenset({"SS"})
"""HL7 table 0203: social security number, which members of a family may share."""

SHARED_SYSTEMS = frozenset({"urn:oid:1.2.250.1.213.1.4.13", "urn:oid:1.2.250.1.213.1.4.2"})
"""The NIR as social security number (may be the insured parent's) and the former
INS-C (computed from traits, so two people may have the same)."""

UNCONFIRMED = "temp"
"""R4 Identifier.use of an INS that its sender does not vouch for (identity not qualified)."""

IDENTIFIERS_MAX = 64
"""Identifiers of one patient in one message; more is no patient."""


Key = tuple[str, str]


def key_of(identifier: Identifier) -> Key:
    """What makes two identifiers the same: authority and value, whatever the type says."""
    return identifier.system, identifier.value


@value_class(frozen=True, slots=True, kw_only=True)
class Claim:
    """One Patient entry's word on who it is.

    ``reference`` is the entry's own ``Patient/<id>``. ``national`` holds its
    valid INS (several only when the message contradicts itself), ``local`` the
    identifiers that an authority assigned to the person. ``unconfirmed``: there is an INS
    that counts for nothing, because its sender has not qualified the identity.
    """

    reference: str
    national: tuple[Identifier, ...] = ()
    local: tuple[Identifier, ...] = ()
    unconfirmed: bool = False

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        """All that may identify the person."""
        return self.national + self.local


@value_class(frozen=True, slots=True, kw_only=True)
class Subjects:
    """The patient that a message is about, and those it merges into that one."""

    subject: Claim
    subsumed: tuple[Claim, ...] = ()

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        """Every identifier that the message names, for locks and for the gate."""
        claims = (self.subject, *self.subsumed)
        return tuple(
            {key_of(each): each for claim in claims for each in claim.identifiers}.values()
        )


def read_subjects(
    entries: Sequence[Entry], *, accepted: frozenset[str] = ins.ROOTS
) -> Subjects | Cause:
    """Find the subject of a message, or the cause for which there is none.

    ``accepted`` are the INS roots that count here (a gateway in production
    leaves out the test roots). The cause is IDENTITY_INVALID when nothing
    identifies the patient or an INS is wrong, IDENTITY_CONFLICT when the
    message speaks of two people and does not merge them.
    """
    claims: list[Claim] = []
    replaced: dict[str, str] = {}
    for entry in entries:
        if entry.resource["resourceType"] != "Patient":
            continue
        claim = _claim(entry, accepted)
        if isinstance(claim, Cause):
            return claim
        claims.append(claim)
        successor = successor_of(entry.resource)
        if successor:
            replaced[claim.reference] = successor
    living = [claim for claim in claims if claim.reference not in replaced]
    if not claims:
        return _invalid("the message names no patient")
    if not living:
        return _conflict("the message merges its patients in a circle")
    if len(living) > 1:
        return _conflict("the message speaks of two patients and does not merge them")
    subject = living[0]
    if any(successor != subject.reference for successor in replaced.values()):
        return _conflict("the message merges a patient into one that it does not describe")
    if not subject.identifiers and subject.unconfirmed:
        return _invalid("the patient's INS is not qualified and nothing else identifies them")
    if not subject.identifiers:
        return _invalid("no identifier of the patient has an assigning authority")
    subsumed = tuple(claim for claim in claims if claim.reference in replaced)
    return _distinct(Subjects(subject=subject, subsumed=subsumed))


def _distinct(subjects: Subjects) -> Subjects | Cause:
    for claim in (subjects.subject, *subjects.subsumed):
        if len(claim.national) > 1:
            return _conflict("the message gives one patient two different INS")
    own = {key_of(each) for each in subjects.subject.identifiers}
    for claim in subjects.subsumed:
        if not claim.identifiers:
            return _invalid("the message merges a patient whom nothing identifies")
        if not own.isdisjoint(key_of(each) for each in claim.identifiers):
            return _conflict("the message merges a patient into itself")
    return subjects


def _claim(entry: Entry, accepted: frozenset[str]) -> Claim | Cause:
    national: dict[tuple[str, str], Identifier] = {}
    local: dict[tuple[str, str], Identifier] = {}
    unconfirmed = False
    stated = entry.resource.get("identifier", ())
    if len(stated) > IDENTIFIERS_MAX:
        return _invalid(f"the message gives one patient more than {IDENTIFIERS_MAX} identifiers")
    for position, raw in enumerate(stated):
        identifier = identifier_of(raw)
        if identifier is None:
            continue
        place = f"Patient.identifier[{position}]"
        if not _storable(identifier):
            return _invalid("an identifier is too long or holds what is no text", place)
        if ins.is_ins(identifier):
            if raw.get("use") == UNCONFIRMED:
                unconfirmed = True
                continue
            if identifier.system not in accepted:
                return _invalid("an INS of a test root does not count here", place)
            wrong = ins.fault(identifier.value)
            if wrong is not None:
                return _invalid(wrong.value, place)
            national.setdefault(key_of(identifier), identifier)
        elif identifies(identifier):
            local.setdefault(key_of(identifier), identifier)
    return Claim(
        reference=entry.reference,
        national=tuple(national.values()),
        local=tuple(local.values()),
        unconfirmed=unconfirmed,
    )


def identifies(identifier: Identifier) -> bool:
    """Whether an identifier names a person, and one person only."""
    return (
        identifier.type not in VISIT_TYPES
        and identifier.type not in SHARED_TYPES
        and identifier.system not in SHARED_SYSTEMS
    )


def _storable(identifier: Identifier) -> bool:
    """Whether the index can hold an identifier exactly: an altered one could be another's."""
    return all(
        len(part) <= KEY_MAX and part.isprintable()
        for part in (identifier.system, identifier.value)
    )


def identifier_of(raw: Mapping[str, Any]) -> Identifier | None:
    """A FHIR ``Identifier`` as our value; None without system or value."""
    system, value = raw.get("system", ""), raw.get("value", "")
    if not (isinstance(system, str) and isinstance(value, str) and system and value):
        return None
    coding = raw.get("type", {}).get("coding", ())
    codes = [each.get("code", "") for each in coding]
    return Identifier(system=system, value=value, type=codes[0] if codes else "")


def successor_of(patient: Mapping[str, Any]) -> str:
    """The reference of the patient into whom this one was merged, or empty."""
    for link in patient.get("link", ()):
        if link.get("type") == "replaced-by":
            return str(link.get("other", {}).get("reference", ""))
    return ""


def _invalid(detail: str, location: str = "") -> Cause:
    return Cause(code=CauseCode.IDENTITY_INVALID, detail=detail, location=location)


def _conflict(detail: str) -> Cause:
    return Cause(code=CauseCode.IDENTITY_CONFLICT, detail=detail)


def rewrite(
    entries: Iterable[Entry], renamed: Mapping[str, str], *, drop: frozenset[str] = frozenset()
) -> tuple[Entry, ...]:
    """The entries with every patient under the name that the index gives him.

    ``renamed`` maps ``Patient/<id in the message>`` to ``Patient/<id in the
    index>``: the entry's own id and every ``reference`` to it change, nothing
    else does. Entries whose reference is in ``drop`` are left out. The
    originals are untouched.
    """
    done: list[Entry] = []
    for entry in entries:
        if entry.reference in drop:
            continue
        resource = _renamed(entry.resource, renamed)
        name = renamed.get(entry.reference)
        if name is not None:
            resource = {**resource, "id": name.split("/", 1)[1]}
        done.append(entry if resource is entry.resource else replace(entry, resource=resource))
    return tuple(done)


def _renamed(node: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """A copy along the changed paths only; the node itself when nothing changed.

    Every value of every entry comes by here, so exact types are asked for.
    """
    copy: dict[str, Any] | None = None
    for name, value in node.items():
        kind = type(value)
        new: Any
        if kind is str:
            if name != "reference":
                continue
            new = renamed.get(value, value)
        elif kind is dict:
            new = _renamed(value, renamed)
        elif kind is list:
            new = _renamed_items(value, renamed)
        else:
            continue
        if new is not value:
            copy = dict(node) if copy is None else copy
            copy[name] = new
    return node if copy is None else copy


def _renamed_items(node: list[Any], renamed: Mapping[str, str]) -> list[Any]:
    copy: list[Any] | None = None
    for place, value in enumerate(node):
        kind = type(value)
        if kind is dict:
            new: Any = _renamed(value, renamed)
        elif kind is list:
            new = _renamed_items(value, renamed)
        else:
            continue
        if new is not value:
            copy = list(node) if copy is None else copy
            copy[place] = new
    return node if copy is None else copy
