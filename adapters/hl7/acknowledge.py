"""Acknowledgements of both modes (HL7 v2.9.1 chapter 2, sections 2.8.2 and 2.9).

The header is built, not echoed: our own time and control id, MSH-3 to MSH-6
swapped whole, MSA-2 byte for byte what the sender wrote in MSH-10.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from adapters.hl7.charset import ASCII, Charset, charset_named
from adapters.hl7.delimiters import DEFAULT, Delimiters
from adapters.hl7.escapes import escape_text
from adapters.hl7.grammar import version_order
from adapters.hl7.header import Header
from adapters.hl7.profiles.errors import APPLICATION_ERRORS, APPLICATION_TABLE, MESSAGE_TABLE
from adapters.hl7.remembered import Remembered
from gateway.model import Cause, CauseCode

# HL7 table 0357, message error condition codes.
ERROR_TEXTS = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "198": "Non-Conformant Cardinality",
    "199": "Other HL7 Error",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}
INTERNAL_ERROR = "207"
_TABLE = "HL70357"
# For causes that arise behind the door, and have no code of the protocol.
_NUMBERS = {
    CauseCode.IDENTITY_AWAITED: "204",
    CauseCode.IDENTITY_INVALID: "204",
    CauseCode.IDENTITY_CONFLICT: "204",
    CauseCode.UNREADABLE: "199",
    CauseCode.UNMAPPED: "199",
    CauseCode.MAPPING_FAILED: "199",
    CauseCode.INVALID_ENTRY: "199",
    CauseCode.FEEDING_OPPOSED: "199",
    CauseCode.RECORD_CLOSED: "199",
}
_LOCATION = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\((?P<sequence>\d+)\))?"
    r"(?:-(?P<field>\d+)(?:\((?P<repetition>\d+)\))?"
    r"(?:\.(?P<component>\d+)(?:\.(?P<sub>\d+))?)?)?\Z"
)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_DEFAULT_VERSION = "2.5"
_SECOND = timedelta(seconds=1)
_OFFSET_SIGNS = frozenset("+-")


class Code(StrEnum):
    """MSA-1 (table 0008): of application acknowledgements, and of accept acknowledgements."""

    ACCEPT = "AA"
    ERROR = "AE"
    REJECT = "AR"
    COMMIT_ACCEPT = "CA"
    COMMIT_ERROR = "CE"
    COMMIT_REJECT = "CR"


def code_for(cause: Cause) -> Code:
    """AR when MSH-9, MSH-11 or MSH-12 is not acceptable or there is no header, else AE.

    AR also means that the receiver is not available and that sending again makes
    sense: :data:`UNAVAILABLE`.
    """
    if cause.protocol_code in {"200", "201", "202", "203"}:
        return Code.REJECT
    if cause.location in {"MSH", "MSH-1", "MSH-9", "MSH-11", "MSH-12"}:
        return Code.REJECT
    if cause is UNAVAILABLE or cause.code is CauseCode.FRAME_OVERSIZED:
        return Code.REJECT
    return Code.ERROR


def commit_code_for(cause: Cause) -> Code:
    """CR when MSH-9, MSH-11 or MSH-12 is not acceptable or there is no header, else CE."""
    if cause is not UNAVAILABLE and cause.code is not CauseCode.FRAME_OVERSIZED:
        return Code.COMMIT_REJECT if code_for(cause) is Code.REJECT else Code.COMMIT_ERROR
    return Code.COMMIT_ERROR


UNAVAILABLE = Cause(
    code=CauseCode.DESTINATION_UNAVAILABLE,
    detail="The message could not be kept; please send it again later",
    protocol_code=INTERNAL_ERROR,
)


class ControlIds:
    """Message control ids of our own: at most 20 characters (MSH-10), never the same twice.

    Nine characters of the starting time in milliseconds, three at random for
    processes that start together, then a counter: unique in a process by the
    counter and between processes by the rest. Callable from any thread.
    """

    def __init__(self) -> None:
        milliseconds = time.time_ns() // 1_000_000
        self._prefix = _base32(milliseconds, 9) + _base32(secrets.randbits(15), 3)
        self._count = itertools.count()

    def next(self) -> str:
        """A control id that was never given before."""
        return f"{self._prefix}{next(self._count):X}"


def _base32(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 32)
        digits = _ALPHABET[digit] + digits
    return digits


@dataclass(frozen=True, slots=True)
class _Form:
    """An answer's header but for its time and control id, and what version it speaks."""

    before_time: str
    before_control_id: str
    after_control_id: str
    french: bool = False
    """Whether the profile is one of the CI-SIS, which names tables by their symbolic names."""
    without_offset: bool = False
    before_2_5: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A positive answer but for its time, its control id and the one that it names."""

    before_time: bytes
    before_control_id: bytes
    after_control_id: bytes
    """Up to the separator before MSA-2."""
    without_offset: bool


_NO_HEADER = _Form(f"MSH|{DEFAULT.encoding_characters}|||||", "||ACK|", f"|P|{_DEFAULT_VERSION}")


class Acknowledger:
    """Writes answers for one source. Callable from any thread."""

    def __init__(self, zone: ZoneInfo, control_ids: ControlIds | None = None) -> None:
        self._zone = zone
        self._control_ids = control_ids or ControlIds()
        self._time: tuple[datetime, datetime, str, bytes] | None = None
        self._forms: Remembered[_Form] = Remembered()

    def accept(
        self,
        header: Header,
        charset: Charset,
        now: datetime,
        *,
        code: Code = Code.ACCEPT,
        number: int | None = None,
        asking: str = "",
    ) -> bytes:
        """AA or CA: the message is in safe storage. To be sent after its commit only.

        ``number`` is MSA-4. ``asking`` is what the acknowledgement itself asks for in
        MSH-15, as the first message of an exchange of its own; MSH-16 is then NE.
        """
        form = self._form(header, charset, asking)
        separator = header.delimiters.field
        lines = f"{self._header(form, now)}\rMSA{separator}{code}{separator}{header.whole(10)}"
        if number is not None:
            lines = f"{lines}{separator}{separator}{number}"
        return f"{lines}\r".encode(header.codec)

    def template(self, header: Header, charset: Charset, code: Code) -> Template:
        """The answer of :meth:`accept`, without MSA-4 and for a header kept byte for byte."""
        form = self._form(header, charset, "")
        separator = header.delimiters.field
        before, between, after = (
            text.encode(header.codec)
            for text in (
                form.before_time,
                form.before_control_id,
                f"{form.after_control_id}\rMSA{separator}{code}{separator}",
            )
        )
        return Template(before, between, after, form.without_offset)

    def fill(self, template: Template, control_id: bytes, now: datetime) -> bytes:
        """The answer to a message with this MSH-10."""
        stamp = self._stamps(now)[3]
        return b"".join(
            (
                template.before_time,
                stamp[:14] if template.without_offset else stamp,
                template.before_control_id,
                self._control_ids.next().encode("ascii"),
                template.after_control_id,
                control_id,
                b"\r",
            )
        )

    def refuse(
        self,
        header: Header | None,
        charset: Charset | None,
        now: datetime,
        cause: Cause,
        *,
        commit: bool = False,
        number: int | None = None,
        asking: str = "",
    ) -> bytes:
        """AE or AR (CE or CR for ``commit``) with an ERR segment.

        Without a header: MSA-2 empty, default delimiters. The others as for ``accept``.
        """
        form = self._form(header, charset, asking) if header else _NO_HEADER
        delimiters = _spoken(header.delimiters) if header else DEFAULT
        control_id = header.whole(10) if header else ""
        codec = header.codec if header else "ascii"
        # Our own words, in the bytes that the answer's character set gives them. A header
        # that is not kept byte for byte (Header.codec) says itself which set that is.
        spoken = codec if codec != "latin-1" else charset.codec if charset else "ascii"
        words = cause.detail.encode(spoken, "replace")
        text = escape_text(words.decode(codec), delimiters)
        code = commit_code_for(cause) if commit else code_for(cause)
        application: tuple[str, ...] = ()
        if cause.protocol_code in APPLICATION_ERRORS:
            label = APPLICATION_ERRORS[cause.protocol_code]
            # The answer names the declared set, even where a message's own bytes are all ASCII.
            declared = charset_named(header.field(18)) if header else None
            named = declared if declared is not None and not declared.wide else charset
            told = codec if codec != "latin-1" else (named or ASCII).codec
            said = label.encode(told, "replace").decode(codec, "replace")
            application = (cause.protocol_code, escape_text(said, delimiters), APPLICATION_TABLE)
        acknowledgement = ["MSA", code, control_id]
        if form.before_2_5 and text:
            acknowledgement.append(text)
        if number is not None:
            acknowledgement += [""] * (4 - len(acknowledgement)) + [str(number)]
        lines = (
            self._header(form, now),
            delimiters.field.join(acknowledgement),
            _error(cause, text, delimiters, form, application),
            "",
        )
        return "\r".join(lines).encode(codec)

    def _header(self, form: _Form, now: datetime) -> str:
        stamp = self._stamp(now)
        if form.without_offset:  # offsets came with 2.2, and hold a + or -
            stamp = stamp[:14]
        control_id = self._control_ids.next()
        return (
            f"{form.before_time}{stamp}{form.before_control_id}{control_id}{form.after_control_id}"
        )

    def _form(self, header: Header, charset: Charset | None, asking: str) -> _Form:
        key = (*header.profile, charset.name if charset else "", asking)
        form = self._forms.get(key)
        return form if form is not None else self._forms.keep(key, _form(header, charset, asking))

    def _stamp(self, now: datetime) -> str:
        """MSH-7 with the source's offset."""
        return self._stamps(now)[2]

    def _stamps(self, now: datetime) -> tuple[datetime, datetime, str, bytes]:
        """The second in which ``now`` is, from and until, and MSH-7; written once a second."""
        written = self._time
        if written is None or not written[0] <= now < written[1]:
            text = now.astimezone(self._zone).strftime("%Y%m%d%H%M%S%z")
            since = now.replace(microsecond=0)
            written = (since, since + _SECOND, text, text.encode("ascii"))
            self._time = written
        return written


