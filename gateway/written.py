"""Entries as bytes, with their patients still to be named.

A message's entries are kept in the journal as JSON, and their digest makes its
idempotency keys. Both need the name by which the index knows the patient, which
is found long after the mapping, in the one transaction for which all others
wait. So the entries are written before, and there only the references change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from gateway.model import Entry
from gateway.serialise import dumps
from gateway.subjects import rewrite
from gateway.value_class import value_class


@value_class(frozen=True, slots=True)
class WrittenEntries:
    """A Patient, whose own id may change too, as the entry that it is; or what stands between
    two of them, as bytes: as the journal keeps it, and in canonical form (keys sorted), of
    which the digest is made."""

    kept: bytes = b""
    canonical: bytes = b""
    patient: Entry | None = None


@value_class(frozen=True, slots=True)
class Named:
    """Entries under the names of the index: as the journal keeps them
    (``gateway.journal.entries``), and their SHA-256 in hex: the same facts, the same digest."""

    kept: bytes
    digest: str


def write(entries: Sequence[Entry]) -> tuple[WrittenEntries, ...]:
    """Write entries. Raises TypeError for a resource that JSON cannot hold."""
    parts: list[WrittenEntries] = []
    between: list[Entry] = []
    for entry in entries:
        if entry.resource["resourceType"] != "Patient":
            between.append(entry)
            continue
        if between:
            parts.append(_written(between))
            between = []
        parts.append(WrittenEntries(patient=entry))
    if between:
        parts.append(_written(between))
    return tuple(parts)


def name(
    written: Sequence[WrittenEntries],
    renamed: Mapping[str, str],
    *,
    drop: frozenset[str] = frozenset(),
) -> Named:
    """What ``gateway.subjects.rewrite`` makes of the entries, written.

    ``drop`` are references of Patients. A quotation mark inside a JSON string is
    escaped, so what looks like a reference in these bytes is one.
    """
    places = _places(renamed)
    digest, kept = hashlib.sha256(), []
    for part in written:
        if part.patient is None:
            body, canonical = _name(part.kept, places), _name(part.canonical, places)
        elif part.patient.reference in drop:
            continue
        else:
            named = _written(rewrite([part.patient], renamed))
            body, canonical = named.kept, named.canonical
        kept.append(body)
        digest.update(canonical)
    return Named(b"[" + b",".join(kept) + b"]", digest.hexdigest())


def _written(entries: Sequence[Entry]) -> WrittenEntries:
    kept = b",".join(
        b'{"resource":%b,"create_only":%b}' % (dumps(each.resource), _WORDS[each.create_only])
        for each in entries
    )
    canonical = b"".join(
        b"%b%b\n" % (_MARKS[each.create_only], dumps(each.resource, sort_keys=True))
        for each in entries
    )
    return WrittenEntries(kept, canonical)


_WORDS = {False: b"false", True: b"true"}
_MARKS = {False: b"\x00", True: b"\x01"}


def _places(renamed: Mapping[str, str]) -> dict[bytes, bytes]:
    return {_reference(old): _reference(new) for old, new in renamed.items() if old != new}


def _reference(to: str) -> bytes:
    return b'"reference":' + dumps(to)


def _name(body: bytes, places: Mapping[bytes, bytes]) -> bytes:
    if len(places) == 1:
        ((old, new),) = places.items()
        return body.replace(old, new)
    if not places:
        return body
    # All at once: one patient may have the name in the message that another has in the index.
    pattern = b"|".join(re.escape(old) for old in places)
    return re.sub(pattern, lambda found: places[found[0]], body)
