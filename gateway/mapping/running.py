"""What one run of a mapping holds: the context it was given and what it has made so far."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from uuid import UUID

from gateway.mapping.findings import Place
from gateway.mapping.serialise import dumps
from gateway.model import Attachment, Cause, CauseCode, Embedded, Entry, Flag, TraceStep
from gateway.ports import Scope
from gateway.value_class import value_class

Memory = list[Any]
"""For each remembering rule its ``Memo`` (:mod:`gateway.mapping.memory`)."""

NAMESPACE = UUID("6f1d3a52-8c5e-5b0e-9d0c-2f6f0f3b7a11")
"""The name space of every identifier that Écluse derives. Never changes."""

SEPARATOR = "\x1f"
"""Between the parts of which an identifier is derived; no message value holds it unescaped."""

_NAMESPACE = NAMESPACE.bytes
_VARIANT = {f"{nibble:x}": f"{nibble & 3 | 8:x}" for nibble in range(16)}
"""The first digit of a UUID's fourth group: its two high bits are 10 (RFC 4122, 4.1.1)."""

ENTRIES_MAX = 50_000
FLAGS_MAX = 10_000


# It goes to the mapping processes: a compiled class that is frozen cannot be unpickled.
@value_class(frozen=True, slots=True)
class MappingContext:
    """What the source's settings say and the message does not.

    ``zone`` is the IANA zone for times without offset, or empty: such times then
    keep the date only. ``authorities`` gives the OID of an assigning authority's
    local name. ``source`` is the configured source's name.
    """

    zone: str = ""
    authorities: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


class MappingRejected(Exception):
    """The mapping refuses the message. ``cause`` says where and why, without its values."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(f"{cause.detail} ({cause.location})")
        self.cause = cause


class Drop(Exception):
    """Leave out the object or entry around. ``levels`` tells which (1: the nearest)."""


class HandedOver(Exception):
    """The document of this entry goes to another format's mapping instead."""

    def __init__(self, embedded: Embedded) -> None:
        super().__init__()
        self.embedded = embedded


class Frame:
    """The entries that can be referred to from one place, by name: the nearest of each."""

    __slots__ = ("known", "own")

    def __init__(self, around: Frame | None) -> None:
        self.known: dict[str, str] = around.known.copy() if around is not None else {}
        self.own: set[str] = set()

    def add(self, name: str, reference: str) -> None:
        """An entry was made here: the first of its name here is the one that is meant."""
        if name not in self.own:
            self.own.add(name)
            self.known[name] = reference


class Run:
    """The state of one run. Made by :meth:`Program.run`, used by the compiled rules only."""

    __slots__ = (
        "attachments",
        "authorities",
        "embedded",
        "entries",
        "flags",
        "frame",
        "lasting",
        "made",
        "offset",
        "pending",
        "root",
        "seen",
        "source",
        "trace",
        "trail",
        "zone",
    )

    def __init__(
        self, root: Scope, context: MappingContext, lasting: Memory, *, trace: bool
    ) -> None:
        self.root = root
        self.lasting = lasting
        self.zone = context.zone
        self.authorities = context.authorities
        self.source = context.source
        self.entries: list[Entry] = []
        self.flags: list[Flag] = []
        self.attachments: dict[str, Attachment] = {}
        self.embedded: list[Embedded] = []
        self.frame = Frame(None)
        self.seen: dict[str, int] = {}
        self.made: dict[tuple[str, int], tuple[dict[str, Any], str]] = {}
        self.pending: list[str] = []
        """Notes of the conversion under way, flagged by the rule that called it."""
        self.trace: list[TraceStep] | None = [] if trace else None
        self.trail: list[str] = []
        self.offset = 0

    def flag(
        self, code: str, place: Place, target: str, source: str = "", detail: str = ""
    ) -> None:
        """Note something that a person should know. No patient value in ``detail``."""
        if len(self.flags) < FLAGS_MAX:
            self.flags.append(
                Flag(code=code, detail=detail, target=target, rule=str(place), source=source)
            )

    def flush(self, place: Place, target: str, source: str) -> None:
        """Turn the pending notes of a conversion into flags."""
        for code in self.pending:
            self.flag(code, place, target, source)
        self.pending.clear()

    def reject(self, place: Place, target: str, source: str, detail: str) -> MappingRejected:
        """The exception that refuses the message."""
        where = f"{place} {target} {source}".strip()
        return MappingRejected(Cause(code=CauseCode.MAPPING_FAILED, detail=detail, location=where))

    def emit(self, resource: dict[str, Any], *, create_only: bool) -> None:
        """Add an entry. Refuses a message that would make more than 50,000."""
        if len(self.entries) >= ENTRIES_MAX:
            raise MappingRejected(
                Cause(code=CauseCode.MAPPING_FAILED, detail=f"more than {ENTRIES_MAX} entries")
            )
        self.entries.append(Entry(resource=resource, create_only=create_only))

    def note(self, place: Place, source: str, steps: tuple[str, ...]) -> None:
        """Record where the value at the present trail came from (traced runs only)."""
        if self.trace is not None:
            self.trace.append(
                TraceStep(target="".join(self.trail), rule=str(place), source=source, steps=steps)
            )


def derived_id(*parts: str) -> str:
    """UUID version 5 (RFC 4122) of the parts in :data:`NAMESPACE`.

    The parts are joined by U+001F, which no message value holds unescaped.
    """
    return named_by(SEPARATOR.join(parts))


def named_by(text: str) -> str:
    """:func:`derived_id` of parts that are joined already."""
    digest = hashlib.sha1(  # noqa: S324 - UUID version 5 is defined with SHA-1
        _NAMESPACE + text.encode()
    ).hexdigest()
    variant = _VARIANT[digest[16]]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def same_content(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two resources say the same apart from their ids."""
    return dumps({**first, "id": ""}, sort_keys=True) == dumps({**second, "id": ""}, sort_keys=True)