def _form(header: Header, charset: Charset | None, asking: str) -> _Form:
    delimiters = _spoken(header.delimiters)
    separator = delimiters.field
    order = version_order(header.component(12, 1).strip())
    known = order > (0,)
    kind = "ACK"
    event = header.message_type()[1]
    if event and not (known and order < (2, 4)):
        kind = delimiters.component.join(("ACK", event, "ACK"))
    swapped = [header.whole(number) for number in (5, 6, 3, 4)]
    before_time = separator.join(("MSH", delimiters.encoding_characters, *swapped, ""))
    after_control_id = separator.join(("", header.whole(11), header.whole(12)))
    # MSH-13 to MSH-18, as far as the last one that holds something.
    name, country = _charset_name(header, charset), header.whole(17)
    rest = ["", "", asking, "NE" if asking else "", country, name]
    while rest and not rest[-1]:
        rest.pop()
    after_control_id += "".join(separator + each for each in rest)
    return _Form(
        before_time,
        separator.join(("", "", kind, "")),
        after_control_id,
        french="CISIS_CDA_HL7" in header.whole(21),
        without_offset=(known and order < (2, 2)) or not _OFFSET_SIGNS.isdisjoint(delimiters.all),
        before_2_5=known and order < (2, 5),
    )


@lru_cache(maxsize=128)
def _spoken(delimiters: Delimiters) -> Delimiters:
    """The sender's delimiters, unless our own words would be split by them.

    A letter, digit or space may separate what a sender writes; ``ACK`` and the numbers
    of an answer need others beside the same field separator.
    """
    if not any(character.isalnum() or character == " " for character in delimiters.all):
        return delimiters
    others = [character for character in "^~\\&#!" if character != delimiters.field]
    return Delimiters(delimiters.field, *others[:4])


