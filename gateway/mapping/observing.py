"""What happens while a traced mapping runs, kept for those who ask why.

The rules of a program that is traced (:meth:`gateway.mapping.Program.run`) tell a
:class:`Watch` what they read, which conditions they asked, which rows they looked up and
what they gave, if one is open around the run::

    with watching() as watch:
        mapped = program.run(root, context, trace=True)

Rules that are not traced know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gateway.mapping.document import Node, Table, Text
from gateway.mapping.findings import Place
from gateway.mapping.running import Run
from gateway.mapping.tables import CodeTable, Row
from gateway.mapping.targets import Target
from gateway.ports import Scope, Value

if TYPE_CHECKING:
    from gateway.mapping.compiling import Compiled, Reader

EVENTS_MAX = 2_000_000
"""Events that are kept of one message; what happens after is not told."""


@dataclass(slots=True, eq=False)
class Readout:
    """A path was read: as the mapping writes it, and what was found."""

    path: str
    place: Place
    values: Sequence[Value]


@dataclass(slots=True, eq=False)
class Asked:
    """A condition was asked. ``events`` are the paths that it read."""

    text: str
    place: Place
    fulfilled: bool = False
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class LookedUp:
    """A code was looked up in a table; ``row`` is None when the table does not have it."""

    table: str
    version: str
    code: str
    row: Row | None


@dataclass(slots=True, eq=False)
class Answered:
    """A policy answered for a value that is ``missing``, ``invalid`` or ``unknown``.

    ``word`` is the answer as the mapping writes it; ``result`` what stands instead.
    """

    which: str
    word: str
    place: Place
    target: Target
    result: Any = None
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Ruled:
    """A rule ran. ``at`` is the place of its result (``Type/id#path``), ``result`` what it
    gave, ``stopped`` the exception that ended it. ``notes`` are the numbers of the first and
    the last (exclusive) trace step that were noted meanwhile."""

    node: Node
    target: Target
    at: str
    scope: str
    result: Any = None
    stopped: str = ""
    notes: tuple[int, int] = (0, 0)
    events: list[Event] = field(default_factory=list)

    @property
    def choice(self) -> bool:
        """Whether the result says which property of an open choice it stands under."""
        return isinstance(self.result, tuple)

    @property
    def key(self) -> str:
        """The JSON property that the result stands under, when there is one."""
        if isinstance(self.result, tuple):
            return str(self.result[0])
        return self.target.key

    @property
    def value(self) -> Any:
        """The result without the property's name that an open choice gives along."""
        return self.result[1] if isinstance(self.result, tuple) else self.result


@dataclass(slots=True, eq=False)
class Instance:
    """One resource was made, or left out (``reference`` is None then).

    ``reference`` is that of the entry in which it is now: an earlier one when this one said
    nothing new. ``resource`` is what this instance itself added, None when nothing.
    """

    kind: str
    name: str
    place: Place
    scope: str
    reference: str | None = None
    resource: Mapping[str, Any] | None = None
    stopped: str = ""
    notes: tuple[int, int] = (0, 0)
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Entered:
    """An entry of the mapping was come to; ``events`` hold the instances that it made."""

    kind: str
    name: str
    place: Place
    events: list[Event] = field(default_factory=list)


Event = Readout | Asked | LookedUp | Answered | Ruled | Instance | Entered
Around = Asked | Answered | Ruled | Instance | Entered


class Watch:
    """What happened during a run, as a tree. ``complete`` is false when it grew too large."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.complete = True
        self._count = 0
        self._around: list[list[Event]] = [self.events]

    def happened(self, event: Event) -> None:
        """Keep an event below the one that is open."""
        self._count += 1
        if self._count > EVENTS_MAX:
            self.complete = False
        else:
            self._around[-1].append(event)

    def open(self, event: Around) -> None:
        """Keep an event; what follows until :meth:`close` stands below it."""
        self.happened(event)
        self._around.append(event.events)

    def close(self) -> None:
        """The open event has ended."""
        self._around.pop()


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch the traced runs of this context. Not to be nested around one another."""
    watch = Watch()
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


def is_watched() -> bool:
    """Whether a watch is open in this context."""
    return _WATCH.get() is not None


# --- what the compilers wrap watched things in --------------------------------------------


def watched_rule(compiled: Compiled, node: Node, target: Target) -> Compiled:
    """The rule telling the watch that it ran."""
    get = compiled.run

    def watched(run: Run, scope: Scope, item: Value | None) -> Any:
        watch = _WATCH.get()
        if watch is None:
            return get(run, scope, item)
        event = Ruled(node, target, "".join(run.trail), scope.path)
        before = len(run.trace or ())
        watch.open(event)
        try:
            event.result = get(run, scope, item)
        except Exception as error:
            event.stopped = type(error).__name__
            raise
        finally:
            event.notes = (before, len(run.trace or ()))
            watch.close()
        return event.result

    compiled.run = watched
    return compiled


def watched_reader(reader: Reader, place: Place) -> Reader:
    """The reader telling the watch what it found. It forgets the contents of its path, so
    that nothing is remembered and every reading is one."""
    read = reader.read

    def watched(scope: Scope, item: Value | None) -> Sequence[Value]:
        values = read(scope, item)
        watch = _WATCH.get()
        if watch is not None:
            watch.happened(Readout(reader.text, place, values))
        return values

    return replace(
        reader, read=watched, scope_read=None, content=None, part="", needs=None, reads=None
    )


def watched_test(
    test: Callable[[Scope, Value | None], bool], node: Node
) -> Callable[[Scope, Value | None], bool]:
    """The condition telling the watch its answer."""
    text = node.text if isinstance(node, Text) else ""

    def watched(scope: Scope, item: Value | None) -> bool:
        watch = _WATCH.get()
        if watch is None:
            return test(scope, item)
        event = Asked(text, node.place)
        watch.open(event)
        try:
            event.fulfilled = test(scope, item)
        finally:
            watch.close()
        return event.fulfilled

    return watched


class WatchedTable(CodeTable):
    """A table telling the watch what was looked up in it."""

    def find(self, code: str) -> Row | None:
        """As the table's own."""
        row = CodeTable.find(self, code)
        watch = _WATCH.get()
        if watch is not None:
            watch.happened(LookedUp(self.name, self.version, code, row))
        return row

    def with_rows(self, rows: Any, files: Any = ()) -> CodeTable:
        """As the table's own."""
        return watched_table(CodeTable.with_rows(self, rows, files))


def watched_table(table: CodeTable) -> CodeTable:
    """The table telling the watch what was looked up in it."""
    return WatchedTable(
        table.name, table.version, table.system, table.rows, table.place, table.fold, table.files
    )


Handler = Callable[[Run, Scope, "Value | None", "Value | None"], Any]


def watched_policy(
    handler: Handler, which: str, node: Node, target: Target, place: Place
) -> Handler:
    """The policy's answer telling the watch that it was needed."""
    if isinstance(node, Text):
        word = node.text
    else:
        keys = [key for key, _ in node if key != "reason"] if isinstance(node, Table) else []
        word = "{" + ", ".join(keys) + "}"

    def watched(run: Run, scope: Scope, item: Value | None, value: Value | None) -> Any:
        watch = _WATCH.get()
        if watch is None:
            return handler(run, scope, item, value)
        event = Answered(which, word, place, target)
        watch.open(event)
        try:
            event.result = handler(run, scope, item, value)
        finally:
            watch.close()
        return event.result

    return watched


Made = Callable[[Run, Scope, "Value | None", Any], "str | None"]


def watched_make(make: Made) -> Made:
    """The making of one resource telling the watch of it; its keys' notes get its id."""

    def watched(run: Run, scope: Scope, item: Value | None, plan: Any) -> str | None:
        watch = _WATCH.get()
        event = Instance(plan.kind, plan.name, plan.place, scope.path)
        notes, entries = len(run.trace or ()), len(run.entries)
        if watch is not None:
            watch.open(event)
        try:
            event.reference = make(run, scope, item, plan)
        except Exception as error:
            event.stopped = type(error).__name__
            raise
        finally:
            event.notes = (notes, len(run.trace or ()))
            if watch is not None:
                watch.close()
        for entry in run.entries[entries:]:
            if entry.reference == event.reference:
                event.resource = entry.resource
        _name_keys(run, event)
        return event.reference

    return watched


def _name_keys(run: Run, event: Instance) -> None:
    """Key steps are noted before the id is known: put it in now."""
    if run.trace is None or event.reference is None:
        return
    unnamed, named = f"{event.kind}#id", f"{event.reference}#id"
    for number in range(*event.notes):
        step = run.trace[number]
        if step.target == unnamed:
            run.trace[number] = replace(step, target=named)


Enter = Callable[[Run, Scope, "Value | None"], list[str]]


def watched_entry(enter: Enter, kind: str, name: str, place: Place) -> Enter:
    """An entry of the mapping telling the watch that it was come to."""

    def watched(run: Run, scope: Scope, item: Value | None) -> list[str]:
        watch = _WATCH.get()
        if watch is None:
            return enter(run, scope, item)
        watch.open(Entered(kind, name, place))
        try:
            return enter(run, scope, item)
        finally:
            watch.close()

    return watched
