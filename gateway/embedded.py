"""The entries of a document inside a message, joined with the message's own. Pure.

A report in an HL7 v2 message may hold a CDA whose header names the patient once
more. Both are the same person, because the sender says so by putting one inside
the other; unless they contradict each other, which nobody may settle by a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway import ins
from gateway.mapping import combined
from gateway.model import Cause, CauseCode, Embedded, Entry, Identifier, Mapped
from gateway.subjects import identifier_of, identifies, key_of, rewrite


@dataclass(frozen=True, slots=True)
class Joined:
    """Both, as one mapping's result."""

    mapped: Mapped


def join(outer: Mapped, document: Embedded, inner: Mapped) -> Joined | Cause:
    """Take the entries of a document in.

    The document's patient becomes the message's: references are rewritten and
    his identifiers added to the message's Patient entry. The rest is put together
    by ``gateway.mapping.combined``. IDENTITY_CONFLICT when the two name different
    people.
    """
    own, other = _only_patient(outer.entries), _only_patient(inner.entries)
    if own is not None and other is not None:
        fault = _contradiction(own, other)
        if fault is not None:
            return fault
        kept = tuple(entry for entry in inner.entries if entry is not other)
        inner = replace(inner, entries=rewrite(kept, {other.reference: own.reference}))
        known = _with_identifiers(own, other)
        outer = replace(
            outer, entries=tuple(known if entry is own else entry for entry in outer.entries)
        )
    return Joined(
        replace(
            combined(outer, document, inner),
            mapping=f"{outer.mapping}+{inner.mapping}",
            version=f"{outer.version}+{inner.version}",
            digest=f"{outer.digest}+{inner.digest}",
        )
    )


def _only_patient(entries: Sequence[Entry]) -> Entry | None:
    """The one Patient; None when there are several, which stage 3 then judges."""
    found = [entry for entry in entries if entry.resource["resourceType"] == "Patient"]
    return found[0] if len(found) == 1 else None


def _identifiers(entry: Entry) -> list[Identifier]:
    read = (identifier_of(raw) for raw in entry.resource.get("identifier", ()))
    return [each for each in read if each is not None and identifies(each)]


def _contradiction(own: Entry, other: Entry) -> Cause | None:
    ours, theirs = _identifiers(own), _identifiers(other)
    national = {each.value for each in ours if ins.is_ins(each)}
    others = {each.value for each in theirs if ins.is_ins(each)}
    if national and others:
        # Whatever else differs, an INS says who it is.
        return None if national & others else _conflict()
    for system in {each.system for each in ours} & {each.system for each in theirs}:
        mine = {each.value for each in ours if each.system == system}
        if mine.isdisjoint(each.value for each in theirs if each.system == system):
            return _conflict()
    return None


def _conflict() -> Cause:
    return Cause(
        code=CauseCode.IDENTITY_CONFLICT,
        detail="the message and the document inside it name different patients",
    )


def _with_identifiers(own: Entry, other: Entry) -> Entry:
    known = {key_of(each) for each in _identifiers(own)}
    missing: list[dict[str, Any]] = []
    for raw in other.resource.get("identifier", ()):
        identifier = identifier_of(raw)
        if identifier is None or not identifies(identifier):
            continue
        if key_of(identifier) not in known:
            known.add(key_of(identifier))
            missing.append(raw)
    if not missing:
        return own
    stated = [*own.resource.get("identifier", ()), *missing]
    return replace(own, resource={**own.resource, "identifier": stated})
