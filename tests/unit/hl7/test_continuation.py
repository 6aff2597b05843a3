"""Fragments: which belong together, and one message of them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7.continuation import (
    CHAINS_MAX,
    Continuations,
    Fragment,
    join,
    needs_joining,
    pointer_after,
)
from adapters.hl7.language import Hl7Reader
from adapters.hl7.scopes import MessageScope
from gateway.model import Cause, Payload
from gateway.ports import Unreadable

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SENDER = ("LAB", "HOSP")
WHOLE = b"PID|1||42\rOBR|1|A&B^C\rOBX|1|TX|X||one~two|\rOBX|2|NM|Y||3\rNTE|1||end\r"


def message(body: bytes, control_id: bytes = b"1", pointer: bytes = b"") -> bytes:
    head = b"MSH|^~\\&|LAB|HOSP|||2026||ORU^R01^ORU_R01|" + control_id + b"|P|2.5||" + pointer
    return head + b"\r" + body


def chain(**bounds: int) -> Continuations:
    given = {"fragments_max": 100, "bytes_max": 1 << 20, **bounds}
    return Continuations(timedelta(minutes=5), **given)


def fragment(name: str, continues: str = "", continued: str = "", **more: bool) -> Fragment:
    return Fragment(SENDER, continues, continued, name, 100, **more)


# --- which belong together --------------------------------------------------------


def test_a_chain_has_the_group_of_its_first_fragment() -> None:
    known = chain()
    assert known.place(fragment("a", continued="p1"), NOW) == "a"
    assert known.place(fragment("b", "p1", "p2"), NOW) == "a"
    assert known.place(fragment("c", "p2"), NOW) == "a"
    # Sent again, each is the same again.
    assert known.place(fragment("b", "p1", "p2"), NOW) == "a"
    assert known.place(fragment("a", continued="p1"), NOW) == "a"


def test_pointers_are_a_senders_own() -> None:
    known = chain()
    known.place(fragment("a", continued="p"), NOW)
    other = Fragment(("OTHER", "HOSP"), "p", "", "x", 1)
    found = known.place(other, NOW)
    assert isinstance(found, Cause)
    assert (found.location, found.protocol_code) == ("MSH-14", "204")


def test_a_whole_message_may_fill_its_pointer_for_reasons_of_its_own() -> None:
    assert chain().place(fragment("a", "anything", whole_like=True), NOW) == ""
    middle = chain().place(fragment("a", "anything", "next", whole_like=True), NOW)
    assert isinstance(middle, Cause)


def test_a_chain_is_forgotten_after_its_time_and_not_before() -> None:
    known = chain()
    known.place(fragment("a", continued="p"), NOW)
    later = NOW + timedelta(minutes=4)
    assert known.place(fragment("b", "p", "q"), later) == "a"
    assert known.place(fragment("c", "q", "r"), later + timedelta(minutes=4)) == "a"
    assert isinstance(known.place(fragment("d", "r"), later + timedelta(minutes=9)), Cause)


def test_number_and_size_are_bounded_and_repetition_is_free() -> None:
    known = chain(fragments_max=3, bytes_max=1000)
    known.place(fragment("a", continued="p"), NOW)
    for _ in range(20):
        assert known.place(fragment("b", "p", "p"), NOW) == "a"
    assert known.place(fragment("c", "p", "p"), NOW) == "a"
    found = known.place(fragment("d", "p"), NOW)
    assert isinstance(found, Cause)
    assert "3 fragments" in found.detail
    small = chain(bytes_max=150)
    small.place(fragment("a", continued="p"), NOW)
    assert isinstance(small.place(fragment("b", "p"), NOW), Cause)


def test_the_number_of_open_chains_is_bounded() -> None:
    known = chain()
    for number in range(CHAINS_MAX):
        assert known.place(fragment(f"a{number}", continued=f"p{number}"), NOW) == f"a{number}"
    assert isinstance(known.place(fragment("more", continued="q"), NOW), Cause)
    assert known.place(fragment("b", "p0"), NOW) == "a0"
    assert known.place(fragment("more", continued="q"), NOW + timedelta(minutes=6)) == "more"


def test_a_chain_of_before_the_start_goes_on() -> None:
    known = chain()
    known.restore("a", fragment("a", continued="p"), NOW)
    known.restore("a", fragment("b", "p", "q"), NOW)
    assert known.place(fragment("c", "q"), NOW + timedelta(minutes=1)) == "a"
    assert isinstance(known.place(fragment("d", "q"), NOW + timedelta(minutes=30)), Cause)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"\rOBX|1\rDSC|P1\r", "P1"),
        (b"\rOBX|1\rDSC|P1|F", "P1"),
        (b"\rOBX|1\rDSC|P1|I\r", ""),  # the answer to a query goes on interactively
        (b"\rOBX|1\rDSC|\r", ""),
        (b'\rOBX|1\rDSC|""\r', ""),
        (b"\rDSC|P1\rOBX|1\r", ""),  # not the last segment
        (b"\rDSCX|P1\r", ""),
        (b"\rOBX|1||DSC|P1\r", ""),
    ],
)
def test_the_pointer_to_the_next_fragment(body: bytes, pointer: str) -> None:
    assert pointer_after(body, b"|") == pointer


# --- joining ----------------------------------------------------------------------


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    """The fragments of a message's segments, cut at offsets, as the standard writes them."""
    ends = [*sorted(places), len(whole)]
    fragments, begin, pointer = [], 0, b""
    for number, end in enumerate(ends):
        inside_before = begin > 0 and whole[begin - 1 : begin] != b"\r"
        inside_after = end < len(whole) and whole[end - 1 : end] != b"\r"
        body = (b"ADD|" if inside_before else b"") + whole[begin:end]
        body += b"\rADD\r" if inside_after else b""
        following = b"P%d" % number if end < len(whole) else b""
        body += b"DSC|" + following + b"|F\r" if following else b""
        fragments.append(message(body, b"%d" % number, pointer))
        begin, pointer = end, following
    return fragments


