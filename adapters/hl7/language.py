"""HL7 v2 as a source language of mappings: its paths, its scopes, its reader."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from adapters.hl7.checking import (
    check_group,
    check_here,
    check_path,
    check_versions,
    grammars_of,
    groups_with,
)
from adapters.hl7.compiling import (
    compile_here,
    compile_path,
    compile_text,
    select_repetitions,
    select_segments,
)
from adapters.hl7.contents import compile_content, compile_contents, place_of, presence
from adapters.hl7.continuation import join, needs_joining
from adapters.hl7.message import Message
from adapters.hl7.paths import EVERY, Path, Which, parse
from adapters.hl7.scopes import (
    BesideScope,
    GroupScope,
    Hl7Scope,
    MessageScope,
    RepetitionScope,
    SegmentScope,
    cut_document,
    groups_in,
    root_of,
    segments_of_groups,
)
from gateway.model import Format, Payload
from gateway.ports import CompiledPath, CompiledScope, PathError, Scope, Unreadable, ValueState

MESSAGE_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True)
class Within:
    """The kind of a scope: what paths inside it are checked against.

    ``group`` and ``segment`` are the innermost ones; ``field`` is set in the scope
    of a field's repetitions, where ``$`` is one of them.
    """

    group: str = ""
    segment: str = ""
    field: int = 0


class Hl7Language:
    """Paths and scopes of HL7 v2 (``gateway.ports.SourceLanguage``)."""

    format = Format.HL7V2
    parted = True
    """Its values are ``gateway.ports.PartedValue``."""

    def root(self, versions: Sequence[str]) -> object:
        """The kind of the whole message. Raises PathError for an unknown version."""
        check_versions(versions)
        return Within()

    def path(self, text: str, *, versions: Sequence[str], within: object) -> CompiledPath:
        """Compile a path; see :mod:`adapters.hl7.paths`. Raises PathError."""
        kind = cast("Within", within)
        here = kind if text.lstrip().startswith("$") else None
        return _compiled_path(text, check_versions(versions), here)

    def scope(
        self, spec: Mapping[str, str], *, versions: Sequence[str], within: object
    ) -> CompiledScope:
        """Compile an ``each:`` of one key: ``group``, ``segment``, ``beside`` or ``path``.

        Raises PathError.
        """
        declared = check_versions(versions)
        kind = cast("Within", within)
        if len(spec) != 1:
            raise PathError(
                "an HL7 v2 scope is one of {group: …}, {segment: …}, {beside: …}, {path: …}"
            )
        [(key, text)] = spec.items()
        if key == "group":
            return self._group(text.strip(), declared, kind)
        if key == "segment":
            return self._segment(text, declared, kind)
        if key == "beside":
            return self._beside(text, declared, kind)
        if key == "path":
            return self._repetitions(text, declared, kind)
        raise PathError(f"HL7 v2 has no scope {key!r}: use group, segment, beside or path", "group")

    def _group(self, name: str, versions: Sequence[str], kind: Within) -> CompiledScope:
        outer = kind.group
        if kind.segment and not outer:
            around = set().union(*(groups_with(version, kind.segment) for version in versions))
            outer = next(iter(around)) if len(around) == 1 else ""
        check_group(name, versions, outer)

        def walk(scope: Scope) -> Iterator[Scope]:
            yield from groups_in(cast("Hl7Scope", scope), name)

        return CompiledScope(name, walk, Within(group=name))

    def _segment(self, text: str, versions: Sequence[str], kind: Within) -> CompiledScope:
        path = parse(text)
        if path.here or path.field:
            raise PathError(f"{text!r} is not the name of a segment", path.segment)
        grammars_of(path.segment, versions)
        check_path(path, versions)
        every = Path(path.text, segment=path.segment, which=_every(path.which))

        def walk(scope: Scope) -> Iterator[Scope]:
            place = cast("Hl7Scope", scope)
            root = root_of(place)
            if isinstance(place, GroupScope) and place.lacks(path.segment):
                return
            for index in select_segments(place, every):
                yield SegmentScope(root, index, path.segment)

        within = Within(kind.group, path.segment)
        return CompiledScope(path.text, walk, within, presence(path.segment))

    def _beside(self, text: str, versions: Sequence[str], kind: Within) -> CompiledScope:
        """``TQ1``, or ``TIMING/TQ1``: only those that stand in such a group."""
        group, _, name = text.strip().rpartition("/")
        path = parse(name)
        if path.here or path.field:
            raise PathError(f"{name!r} is not the name of a segment", path.segment)
        if group and not path.which.plain:
            raise PathError(f"of a group's segments all are walked: write {group}/{path.segment}")
        grammars_of(path.segment, versions)
        check_path(path, versions)
        if group:
            check_group(group, versions, "")
        every = Path(path.text, segment=path.segment, which=_every(path.which))

        def walk(scope: Scope) -> Iterator[Scope]:
            place = cast("Hl7Scope", scope)
            chosen = (
                segments_of_groups(place, group, path.segment)
                if group
                else select_segments(place, every)
            )
            for index in chosen:
                yield BesideScope(place, index, path.segment)

        within = Within(kind.group, path.segment)
        return CompiledScope(text.strip(), walk, within, presence(path.segment))

    def _repetitions(self, text: str, versions: Sequence[str], kind: Within) -> CompiledScope:
        path = parse(text)
        if path.here or not path.field or path.component:
            raise PathError(f"{text!r} is not a field: repetitions are a field's", _field_of(path))
        check_path(path, versions)
        every = Path(
            path.text,
            segment=path.segment,
            which=path.which,
            field=path.field,
            repetition=_every(path.repetition),
        )

        def walk(scope: Scope) -> Iterator[Scope]:
            place = cast("Hl7Scope", scope)
            message = place.message
            for index in select_segments(place, every):
                for value in select_repetitions(message, index, every):
                    # An empty repetition only keeps the numbers of the others.
                    if value.state is not ValueState.EMPTY:
                        yield RepetitionScope(place, value)

        return CompiledScope(path.text, walk, Within(kind.group, path.segment, path.field))

    def contents(self, paths: Sequence[CompiledPath]) -> Callable[[Scope], Sequence[Hashable]]:
        """What is written at several paths of one place, in one look."""
        return compile_contents(paths)

    def facts(self, root: Scope) -> Mapping[str, str]:
        """``version`` and ``kind`` (``ORU^R01``), which choose the mapping, and what a
        trace names: structure, control id, sender, receiver, character set."""
        place = root_of(cast("Hl7Scope", root))
        message = place.message
        message_type, event = (message.text(0, 9, number).strip() for number in (1, 2))
        return {
            "version": message.version,
            "kind": f"{message_type}^{event}" if event else message_type,
            "structure": place.structure_name,
            "control_id": message.text(0, 10),
            "sending_application": message.text(0, 3),
            "sending_facility": message.text(0, 4),
            "receiving_application": message.text(0, 5),
            "receiving_facility": message.text(0, 6),
            "character_set": message.charset.name,
        }


@lru_cache(maxsize=16_384)
def _compiled_path(text: str, versions: tuple[str, ...], here: Within | None) -> CompiledPath:
    """A path of some versions: mappings use the same ones many times. ``here`` is the kind of
    scope that a path beginning with ``$`` is in."""
    path = parse(text)
    if path.here and here is not None:
        if not here.field:
            raise PathError("$ is the repetition of an 'each: {path: …}', and there is none")
        datatype = check_here(path, here.segment, here.field, versions)
        return CompiledPath(path.text, compile_here(path), datatype, repeats=False)
    datatype = check_path(path, versions)
    if not path.field:
        raise PathError(f"{text!r} names a segment, not a field", f"{path.segment}-1")
    repeats = path.which.every or path.repetition.every
    which = path.which
    return CompiledPath(
        path.text,
        compile_path(path),
        datatype,
        repeats,
        compile_content(path),
        place_of(path),
        recurs=not (which.number or which.conditions),
        text_of=compile_text(path),
    )


def _every(which: Which) -> Which:
    """``each:`` walks all that fit, with or without the star; a number takes that one."""
    if which.number:
        return which
    return Which(every=True, conditions=which.conditions) if which.conditions else EVERY


def _field_of(path: Path) -> str:
    return f"{path.segment}-{path.field}" if path.segment and path.field else ""


class Hl7Reader:
    """Bytes to the root scope of a message (``gateway.ports.Reader``)."""

    format = Format.HL7V2

    def __init__(
        self, *, charset_default: str = "UTF-8", message_bytes_max: int = MESSAGE_BYTES_MAX
    ) -> None:
        self._charset_default = charset_default
        self._message_bytes_max = message_bytes_max

    def read(self, payloads: Sequence[Payload], *, encoding: str = "") -> Scope:
        """Read one message, or the fragments of one in the order of their arrival.

        Raises Unreadable with the place of the fault.
        ``encoding`` is the character set that intake recorded; without it MSH-18
        and then the reader's default decide.
        """
        if sum(payload.size for payload in payloads) > self._message_bytes_max:
            raise Unreadable(f"the message is larger than {self._message_bytes_max} bytes")
        contents = [payload.read() for payload in payloads]
        whole = contents[0] if len(contents) == 1 else join(contents)
        if len(contents) == 1 and needs_joining(whole):
            whole = join([whole])
        message = Message.read(whole, encoding=encoding, charset_default=self._charset_default)
        cut = cut_document(message)
        if cut:
            # The rest of it stands in lines of their own; half a document is none.
            raise Unreadable("a line end stands inside the document, whose rest is lost", cut)
        return MessageScope(message)
