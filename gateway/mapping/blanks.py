"""Forms: values made before, with blanks for the texts that are taken over as they are.

An identifier, a name or an address hardly ever comes again, but nearly all of it follows
from the parts that do: who assigned the number, which kind it is, which parts there are.
The rules of a type know nothing but their ``$``. So the first value of a kind is made while
a :class:`WatchedValue` notes which parts are read; texts that go into the result unchanged
leave a :class:`Blank` there. Of the next value with the same content in the parts that were
read, and the same parts there, only the blanks are filled in.

A form is kept as long as what the rules remember of contents (:mod:`gateway.mapping.memory`),
and like that not when a flag was raised. It holds no text of its blanks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from gateway.mapping.compiling import Compiler, Item
from gateway.mapping.memory import NOTHING, TRANSIENT_MAX, Memo, learn
from gateway.mapping.running import Run
from gateway.mapping.vocabulary import texts
from gateway.ports import Scope, Value, ValueState

Convert = Callable[[Run, Scope, Item, Value], Any]

Written = Sequence[str | None]
"""The texts of a value's parts (``gateway.ports.PartedValue``)."""

_WHOLE = 0


class Watch:
    """Which parts of one value were read: their numbers, :data:`_WHOLE` for all of it."""

    __slots__ = ("read", "written")

    def __init__(self, written: Written) -> None:
        self.written = written
        self.read: set[int] = set()


class WatchedValue:
    """A value, or a part of it, that notes when its text is read.

    What is asked of it besides its text follows from which parts there are.
    """

    __slots__ = ("_number", "_value", "_watch")

    def __init__(self, value: Value, watch: Watch, number: int) -> None:
        self._value = value
        self._watch = watch
        self._number = number

    @property
    def state(self) -> ValueState:
        """As of the value."""
        return self._value.state

    @property
    def text(self) -> str:
        """As of the value; noted."""
        self._watch.read.add(self._number)
        return self._value.text

    @property
    def datatype(self) -> str:
        """As of the value: it follows from the place."""
        return self._value.datatype

    @property
    def path(self) -> str:
        """As of the value: only flags tell it, and what raises one is not kept."""
        return self._value.path

    def part(self, path: str) -> Value:
        """The part, watched."""
        number = self._number or int(path.partition(".")[0])
        return WatchedValue(self._value.part(path), self._watch, number)

    def parts(self, path: str) -> Sequence[Value]:
        """The parts, watched."""
        number = self._number or int(path.partition(".")[0])
        return [WatchedValue(found, self._watch, number) for found in self._value.parts(path)]

    def raw(self) -> bytes:
        """As of the value. Bytes are kept beside the entries: no form does that again."""
        self._watch.read.add(_WHOLE)
        return self._value.raw()

    def masked(self, _read: frozenset[int]) -> None:
        """No form is made while one is."""

    def blank(self, paths: Sequence[str], join: str) -> Blank | None:
        """A blank for the texts of these parts; None where one cannot stand for them."""
        if self._number != _WHOLE:
            return None
        numbers = tuple([int(path.partition(".")[0]) for path in paths])
        blank = Blank(numbers, join)
        return blank if blank.filled(self._watch.written) is not None else None


class Blank:
    """Stands in a form for the texts of some parts, joined."""

    __slots__ = ("_join", "_numbers")

    def __init__(self, numbers: tuple[int, ...], join: str) -> None:
        self._numbers = numbers
        self._join = join

    def filled(self, written: Written) -> str | None:
        """The text for a value written in these parts; None when it is not taken as it is."""
        if len(self._numbers) == 1:
            text = written[self._numbers[0] - 1]
        else:
            found = [written[number - 1] for number in self._numbers]
            text = self._join.join([each for each in found if each is not None])
            if None in found:
                return None
        return text if text is not None and texts.is_verbatim(text) else None


class _Form:
    """An object or a list in which blanks, or forms with blanks, are to be filled in."""

    __slots__ = ("_base", "_holes")

    def __init__(self, base: Any, holes: list[tuple[Any, Any]]) -> None:
        self._base = base
        self._holes = holes

    def filled(self, written: Written) -> Any:
        """A copy along the way to the blanks; None when one of them cannot be filled."""
        made = self._base.copy()
        for key, hole in self._holes:
            value = hole.filled(written)
            if value is None:
                return None
            made[key] = value
        return made


def remember_forms(c: Compiler, convert: Convert) -> Convert:
    """The conversion by a type's rules, which depends on the value and the context alone."""
    number = c.memos
    c.memos += 1
    # The parts that the rules are known to read: they decide whether a form is right. It only
    # grows, and a key made of fewer parts is never equal to one that is made of more.
    known_to_read: list[frozenset[int]] = [frozenset()]

    def with_forms(run: Run, scope: Scope, item: Item, value: Value) -> Any:
        memo: Memo = run.lasting[number]
        masked: Any = None if memo.idle else value
        if masked is not None:
            masked = masked.masked(known_to_read[0])
        if masked is None:
            return convert(run, scope, item, value)
        token, written = masked
        found = memo.known.get(token)
        if found is not None:
            memo.hits += 1
            if found is NOTHING:
                return None
            if type(found) is not _Form and type(found) is not Blank:
                return found
            made = found.filled(written)
            return made if made is not None else convert(run, scope, item, value)
        watch = Watch(written)
        before = len(run.flags)
        made = convert(run, scope, item, WatchedValue(value, watch, _WHOLE))
        flagged = len(run.flags) != before
        form = _form(made)
        if _WHOLE in watch.read:
            memo.idle = True
        elif not watch.read <= known_to_read[0]:
            known_to_read[0] |= watch.read
            token = _token(value, known_to_read[0])
        learn(memo, token, made if form is None else form, TRANSIENT_MAX, flagged=flagged)
        return made if form is None else form.filled(written)

    return with_forms


def _token(value: Any, read: frozenset[int]) -> Hashable:
    token, _ = value.masked(read)
    return token  # type: ignore[no-any-return]


def _form(made: Any) -> Any:
    """What is made, as a form: None where there is no blank in it."""
    kind = type(made)
    if kind is Blank:
        return made
    holes: list[tuple[Any, Any]] = []
    if kind is dict:
        holes = [(key, form) for key, each in made.items() if (form := _form(each)) is not None]
    elif kind is list:
        holes = [(at, form) for at, each in enumerate(made) if (form := _form(each)) is not None]
    return _Form(made, holes) if holes else None
