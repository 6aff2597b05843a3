"""Stage 2: bytes to entries. A pure function of the bytes, the mappings and the source's settings.

The same bytes under the same mappings give the same entries with the same ids,
byte for byte, so a retry, a replay or a duplicate never makes a second copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.embedded import Joined, join
from gateway.failure import internal
from gateway.mapping import MappingContext, MappingRejected
from gateway.mapping.embedding import without
from gateway.mapping.r4.checker import Checker
from gateway.model import Cause, CauseCode, Embedded, Entry, Format, Mapped, Payload, Stage
from gateway.permit import Statement, read_statement
from gateway.ports import Reader, Scope, Unreadable
from gateway.reported import Reported, read_reported
from gateway.subjects import Subjects, read_subjects
from gateway.written import WrittenEntries, write

EMBEDDED_MAX = 100
"""Documents inside one message."""

EMBEDDED_DEPTH_MAX = 2
"""A document inside a document inside a message; deeper is no document any more."""


class Program(Protocol):
    """A compiled mapping: :class:`gateway.mapping.Program`."""

    def run(self, root: Scope, context: MappingContext, *, trace: bool = False) -> Mapped:
        """Make entries. Raises MappingRejected."""
        ...


class Library(Protocol):
    """The loaded mappings: :class:`gateway.mapping.Library`."""

    def match(self, root: Scope, format: Format) -> Program | None:  # noqa: A002
        """The mapping that takes a message of this format, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One message as stage 2 takes it: its payload, or those of all instances of a study."""

    source: str
    format: Format
    payloads: Sequence[Payload]
    encoding: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What stage 2 made of a message, and what its entries say of patient and permission.

    ``written`` are the entries as bytes, made here because there is no transaction here
    that others wait for. ``reported`` is what its validated reports are of.
    """

    mapped: Mapped
    subjects: Subjects | Cause
    statement: Statement
    written: tuple[WrittenEntries, ...]
    reported: Reported | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """Stage 2 could make nothing of it. UNMAPPED is held, any other cause is buried."""

    cause: Cause
    stage: Stage = Stage.NORMALISE


