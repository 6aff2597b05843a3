"""One mapping, compiled: which messages it is for, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from gateway.mapping.conditions import Test
from gateway.mapping.entries import Entry
from gateway.mapping.memory import Memo
from gateway.mapping.running import MappingContext, Memory, Run
from gateway.model import Format, Mapped
from gateway.ports import CompiledPath, Scope

CONTEXTS_MAX = 64
"""Sources whose conversions one program remembers at a time."""

ANY = "*"
"""In ``match``: whatever value is there."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A source path left out on purpose; with ``when`` where ``test`` holds."""

    path: str
    reason: str
    when: str = ""
    test: Test | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The paths that choose a mapping, and the values of which one must be there."""

    paths: tuple[CompiledPath, ...]
    values: tuple[frozenset[str], ...]

    def fits(self, root: Scope) -> bool:
        """Whether the message is one of these."""
        for path, wanted in zip(self.paths, self.values, strict=True):
            found = {value.text.strip() for value in path.read(root) if value.text}
            if not (found if ANY in wanted else found & wanted):
                return False
        return True


@dataclass(slots=True)
class Program:
    """A compiled mapping. Immutable after load; safe to share between threads.

    ``digest`` is the SHA-256 (hex) over every file, table and site change that went
    into it. ``file`` is where the mapping stands.
    """

    name: str
    version: str
    digest: str
    file: str
    format: Format
    match: Match
    ignored: tuple[Ignored, ...]
    entries: Sequence[Entry]
    compile_traced: Callable[[], Sequence[Entry]]
    memos: int = 0
    _traced: Sequence[Entry] | None = field(default=None)
    _memories: dict[Hashable, Memory] = field(default_factory=dict)

    def run(self, root: Scope, context: MappingContext, *, trace: bool = False) -> Mapped:
        """Map one message: the same message, context and mapping give the same result.

        ``trace`` also records where each value came from. Raises MappingRejected when
        a policy refuses the message; anything else that leaves is a bug.
        """
        entries = self.entries
        if trace:
            if self._traced is None:
                self._traced = self.compile_traced()
            entries = self._traced
        run = Run(root, context, self._memory(context), trace=trace)
        for entry in entries:
            entry(run, root, None)
        return Mapped(
            mapping=self.name,
            version=self.version,
            digest=self.digest,
            entries=tuple(run.entries),
            attachments=tuple(run.attachments.values()),
            embedded=tuple(run.embedded),
            flags=tuple(dict.fromkeys(run.flags)),
            trace=tuple(run.trace or ()),
        )

    def _memory(self, context: MappingContext) -> Memory:
        """What the rules remember for messages of this context."""
        key = (context.zone, context.source, tuple(context.authorities.items()))
        memory = self._memories.get(key)
        if memory is None:
            if len(self._memories) >= CONTEXTS_MAX:
                self._memories.clear()
            memory = self._memories[key] = [Memo() for _ in range(self.memos)]
        return memory
