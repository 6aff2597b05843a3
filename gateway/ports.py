"""What an adapter or the record implements. Protocols only.

Adding a format takes one :class:`SourceLanguage` (how a mapping reads it), one
:class:`Reader` (bytes to that language's root scope) and one or more
:class:`Source` (how it arrives). Adding a destination takes one
:class:`gateway.destinations.Destination`. Nothing in the stages changes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, BinaryIO, Protocol, runtime_checkable

from gateway.model import (
    Cause,
    Flag,
    Format,
    Outcome,
    Payload,
    Receipt,
    Received,
)


class Clock(Protocol):
    """The time of day, so that tests can hold it."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...


class IntakeUnavailable(Exception):
    """Nothing was kept. Answer so that the sender tries again later."""


Word = Receipt | Exception
"""What intake says of a message: a receipt, or the error for which nothing was kept."""

Settle = Callable[[Sequence[tuple[Any, Word]]], None]
"""Takes intake's word on several messages, each with the token that was handed in with it."""


class Intake(Protocol):
    """The one door into the journal."""

    def submit(self, received: Received) -> Future[Receipt]:
        """Keep a message; the future resolves only after the commit that holds it.

        Callable from any thread; never blocks on the disk. The future raises
        :class:`IntakeUnavailable` when nothing could be kept (disk full,
        database away, queue full): the sender must then get no positive answer.
        """
        ...

    def submit_all(self, handed: Sequence[tuple[Received, Any]], settle: Settle) -> None:
        """Keep messages in their order, each with a token of the caller's.

        For a door through which thousands come: those that share a commit are settled
        in one call, from another thread or, when nothing can be kept, from this one.
        ``settle`` must be quick and never raise.
        """
        ...


@runtime_checkable
class KeepsBytes(Protocol):
    """An intake into which a door with threads of its own can put large bytes beforehand."""

    def keep(self, payload: Payload, *, flushed: bool = False) -> Payload:
        """Make a spooled payload durable, in the caller's thread: what to submit instead.

        ``flushed``: the caller has its bytes on the disk already. Its file is intake's from
        here on. Raises :class:`IntakeUnavailable`; then the file is still the caller's.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """One configured way in: a listener, a folder, an HTTP route."""

    name: str

    async def start(self) -> None:
        """Begin to take messages. Raises OSError when the port cannot be bound."""
        ...

    async def stop(self) -> None:
        """Take no more, finish what is in flight, close. Idempotent."""
        ...

    async def reconfigure(self, settings: Any) -> None:
        """Take other settings of its own kind and name, from the next message on.

        What is in flight is finished, and with an unchanged address no connection is
        closed. Raises what :meth:`start` raises; then nothing is changed.
        """
        ...

    def address(self) -> str:
        """Where it listens (``host:port``, a folder, a URL path), for people."""
        ...


@runtime_checkable
class ReturnLink(Protocol):
    """The way back to a source's sender, for what it wants to hear once its message has
    reached its end. Used from one thread. No exceptions leave."""

    source: str
    hold_seconds: float
    """The longest that one attempt may take."""

    def word(self, content: BinaryIO, encoding: str, cause: Cause | None) -> Worded | None:
        """The acknowledgement of a message: positive without a cause.

        ``content`` is its bytes from their beginning, of which no more is read than the answer
        needs; ``encoding`` the character set in which it was read. None when it has no header
        to answer to. Raises OSError when the bytes cannot be read.
        """
        ...

    def send(self, acknowledgement: bytes) -> Outcome:
        """Make one attempt. The bytes are the same at each, so that the receiver can tell."""
        ...

    def close(self) -> None:
        """Close the connection, if any."""
        ...


@dataclass(frozen=True, slots=True)
class Worded:
    """An acknowledgement: its own control id, its code, its bytes."""

    control_id: str
    code: str
    body: bytes


# --- how a mapping reads a source ------------------------------------------------


class ValueState(Enum):
    """What a source says at one place. The four stay distinct to the end."""

    ABSENT = "absent"
    EMPTY = "empty"
    NULL = "null"
    """The HL7 v2 null ``""``: delete what you have."""
    PRESENT = "present"


class Value(Protocol):
    """One value at one place of a source; may have parts of its own."""

    @property
    def state(self) -> ValueState: ...

    @property
    def text(self) -> str:
        """Decoded and unescaped text; empty unless the state is PRESENT."""
        ...

    @property
    def path(self) -> str:
        """Its place in the source's own notation with positions (``PID-3(2).1``)."""
        ...

    @property
    def datatype(self) -> str:
        """The source's own type name (``CX``, ``CWE``, ``CD``, ``PN``) or empty."""
        ...

    def part(self, path: str) -> Value:
        """A part by relative path: ``1`` or ``4.2`` in HL7 v2, ``@code`` or
        ``translation(2)@code`` in CDA, a keyword in DICOM. Absent if not there."""
        ...

    def parts(self, path: str) -> Sequence[Value]:
        """All repetitions of a part (``translation`` in CDA)."""
        ...

    def raw(self) -> bytes:
        """The undecoded bytes of the value (Base64 text, pixel data) for attachments."""
        ...


