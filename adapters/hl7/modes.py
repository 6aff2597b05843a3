"""Which answers a sender wants: MSH-15 and MSH-16 (HL7 v2.9.1 chapter 2, sections 2.8.2, 2.9).

Both empty is the original mode: one application acknowledgement on the connection.
Otherwise it is the enhanced one: an accept acknowledgement at once when MSH-15 wants one,
and an application acknowledgement in a later exchange when MSH-16 wants one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from adapters.hl7.header import Header
from gateway.model import LaterAnswer


class Condition(StrEnum):
    """When an acknowledgement is wanted (HL7 table 0155)."""

    ALWAYS = "AL"
    NEVER = "NE"
    ERROR = "ER"
    SUCCESS = "SU"

    def wants(self, *, positive: bool) -> bool:
        """Whether an answer of that kind is wanted."""
        if self is Condition.ALWAYS:
            return True
        return self is (Condition.SUCCESS if positive else Condition.ERROR)


_CONDITIONS = {condition.value: condition for condition in Condition}


@dataclass(frozen=True, slots=True)
class Mode:
    """How one kind of message is answered.

    ``accept``: the answer at once is an accept acknowledgement (CA, CE, CR), else an
    application acknowledgement (AA, AE, AR). ``positive`` and ``negative``: whether it
    is given when the message is kept, and when it is refused. ``later`` is what intake
    is told of an application acknowledgement that follows. ``unknown``: MSH-15 or MSH-16
    holds something that is not of the table.
    """

    accept: bool = False
    positive: bool = True
    negative: bool = True
    later: LaterAnswer | None = None
    unknown: bool = False


ORIGINAL = Mode()
SILENT = Mode(positive=False, negative=False)
"""An acknowledgement, or a response: never answered."""
UNANSWERED_TYPES = frozenset({"ACK", "MCF"})
"""MSH-9.1 of acknowledgements: the general one, and the delayed one of versions before 2.2."""

_LINES = re.compile(rb"[\r\n]+")
_MSA_WITHIN = 16 << 10
_BEFORE_MSA = frozenset({b"ARV", b"SFT", b"UAC", b"NTE"})


def is_response(payload: bytes, header: Header, start: int) -> bool:
    """Whether a message carries an MSA segment: it answers one that was sent before.

    MSA follows the header at ``start``, or what belongs to that (SFT, UAC, ARV, NTE).
    """
    name = b"MSA" + header.encode(header.delimiters.field)
    if payload.find(name, start, start + _MSA_WITHIN) < 0:
        return False
    for line in _LINES.split(payload[start : start + _MSA_WITHIN])[1:]:
        if line.startswith(name):
            return True
        if line[:3] not in _BEFORE_MSA and line[:1] != b"Z":
            return False
    return False


def mode_of(header: Header, setting: str, *, linked: bool) -> Mode:
    """The mode of a message.

    ``setting`` is the source's ``acknowledgement``: ``auto`` follows the message;
    ``original`` pays no heed to MSH-15 and MSH-16; ``enhanced`` takes an empty MSH-15 for
    AL. ``linked``: the source has a return link. A value that is not of table 0155 counts
    as empty; an empty field beside one with a value as NE, which is what it asks for.

    Without a return link, an application acknowledgement that is wanted alone (MSH-15 NE)
    is given on the connection, as in the original mode, which asks for just that.
    """
    if header.message_type()[0] in UNANSWERED_TYPES:
        return SILENT
    if setting == "original":
        return ORIGINAL
    asked = (header.field(15).strip(), header.field(16).strip())
    unknown = any(value and value not in _CONDITIONS for value in asked)
    known = [_CONDITIONS.get(value) for value in asked]
    if setting == "enhanced":
        known[0] = known[0] or Condition.ALWAYS
    elif known == [None, None]:
        return Mode(unknown=True) if unknown else ORIGINAL
    immediate, application = (each or Condition.NEVER for each in known)
    if immediate is Condition.NEVER and application is not Condition.NEVER and not linked:
        return Mode(
            positive=application.wants(positive=True),
            negative=application.wants(positive=False),
            unknown=unknown,
        )
    negative = immediate.wants(positive=False)
    later = None
    if application is not Condition.NEVER:
        told = negative or not application.wants(positive=False)
        later = LaterAnswer(condition=application.value, refusal_told=told, linked=linked)
    return Mode(
        accept=True,
        positive=immediate.wants(positive=True),
        negative=negative,
        later=later,
        unknown=unknown,
    )
