"""Messages that come in fragments (HL7 v2.9.1 chapter 2, section 2.9.2; 2.10.2 up to 2.8).

A fragment ends with DSC, whose DSC-1 is a pointer; the next fragment is a message
with a control id of its own whose MSH-14 is that pointer. The last one has no DSC, or
a DSC without a pointer. A segment may be cut anywhere: an ADD without fields then ends
the fragment, and the next one begins with an ADD whose fields go on where it was cut.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from adapters.hl7.charset import BYTE_ORDER_MARK
from adapters.hl7.header import header_line
from adapters.hl7.settings import Hl7SourceSettings
from gateway.model import Cause, CauseCode
from gateway.ports import Unreadable

CHAINS_MAX = 1000
"""Continued messages that one source may have open at a time."""

CONTINUES = "continues"
CONTINUED = "continued"
"""Attributes under which the pointers of a fragment are kept: MSH-14 and DSC-1."""

_INTERACTIVE = b"I"
_UNCONTINUED = (b"MSH", b"MSA", b"DSC", b"PID", b"QRD", b"QRF", b"URD", b"URS")
_DSC = re.compile(rb"[\r\n]DSC(?![A-Za-z0-9])")
_PATIENT = re.compile(rb"[\r\n]PID(?![A-Za-z0-9])")
_ADD = re.compile(rb"[\r\n]ADD(?![A-Za-z0-9])")


def pointer_after(text: bytes, separator: bytes) -> str:
    """DSC-1 of a message whose last segment is a DSC, else "".

    ``text`` has carriage returns. A DSC of style I (DSC-2) belongs to the answer to a
    query: such a message is whole.
    """
    begin = text.rfind(b"\rDSC" + separator)
    if begin < 0:
        return ""
    line, _, rest = text[begin + 1 :].partition(b"\r")
    if rest.strip(b" \t\r\n"):
        return ""
    fields = line.split(separator)
    if len(fields) > 2 and fields[2].strip() == _INTERACTIVE:
        return ""
    pointer = fields[1].strip().decode("latin-1")
    return "" if pointer == '""' else pointer


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one message says of its place. At least one of the pointers is not empty.

    ``sender`` tells senders apart whose pointers are alike. ``whole_like``: it has a
    patient of its own, and may be a message that fills MSH-14 for reasons of its own.
    """

    sender: tuple[str, ...]
    continues: str
    continued: str
    fingerprint: str
    size: int
    whole_like: bool = False

    @property
    def last(self) -> bool:
        """Does no other follow?"""
        return not self.continued