class _Stop(Exception):
    def __init__(self, cause: Cause, stage: Stage = Stage.NORMALISE) -> None:
        super().__init__()
        self.unusable = Unusable(cause=cause, stage=stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normaliser:
    """Everything that stage 2 needs besides the message. Safe to share between threads.

    ``contexts`` gives what each source's settings say (zone, authorities);
    ``accepted_ins`` the INS roots that count.
    """

    readers: Mapping[Format, Reader]
    library: Library
    contexts: Mapping[str, MappingContext] = field(default_factory=dict)
    accepted_ins: frozenset[str] | None = None
    checker: Checker = field(default_factory=Checker.load)

    def normalise(self, original: Original) -> Reading | Unusable:
        """Read, map, take in embedded documents, check.

        An unexpected exception becomes INTERNAL with its class and its place in
        the code: a fault of the program in one message stops no other. Only
        OSError leaves: the machine could not read the bytes, which says nothing
        of the message.
        """
        try:
            mapped = self.map(original)
            self._check(mapped.entries)
            return self._read(mapped)
        except _Stop as stop:
            return stop.unusable
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  see the docstring
            return Unusable(cause=internal(error))

    def _read(self, mapped: Mapped) -> Reading:
        entries = mapped.entries
        subjects = (
            read_subjects(entries)
            if self.accepted_ins is None
            else read_subjects(entries, accepted=self.accepted_ins)
        )
        return Reading(
            mapped=mapped,
            subjects=subjects,
            statement=read_statement(entries),
            written=write(entries),
            reported=read_reported(entries),
        )

    def map(self, original: Original, *, depth: int = 0, trace: bool = False) -> Mapped:
        """The entries of a message with those of the documents inside it, unchecked.

        Internal to :meth:`normalise` apart from tools that want a trace and call
        :meth:`explain`.
        """
        reader = self.readers.get(original.format)
        if reader is None:
            raise _Stop(_unmapped("no reader is loaded for this format"))
        try:
            root = reader.read(original.payloads, encoding=original.encoding)
        except Unreadable as unreadable:
            raise _Stop(
                Cause(
                    code=CauseCode.UNREADABLE,
                    detail=str(unreadable),
                    location=unreadable.location,
                )
            ) from None
        mapped = self._run(original, root, depth, trace=trace)
        # Every message comes by here; isinstance() of a protocol costs more than some mappings.
        rejected = getattr(root, "rejected", None)
        if rejected is None:
            return mapped
        return without(mapped, self._of_rejected(original, rejected, depth, trace=trace))

    def _of_rejected(
        self, original: Original, rejected: Scope, depth: int, *, trace: bool
    ) -> Mapped | None:
        """What had been made of the parts that are rejected; None when nothing can be made of
        them, so that what cannot be used does not keep up the rest."""
        try:
            mapped = self._run(original, rejected, depth, trace=trace)
        except _Stop:
            return None
        problems = self.checker.check_entries([e.resource for e in mapped.entries], mapped=True)
        return mapped if not problems else None

    def _run(self, original: Original, root: Scope, depth: int, *, trace: bool) -> Mapped:
        program = self.library.match(root, original.format)
        if program is None:
            raise _Stop(_unmapped("no loaded mapping takes this kind of message"))
        context = self.contexts.get(original.source) or MappingContext(source=original.source)
        try:
            mapped = program.run(root, context, trace=trace)
        except MappingRejected as rejected:
            raise _Stop(rejected.cause) from None
        mapped = _with_reading_flags(root, mapped)
        return self._take_in(original, mapped, depth, trace) if mapped.embedded else mapped

    def explain(self, original: Original) -> Mapped | Unusable:
        """As :meth:`normalise`, with the trace of every value, and without the check."""
        try:
            return self.map(original, trace=True)
        except _Stop as stop:
            return stop.unusable

    def _take_in(self, original: Original, mapped: Mapped, depth: int, trace: bool) -> Mapped:
        if depth >= EMBEDDED_DEPTH_MAX or len(mapped.embedded) > EMBEDDED_MAX:
            raise _Stop(
                Cause(
                    code=CauseCode.HOSTILE_CONTENT,
                    detail=f"more than {EMBEDDED_MAX} documents in one message, or documents "
                    f"nested more than {EMBEDDED_DEPTH_MAX} deep",
                )
            )
        whole = replace(mapped, embedded=())
        for document in mapped.embedded:
            inner = self._map_document(original.source, document, depth, trace)
            joined = join(whole, document, inner)
            if not isinstance(joined, Joined):
                raise _Stop(replace(joined, location=document.source), Stage.IDENTIFY)
            whole = joined.mapped
        return whole

    def _map_document(self, source: str, document: Embedded, depth: int, trace: bool) -> Mapped:
        original = Original(
            source=source, format=document.format, payloads=[Payload.from_bytes(document.data)]
        )
        try:
            return self.map(original, depth=depth + 1, trace=trace)
        except _Stop as stop:
            cause = stop.unusable.cause
            place = f"{document.source} {cause.location}".strip()
            raise _Stop(replace(cause, location=place), stop.unusable.stage) from None

    def problem_of(self, entries: Sequence[Entry]) -> str:
        """What is wrong first with entries that somebody wrote by hand; empty when they are
        valid FHIR R4."""
        problems = self.checker.check_entries([entry.resource for entry in entries])
        return f"{problems[0].path}: {problems[0].message}" if problems else ""

    def _check(self, entries: Sequence[Entry]) -> None:
        problems = self.checker.check_entries([entry.resource for entry in entries], mapped=True)
        if problems:
            first, more = problems[0], len(problems) - 1
            also = f" (and {more} more)" if more else ""
            raise _Stop(
                Cause(
                    code=CauseCode.INVALID_ENTRY,
                    detail=f"{first.code}: {first.message}{also}",
                    location=first.path,
                )
            )


def _with_reading_flags(root: Scope, mapped: Mapped) -> Mapped:
    """What reading met and stepped over, when the scope is a ``ports.FlaggedReading``."""
    # Every message comes by here; isinstance() of a protocol costs more than the mapping of some.
    flagged = getattr(root, "reading_flags", None)
    flags = flagged() if flagged is not None else ()
    return replace(mapped, flags=(*mapped.flags, *flags)) if flags else mapped


def _unmapped(detail: str) -> Cause:
    return Cause(code=CauseCode.UNMAPPED, detail=detail)
