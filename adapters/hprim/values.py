"""Values and places of a message as a mapping reads them (``gateway.ports``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.hprim.grammar import SIMPLE, VARIES, datatype
from adapters.hprim.segments import NULL, Message, Segment
from gateway.model import Flag
from gateway.ports import Value, ValueState


@dataclass(frozen=True, slots=True, eq=False)
class HprimScope:
    """A segment, or the whole message (its first segment), or a repetition in it."""

    message: Message
    segment: Segment
    value: HprimValue | None = None

    @property
    def path(self) -> str:
        """``OBR(2)``; the repetition's own place when this is one."""
        if self.value is not None:
            return self.value.path
        if self.segment is self.message.root:
            return "message"
        return f"{self.segment.name}({self.segment.ordinal})"

    def find(self, name: str) -> Sequence[Segment]:
        """What a segment's name means here: see :mod:`adapters.hprim.paths`."""
        if name == self.segment.name:
            return (self.segment,)
        if name == "C":
            return [child for child in self.segment.children if child.name == "C"]
        below = list(self.segment.below(name))
        if below:
            return below
        above = self.segment.parent
        while above is not None:
            if above.name == name:
                return (above,)
            above = above.parent
        return ()

    def source_bytes(self) -> bytes:
        """The exact bytes of the message."""
        return self.message.raw

    def reading_flags(self) -> Sequence[Flag]:
        """What reading met and stepped over."""
        return tuple(self.message.flags)


class HprimValue:
    """One field repetition, component or subcomponent. A ``""`` is null in each of its parts."""

    __slots__ = ("_message", "_segment", "_text", "_within")

    def __init__(
        self,
        message: Message,
        segment: Segment | None,
        within: tuple[int, int, int, int],
        text: str | None,
    ) -> None:
        self._message = message
        self._segment = segment
        self._within = within
        self._text = text

    @property
    def state(self) -> ValueState:
        """Absent (not written), empty, null (``""``) or present."""
        if self._text is None:
            return ValueState.ABSENT
        if not self._text.strip():
            return ValueState.EMPTY
        return ValueState.NULL if self._text == NULL else ValueState.PRESENT

    @property
    def text(self) -> str:
        """Decoded and unescaped, without blanks around.

        Of a value whose type has components, the first one's; of any other all that is
        written, for a sender who forgets to escape ``~`` in a text must not lose the rest.
        """
        text = self._text
        if not text or text == NULL:
            return ""
        separators = self._message.separators
        if separators is None:
            return text.strip() if self.datatype != "TX" else text
        _, _, component, subcomponent = self._within
        divided = not subcomponent and (
            separators.subcomponent in text or (not component and separators.component in text)
        )
        if divided and self.datatype not in SIMPLE:
            return self.part("1").text
        return self._message.plain(text).strip()

    @property
    def path(self) -> str:
        """``OBX(2)-5(2).1``, with the segment's number when the message has several."""
        if self._segment is None:
            return ""
        field, repetition, component, subcomponent = self._within
        name = self._segment.name
        if self._message.counts.get(name, 1) > 1:
            name += f"({self._segment.ordinal})"
        path = f"{name}-{field}"
        if repetition > 1 or len(self._message.repetitions(self._segment, field)) > 1:
            path += f"({repetition})"
        if component:
            path += f".{component}"
        return f"{path}.{subcomponent}" if subcomponent else path

    @property
    def datatype(self) -> str:
        """The type of the field in the message's version; OBX-5's is named in OBX-2.

        Of a component nothing is told: it may have parts.
        """
        segment, field = self._segment, self._within[0]
        if segment is None or self._within[2]:
            return "" if segment is None or self._within[3] else "part"
        kind = datatype(self._message.version, segment.name, field)
        return self._message.text(segment, 2).strip() if kind == VARIES else kind

    def part(self, path: str) -> HprimValue:
        """``1`` or ``4.2`` below a field, ``2`` below a component. Absent if not there.

        Raises ValueError when ``path`` is not one or two numbers from 1.
        """
        numbers = tuple(int(piece) for piece in path.split("."))
        if len(numbers) > 2 or min(numbers) < 1:
            raise ValueError(f"{path!r} is not a component and a subcomponent number")
        value = self
        for number in numbers:
            value = value._below(number)
        return value

    def _below(self, number: int) -> HprimValue:
        message, segment = self._message, self._segment
        field, repetition, component, subcomponent = self._within
        text = self._text
        if segment is None or text is None or subcomponent:
            text = text if number == 1 else None
            return HprimValue(message, segment, self._within, text)
        if component:
            if text != NULL and message.separators is not None:
                parts = text.split(message.separators.subcomponent)
                text = parts[number - 1] if number <= len(parts) else None
            elif text != NULL and number > 1:
                text = None
            return HprimValue(message, segment, (field, repetition, component, number), text)
        text = message.component(segment, field, text, number)
        return HprimValue(message, segment, (field, repetition, number, 0), text)

    def parts(self, path: str) -> Sequence[Value]:
        """The part in a list, empty when absent: parts do not repeat."""
        part = self.part(path)
        return () if part.state is ValueState.ABSENT else (part,)

    def raw(self) -> bytes:
        """The text in UTF-8, whatever the character set of the file: what an attachment
        of type ``text/plain`` holds."""
        return self._message.plain(self._text or "").encode("utf-8")

    def __repr__(self) -> str:
        return f"<HprimValue {self.path} {self.state.value}>"
