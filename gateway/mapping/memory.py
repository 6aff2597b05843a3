"""What rules remember: the same content is converted once.

Laboratories send the same few hundred codes, units and ranges in every message, and
the same times and order numbers many times in one. Where a rule's paths have a cheap
``content`` (:class:`gateway.ports.CompiledPath`), what was made of it is kept: coded
things as long as the program lives, everything else for one message only. A rule that
raised a flag is not remembered, because the flag names the place; one whose contents
hardly ever come again stops remembering.

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


def learn(memo: Memo, known: dict[Hashable, Any], token: Hashable, made: tuple[Any, bool]) -> None:
    """Remember what was made of a content, unless it raised a flag.

    ``known`` is the memo's own or, for what may be of a patient, the message's.
    """
    value, flagged = made
    memo.misses += 1
    if memo.misses >= TRIAL:
        memo.idle = memo.hits * 3 < memo.misses
        memo.misses = memo.hits = 0
        if memo.idle:
            memo.known.clear()
    if flagged or memo.idle:
        return
    if len(known) >= REMEMBERED_MAX:
        known.clear()
    known[token] = NOTHING if value is None else value


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
        learn(memo, memo.known, token, (value, len(run.flags) != before))
        return value

    return remembered
