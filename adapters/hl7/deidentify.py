"""HL7 v2 messages without what could name a person.

What stays is listed, everything else is masked: types and codes with their systems, numbers
outside the segments that speak of persons, assigning authorities, the years of dates. So a field
that the grammar does not know (a Z segment, a later version) is masked, not missed.
"""

from __future__ import annotations

import re

from adapters.hl7.grammar import field_definition
from adapters.hl7.message import Message
from gateway.masking import NotDeidentifiable, masked, year_only
from gateway.model import Format
from gateway.ports import Unreadable

_PERSONS = frozenset(
    {"PID", "PD1", "NK1", "GT1", "IN1", "IN2", "IN3", "MRG", "ACC", "CON", "STF", "PRA"}
)
"""Segments in which a number says something of a person, too."""
_WHOLE = frozenset({"ID", "IS", "SI", "MSG", "PT", "VID", "HD"})
_NUMBERS = frozenset({"NM", "SN"})
_CODE_MAX = 4
"""Characters of a code of HL7's own tables in the segments of persons: what is longer there may be
a name that stands in the wrong place."""
_DATES = frozenset({"DT", "TS", "DTM"})
_CODED = frozenset({"CE", "CWE", "CNE", "CF"})
_CODED_KEPT = frozenset({1, 3, 4, 6})
"""Identifier and name of the coding system, of both triplets; the texts may be anybody's."""
_IDENTIFIER_KEPT = frozenset({4, 5})
"""Assigning authority and type of a CX; the identifier itself goes."""
_HEADER_KEPT = frozenset({1, 2, 3, 4, 5, 6, 9, 11, 12, 15, 16, 17, 18, 19, 20, 21})
_ESCAPE = re.compile(r"\\[^\\]{0,64}\\")


class Hl7Deidentifier:
    """See the module."""

    format = Format.HL7V2
    suffix = "hl7"

    def deidentify(self, data: bytes, *, encoding: str, salt: bytes) -> bytes:  # noqa: ARG002
        """The message masked, in its own character set, one segment a line."""
        try:
            message = Message.read(data, encoding=encoding)
        except Unreadable:
            raise NotDeidentifiable("it cannot be read as HL7 v2") from None
        lines = [_segment(message, index) for index in range(len(message.segments))]
        return message.bytes_of("\r".join(lines) + "\r")


def _segment(message: Message, index: int) -> str:
    fields = message.fields(index)
    name = fields[0]
    separator = message.delimiters.field
    if name in {"MSH", "FHS", "BHS"}:
        kept = [
            text if number in _HEADER_KEPT else _header(number, text, message)
            for number, text in enumerate(fields)
            if number not in {0, 1}
        ]
        return name + separator + separator.join(kept)
    found = [name]
    for number in range(1, len(fields)):
        datatype = _datatype(message, index, name, number)
        repetitions = message.repetitions(index, number)
        found.append(
            message.delimiters.repetition.join(
                _value(text, datatype, name, message) for text in repetitions
            )
        )
    return separator.join(found)


def _header(number: int, text: str, message: Message) -> str:
    return year_only(text) if number == 7 else _all(text, message)


def _datatype(message: Message, index: int, name: str, number: int) -> str:
    if name == "OBX" and number == 5:
        return message.text(index, 2).strip()
    known = field_definition(message.grammar_version, name, number)
    return known.datatype if known is not None else ""


def _value(text: str, datatype: str, segment: str, message: Message) -> str:
    if not text or text == '""':
        return text
    of_a_person = segment in _PERSONS
    if datatype in _WHOLE and (not of_a_person or datatype == "HD" or len(text) <= _CODE_MAX):
        return text
    if datatype in _NUMBERS and not of_a_person:
        return text
    if datatype in _DATES:
        return year_only(text)
    if datatype in _CODED and not of_a_person:
        return _components(text, _CODED_KEPT, message)
    if datatype == "CX":
        return _components(text, _IDENTIFIER_KEPT, message)
    return _all(text, message)


def _components(text: str, kept: frozenset[int], message: Message) -> str:
    separator = message.delimiters.component
    return separator.join(
        part if number in kept else _all(part, message)
        for number, part in enumerate(text.split(separator), 1)
    )


def _all(text: str, message: Message) -> str:
    escape = message.delimiters.escape
    if escape and escape in text:
        text = _ESCAPE.sub("x", text.replace(escape, "\\"))
    return masked(text)
