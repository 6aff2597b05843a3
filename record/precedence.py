"""Which content of an entry is current. Pure, and the same whatever the order of arrival.

Of all that messages said of one ``Type/id``, the latest in *message order* is current,
not the latest to arrive: a retry, a replay or a late delivery never turns the record
back. What came as *create-only* (a laboratory's idea of the patient's traits) yields to
any message of authority; among its like the earliest stands.

Of what one message says, the latest *reading* counts: a reprocessing reads messages anew
with other mappings and gives each reading a higher revision. It never lifts a message over
a later one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What becomes of a content that was put."""

    CREATE = auto()
    """The first of its entry."""
    REPLACE = auto()
    """A new version, and the current one."""
    KEEP = auto()
    """A new version that comes too late to be current."""
    CONFIRM = auto()
    """The current content said again by another message; no version."""
    NOTHING = auto()
    """Known already, or not wanted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is current of an entry: hash, the sequence that confirms it, create-only, and the
    revision of its message's reading."""

    hash: str
    sequence: int
    provisional: bool
    revision: int = 0


def judge(
    standing: Standing | None,
    given: Standing,
    known: Callable[[int | None], bool],
) -> Verdict:
    """Decide about one content.

    ``known(sequence)`` says whether a version with the given hash exists, of that
    sequence, or of any when it is None; it is asked only when the answer matters.
    """
    if standing is None:
        return Verdict.CREATE
    same = given.hash == standing.hash
    if given.provisional and not standing.provisional:
        return Verdict.NOTHING
    if given.sequence == standing.sequence and given.provisional == standing.provisional:
        # The same message, mapped anew; a replay of the old mapping changes nothing,
        # unless it is on purpose: then the reading has a higher revision.
        if given.revision != standing.revision:
            newer = given.revision > standing.revision
            return Verdict.REPLACE if newer and not same else Verdict.NOTHING
        return Verdict.NOTHING if same or known(given.sequence) else Verdict.REPLACE
    if given.provisional:
        if given.sequence > standing.sequence:
            return Verdict.NOTHING
        return Verdict.CONFIRM if same else Verdict.REPLACE
    if standing.provisional or given.sequence > standing.sequence:
        return Verdict.CONFIRM if same else Verdict.REPLACE
    return Verdict.NOTHING if same or known(None) else Verdict.KEEP
