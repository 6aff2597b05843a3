"""Business acknowledgements of the CI-SIS: ZAM^Z01 tells how a deposit in the record ended.

Volet «Transmission d'un document CDA-R2 en HL7v2» (ANS, CI-SIS) 2.0 and 2.1, «accusé métier»: a
message ZAM^Z01^ZAM_Z01 of version 2.6, in an exchange of its own, to whoever asked for it with
ACK_RECEPTION in a message whose DESTDMP is Y. OBX-4 names the control id of that message; OBX-5
is Y, or N with an ERR that says why.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from adapters.hl7.acknowledge import ControlIds
from adapters.hl7.charset import ASCII, Charset, charset_named
from adapters.hl7.continuation import joined_alone
from adapters.hl7.delimiters import Delimiters
from adapters.hl7.escapes import escape_text
from adapters.hl7.header import Header
from adapters.hl7.message import Message
from adapters.hl7.profiles import named_profile
from adapters.hl7.profiles.errors import (
    APPLICATION_ERRORS,
    APPLICATION_TABLE,
    MESSAGE_TABLE,
    OTHER,
)
from adapters.hl7.profiles.transmission import SEGMENTS_MAX, V2, ProfileVersion
from gateway.model import Cause, CauseCode, LaterAnswer
from gateway.ports import Unreadable

WANTED = "ACK_RECEPTION"
DEPOSITED = "DESTDMP"
_YES = frozenset({"Y", "O"})
_VERSION = "2.6"
_EARLIER_TABLES = ("HL70136", "HL70357")
_TABLES = ("expandedYes-NoIndicator", MESSAGE_TABLE)
_CLOSED = ("DMPClosed", "DMP fermé", "DMPERRORCODE")
"""The code of the national record for one that is closed, as the profile's sample has it."""


def profile_of(header: Header) -> ProfileVersion | None:
    """The profile of a message that may ask for a business acknowledgement, from MSH-21."""
    profile = named_profile(header)
    return profile if profile is not None and profile.family == V2 else None


def wanted(payload: bytes, header: Header, charset: Charset) -> bool:
    """Whether a message wants to hear how its deposit in the record ended.

    False for one that cannot be read: the stage that reads it says so.
    """
    if WANTED.encode() not in payload or profile_of(header) is None:
        return False
    try:
        message = Message.read(joined_alone(payload), encoding=charset.name)
    except Unreadable:
        return False
    asked: set[str] = set()
    for index in range(min(len(message.segments), SEGMENTS_MAX)):
        if message.name(index) != "OBX" or message.text(index, 5, 1).strip() not in _YES:
            continue
        asked.add(message.text(index, 3, 1).strip())
    return {WANTED, DEPOSITED} <= asked


def owed(*, refusal_told: bool) -> LaterAnswer:
    """What intake is told of it: always given, except where the refusal was told at the door."""
    return LaterAnswer(condition="AL", refusal_told=refusal_told, linked=True)


class BusinessAcknowledger:
    """Words business acknowledgements for one source. Callable from any thread."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._control_ids = ControlIds()

    def word(
        self, header: Header, charset: Charset | None, now: datetime, cause: Cause | None
    ) -> bytes:
        """ZAM^Z01 for the message with this header, which :func:`profile_of` knows.

        ``cause``: why it is not in the record; None when it is.
        """
        profile = profile_of(header)
        if profile is None:
            raise ValueError("the message is of no profile that has business acknowledgements")
        yes_no, errors = _TABLES if profile.strict else _EARLIER_TABLES
        delimiters, at = header.delimiters, now.astimezone(self._zone)
        words = _Words(header, charset)

        def coded(*parts: str) -> str:
            return delimiters.component.join(words.said(part, delimiters) for part in parts)

        segments = [
            self._header(header, delimiters, at, charset),
            ["EVN", "", at.strftime("%Y%m%d%H%M%S")],
            [
                *("OBX", "1", "CWE"),
                coded("ACK_RECEPTION_DMP", "Accusé de réception DMP", "AckMetierZAM"),
                *(header.whole(10), coded("N" if cause else "Y", "", yes_no)),
                *("", "", "", "", "", "F"),
            ],
        ]
        if cause is not None:
            segments.append(
                [
                    *("ERR", "", "", coded("207", "Application internal error", errors), "E"),
                    coded(*_reason(cause)),
                    *("", "", words.said(cause.detail, delimiters)),
                ]
            )
        lines = (delimiters.field.join(each) for each in segments)
        return ("\r".join(lines) + "\r").encode(header.codec)

    def _header(
        self, header: Header, delimiters: Delimiters, at: datetime, charset: Charset | None
    ) -> list[str]:
        kind = delimiters.component.join(("ZAM", "Z01", "ZAM_Z01"))
        declared = header.whole(18) or (charset.name if charset not in (None, ASCII) else "")
        return [
            *("MSH", delimiters.encoding_characters),
            *(header.whole(number) for number in (5, 6, 3, 4)),
            *(at.strftime("%Y%m%d%H%M%S%z"), "", kind, self._control_ids.next()),
            *(header.whole(11), _VERSION, "", "", "", ""),
            *(header.whole(17), declared, "", "", header.whole(21)),
        ]


class _Words:
    """Our own words in the bytes that the message's character set gives them.

    A header is kept byte for byte where it can be (``Header.codec``), so that the sender gets
    back what it wrote; what stands beside it must be in the set that MSH-18 names.
    """

    def __init__(self, header: Header, charset: Charset | None) -> None:
        declared = charset_named(header.field(18))
        if declared is None or declared.wide:
            declared = charset or ASCII
        self._codec = header.codec
        self._spoken = declared.codec if header.codec == "latin-1" else header.codec

    def said(self, text: str, delimiters: Delimiters) -> str:
        """The text, escaped for its place in a field."""
        return escape_text(text.encode(self._spoken, "replace").decode(self._codec), delimiters)


def _reason(cause: Cause) -> tuple[str, str, str]:
    """ERR-5: a code of the national record or of the profile's own application errors."""
    if cause.code is CauseCode.RECORD_CLOSED:
        return _CLOSED
    code = cause.protocol_code if cause.protocol_code in APPLICATION_ERRORS else OTHER
    return code, APPLICATION_ERRORS[code], APPLICATION_TABLE