@given(
    st.lists(st.integers(WHOLE.index(b"\r") + 1, len(WHOLE) - 1), max_size=6, unique=True),
    st.randoms(),
)
def test_a_message_cut_anywhere_is_whole_again(places: list[int], chance: random.Random) -> None:
    fragments = cut(WHOLE, places)
    assert join(fragments) == message(WHOLE, b"0")
    # Pointers, not the order of arrival, say what follows what.
    chance.shuffle(fragments)
    assert join(fragments) == message(WHOLE, b"0")


@given(st.lists(st.integers(40, len(WHOLE) - 1), min_size=1, max_size=6, unique=True), st.data())
def test_a_missing_fragment_is_never_passed_over(places: list[int], data: st.DataObject) -> None:
    fragments = cut(WHOLE, places)
    assert all(needs_joining(each) for each in fragments)
    del fragments[data.draw(st.integers(0, len(fragments) - 1))]
    with pytest.raises(Unreadable):
        Hl7Reader().read([Payload.from_bytes(each) for each in fragments] or [])


def test_one_pointer_throughout_counts_by_arrival() -> None:
    parts = [
        message(b"PID|1\rOBX|1\rDSC|X\r", b"1"),
        message(b"OBX|2\rDSC|X\r", b"2", b"X"),
        message(b"OBX|3\r", b"3", b"X"),
    ]
    assert join(parts) == message(b"PID|1\rOBX|1\rOBX|2\rOBX|3\r", b"1")


def test_two_fragments_for_one_place_are_told() -> None:
    parts = [
        message(b"OBX|1\rDSC|X\r"),
        message(b"OBX|2\r", b"2", b"X"),
        message(b"OBX|3\r", b"3", b"X"),
    ]
    with pytest.raises(Unreadable, match="same place"):
        join(parts)


@pytest.mark.parametrize("name", [b"PID", b"MSH"])
def test_some_segments_cannot_be_continued(name: bytes) -> None:
    body = b"ADD|x\r" if name == b"MSH" else b"PID|1\rADD|x\r"
    with pytest.raises(Unreadable, match=f"ADD continues {name.decode()}"):
        join([message(body)])


def test_an_add_within_one_message_continues_the_segment_before_it() -> None:
    whole = message(b"PID|1\nOBX|1|TX|X||ab\nADD|cd|ef\n").replace(b"\r", b"\n")
    assert needs_joining(whole)
    root = Hl7Reader().read([Payload.from_bytes(whole)])
    assert isinstance(root, MessageScope)
    assert root.message.text(2, 5) == "abcd"
    assert root.message.text(2, 6) == "ef"


def test_half_a_message_is_no_message() -> None:
    with pytest.raises(Unreadable, match="incomplete"):
        Hl7Reader().read([Payload.from_bytes(message(b"PID|1\rDSC|P\r"))])
    whole = Hl7Reader().read([Payload.from_bytes(message(b"PID|1\rDSC|P|I\r"))])
    assert isinstance(whole, MessageScope)
    assert whole.message.positions("DSC") == [2]
