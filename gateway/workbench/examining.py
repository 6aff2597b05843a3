"""One message read and mapped with everything recorded, as often as it holds documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.embedded import Joined, join
from gateway.formats import languages
from gateway.inventory import Inventory
from gateway.mapping import Library, MappingContext, MappingRejected, Program
from gateway.mapping.observing import EVENTS_MAX, Watch, watching
from gateway.mapping.r4.checker import Checker
from gateway.model import Cause, CauseCode, Embedded, Format, Mapped, Payload
from gateway.ports import Reader, Scope, Unreadable

DOCUMENTS_DEPTH_MAX = 2
"""As deep as the gateway itself goes: a document inside a document inside a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the workbench works with. Safe to share between threads."""

    readers: Mapping[Format, Reader]
    library: Library
    inventories: Mapping[Format, Inventory]
    checker: Checker = field(default_factory=Checker.load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The message itself, or a document inside it: where it was read, and what it became.

    ``watch`` holds what happened on the way, of a traced run. ``source`` is a document's
    place in the message, empty for the message.
    """

    format: Format
    root: Scope
    program: Program
    mapped: Mapped
    watch: Watch
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A message and its documents, and the entries of all of them together."""

    parts: tuple[Part, ...]
    mapped: Mapped


def examine(
    bench: Bench,
    format: Format,  # noqa: A002 - the field's word
    payloads: Sequence[Payload],
    context: MappingContext,
    *,
    trace: bool = True,
) -> Examined | Cause:
    """Read and map a message as stage 2 does, with a trace and without its check.

    A Cause when it cannot be read (UNREADABLE), no mapping takes it (UNMAPPED), or the
    mapping or a document inside refuses it, or there is more to watch than memory should
    hold (MAPPING_FAILED). What else leaves is a bug.
    """
    return _examine(bench, format, payloads, context, trace=trace, depth=0, source="")


def _examine(
    bench: Bench,
    format: Format,  # noqa: A002
    payloads: Sequence[Payload],
    context: MappingContext,
    *,
    trace: bool,
    depth: int,
    source: str,
) -> Examined | Cause:
    reader = bench.readers.get(format)
    if reader is None:
        return Cause(code=CauseCode.UNMAPPED, detail="no reader is loaded for this format")
    try:
        root = reader.read(payloads)
    except Unreadable as fault:
        return Cause(code=CauseCode.UNREADABLE, detail=str(fault), location=fault.location)
    program = bench.library.match(root, format)
    if program is None:
        return Cause(code=CauseCode.UNMAPPED, detail=no_mapping_for(root, format))
    try:
        with watching() as watch:
            mapped = program.run(root, context, trace=trace)
    except MappingRejected as rejected:
        return rejected.cause
    if not watch.complete:
        return Cause(
            code=CauseCode.MAPPING_FAILED,
            detail=f"too large to be watched: more than {EVENTS_MAX} steps",
        )
    flagged = getattr(root, "reading_flags", None)
    if flagged is not None:
        mapped = replace(mapped, flags=(*mapped.flags, *flagged()))
    own = Part(format=format, root=root, program=program, mapped=mapped, watch=watch, source=source)
    return _with_documents(bench, own, context, trace=trace, depth=depth)


def no_mapping_for(root: Scope, format: Format) -> str:  # noqa: A002 - the field's word
    """Which kind of message (``MFN^M02``, a document's code, SOP classes) no mapping takes."""
    facts = languages()[format].facts(root)
    kind, version = facts.get("kind", ""), facts.get("version", "")
    said = f"{format.value} {kind or 'without a type of message'}"
    return f"no loaded mapping takes {said}{version and f' (version {version})'}"


def _with_documents(
    bench: Bench, own: Part, context: MappingContext, *, trace: bool, depth: int
) -> Examined | Cause:
    parts, whole = [own], replace(own.mapped, embedded=())
    if own.mapped.embedded and depth >= DOCUMENTS_DEPTH_MAX:
        return Cause(code=CauseCode.HOSTILE_CONTENT, detail="documents are nested too deep")
    for document in own.mapped.embedded:
        inner = _document(bench, document, context, trace=trace, depth=depth)
        if isinstance(inner, Cause):
            place = f"{document.source} {inner.location}".strip()
            return replace(inner, location=place)
        joined = join(whole, document, inner.mapped)
        if not isinstance(joined, Joined):
            return replace(joined, location=document.source)
        whole = joined.mapped
        parts += inner.parts
    return Examined(parts=tuple(parts), mapped=whole)


def _document(
    bench: Bench, document: Embedded, context: MappingContext, *, trace: bool, depth: int
) -> Examined | Cause:
    return _examine(
        bench,
        document.format,
        [Payload.from_bytes(document.data)],
        context,
        trace=trace,
        depth=depth + 1,
        source=document.source,
    )
