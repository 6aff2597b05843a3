"""Values of a message as a mapping reads them (``gateway.ports.Value``)."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Hashable, Sequence
from functools import lru_cache

from adapters.hl7.escapes import unescape
from adapters.hl7.grammar import VARIES, component_definitions, field_definition
from adapters.hl7.header import NULL, component
from adapters.hl7.message import HEADERS, Message
from gateway.ports import Value, ValueState

_PLAIN = object()
"""Stands in a key for a text that is written plainly, whatever it says."""

Within = tuple[int, int, int, int]
"""Field, repetition, component, subcomponent of a segment, from 1; component and
subcomponent are 0 when the value is the whole of the level above."""


class Hl7Value:
    """One field repetition, component or subcomponent. A ``""`` is null in each of its parts.

    ``segment`` is the segment's index in the message, -1 when there is no such segment.
    """

    __slots__ = ("_message", "_segment", "_text", "_within")

    def __init__(self, message: Message, segment: int, within: Within, text: str | None) -> None:
        self._message = message
        self._segment = segment
        self._within = within
        self._text = text

    @property
    def state(self) -> ValueState:
        """Absent (not written), empty, null (``""``) or present."""
        text = self._text
        if text is None:
            return ValueState.ABSENT
        if text == "":
            return ValueState.EMPTY
        return ValueState.NULL if text == NULL else ValueState.PRESENT

    @property
    def text(self) -> str:
        """Decoded and unescaped text.

        Of a value whose data type has parts, the first part's (HL7 v2.9.1 chapter
        2, section 2.5.2: a receiver that expects less takes the first component);
        of any other, all that is written, delimiters included, for a sender who
        forgets to escape ``&`` in a text must not lose the rest of it.
        """
        text = self._text
        if not text or text == NULL:
            return ""
        delimiters = self._message.delimiters
        if delimiters.component in text or (
            delimiters.escape in text or delimiters.subcomponent in text
        ):
            return self._resolved(text)
        return text

    def _resolved(self, text: str) -> str:
        """The text of a value that holds a delimiter or an escape sequence, or may."""
        message = self._message
        field, _, _, subcomponent = self._within
        if field <= 2 and message.is_delimiter_field(self._segment, field):
            return text
        if not subcomponent and self._is_split(text):
            return self.part_at((1,)).text
        return unescape(text, message.delimiters, message.charset.codec)

    def _is_split(self, text: str) -> bool:
        """Is the text written in parts, and does its data type have parts?"""
        delimiters = self._message.delimiters
        below = delimiters.subcomponent
        if not (below and below in text) and (self._within[2] or delimiters.component not in text):
            return False
        return bool(component_definitions(self._message.grammar_version, self.datatype))

    @property
    def has_parts(self) -> bool:
        """Is the value written in parts, and does its data type have parts?"""
        text, delimiters = self._text or "", self._message.delimiters
        separator = delimiters.subcomponent if self._within[2] else delimiters.component
        whole = not self._within[3] and separator != "" and separator in text
        return whole and self._is_split(text)

    @property
    def path(self) -> str:
        """``PID-3(2).4.1``, with the segment's number when the message has several."""
        message = self._message
        segment = self._segment
        field, repetition, component_number, subcomponent = self._within
        if segment < 0:
            return ""
        name = message.name(segment)
        same = message.positions(name)
        path = f"{name}({bisect(same, segment)})" if len(same) > 1 else name
        path += f"-{field}"
        if repetition > 1 or len(message.repetitions(segment, field)) > 1:
            path += f"({repetition})"
        if component_number:
            path += f".{component_number}"
        return f"{path}.{subcomponent}" if subcomponent else path

    @property
    def datatype(self) -> str:
        """The type that the message's version gives the value; OBX-5's is named in OBX-2.

        Empty for Z segments and for fields that the version does not know.
        """
        message = self._message
        segment = self._segment
        field, _, component_number, subcomponent = self._within
        if segment < 0:
            return ""
        version = message.grammar_version
        name = message.name(segment)
        definition = field_definition(version, name, field)
        datatype = definition.datatype if definition else ""
        if datatype == VARIES:
            datatype = message.text(segment, 2, 1).strip() if name == "OBX" else ""
        for number in (component_number, subcomponent):
            if not number:
                break
            parts = component_definitions(version, datatype)
            if not parts and number == 1:
                continue  # the only part of a primitive is the primitive
            datatype = parts[number - 1].datatype if number <= len(parts) else ""
        return datatype

    def part(self, path: str) -> Hl7Value:
        """``1`` or ``4.2`` below a field, ``2`` below a component. Absent if not there.

        Raises ValueError when ``path`` is not one or two numbers from 1.
        """
        numbers = _numbers(path)
        field, repetition, component_number, _ = self._within
        if component_number or len(numbers) > 1:
            return self.part_at(numbers)
        number = numbers[0]
        text = self._text
        if text is not None:
            text = component(text, self._message.delimiters.component, number)
        return Hl7Value(self._message, self._segment, (field, repetition, number, 0), text)

    def masked(self, read: frozenset[int]) -> tuple[Hashable, Sequence[str | None]] | None:
        """The key of what is written, without the components that are not in ``read``
        (``gateway.ports.PartedValue``); only of a whole field repetition."""
        text, message, segment = self._text, self._message, self._segment
        field, _, component_number, _ = self._within
        delimiters = message.delimiters
        if not text or text == NULL or component_number or segment < 0 or not delimiters.component:
            return None
        name = message.segments[segment][:3]
        if (field <= 2 and name in HEADERS) or (field == 5 and name == "OBX"):
            return None  # delimiters, which are no text; a type that another field names
        written: list[str | None] = list(text.split(delimiters.component))
        key: list[object] = [name, field, *written]
        escape, below = delimiters.escape, delimiters.subcomponent
        # Without such a delimiter in the message every text holds "", and none is masked.
        resolved = escape in text or below in text
        for place, part in enumerate(written):
            if not part or part == NULL:
                continue
            if resolved and (escape in part or below in part):
                written[place] = None
            elif place + 1 not in read:
                key[place + 2] = _PLAIN
        return tuple(key), written

    def part_at(self, numbers: Sequence[int]) -> Hl7Value:
        """:meth:`part` by numbers."""
        field, repetition, *below = self._within
        level = 2 if below[1] else 1 if below[0] else 0
        if len(numbers) > 2 or min(numbers) < 1:
            raise ValueError(f"{numbers!r} are not a component and a subcomponent number")
        delimiters = self._message.delimiters
        separators = (delimiters.component, delimiters.subcomponent)
        text = self._text
        for number in numbers:
            if level > 1:  # below a subcomponent there is only itself
                text = text if number == 1 else None
                continue
            if text is not None:
                text = component(text, separators[level], number)
            below[level] = number
            level += 1
        within = (field, repetition, below[0], below[1])
        return Hl7Value(self._message, self._segment, within, text)

    def parts(self, path: str) -> Sequence[Value]:
        """The part in a list, empty when absent: parts do not repeat in HL7 v2."""
        part = self.part(path)
        return () if part.state is ValueState.ABSENT else (part,)

    def raw(self) -> bytes:
        """The bytes as they arrived, escape sequences and delimiters included."""
        return self._message.bytes_of(self._text or "")

    def __repr__(self) -> str:
        return f"<Hl7Value {self.path} {self.state.value}>"


@lru_cache(maxsize=1024)
def _numbers(path: str) -> tuple[int, ...]:
    """The numbers of ``4.2``. Raises ValueError for anything else."""
    numbers = tuple(int(piece) for piece in path.split("."))
    if len(numbers) > 2 or min(numbers) < 1:
        raise ValueError(f"{path!r} is not a component and a subcomponent number")
    return numbers