def sender_of(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Who sent a message, by its attributes: pointers are unique with one sender only."""
    return tuple(attributes.get(name, "") for name in ("sending_application", "sending_facility"))


def fingerprint(control_id: str, sha256: str) -> str:
    """The same for the same fragment sent again; ``sha256`` is its payload's."""
    return f"hl7-{hashlib.sha256(f'{control_id}|{sha256}'.encode()).hexdigest()[:40]}"


def fragment_kept(
    attributes: Mapping[str, str], control_id: str, sha256: str, size: int
) -> Fragment:
    """A fragment as it was kept."""
    return Fragment(
        sender=sender_of(attributes),
        continues=attributes.get(CONTINUES, ""),
        continued=attributes.get(CONTINUED, ""),
        fingerprint=fingerprint(control_id, sha256),
        size=size,
    )


@dataclass(slots=True)
class _Chain:
    group: str
    until: datetime
    parts: dict[str, int] = field(default_factory=dict)
    pointers: set[tuple[str, ...]] = field(default_factory=set)


class Continuations:
    """Which fragments belong together at one source, until nothing came for ``lifetime``.

    Holds pointers only, no bytes of messages. Callable from any thread. The group of a
    chain follows from its first fragment, so that all of it sent again is all known.
    """

    def __init__(self, lifetime: timedelta, fragments_max: int, bytes_max: int) -> None:
        self._lifetime = lifetime
        self._fragments_max = fragments_max
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._chains: OrderedDict[str, _Chain] = OrderedDict()
        self._pointers: dict[tuple[str, ...], _Chain] = {}

    @classmethod
    def of(cls, settings: Hl7SourceSettings) -> Continuations:
        """With the bounds of a source."""
        made = cls(timedelta(), 0, 0)
        made.bound(settings)
        return made

    def bound(self, settings: Hl7SourceSettings) -> None:
        """Take other bounds, for the fragments to come."""
        self._lifetime = timedelta(seconds=settings.continuation_timeout_seconds)
        self._fragments_max = settings.continuation_fragments_max
        self._bytes_max = settings.continuation_bytes_max

    def place(self, fragment: Fragment, now: datetime) -> str | Cause:
        """The group of a fragment, "" for a message that is none, or why it is refused."""
        with self._lock:
            self._expire(now)
            if fragment.continues:
                chain = self._pointers.get((*fragment.sender, fragment.continues))
                if chain is None:
                    return "" if fragment.whole_like and fragment.last else _unknown()
            else:
                chain = self._chains.get(fragment.fingerprint)
                if chain is None:
                    if len(self._chains) >= CHAINS_MAX:
                        return _too_many(f"{CHAINS_MAX} continued messages are open already")
                    chain = self._chains[fragment.fingerprint] = _Chain(fragment.fingerprint, now)
            if fragment.fingerprint not in chain.parts:
                if len(chain.parts) >= self._fragments_max:
                    return _too_many(f"more than {self._fragments_max} fragments of one message")
                if sum(chain.parts.values()) + fragment.size > self._bytes_max:
                    return _too_many(f"more than {self._bytes_max} bytes of one message")
            self._add(chain, fragment, now)
            return chain.group

    def restore(self, group: str, fragment: Fragment, at: datetime) -> None:
        """Know again a fragment that came at ``at``, before the start. The oldest first."""
        with self._lock:
            chain = self._chains.setdefault(group, _Chain(group, at))
            self._add(chain, fragment, at)

    def _add(self, chain: _Chain, fragment: Fragment, now: datetime) -> None:
        chain.parts[fragment.fingerprint] = fragment.size
        chain.until = now + self._lifetime
        self._chains.move_to_end(chain.group)
        if fragment.continued:
            # A pointer used again is the newer message's: the older one cannot go on.
            pointer = (*fragment.sender, fragment.continued)
            chain.pointers.add(pointer)
            self._pointers[pointer] = chain

    def _expire(self, now: datetime) -> None:
        while self._chains:
            group, chain = next(iter(self._chains.items()))
            if chain.until > now:
                return
            del self._chains[group]
            for pointer in chain.pointers:
                if self._pointers.get(pointer) is chain:
                    del self._pointers[pointer]


def _unknown() -> Cause:
    return Cause(
        code=CauseCode.CONTENT_MISMATCH,
        detail="It continues a message of which the part before is not here, or no longer; "
        "please send the whole again from its first part",
        location="MSH-14",
        protocol_code="204",
    )


def _too_many(detail: str) -> Cause:
    return Cause(
        code=CauseCode.HOSTILE_CONTENT,
        detail=f"Too much to continue: {detail}",
        location="DSC-1",
        protocol_code="207",
    )


# --- joining ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    head: bytes
    separator: bytes
    continues: str
    continued: str
    lines: tuple[bytes, ...]


def needs_joining(payload: bytes) -> bool:
    """Is one message no whole one as it stands?

    It holds an ADD, ends with the pointer to another, or continues another and has no
    patient of its own.
    """
    if b"ADD" in payload and _ADD.search(payload) is not None:
        return True
    if b"DSC" in payload and _DSC.search(payload) is not None and _part(payload).continued:
        return True
    return _PATIENT.search(payload) is None and bool(_part(payload).continues)


def joined_alone(payload: bytes) -> bytes:
    """One message with what its ADD segments continue. Raises Unreadable, see :func:`join`."""
    return join([payload]) if b"ADD" in payload and _ADD.search(payload) else payload


def join(payloads: Sequence[bytes]) -> bytes:
    """One message of all its fragments, given in the order of their arrival.

    The header is that of the first one. Raises Unreadable when a fragment is missing,
    or several claim the same place.
    """
    waiting: dict[str, list[_Part]] = {}
    for payload in payloads:
        part = _part(payload)
        waiting.setdefault(part.continues, []).append(part)
    opening = waiting.pop("", [])
    if not opening:
        raise Unreadable("the first fragment of the message is missing", "MSH-14")
    if len(opening) > 1:
        raise Unreadable("several first fragments of one message", "MSH-14")
    part = opening[0]
    count, joined = 1, [part.head]
    _extend(joined, part)
    while part.continued:
        following = waiting.get(part.continued)
        if not following:
            raise Unreadable(
                f"the message is incomplete: what follows fragment {count} did not come", "DSC-1"
            )
        # A sender may use one pointer throughout: then the order of arrival counts.
        part = following.pop(0)
        count += 1
        _extend(joined, part)
    if any(waiting.values()):
        raise Unreadable("several fragments claim the same place in the message", "MSH-14")
    return b"\r".join(joined) + b"\r"


def _part(payload: bytes) -> _Part:
    start, head = header_line(payload)
    separator = head[3:4]
    fields = head.split(separator)
    continues = fields[13].strip().decode("latin-1") if len(fields) > 13 else ""
    body = payload[start + len(head) :].removeprefix(BYTE_ORDER_MARK)
    mark = b"\r" if b"\r" in body else b"\n"
    lines = [line.removeprefix(b"\n") for line in body.split(mark)]
    lines = [line for line in lines if line.strip(b" \t\r\n")]
    continued = pointer_after(b"\r" + b"\r".join(lines), separator)
    if lines and continued:
        lines.pop()
    return _Part(head, separator, "" if continues == '""' else continues, continued, tuple(lines))


def _extend(joined: list[bytes], part: _Part) -> None:
    """Append a part's segments; an ADD's fields go on where the segment before it ends."""
    for line in part.lines:
        if line[:3] != b"ADD" or line[3:4] not in (part.separator, b""):
            joined.append(line)
            continue
        rest = line[4:]
        if not rest:
            continue  # says only that the segment goes on in the next fragment
        if joined[-1][:3] in _UNCONTINUED:
            name = joined[-1][:3].decode("latin-1")
            raise Unreadable(f"ADD continues {name}, which cannot be continued", "ADD")
        joined[-1] += rest