class PartedValue(Value, Protocol):
    """A value in numbered parts, of which it can tell cheaply what is written in them.

    A language whose values are such says so (``parted``): what the engine made of one is
    then taken for another that says the same in the parts that counted.
    """

    def masked(self, read: frozenset[int]) -> tuple[Hashable, Sequence[str | None]] | None:
        """A key, and what is written in each part, None where the text is not written plainly.

        Values of one key have the same parts: there, empty or null alike; of those
        numbered in ``read`` (from 1), and of all that are not written plainly, the same
        text; and the same data type. None for a value that is better not compared.
        """
        ...


class Scope(Protocol):
    """A place from which paths are read: the root, a group, a segment, a repetition,
    an element, a series. Opaque to the engine."""

    @property
    def path(self) -> str:
        """Its place, for the trace (``ORDER_OBSERVATION(2)``)."""
        ...


@runtime_checkable
class WholeSource(Protocol):
    """A root scope that can hand over its message's original bytes.

    A mapping asks for them with ``from: source()`` (the whole document as an
    attachment). A root scope that does not implement this gives no attachment.
    """

    def source_bytes(self) -> bytes:
        """The exact bytes that the reader was given."""
        ...


@runtime_checkable
class Profiled(Protocol):
    """A root scope of a message that is read like all others of its ``profile``."""

    @property
    def profile(self) -> Hashable: ...


@runtime_checkable
class FlaggedReading(Protocol):
    """A root scope that knows of faults which reading met and stepped over.

    They are asked for after the mapping has run, because values are read lazily.
    """

    def reading_flags(self) -> Sequence[Flag]:
        """An instance left out, a character set that did not fit… No patient value."""
        ...


@dataclass(frozen=True, slots=True)
class CompiledPath:
    """A source path checked and compiled at load.

    ``content`` is optional: a cheap look at what ``read`` would give, so that the
    engine converts the same content once. None when nothing is there, the empty
    string when it is empty, else a hashable token: equal tokens, from whatever
    message, mean equal values in texts, states, types and parts. Paths of one
    scope with an equal ``place`` (None: its own) have the same content there.
    ``everywhere``: the content is the same from every place of a message.
    ``recurs``: it is worth remembering by, because it comes again in other messages.
    ``text_of`` is optional: the text of the first value, empty unless that is present, where
    there is a quicker way to it than ``read``.
    """

    text: str
    read: Callable[[Scope], Sequence[Value]]
    datatype: str = ""
    repeats: bool = False
    content: Callable[[Scope], Hashable] | None = None
    place: Hashable = None
    everywhere: bool = False
    recurs: bool = True
    text_of: Callable[[Scope], str] | None = None


@dataclass(frozen=True, slots=True)
class CompiledScope:
    """What ``each:`` walks, checked and compiled at load.

    ``kind`` is opaque to the engine and is handed back as ``within`` when paths
    inside the scope are compiled. ``needs`` is optional: a path with a ``content``,
    without which there is nothing to walk.
    """

    text: str
    walk: Callable[[Scope], Iterator[Scope]]
    kind: object
    needs: CompiledPath | None = None


class PathError(Exception):
    """A source path that the grammar, schema or dictionary does not know.

    ``args[0]`` says what is wrong; ``suggestion`` is the nearest right path or empty.
    """

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


class SourceLanguage(Protocol):
    """The path notation of one format, checked against its grammar at load."""

    format: Format

    def root(self, versions: Sequence[str]) -> object:
        """The ``kind`` of the root scope, for ``within``."""
        ...

    def path(self, text: str, *, versions: Sequence[str], within: object) -> CompiledPath:
        """Compile a path. Raises PathError."""
        ...

    def scope(
        self, spec: Mapping[str, str], *, versions: Sequence[str], within: object
    ) -> CompiledScope:
        """Compile an ``each:``. ``spec`` holds one of ``path``, ``group``, ``segment``
        (HL7 v2), ``series``/``instance`` (DICOM). Raises PathError."""
        ...

    def contents(
        self,
        paths: Sequence[CompiledPath],  # noqa: ARG002 - for those who have a quicker way
    ) -> Callable[[Scope], Sequence[Hashable]] | None:
        """Optional: one look that gives the ``content`` of several paths (all have one).

        None when the language has no quicker way than asking each path. A token need
        only differ among messages whose roots have the same ``profile`` (:class:`Profiled`).
        """
        return None

    def facts(self, root: Scope) -> Mapping[str, str]:
        """What chooses the mapping: ``version``, ``kind``; and what a trace should name."""
        ...


class Unreadable(Exception):
    """The bytes are not what their format promises. ``location`` says where.

    The message names no patient value.
    """

    def __init__(self, message: str, location: str = "") -> None:
        super().__init__(message)
        self.location = location


class Reader(Protocol):
    """Bytes to the root scope of a format's language. Pure."""

    format: Format

    def read(self, payloads: Sequence[Payload], *, encoding: str = "") -> Scope:
        """Read one message, or all instances of one study. Raises Unreadable.

        ``encoding`` is what the intake recorded (:attr:`Received.encoding`).
        """
        ...


# --- where bytes are kept ---------------------------------------------------------


class BlobStore(Protocol):
    """Content-addressed bytes beside the database, durable before they are named."""

    def put(self, data: bytes) -> str:
        """Store and fsync; returns the lower-case hex SHA-256. Idempotent."""
        ...

    def payload(self, sha256: str) -> Payload:
        """The stored bytes. Raises KeyError when there are none."""
        ...

    def stored(self) -> Iterable[str]:
        """The digests that are there, for verification."""
        ...
