"""MLLP framing (release 1) without I/O: bytes in, events out, in any chunking.

A block is ``<0B> data <1C><0D>``. Neither byte may occur in the data (HL7
implementation guide, appendix C.4; HL7 v3 MLLP R1). What senders do beside
that is tolerated and counted where no byte of a message is lost by it, and told
as an event where one is.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import Enum, StrEnum

from gateway.value_class import value_class

START = 0x0B
END = 0x1C
CARRIAGE_RETURN = 0x0D
_LINE_FEED = 0x0A
_START, _END, _TAIL = b"\x0b", b"\x1c", b"\x1c\x0d"
# Between blocks: spaces, line ends, tabs and NUL, which senders use to keep a
# connection open.
_BLANKS = b" \t\r\n\x00"
_SIGNIFICANT = re.compile(rb"[^ \t\r\n\x00\x1c]")

FRAME_BYTES_MAX = 16 << 20
KEPT_BYTES_MAX = 64 << 10


class Deviation(StrEnum):
    """What a sender does beside the protocol; each occurrence is counted."""

    BLANK_BEFORE_START = "blank-before-start"
    JUNK_BEFORE_START = "junk-before-start"
    DOUBLE_START = "double-start"
    DOUBLE_END = "double-end"
    END_WITHOUT_CARRIAGE_RETURN = "end-without-carriage-return"
    END_WITH_LINE_FEED = "end-with-line-feed"


@value_class(frozen=True, slots=True)
class Frame:
    """A whole block's data."""

    payload: bytes


@value_class(frozen=True, slots=True)
class Junk:
    """Bytes outside a block that are not blank: how many, and the first of them.

    ``ended`` tells whether an end byte closes them: a message whose start byte is
    missing, perhaps, whose sender waits for an answer.
    """

    count: int
    kept: bytes
    ended: bool = False


@value_class(frozen=True, slots=True)
class Truncated:
    """A block that was not ended as one: data of which the end is missing.

    ``count`` is how many bytes there were, ``kept`` the first of them.
    ``answered`` tells whether an end byte was seen, so that the sender, which
    believes its block complete, waits for an answer.
    """

    count: int
    kept: bytes
    answered: bool = False


@value_class(frozen=True, slots=True)
class Oversized:
    """A block that has grown beyond the limit. Its rest is discarded up to its end."""

    kept: bytes


Event = Frame | Junk | Truncated | Oversized


class _State(Enum):
    OUTSIDE = "outside"
    INSIDE = "inside"
    ENDING = "ending"  # an end byte was seen, what follows it not yet
    DISCARDING = "discarding"  # in a block that is too large


def frame(payload: bytes) -> bytes:
    """The block that carries ``payload``. Raises ValueError when it cannot be carried."""
    if START in payload or END in payload:
        raise ValueError("MLLP cannot carry data that holds its own start or end byte")
    return b"".join((_START, payload, _TAIL))


