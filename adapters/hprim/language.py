"""HPRIM as a source language of mappings: its paths, its scopes, its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

from adapters.hprim import medecin, sante
from adapters.hprim.charset import DEFAULT, Undecodable, choose
from adapters.hprim.faults import undecodable
from adapters.hprim.grammar import SIMPLE, VARIES, segments_of
from adapters.hprim.paths import HprimPath, parse
from adapters.hprim.segments import Message, Segment
from adapters.hprim.values import HprimScope, HprimValue
from gateway.model import Format, Payload
from gateway.ports import (
    CompiledPath,
    CompiledScope,
    PathError,
    Scope,
    SourceLanguage,
    Unreadable,
    Value,
    ValueState,
)

MESSAGE_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True)
class Within:
    """The kind of a scope: the segment it is, and the field whose repetitions ``$`` is."""

    segment: str = ""
    field: int = 0


class HprimLanguage(SourceLanguage):
    """Paths and scopes of HPRIM (``gateway.ports.SourceLanguage``)."""

    format = Format.HPRIM

    def root(self, versions: Sequence[str]) -> object:
        """The kind of the whole message. Raises PathError for an unknown version."""
        segments_of(versions)
        return Within()

    def path(self, text: str, *, versions: Sequence[str], within: object) -> CompiledPath:
        """Compile a path; see :mod:`adapters.hprim.paths`. Raises PathError."""
        segments, kind, path = segments_of(versions), cast("Within", within), parse(text)
        if path.here:
            if not kind.field:
                raise PathError("$ is the repetition of an 'each: {path: …}', and there is none")
            return CompiledPath(path.text, _read_here(path))
        datatype = _check(path, segments)
        if not path.field:
            raise PathError(f"{text!r} names a segment, not a field", f"{path.segment}-1")
        repeats = path.which == 0 or path.repetition == 0
        declared = "" if datatype == VARIES or path.component else datatype
        return CompiledPath(path.text, _reader(path), declared, repeats)

    def scope(
        self, spec: Mapping[str, str], *, versions: Sequence[str], within: object
    ) -> CompiledScope:
        """Compile an ``each:`` of one key, ``segment`` or ``path``. Raises PathError."""
        del within
        segments = segments_of(versions)
        if len(spec) != 1 or not set(spec) <= {"segment", "path"}:
            raise PathError("an HPRIM scope is one of {segment: …} and {path: …}", "segment")
        [(key, text)] = spec.items()
        path = parse(text)
        if path.here:
            raise PathError(f"{text!r}: a scope begins at a segment")
        _check(path, segments)
        if key == "segment":
            if path.field:
                raise PathError(f"{text!r} is not the name of a segment", path.segment)
            return CompiledScope(path.text, _walk_segments(path), Within(path.segment))
        if not path.field or path.component:
            raise PathError(f"{text!r} is not a field: repetitions are a field's")
        return CompiledScope(path.text, _walk_repetitions(path), Within(path.segment, path.field))

    def facts(self, root: Scope) -> Mapping[str, str]:
        """``version`` (``H2.4``, ``3.0``) and ``kind`` (``ORU``; ``LAB`` or ``COURRIER`` of
        HPRIM Médecin), which choose the mapping, and what a trace names."""
        message = cast("HprimScope", root).message
        return {"version": message.version, "kind": kind_of(message), **names_of(message)}


def kind_of(message: Message) -> str:
    """H-6; of HPRIM Médecin, whether there is a block of results."""
    if message.separators is not None:
        return message.text(message.root, 6).strip()
    return "LAB" if message.counts.get("LAB") or message.counts.get("RES") else "COURRIER"


def names_of(message: Message) -> dict[str, str]:
    """Who sent it, to whom, under which name; and in which character set it was read."""
    if message.separators is not None:
        places = {"control_id": (2, 1), "sender": (4, 1), "receiver": (9, 1)}
    else:
        places = {"control_id": (9, 1), "sender": (11, 1), "receiver": (12, 1)}
    found = {name: message.text(message.root, *place).strip() for name, place in places.items()}
    return {**found, "character_set": message.encoding}


def _check(path: HprimPath, segments: Mapping[str, Sequence[str]]) -> str:
    """The type of the field that a path names. PathError for what the grammar does not know."""
    fields = segments.get(path.segment)
    if fields is None:
        near = get_close_matches(path.segment, segments, 1)
        raise PathError(
            f"{path.text!r}: these versions have no segment {path.segment!r}",
            near[0] if near else "",
        )
    if path.field > len(fields):
        raise PathError(f"{path.text!r}: {path.segment} has {len(fields)} fields")
    datatype = fields[path.field - 1] if path.field else ""
    if path.component > 1 and datatype in SIMPLE - {""} and path.segment != "ENT":
        raise PathError(f"{path.text!r}: {datatype} has no components")
    return datatype


# --- reading ------------------------------------------------------------------------


def _segments(scope: HprimScope, path: HprimPath) -> Sequence[Segment]:
    found = scope.find(path.segment)
    return found if path.which == 0 else found[path.which - 1 : path.which]


def _repetitions(message: Message, segment: Segment, path: HprimPath) -> list[HprimValue]:
    values = [
        HprimValue(message, segment, (path.field, number, 0, 0), text)
        for number, text in enumerate(message.repetitions(segment, path.field), 1)
    ]
    if path.repetition == 0:
        return values
    return values[path.repetition - 1 : path.repetition]


def _part(value: HprimValue, path: HprimPath) -> HprimValue:
    if not path.component:
        return value
    numbers = (path.component, path.subcomponent) if path.subcomponent else (path.component,)
    return value.part(".".join(map(str, numbers)))


def _reader(path: HprimPath) -> Callable[[Scope], Sequence[Value]]:
    within = (path.field, path.repetition or 1, path.component, path.subcomponent)

    def read(scope: Scope) -> Sequence[Value]:
        place = cast("HprimScope", scope)
        found: list[Value] = [
            _part(value, path)
            for segment in _segments(place, path)
            for value in _repetitions(place.message, segment, path)
        ]
        return found or (HprimValue(place.message, None, within, None),)

    return read


def _read_here(path: HprimPath) -> Callable[[Scope], Sequence[Value]]:
    def read(scope: Scope) -> Sequence[Value]:
        value = cast("HprimScope", scope).value
        if value is None:
            raise TypeError("$ is read outside a repetition")
        return (_part(value, path),)

    return read


def _walk_segments(path: HprimPath) -> Callable[[Scope], Iterator[Scope]]:
    """All segments of a name below the place, with a number that one."""
    numbered = "(" in path.text

    def walk(scope: Scope) -> Iterator[Scope]:
        place = cast("HprimScope", scope)
        if path.segment == "C":
            found: Sequence[Segment] = place.find("C")
        else:
            found = list(place.segment.below(path.segment))
            if place.segment.name == path.segment:
                found = [place.segment]
        for segment in found[path.which - 1 : path.which] if numbered and path.which else found:
            yield HprimScope(place.message, segment)

    return walk


def _walk_repetitions(path: HprimPath) -> Callable[[Scope], Iterator[Scope]]:
    numbered = path.text.endswith(")") and path.repetition

    def walk(scope: Scope) -> Iterator[Scope]:
        place = cast("HprimScope", scope)
        for segment in _segments(place, path):
            values = [
                HprimValue(place.message, segment, (path.field, number, 0, 0), text)
                for number, text in enumerate(place.message.repetitions(segment, path.field), 1)
            ]
            chosen = values[path.repetition - 1 : path.repetition] if numbered else values
            for value in chosen:
                # An empty repetition only keeps the numbers of the others.
                if value.state is not ValueState.EMPTY:
                    yield HprimScope(place.message, place.segment, value)

    return walk


class HprimReader:
    """Bytes of one message to the root scope of :class:`HprimLanguage`. Pure."""

    format = Format.HPRIM

    def read(self, payloads: Sequence[Payload], *, encoding: str = "") -> HprimScope:
        """Read one message of either form. Raises Unreadable with the place of the fault.

        ``encoding`` is the character set that intake found; without it the default list
        is tried.
        """
        if len(payloads) != 1:
            raise Unreadable("an HPRIM message is one payload")
        if payloads[0].size > MESSAGE_BYTES_MAX:
            raise Unreadable(f"the message is larger than {MESSAGE_BYTES_MAX} bytes")
        content = payloads[0].read()
        offset = -1
        if not encoding:
            try:
                encoding = choose(content, DEFAULT)
            except Undecodable as wrong:
                offset = wrong.offset
        if offset >= 0:
            raise undecodable(offset)
        message = read_message(content, encoding)
        return HprimScope(message, message.root)


def read_message(content: bytes, encoding: str) -> Message:
    """Read one message of either form. Raises NotReadable."""
    if sante.is_sante(content):
        return sante.read(content, encoding)
    return medecin.read(content, encoding)
