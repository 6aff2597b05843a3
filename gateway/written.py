"""Entries as the journal keeps them, made before the transaction that decides on them. Pure.

Nearly every message names its patient by an INS, from which the index derives his id;
so what stage 3 will call him is known beforehand, unless he was merged into another.
The names are put in, the JSON and its digest made, while no transaction waits for it.
Where the index says something else the entries are read from the JSON and go the long way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.index import patient_id_of
from gateway.journal.entries import entries_of, kept_entries
from gateway.model import Entry
from gateway.route import entries_digest
from gateway.subjects import Subjects, rewrite


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """``kept`` is what the journal keeps of the entries, ``digest`` their
    ``route.entries_digest``."""

    kept: bytes
    digest: str

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries, read again."""
        return entries_of(self.kept)


def write(entries: Sequence[Entry], subjects: Subjects) -> tuple[Written, Subjects] | None:
    """Entries under the names that the index will most likely give, and the subjects under
    theirs. None where it cannot be told: no INS, or a merge."""
    subject = subjects.subject
    if subjects.subsumed or not subject.national:
        return None
    expected = f"Patient/{patient_id_of(subject.national[0])}"
    if expected != subject.reference and any(each.reference == expected for each in entries):
        return None
    named = rewrite(entries, {subject.reference: expected})
    written = Written(kept=kept_entries(named), digest=entries_digest(named))
    return written, replace(subjects, subject=replace(subject, reference=expected))


def as_expected(renamed: Mapping[str, str], dropped: frozenset[str]) -> bool:
    """Whether the index changes nothing about the names that were written."""
    return not dropped and all(before == after for before, after in renamed.items())