def _charset_name(header: Header, charset: Charset | None) -> str:
    """MSH-18 of the answer: the character set that its bytes are in."""
    declared = header.field(18)
    known = charset_named(declared) if declared else None
    if known is not None and not known.wide:
        return known.name
    if charset is None or charset is ASCII:
        return ""  # empty means ASCII
    return charset.name


def _error(
    cause: Cause, text: str, delimiters: Delimiters, form: _Form, application: tuple[str, ...]
) -> str:
    """The ERR segment: ERR-2, 3, 4, 5 and 8 or, before 2.5, ERR-1 (ELD)."""
    number = cause.protocol_code
    if number not in ERROR_TEXTS:
        number = INTERNAL_ERROR if application else _NUMBERS.get(cause.code, INTERNAL_ERROR)
    coded = (number, ERROR_TEXTS[number], MESSAGE_TABLE if form.french else _TABLE)
    location = error_location(cause.location)
    if form.before_2_5:
        parts = [*location[:3], "", "", ""][:3]
        return delimiters.field.join(
            ("ERR", delimiters.component.join((*parts, delimiters.subcomponent.join(coded))))
        )
    return delimiters.field.join(
        (
            "ERR",
            "",
            delimiters.component.join(location),
            delimiters.component.join(coded),
            "E",
            delimiters.component.join(application),
            "",
            "",
            text,
        )
    )


def error_location(path: str) -> tuple[str, ...]:
    """ERR-2 (ERL) from a path: ``MSH-9.1`` is MSH, 1, 9, 1, 1; empty for what is no path."""
    match = _LOCATION.match(path)
    if match is None:
        return ()
    parts = [match["segment"], match["sequence"] or "1"]
    if match["field"]:
        parts.append(match["field"])
        if match["repetition"] or match["component"]:
            parts.append(match["repetition"] or "1")
        parts += [part for part in (match["component"], match["sub"]) if part]
    return tuple(parts)
