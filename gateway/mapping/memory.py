"""What rules remember: the same content is converted once.

Laboratories send the same few hundred codes, units and ranges in every message, and
the same times and order numbers many times in one. Where a rule's paths have a cheap
``content`` (:class:`gateway.ports.CompiledPath`), what was made of it is kept: of coded
things some thousands, of everything else the last few, for the next result of the same
order and the next order of the same doctor. A rule that raised a flag is not remembered,
because the flag names the place; one whose contents hardly ever come again stops
remembering. All of it is in the memory of the process and nowhere else.

What is remembered is shared by every entry that it stands in. Nobody changes a value
inside an entry: who needs another makes a copy along the way to it
(:func:`gateway.subjects.rewrite`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from gateway.mapping.compiling import Compiler, Fn, Item
from gateway.mapping.running import Run
from gateway.ports import Scope

REMEMBERED_MAX = 4_096
"""Contents that one rule remembers; beyond it starts anew."""

TRANSIENT_MAX = 256
"""The same for a rule whose contents may be of a patient."""

TRIAL = 256
"""After so many contents a rule that met fewer than one in four again stops remembering."""


@dataclass(slots=True)
class Memo:
    """What one rule remembers for the messages of one source."""

    known: dict[Hashable, Any] = field(default_factory=dict)
    misses: int = 0
    hits: int = 0
    idle: bool = False


class _Nothing:
    """What is remembered of a content that gives no value."""


NOTHING = _Nothing()


def learn(memo: Memo, token: Hashable, value: Any, limit: int, *, flagged: bool) -> None:
    """Remember what was made of a content, unless it raised a flag; ``limit`` contents at most."""
    memo.misses += 1
    if memo.misses >= TRIAL:
        memo.idle = memo.hits * 3 < memo.misses
        memo.misses = memo.hits = 0
        if memo.idle:
            memo.known.clear()
    if flagged or memo.idle:
        return
    if len(memo.known) >= limit:
        memo.known.clear()
    memo.known[token] = NOTHING if value is None else value


def provide(memory: list[Any], count: int) -> None:
    """Give each of so many rules its memory."""
    while len(memory) < count:
        memory.append(Memo())


def remembering(c: Compiler, get: Fn, content: Callable[[Scope], Hashable]) -> Fn:
    """A rule of one path and few results that remembers. Nothing for no content."""
    number = c.memos
    c.memos += 1

    def remembered(run: Run, scope: Scope, item: Item) -> Any:
        token = content(scope)
        if not token:
            return None
        memo: Memo = run.lasting[number]
        if memo.idle:
            return get(run, scope, item)
        found = memo.known.get(token)
        if found is not None:
            memo.hits += 1
            return None if found is NOTHING else found
        before = len(run.flags)
        value = get(run, scope, item)
        learn(memo, token, value, REMEMBERED_MAX, flagged=len(run.flags) != before)
        return value

    return remembered
