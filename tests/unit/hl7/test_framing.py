"""MLLP framing: any chunking, every tolerated deviation, nothing lost silently."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.hl7.framing import (
    FRAME_BYTES_MAX,
    Deviation,
    Event,
    Frame,
    FrameReader,
    Junk,
    Oversized,
    Truncated,
    frame,
)

payloads = st.binary(max_size=40).map(lambda b: b.replace(b"\x0b", b".").replace(b"\x1c", b"."))
# A stream made mostly of the bytes that matter to framing.
streams = st.lists(
    st.sampled_from(
        [b"\x0b", b"\x1c", b"\r", b"\n", b"\x1c\r", b" ", b"\x00", b"MSH|", b"x", b"PID|1\r"]
    ),
    max_size=30,
).map(b"".join)


def everything(reader: FrameReader, *chunks: bytes) -> list[Event]:
    events: list[Event] = []
    for chunk in chunks:
        events += reader.receive(chunk)
    return events + reader.end()


def one_by_one(stream: bytes, limit: int) -> tuple[list[Event], Counter[Deviation]]:
    reader = FrameReader(limit, kept_bytes_max=8)
    chunks = [stream[i : i + 1] for i in range(len(stream))]
    return everything(reader, *chunks), reader.deviations


@given(st.lists(payloads, max_size=8), st.randoms())
def test_frames_come_out_as_they_went_in(sent: list[bytes], chance: random.Random) -> None:
    stream = b"".join(frame(payload) for payload in sent)
    reader, events, position = FrameReader(), [], 0
    while position < len(stream):
        step = chance.randint(1, 50)
        events += reader.receive(stream[position : position + step])
        position += step
    assert events + reader.end() == [Frame(payload) for payload in sent]
    assert not reader.deviations
    assert reader.buffered == 0


@settings(max_examples=600)
@given(streams, st.lists(st.integers(1, 12), min_size=1, max_size=10), st.integers(1, 12))
@example(b"\x0b\x1c\r", [3], 12)
@example(b"\x0bx\x1c\r\x1c\r", [2, 3], 12)
@example(b"\x0bx\x1c\x0by\x1c\r", [4], 12)
def test_any_chunking_gives_the_same_events(stream: bytes, cuts: list[int], limit: int) -> None:
    reader = FrameReader(limit, kept_bytes_max=8)
    events, position, turn = [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        events += reader.receive(stream[position : position + step])
        position, turn = position + step, turn + 1
    events += reader.end()
    assert (events, reader.deviations) == one_by_one(stream, limit)
    whole = FrameReader(limit, kept_bytes_max=8)
    assert (everything(whole, stream), whole.deviations) == (events, reader.deviations)


@settings(max_examples=300)
@given(streams)
def test_every_byte_that_is_not_framing_or_blank_is_accounted_for(stream: bytes) -> None:
    events = everything(FrameReader(), stream)
    told = sum(
        len(event.payload) if isinstance(event, Frame) else event.count
        for event in events
        if not isinstance(event, Oversized)
    )
    significant = sum(byte not in b"\x0b\x1c \r\n\x00" for byte in stream)
    assert told >= significant
    assert told <= len(stream)


@pytest.mark.parametrize(
    ("stream", "events", "deviations"),
    [
        (b"\x0bA\x1c\r", [Frame(b"A")], {}),
        (b"\x0b\x1c\r", [Frame(b"")], {}),
        (b"\x0bA\x1c\n", [Frame(b"A")], {Deviation.END_WITH_LINE_FEED: 1}),
        (b"\x0bA\x1c", [Frame(b"A")], {Deviation.END_WITHOUT_CARRIAGE_RETURN: 1}),
        (
            b"\x0bA\x1c\x0bB\x1c\r",
            [Frame(b"A"), Frame(b"B")],
            {Deviation.END_WITHOUT_CARRIAGE_RETURN: 1},
        ),
        (b"\x0b\x0bA\x1c\r", [Frame(b"A")], {Deviation.DOUBLE_START: 1}),
        (b"\x0bA\x1c\r\x1c\r", [Frame(b"A")], {Deviation.DOUBLE_END: 1}),
        (
            b"\x0bA\x1c\x1c\r",
            [Frame(b"A")],
            {Deviation.DOUBLE_END: 1, Deviation.END_WITHOUT_CARRIAGE_RETURN: 1},
        ),
        (b"\r\n \x0bA\x1c\r", [Frame(b"A")], {Deviation.BLANK_BEFORE_START: 3}),
        (
            b"\x0bA\x1c\r\n\x0bB\x1c\r",
            [Frame(b"A"), Frame(b"B")],
            {Deviation.BLANK_BEFORE_START: 1},
        ),
        (
            b"GET /\r\n\x0bA\x1c\r",
            [Junk(7, b"GET /\r\n"), Frame(b"A")],
            {Deviation.JUNK_BEFORE_START: 1},
        ),
        # A start byte in the middle: what came before it has no end.
        (b"\x0bAB\x0bC\x1c\r", [Truncated(2, b"AB"), Frame(b"C")], {}),
        # An end byte in the middle: nobody knows where the block ends.
        (
            b"\x0bAB\x1cC\x1c\r",
            [Truncated(2, b"AB", answered=True), Junk(2, b"C\x1c", ended=True)],
            {Deviation.JUNK_BEFORE_START: 1},
        ),
        # No start byte: the sender waits for an answer all the same.
        (
            b"MSH|\x1c\r\x0bA\x1c\r",
            [Junk(5, b"MSH|\x1c", ended=True), Frame(b"A")],
            {Deviation.JUNK_BEFORE_START: 1},
        ),
        (b"\x0bAB", [Truncated(2, b"AB")], {}),
        (b"", [], {}),
    ],
)
def test_deviations(stream: bytes, events: list[Event], deviations: dict[Deviation, int]) -> None:
    reader = FrameReader()
    assert everything(reader, stream) == events
    assert reader.deviations == deviations


# What senders do beside the protocol and no byte of a message is lost by: the bytes, before a
# block, of its begin, of its end; and what each occurrence is counted as.
BEFORE = {b"": [], b"\r\n": ["blank-before-start"] * 2, b"\0 \t": ["blank-before-start"] * 3}
BEGINS = {b"\x0b": [], b"\x0b\x0b\x0b": ["double-start"] * 2}
ENDS = {
    b"\x1c\r": [],
    b"\x1c\n": ["end-with-line-feed"],
    b"\x1c\r\x1c\r": ["double-end"],
    b"\x1c\x1c\r": ["end-without-carriage-return", "double-end"],
    b"\x1c": ["end-without-carriage-return"],
}
blocks = st.tuples(
    st.sampled_from(sorted(BEFORE)),
    st.sampled_from(sorted(BEGINS)),
    payloads.filter(bool),
    st.sampled_from(sorted(ENDS)),
)


@settings(max_examples=300)
@given(st.lists(blocks, max_size=6))
def test_every_tolerated_deviation_is_counted_and_costs_no_message(
    sent: list[tuple[bytes, bytes, bytes, bytes]],
) -> None:
    stream, expected = b"", Counter[str]()
    for before, begin, payload, end in sent:
        # A carriage return belongs to an end byte right before it.
        late = stream.endswith(b"\x1c") and before.startswith(b"\r")
        if late:
            expected["end-without-carriage-return"] -= 1
            expected["blank-before-start"] -= 1
        stream += before + begin + payload + end
        expected.update([*BEFORE[before], *BEGINS[begin], *ENDS[end]])
    events, deviations = one_by_one(stream, FRAME_BYTES_MAX)
    assert events == [Frame(payload) for _, _, payload, _ in sent]
    assert {kind.value: count for kind, count in deviations.items() if count} == +expected


@settings(max_examples=300)
@given(payloads.filter(bool), payloads, payloads, st.integers(1, 9))
def test_what_a_start_byte_cuts_is_never_a_message(
    cut: bytes, rest: bytes, following: bytes, step: int
) -> None:
    stream = b"\x0b" + cut + b"\x0b" + rest + b"\x1c\r" + frame(following)
    reader = FrameReader()
    events = everything(reader, *(stream[at : at + step] for at in range(0, len(stream), step)))
    assert events == [Truncated(len(cut), cut), Frame(rest), Frame(following)]


@settings(max_examples=300)
@given(st.binary(max_size=200), st.lists(payloads, max_size=4), st.integers(1, 64))
def test_after_any_noise_the_next_messages_arrive(
    noise: bytes, sent: list[bytes], limit: int
) -> None:
    # An end byte and a carriage return: whatever the noise was, it is over.
    reader = FrameReader(max(limit, 40), kept_bytes_max=16)
    reader.receive(noise + b"\x1c\r")
    assert reader.receive(b"".join(map(frame, sent))) == [Frame(payload) for payload in sent]
    assert reader.buffered == 0
    assert reader.end() == []


@given(streams, st.integers(1, 20))
def test_no_more_is_kept_than_may_be(stream: bytes, limit: int) -> None:
    reader = FrameReader(limit, kept_bytes_max=4)
    for at in range(0, len(stream), 3):
        for event in reader.receive(stream[at : at + 3]):
            kept = event.payload if isinstance(event, Frame) else event.kept
            assert len(kept) <= (limit if isinstance(event, Frame) else 4)
        assert reader.buffered <= limit


def test_a_block_whose_end_has_no_carriage_return_waits_until_settled() -> None:
    reader = FrameReader()
    assert reader.receive(b"\x0bA\x1c") == []
    assert reader.ending
    assert reader.settle() == [Frame(b"A")]
    assert reader.deviations == {Deviation.END_WITHOUT_CARRIAGE_RETURN: 1}
    assert reader.settle() == []
    # The carriage return that comes late after all belongs to that end.
    assert reader.receive(b"\r\x0bB\x1c\r") == [Frame(b"B")]
    assert reader.deviations == {Deviation.END_WITHOUT_CARRIAGE_RETURN: 1}


def test_the_limit_is_exact_and_the_next_block_passes() -> None:
    reader = FrameReader(10, kept_bytes_max=4)
    assert reader.receive(frame(b"0123456789")) == [Frame(b"0123456789")]
    stream = b"\x0b0123456789A" + b"x" * 1000 + b"\x1c\r" + frame(b"next")
    assert reader.receive(stream) == [Oversized(b"0123"), Frame(b"next")]
    assert reader.end() == []


def test_memory_stays_flat_in_an_endless_block() -> None:
    reader = FrameReader(1 << 20, kept_bytes_max=100)
    chunk = b"\x0b" + b"x" * 65535
    events = reader.receive(chunk)
    for _ in range(1000):
        events += reader.receive(b"x" * 65536)
        assert reader.buffered <= 1 << 20
    assert [type(event) for event in events] == [Oversized]
    assert reader.buffered == 0
    assert reader.inside


def test_a_start_byte_ends_the_discarding_of_a_block_that_is_too_large() -> None:
    reader = FrameReader(4)
    assert reader.receive(b"\x0b12345678\x0bok\x1c\r") == [Oversized(b"1234"), Frame(b"ok")]


def test_junk_is_counted_whole_and_kept_in_part() -> None:
    reader = FrameReader(kept_bytes_max=5)
    reader.receive(b"junk and ")
    reader.receive(b"more")
    assert reader.junk_pending == 13
    assert reader.end() == [Junk(13, b"junk ")]
    assert reader.junk_pending == 0


@pytest.mark.parametrize("pattern", [b"a", b"a\x1c", b"\x0ba", b"\x0b", b"\x1c", b"\x0ba\x1c"])
def test_time_is_linear_in_the_bytes(pattern: bytes) -> None:
    def seconds(size: int) -> float:
        data = pattern * (size // len(pattern))
        reader = FrameReader(1 << 30)
        start = time.process_time()
        reader.receive(data)
        return time.process_time() - start

    small = min(seconds(1 << 14) for _ in range(3))
    large = min(seconds(1 << 17) for _ in range(3))
    assert large < 8 * small * 4  # quadratic would be eight times eight


@pytest.mark.parametrize("payload", [b"a\x0bb", b"a\x1cb"])
def test_what_cannot_be_framed_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="MLLP cannot carry"):
        frame(payload)
