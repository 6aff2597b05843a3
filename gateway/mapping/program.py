"""One mapping, compiled: which messages it is for, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock

from gateway.mapping.conditions import Test
from gateway.mapping.entries import Entry
from gateway.mapping.memory import Memo
from gateway.mapping.observing import is_watched
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
class Rules:
    """What a mapping's rules were compiled to."""

    entries: Sequence[Entry]
    ignored: tuple[Ignored, ...]
    compile_traced: Callable[[bool], Sequence[Entry]]
    memos: int


class Program:
    """A mapping. Unchanged after load; safe to share between threads.

    ``digest`` is the SHA-256 (hex) over every file, table and site change that went
    into it. ``file`` is where the mapping stands. ``compile`` gives its rules: it is
    called once, at the load or, where the files were checked before, at the first
    message; it raises MappingError when a rule is wrong.
    """

    __slots__ = (
        "_compile", "_lock", "_memories", "_rules", "_traced",
        "digest", "file", "format", "match", "name", "version",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        version: str,
        digest: str,
        file: str,
        format: Format,  # noqa: A002 - the field's word
        match: Match,
        compile: Callable[[], Rules],  # noqa: A002 - what it does
    ) -> None:
        self.name = name
        self.version = version
        self.digest = digest
        self.file = file
        self.format = format
        self.match = match
        self._compile = compile
        self._lock = Lock()
        self._rules: Rules | None = None
        self._traced: dict[bool, Sequence[Entry]] = {}
        self._memories: dict[Hashable, Memory] = {}

    @property
    def rules(self) -> Rules:
        """The rules, compiled now if they are not yet. Raises MappingError."""
        rules = self._rules
        if rules is None:
            with self._lock:
                rules = self._rules
                if rules is None:
                    rules = self._rules = self._compile()
        return rules

    @property
    def entries(self) -> Sequence[Entry]:
        """What makes the mapping's entries, in order."""
        return self.rules.entries

    @property
    def ignored(self) -> tuple[Ignored, ...]:
        """The source paths that are left out on purpose."""
        return self.rules.ignored

    def run(self, root: Scope, context: MappingContext, *, trace: bool = False) -> Mapped:
        """Map one message: the same message, context and mapping give the same result.

        ``trace`` also records where each value came from. Raises MappingRejected when
        a policy refuses the message; anything else that leaves is a bug.
        """
        rules = self._rules or self.rules
        run = Run(root, context, self._memory(root, context, rules), trace=trace)
        for entry in self._traced_entries(rules) if trace else rules.entries:
            entry.run(run, root, None)
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

    def _traced_entries(self, rules: Rules) -> Sequence[Entry]:
        watched = is_watched()
        traced = self._traced.get(watched)
        if traced is None:
            with self._lock:
                traced = self._traced.get(watched)
                if traced is None:
                    traced = self._traced[watched] = rules.compile_traced(watched)
        return traced

    def _memory(self, root: Scope, context: MappingContext, rules: Rules) -> Memory:
        """What the rules remember for messages of this context and profile."""
        profile = getattr(root, "profile", None)  # isinstance() of a protocol takes longer
        key = (context.zone, context.source, tuple(context.authorities.items()), profile)
        memory = self._memories.get(key)
        if memory is None:
            if len(self._memories) >= CONTEXTS_MAX:
                self._memories.clear()
            memory = self._memories[key] = [Memo() for _ in range(rules.memos)]
        return memory
