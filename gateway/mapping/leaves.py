"""``from:`` and ``all:``: values read at a path and converted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from gateway.mapping.blanks import WatchedValue, remember_forms
from gateway.mapping.compiling import (
    At,
    Compiled,
    Compiler,
    Fn,
    Item,
    JoinedValue,
    Reader,
    WholeValue,
    together,
)
from gateway.mapping.conversions import Convert, Converter, from_text, guarded, make_converter
from gateway.mapping.document import Many, Table, Text
from gateway.mapping.findings import Place
from gateway.mapping.memory import remembering
from gateway.mapping.running import Run
from gateway.mapping.targets import Target
from gateway.ports import Scope, Value, ValueState

_PRESENT = ValueState.PRESENT
_NULL = ValueState.NULL

Read = Callable[[Scope, Item], Sequence[Value]]


def compile_from(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    """``from: PATH`` with its conversion."""
    node = rule.items["from"]
    if not isinstance(node, Text):
        c.error(node.place, "wrong-shape", "from: is a path")
        return None
    reader = c.reader(node, at)
    convert, converter = _conversion(c, rule, target, at)
    if reader is None or convert is None or converter is None:
        return None
    join = c.text(rule, "join")
    if join is None and not target.open and _from_parts(c, rule, reader, converter, at):
        convert = remember_forms(c, convert)
    made = Compiled(
        run=_run(c, rule, reader, target, convert=convert, converter=converter),
        many=target.repeats and join is None,
        choice=target.open,
        needs=reader.needs,
        reads=together((reader.reads, converter.reads)),
        lasting=converter.lasting,
    )
    if c.traced or reader.content is None:
        return made
    made.bare = made.run
    if made.lasting and made.reads is not None and len(made.reads) == 1:
        made.run = remembering(c, made.run, reader.content)
    else:
        made.run = _unless_empty(made.run, reader.content)
    return made


def _run(
    c: Compiler,
    rule: Table,
    reader: Reader,
    target: Target,
    *,
    convert: Convert,
    converter: Converter,
) -> Fn:
    """The shortest closure that does what the rule says."""
    join, place, path = c.text(rule, "join"), rule.place, target.path
    if join is not None:
        return _joined((reader.read,), join, convert)
    if target.repeats:
        return (_many_traced if c.traced else _many)(reader, convert, place, path)
    if reader.whole:
        return _whole(convert)
    if c.traced:
        return _one(reader.read, convert, place, path)
    slow = _from_one(rule, reader, target, convert, converter)
    if reader.text_of is None or reader.part:
        return slow
    quick = from_text(reader.text_of, converter, target)
    return slow if quick is None else _either(quick, slow)


def _either(quick: Fn, slow: Fn) -> Fn:
    """The quick way, and where it gives nothing the one that does everything."""

    def run(run: Run, scope: Scope, item: Item) -> Any:
        value = quick(run, scope, item)
        return value if value is not None else slow(run, scope, item)

    return run


def _from_one(
    rule: Table, reader: Reader, target: Target, convert: Convert, converter: Converter
) -> Fn:
    """The closure for the first of the values."""
    place, path = rule.place, target.path
    if rule.get("invalid") is not None or target.open:
        return _quick(reader, convert, None, place, path)
    if reader.part and converter.verbatim:
        return _verbatim_part(reader.part, convert, place, path)
    return _quick(reader, convert, converter.plain, place, path)


def _from_parts(c: Compiler, rule: Table, reader: Reader, converter: Converter, at: At) -> bool:
    """Whether a value follows from the parts of what is read and the context alone, and may
    come again with some parts changed."""
    return (
        getattr(c.language, "parted", False)
        and not c.traced
        and converter.shape
        and converter.reads == ()
        and not converter.lasting
        and not reader.whole
        and at.scoped
        and not any(rule.get(key) for key in ("invalid", "unknown", "table", "translate"))
    )


def _unless_empty(get: Fn, content: Callable[[Scope], Hashable]) -> Fn:
    def run(run: Run, scope: Scope, item: Item) -> Any:
        return get(run, scope, item) if content(scope) else None

    return run


def compile_all(c: Compiler, rule: Table, target: Target, at: At) -> Compiled | None:
    """``all: [PATH, …]`` joined into one text, then converted."""
    node = rule.items["all"]
    if not isinstance(node, Many):
        c.error(node.place, "wrong-shape", "all: is a list of paths")
        return None
    readers = [c.reader(text, at) for text in c.texts(node)]
    convert, converter = _conversion(c, rule, target.item(), at)
    if convert is None or converter is None:
        return None
    if None in readers or len(readers) < len(node.items):
        return None
    reads = tuple(reader.read for reader in readers if reader is not None)
    join = c.text(rule, "join")
    parts = tuple(reader.part for reader in readers if reader is not None)
    verbatim = converter.verbatim and all(parts) and rule.get("invalid") is None
    run = _joined(
        reads, " " if join is None else join, convert,
        parts if verbatim and not target.open else (),
    )  # fmt: skip
    needs = together(reader.needs for reader in readers if reader is not None)
    paths = together(reader.reads for reader in readers if reader is not None)
    return Compiled(run, choice=target.open, needs=needs, reads=together((paths, converter.reads)))


def _conversion(
    c: Compiler, rule: Table, target: Target, at: At
) -> tuple[Convert | None, Converter | None]:
    """The guarded conversion, and what is known of it."""
    if rule.get("set") is not None:
        return _inline(c, rule, target, at)
    item = target.item()
    converter = make_converter(c, rule, item, at)
    if converter is None:
        return None, None
    typed = item.typed(converter.kind) if item.open and not converter.mixed else item
    convert = guarded(c, rule, converter, at, written=item, target=typed)
    if convert is not None and c.traced and not converter.shape:
        convert = _noted(convert, rule.place, converter.steps)
    return convert, converter


def _inline(
    c: Compiler, rule: Table, target: Target, at: At
) -> tuple[Convert | None, Converter | None]:
    """``from:`` with ``set:``: an object whose ``$`` is the value."""
    from gateway.mapping.rules import compile_rule

    keys = ("set", "as", "reason")
    inner = rule.with_items({k: v for k, v in rule.items.items() if k in keys})
    compiled = compile_rule(c, inner, target.item(), at.with_item(loose=at.loose))
    if compiled is None:
        return None, None
    get = compiled.run

    def convert(run: Run, scope: Scope, _item: Item, value: Value) -> Any:
        return get(run, scope, value)

    return convert, Converter(convert, "", (), shape=True, reads=compiled.reads)


def _noted(convert: Convert, place: Place, steps: tuple[str, ...]) -> Convert:
    def with_note(run: Run, scope: Scope, item: Item, value: Value) -> Any:
        result = convert(run, scope, item, value)
        if result is not None:
            run.note(place, value.path, steps)
        return result

    return with_note


def _quick(
    reader: Reader,
    convert: Convert,
    plain: Callable[[str], Any] | None,
    place: Place,
    path: str,
) -> Fn:
    """The closure for one value: the shortest that does the same."""
    if reader.part:
        part = reader.part
        if plain is not None:
            return _plain_part(part, plain, place, path)
        return _part(part, convert, place, path)
    if reader.scope_read is not None and plain is not None:
        return _plain_scope(reader.scope_read, plain, place, path)
    return _one(reader.read, convert, place, path)


def _plain_part(part: str, plain: Callable[[str], Any], place: Place, path: str) -> Fn:
    def run(run: Run, _scope: Scope, item: Item) -> Any:
        if item is None:
            return None
        value = item.part(part)
        state = value.state
        if state is _PRESENT:
            return plain(value.text)
        if state is _NULL:
            run.flag("deleted", place, path, value.path)
        return None

    return run


def _part(part: str, convert: Convert, place: Place, path: str) -> Fn:
    def run(run: Run, scope: Scope, item: Item) -> Any:
        if item is None:
            return None
        value = item.part(part)
        state = value.state
        if state is _PRESENT:
            return convert(run, scope, item, value)
        if state is _NULL:
            run.flag("deleted", place, path, value.path)
        return None

    return run


def _verbatim_part(part: str, convert: Convert, place: Place, path: str) -> Fn:
    """As :func:`_part`; of a watched value it leaves a blank for the text."""
    paths = (part,)

    def run(run: Run, scope: Scope, item: Item) -> Any:
        if item is None:
            return None
        value = item.part(part)
        state = value.state
        if state is _PRESENT:
            if type(item) is WatchedValue:
                blank = item.blank(paths, "")
                if blank is not None:
                    return blank
            return convert(run, scope, item, value)
        if state is _NULL:
            run.flag("deleted", place, path, value.path)
        return None

    return run


def _plain_scope(
    read: Callable[[Scope], Sequence[Value]], plain: Callable[[str], Any], place: Place, path: str
) -> Fn:
    def run(run: Run, scope: Scope, _item: Item) -> Any:
        values = read(scope)
        for value in values:
            state = value.state
            if state is _PRESENT:
                if len(values) > 1:
                    _left_out(run, values, place, path)
                return plain(value.text)
            if state is _NULL:
                run.flag("deleted", place, path, value.path)
        return None

    return run


def _one(read: Read, convert: Convert, place: Place, path: str) -> Fn:
    def run(run: Run, scope: Scope, item: Item) -> Any:
        values = read(scope, item)
        for value in values:
            state = value.state
            if state is _PRESENT:
                if len(values) > 1:
                    _left_out(run, values, place, path)
                return convert(run, scope, item, value)
            if state is _NULL:
                run.flag("deleted", place, path, value.path)
        return None

    return run


def _left_out(run: Run, values: Sequence[Value], place: Place, path: str) -> None:
    """More than one value for an element that takes one: say so."""
    present = [value for value in values if value.state is _PRESENT]
    if len(present) > 1:
        run.flag("repetition-left-out", place, path, present[1].path)


def _many(reader: Reader, convert: Convert, place: Place, path: str) -> Fn:
    read, whole = reader.read, reader.whole

    def run(run: Run, scope: Scope, item: Item) -> list[Any] | None:
        made = []
        for value in read(run.root if whole else scope, item):
            state = value.state
            if state is _PRESENT:
                result = convert(run, scope, item, value)
                if result is not None:
                    made.append(result)
            elif state is _NULL:
                run.flag("deleted", place, path, value.path)
        return made or None

    return run


def _many_traced(reader: Reader, convert: Convert, place: Place, path: str) -> Fn:
    read, whole = reader.read, reader.whole

    def run(run: Run, scope: Scope, item: Item) -> list[Any] | None:
        made: list[Any] = []
        base, run.offset = run.offset, 0
        for value in read(run.root if whole else scope, item):
            state = value.state
            if state is _PRESENT:
                run.trail.append(f"[{base + len(made)}]")
                result = convert(run, scope, item, value)
                run.trail.pop()
                if result is not None:
                    made.append(result)
            elif state is _NULL:
                run.flag("deleted", place, path, value.path)
        return made or None

    return run


def _whole(convert: Convert) -> Fn:
    def run(run: Run, scope: Scope, item: Item) -> Any:
        value = WholeValue(run.root)
        return convert(run, scope, item, value) if value.state is _PRESENT else None

    return run


def _joined(reads: Sequence[Read], join: str, convert: Convert, parts: tuple[str, ...] = ()) -> Fn:
    """Texts joined. Between lines an empty repetition stays: it is a blank line.

    ``parts`` are those of the item that are read, where the text is taken as it is.
    """
    wanted = (_PRESENT, ValueState.EMPTY) if "\n" in join else (_PRESENT,)
    if len(wanted) > 1:
        parts = ()

    def run(run: Run, scope: Scope, item: Item) -> Any:
        if parts and type(item) is WatchedValue:
            there = [part for part in parts if item.part(part).state is _PRESENT]
            blank = item.blank(there, join) if there else None
            if blank is not None:
                return blank
        found = [value for read in reads for value in read(scope, item) if value.state in wanted]
        if not any(value.state is _PRESENT for value in found):
            return None
        text = join.join([value.text for value in found])
        return convert(run, scope, item, JoinedValue(text, found))

    return run
