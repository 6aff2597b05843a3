"""Put together what two mappings made of one message: the message's and its document's, or what
stands in it and what it says is not to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.mapping.running import same_content
from gateway.model import Embedded, Entry, Flag, Mapped

_DOCUMENT = "DocumentReference"
_WITHDRAWN = "entered-in-error"
_SAYING = frozenset({_DOCUMENT, "DiagnosticReport", "Observation"})
"""What a document says itself: withdrawn with it. The patient, the order, a practitioner
stay what they are."""

_REJECTABLE = _SAYING | {"List"}
"""The same, and key object selections: what an object says that is rejected."""


def combined(outer: Mapped, embedded: Embedded, inner: Mapped) -> Mapped:
    """The outer result with the entries that another mapping made of an embedded document.

    ``embedded.overlay`` (security labels, tags: what the message says of the document)
    is added to the first DocumentReference of ``inner``: lists are joined without
    repeats, an element that the document itself has is not replaced. One status is more
    than an addition: ``entered-in-error`` withdraws the document and the results that it
    brought (R4: «the resource was created in error»). Entries of the
    same reference are kept once: the outer one's, unless it is create-only. The
    document is no longer among the result's ``embedded``.
    """
    entries = list(inner.entries)
    for index, entry in enumerate(entries):
        if embedded.overlay and entry.resource["resourceType"] == _DOCUMENT:
            resource = overlaid(entry.resource, embedded.overlay)
            entries[index] = Entry(resource=resource, create_only=entry.create_only)
            break
    if embedded.overlay.get("status") == _WITHDRAWN:
        entries = [_withdrawn(each) if _kind(each) in _SAYING else each for each in entries]
    made: dict[str, Entry] = {}
    flags = [*outer.flags, *inner.flags]
    for entry in (*outer.entries, *entries):
        before = made.get(entry.reference)
        if before is None or (before.create_only and not entry.create_only):
            made[entry.reference] = entry
        elif not entry.create_only and not same_content(before.resource, entry.resource):
            flags.append(Flag(code="conflicting-repeat", target=entry.resource["resourceType"]))
    attachments = {part.sha256: part for part in (*outer.attachments, *inner.attachments)}
    return Mapped(
        mapping=outer.mapping,
        version=outer.version,
        digest=outer.digest,
        entries=tuple(made.values()),
        attachments=tuple(attachments.values()),
        embedded=(
            *(part for part in outer.embedded if part is not embedded),
            *inner.embedded,
        ),
        flags=tuple(flags),
        trace=(*outer.trace, *inner.trace),
    )


def without(whole: Mapped, rejected: Mapped | None) -> Mapped:
    """A result with what another mapping made of parts that are rejected (IHE RAD IOCM), withdrawn:
    reports, results, documents and lists are ``entered-in-error``. What the rest says as well
    stays; whom and what they are of is the rest's to say. With None there is a flag."""
    if rejected is None:
        return replace(whole, flags=(*whole.flags, Flag(code="rejected-not-read")))
    said = {entry.reference for entry in whole.entries}
    gone = [
        _withdrawn(entry)
        for entry in rejected.entries
        if _kind(entry) in _REJECTABLE and entry.reference not in said
    ]
    attachments = {part.sha256: part for part in (*whole.attachments, *rejected.attachments)}
    return replace(
        whole,
        entries=(*whole.entries, *gone),
        attachments=tuple(attachments.values()),
        trace=(*whole.trace, *rejected.trace),
    )


def _kind(entry: Entry) -> str:
    return str(entry.resource["resourceType"])


def _withdrawn(entry: Entry) -> Entry:
    resource = {**entry.resource, "status": _WITHDRAWN}
    return Entry(resource=resource, create_only=entry.create_only)


def overlaid(resource: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """A resource with further elements: lists joined, objects merged, values kept."""
    made = dict(resource)
    for key, value in overlay.items():
        before = made.get(key)
        if before is None:
            made[key] = value
        elif isinstance(before, list) and isinstance(value, list):
            made[key] = [*before, *(item for item in value if item not in before)]
        elif isinstance(before, dict) and isinstance(value, dict):
            made[key] = overlaid(before, value)
    return made
