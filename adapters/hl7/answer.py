"""What an acknowledgement says: MSA and ERR, of either mode (HL7 v2.9.1 chapter 2, 2.8 and 2.14).

Also which acknowledgements a message asks for (MSH-15 and MSH-16, table 0155).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from adapters.hl7.charset import charset_named
from adapters.hl7.header import Header, header_line, read_header
from adapters.hl7.message import Message
from adapters.hl7.modes import UNANSWERED_TYPES, is_response
from gateway.ports import Unreadable

CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
"""MSA-1 (table 0008): application acknowledgements A*, commit (accept) ones C*."""


@dataclass(frozen=True, slots=True)
class ErrorNote:
    """One ERR segment: where (ERR-2), what (ERR-3), how grave (ERR-4: E, W, I), in words."""

    location: str = ""
    code: str = ""
    severity: str = ""
    text: str = ""

    @property
    def said(self) -> str:
        """Its words, or what stands for them."""
        return self.text or self.code


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An acknowledgement as its sender meant it."""

    code: str
    control_id: str
    text: str
    errors: tuple[ErrorNote, ...]

    @property
    def positive(self) -> bool:
        """AA or CA."""
        return self.code in {"AA", "CA"}

    @property
    def commit(self) -> bool:
        """CA, CE or CR: of the enhanced mode; it speaks of keeping, not of content."""
        return self.code.startswith("C")

    @property
    def said(self) -> str:
        """The first words about what is wrong: of ERR, else MSA-3."""
        return next((each.said for each in self.errors if each.said), self.text)

    @property
    def location(self) -> str:
        """The first place that is named."""
        return next((each.location for each in self.errors if each.location), "")


def read_answer(answer: bytes) -> Acknowledgement:
    """Read an acknowledgement. Raises Unreadable when it has no header or no MSA."""
    try:
        message = Message.read(answer)
    except Unreadable:
        # A receiver that refuses a message for its character set may send the bytes of its
        # header back; the code of the acknowledgement is ASCII all the same.
        message = Message.read(answer, encoding="8859/1")
    found = message.positions("MSA")[:1]
    if not found:
        raise Unreadable("an answer without MSA", "MSA")
    (at,) = found
    code, control_id, text = (message.text(at, field).strip() for field in (1, 2, 3))
    errors = tuple(_note(message, each) for each in message.positions("ERR"))
    return Acknowledgement(code.upper(), control_id, text, errors)


def _note(message: Message, at: int) -> ErrorNote:
    location, code, severity = (message.text(at, field) for field in (2, 3, 4))
    if not (location or code):  # before 2.5: ERR-1 (ELD), location and code in one
        location = message.text(at, 1)
    words = next((text for field in (8, 7) if (text := message.text(at, field))), "")
    return ErrorNote(location, code, severity, words)


class Asked(Enum):
    """When a kind of acknowledgement comes."""

    ALWAYS = "always"
    ON_ERROR = "on-error"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class AskedFor:
    """The acknowledgements that a message asks for. ``enhanced`` tells the mode."""

    enhanced: bool
    commit: Asked
    application: Asked

    @property
    def first(self) -> Asked:
        """When an answer comes at once. In the enhanced mode that is the commit's; an application
        acknowledgement beside it comes later, and maybe on another connection."""
        return self.application if self.commit is Asked.NEVER else self.commit


NOTHING = AskedFor(enhanced=True, commit=Asked.NEVER, application=Asked.NEVER)
COMMIT = AskedFor(enhanced=True, commit=Asked.ALWAYS, application=Asked.NEVER)


def asked_for(message: bytes) -> AskedFor:
    """By MSH-15 and MSH-16; without both, and without a header, the original mode.

    SU (on success only) counts as ALWAYS: a sender must wait for it. An unknown value
    counts as if it were not there. An acknowledgement and a response ask for nothing.
    """
    try:
        start, line = header_line(message)
    except Unreadable:
        return AskedFor(enhanced=False, commit=Asked.NEVER, application=Asked.ALWAYS)
    if _is_answer(message, start, line):
        return NOTHING
    fields = line.split(line[3:4])
    commit, application = (
        _ASKED.get(fields[number - 1].strip().upper()) if len(fields) >= number else None
        for number in (15, 16)
    )
    if commit is None and application is None:
        return AskedFor(enhanced=False, commit=Asked.NEVER, application=Asked.ALWAYS)
    return AskedFor(
        enhanced=True, commit=commit or Asked.NEVER, application=application or Asked.NEVER
    )


def _is_answer(message: bytes, start: int, line: bytes) -> bool:
    """An acknowledgement by its type, or a message with MSA behind its header."""
    try:
        header: Header | None = Header.read(line)
    except Unreadable:
        header = Header.salvage(line)
    return header is not None and (
        header.message_type()[0] in UNANSWERED_TYPES or is_response(message, header, start)
    )


_ASKED = {
    b"AL": Asked.ALWAYS, b"SU": Asked.ALWAYS, b"ER": Asked.ON_ERROR, b"NE": Asked.NEVER,
}  # fmt: skip


def control_id_of(message: bytes) -> bytes:
    """MSH-10 byte for byte; empty when there is no MSH.

    Only the field separator is needed for it: a receiver names the control id of a
    message whose encoding characters it refuses, too.
    """
    try:
        _, line = header_line(message)
    except Unreadable:
        return b""
    if not line.isascii() or b"\x1b" in line:
        # A byte of a character may look like the separator (Big5, GB 18030, ISO 2022).
        try:
            header = Header.read(line)
        except Unreadable:
            pass
        else:
            return header.encode(header.whole(10))
    fields = line.split(line[3:4])
    return fields[9] if len(fields) > 9 else b""


def acknowledges(answer: bytes, control_id: bytes) -> bool:
    """Is ``answer`` an acknowledgement of the message with that MSH-10?

    An answer with an empty MSA-2 is one to a message that has no MSH-10, and a
    refusal by a receiver that could not read it.
    """
    told = _acknowledged(answer)
    if told is None:
        return False
    code, named = told
    return named == control_id or (not named and code[1:2] != b"A")


def code_of(answer: bytes) -> str:
    """MSA-1 in capitals; empty when there is none."""
    told = _acknowledged(answer)
    return told[0].decode("ascii", "replace").strip().upper() if told is not None else ""


def _acknowledged(answer: bytes) -> tuple[bytes, bytes] | None:
    """MSA-1 and MSA-2 as they stand there; None when it is no acknowledgement."""
    try:
        _, header = read_header(answer)
    except Unreadable:
        return None
    separator = header.encode(header.delimiters.field)
    for line in re.split(rb"[\r\n]+", answer):
        if line.startswith(b"MSA" + separator):
            fields = _fields(line, header, separator)
            return fields[1], fields[2] if len(fields) > 2 else b""
    return None


def _fields(line: bytes, header: Header, separator: bytes) -> list[bytes]:
    """The fields of a segment in their bytes, cut between characters."""
    named = charset_named(header.field(18))
    if line.isascii() or named is None or not named.double:
        return line.split(separator)
    try:
        text = line.decode(named.codec)
    except UnicodeDecodeError:
        return line.split(separator)
    return [part.encode(named.codec) for part in text.split(header.delimiters.field)]