class FrameReader:
    """Splits a stream into events. Keeps at most one block, of at most ``frame_bytes_max``.

    Linear in the number of bytes; the same bytes give the same events however
    they are cut into chunks.
    """

    def __init__(
        self, frame_bytes_max: int = FRAME_BYTES_MAX, *, kept_bytes_max: int = KEPT_BYTES_MAX
    ) -> None:
        self.deviations: Counter[Deviation] = Counter()
        self._frame_bytes_max = frame_bytes_max
        self._kept_bytes_max = kept_bytes_max
        self._next_limits: tuple[int, int] | None = None
        self._state = _State.OUTSIDE
        self._block = bytearray()
        self._junk = bytearray()
        self._junk_count = 0
        self._after_end = False  # outside, right behind an end byte: a CR belongs to it
        self._events: list[Event] = []
        # Where the chunk at hand has its next start and end byte (its length: nowhere),
        # so that no byte is searched twice.
        self._start_at = self._end_at = -1

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished block in memory."""
        return len(self._block)

    @property
    def inside(self) -> bool:
        """Is a block begun and not finished?"""
        return self._state is not _State.OUTSIDE

    @property
    def ending(self) -> bool:
        """Is a block complete but for what should follow its end byte? See :meth:`settle`."""
        return self._state is _State.ENDING

    @property
    def junk_pending(self) -> int:
        """Bytes that came outside a block since the last one and are not blank."""
        return self._junk_count

    def limit(self, frame_bytes_max: int, *, kept_bytes_max: int) -> None:
        """Set other limits: at once between blocks, else from the next block on."""
        if self._state is _State.OUTSIDE:
            self._frame_bytes_max, self._kept_bytes_max = frame_bytes_max, kept_bytes_max
        else:
            self._next_limits = (frame_bytes_max, kept_bytes_max)

    def receive(self, data: bytes) -> list[Event]:
        """Take the next bytes of the stream; the events that they complete."""
        # The usual case: exactly one block, nothing before or after it.
        if (
            self._state is _State.OUTSIDE
            and not self._junk_count
            and 2 < len(data) <= self._frame_bytes_max
            and data[0] == START
            and data.find(END) == len(data) - 2
            and data[-1] == CARRIAGE_RETURN
            and data.find(START, 1) < 0
        ):
            self._after_end = False
            return [Frame(data[1:-2])]
        self._events = []
        self._start_at = self._end_at = -1
        position, size = 0, len(data)
        while position < size:
            if self._state is _State.INSIDE:
                position = self._inside(data, position)
            elif self._state is _State.OUTSIDE:
                position = self._outside(data, position)
            elif self._state is _State.ENDING:
                position = self._ending(data, position)
            else:
                position = self._discarding(data, position)
        return self._events

    def settle(self) -> list[Event]:
        """A block whose end byte nothing follows is complete: the sender leaves out the CR.

        Call it when the stream has been quiet for a moment while :attr:`ending`.
        """
        self._events = []
        if self._state is _State.ENDING:
            self._complete(Deviation.END_WITHOUT_CARRIAGE_RETURN)
            self._after_end = True
        return self._events

    def end(self) -> list[Event]:
        """The stream is over: what was unfinished, as events."""
        self._events = []
        if self._state is _State.ENDING:
            self._complete(Deviation.END_WITHOUT_CARRIAGE_RETURN)
        elif self._state is _State.INSIDE:
            self._truncate()
        self._state = _State.OUTSIDE
        self._flush_junk()
        return self._events

    # --- states -------------------------------------------------------------------

    def _next_start(self, data: bytes, position: int) -> int:
        if self._start_at < position:
            found = data.find(_START, position)
            self._start_at = found if found >= 0 else len(data)
        return self._start_at

    def _next_end(self, data: bytes, position: int) -> int:
        if self._end_at < position:
            found = data.find(_END, position)
            self._end_at = found if found >= 0 else len(data)
        return self._end_at

    def _outside(self, data: bytes, position: int) -> int:
        start = self._next_start(data, position)
        self._between(data, position, start)
        if start == len(data):
            return start
        self._flush_junk()
        self._after_end = False
        self._state = _State.INSIDE
        return start + 1

    def _between(self, data: bytes, position: int, limit: int) -> None:
        """Bytes ``position`` to ``limit`` of ``data``, which are outside a block."""
        while position < limit:
            if not self._junk_count:
                significant = _SIGNIFICANT.search(data, position, limit)
                begin = significant.start() if significant else limit
                self._blanks(data[position:begin])
                position = begin
            end = self._next_end(data, position)
            upto = min(end + 1, limit)
            self._junk_count += upto - position
            room = self._kept_bytes_max - len(self._junk)
            self._junk += data[position : min(upto, position + room)]
            position = upto
            if end < limit:
                self._flush_junk(ended=True)
                self._after_end = True

    def _blanks(self, lead: bytes) -> None:
        """Blanks and repeated end bytes, each with the carriage return that belongs to it."""
        if not lead:
            return
        ends = lead.count(_END)
        owned = lead.count(_TAIL) + (self._after_end and lead[0] == CARRIAGE_RETURN)
        blanks = len(lead) - ends - owned
        if ends:
            self.deviations[Deviation.DOUBLE_END] += ends
        if blanks:
            self.deviations[Deviation.BLANK_BEFORE_START] += blanks
        self._after_end = lead[-1] == END

    def _inside(self, data: bytes, position: int) -> int:
        end = self._next_end(data, position)
        start = self._next_start(data, position)
        limit = min(start, end)
        room = self._frame_bytes_max - len(self._block)
        if limit - position > room:
            self._block += data[position : position + room]
            self._events.append(Oversized(self._kept()))
            self._reset(_State.DISCARDING)
            return position + room
        self._block += data[position:limit]
        if start < end:
            if self._block:
                self._truncate()
            else:
                self.deviations[Deviation.DOUBLE_START] += 1
            return start + 1
        if end < len(data):
            self._state = _State.ENDING
            return end + 1
        return end

    def _ending(self, data: bytes, position: int) -> int:
        follower = data[position]
        if follower == CARRIAGE_RETURN:
            self._complete(None)
            return position + 1
        if follower == _LINE_FEED:
            self._complete(Deviation.END_WITH_LINE_FEED)
            return position + 1
        if follower in (START, END) or follower in _BLANKS:
            self._complete(Deviation.END_WITHOUT_CARRIAGE_RETURN)
            return position
        # Data goes on: the end byte stood in it, and where it ends nobody knows.
        self._truncate(answered=True)
        self._state = _State.OUTSIDE
        return position

    def _discarding(self, data: bytes, position: int) -> int:
        end = self._next_end(data, position)
        start = self._next_start(data, position)
        if start < end:
            self._state = _State.INSIDE
            return start + 1
        if end == len(data):
            return end
        self._state = _State.OUTSIDE
        self._after_end = True
        return end + 1

    # --- what they share ----------------------------------------------------------

    def _kept(self) -> bytes:
        return bytes(self._block[: self._kept_bytes_max])

    def _complete(self, deviation: Deviation | None) -> None:
        if deviation is not None:
            self.deviations[deviation] += 1
        self._events.append(Frame(bytes(self._block)))
        self._reset(_State.OUTSIDE)

    def _truncate(self, *, answered: bool = False) -> None:
        self._events.append(Truncated(len(self._block), self._kept(), answered))
        self._reset(_State.INSIDE)

    def _reset(self, state: _State) -> None:
        self._block = bytearray()
        self._after_end = False
        self._state = state
        if self._next_limits is not None:
            (self._frame_bytes_max, self._kept_bytes_max), self._next_limits = (
                self._next_limits, None,
            )  # fmt: skip

    def _flush_junk(self, *, ended: bool = False) -> None:
        if self._junk_count:
            self.deviations[Deviation.JUNK_BEFORE_START] += 1
            self._events.append(Junk(self._junk_count, bytes(self._junk), ended))
            self._junk = bytearray()
            self._junk_count = 0
