"""Appending: exact bytes, duplicates, reused control ids, groups, rings."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from gateway.journal import gatherings, messages
from gateway.journal.arrival import prepare
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.model import Cause, CauseCode
from tests.integration.journal.bench import START, Bench

REFUSAL = Cause(
    code=CauseCode.REQUIRED_FIELD_MISSING,
    detail="MSH-9 is empty",
    location="MSH-9",
    protocol_code="101",
)


def test_a_message_is_kept_as_it_came(bench: Bench) -> None:
    body = b"MSH|^~\\&|\xe9\x00\xff" + os.urandom(500)
    received = bench.received(body, attributes={"trigger": "R01"}, answer=b"MSA|AA\x00\xff")
    appended = bench.append(received)[0]
    assert (appended.duplicate, appended.answer, appended.cause) == (False, b"MSA|AA\x00\xff", None)
    with bench.journal.read() as connection:
        message = messages.get(connection, appended.message_id)
        events = messages.events(connection, appended.message_id)
    assert message is not None
    assert message.body == body
    assert messages.payload(bench.journal, message).read() == body
    assert (message.source, message.kind, message.control_id) == ("lab", "ORU^R01", "C1")
    assert (message.state, message.lane) == (MessageState.RECEIVED, "in:lab")
    assert message.sequence == message.id
    assert message.received_at == message.changed_at == START
    assert message.attributes == {"trigger": "R01"}
    assert (message.arrivals, message.starts, message.patient_id) == (1, 0, None)
    assert (message.sha256, message.size) == (received.payload.sha256, len(body))
    assert message.answer == b"MSA|AA\x00\xff"
    assert [event.what for event in events] == ["received"]
    assert bench.due() == ["in:lab"]


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 1_000_000])
def test_bytes_of_every_size_come_back(bench: Bench, size: int) -> None:
    body = os.urandom(size)
    message_id = bench.message(body=body)
    with bench.journal.read() as connection:
        message = messages.get(connection, message_id)
    assert message is not None
    assert (message.body is None) == (size > INLINE_BYTES_MAX)
    assert messages.payload(bench.journal, message).read() == body


def test_ids_follow_the_order_of_arrival(bench: Bench) -> None:
    first = bench.append(*(bench.received() for _ in range(200)))
    second = bench.append(*(bench.received() for _ in range(3)))
    ids = [appended.message_id for appended in first + second]
    assert ids == sorted(set(ids))


def test_a_duplicate_is_counted_and_gets_the_first_answer(bench: Bench) -> None:
    first = bench.append(bench.received(b"same", control_id="A", answer=b"first"))[0]
    bench.clock.advance(5)
    again = bench.append(bench.received(b"same", control_id="A", answer=b"second"))[0]
    assert again.message_id == first.message_id
    assert (again.duplicate, again.answer, again.state) == (True, b"first", MessageState.RECEIVED)
    with bench.journal.read() as connection:
        message = messages.get(connection, first.message_id)
        events = messages.events(connection, first.message_id)
        assert len(messages.page(connection, messages.MessageFilter())) == 1
    assert message is not None
    assert message.arrivals == 2
    assert [event.what for event in events] == ["received", "duplicate"]
    assert events[1].at == START + timedelta(seconds=5)


def test_duplicates_within_one_group_are_one_message(bench: Bench) -> None:
    twins = [bench.received(b"same", control_id="A", answer=b"%d" % n) for n in range(3)]
    other = bench.received(b"other", control_id="B")
    found = bench.append(twins[0], other, twins[1], twins[2])
    assert [appended.duplicate for appended in found] == [False, False, True, True]
    assert found[0].message_id == found[2].message_id == found[3].message_id
    assert [appended.answer for appended in found] == [b"0", b"AA", b"0", b"0"]
    with bench.journal.read() as connection:
        message = messages.get(connection, found[0].message_id)
        assert len(messages.page(connection, messages.MessageFilter())) == 2
    assert message is not None
    assert message.arrivals == 3


def test_a_duplicate_of_a_refused_message_gets_its_refusal(bench: Bench) -> None:
    """The same submission object too: a sender's retry is often the very same bytes."""
    received = bench.received(b"bad", answer=b"AE")
    first = bench.append(received, state=MessageState.REFUSED, cause=REFUSAL)[0]
    again = bench.append(received, state=MessageState.REFUSED, cause=REFUSAL)[0]
    assert again.duplicate
    assert (again.answer, again.state, again.cause) == (b"AE", MessageState.REFUSED, REFUSAL)
    assert bench.due() == []
    with bench.journal.read() as connection:
        events = messages.events(connection, first.message_id)
    assert [(event.what, event.detail.get("cause")) for event in events] == [
        ("refused", "required-field-missing"),
        ("duplicate", None),
    ]


def test_what_was_refused_may_be_accepted_later(bench: Bench) -> None:
    received = bench.received(b"closed record")
    refused = bench.append(received, state=MessageState.REFUSED, cause=REFUSAL)[0]
    accepted = bench.append(received)[0]
    assert not accepted.duplicate
    assert accepted.message_id != refused.message_id


def test_a_duplicate_of_a_dead_message_is_a_duplicate(bench: Bench) -> None:
    received = bench.received(b"dies")
    message_id = bench.append(received)[0].message_id
    with bench.journal.write() as connection:
        messages.move(
            connection,
            message_id,
            MessageState.DEAD,
            event="buried",
            stage=messages.Stage.NORMALISE,
            cause=Cause(code=CauseCode.UNREADABLE),
        )
    again = bench.append(received)[0]
    assert (again.message_id, again.duplicate, again.state) == (
        message_id,
        True,
        MessageState.DEAD,
    )


def test_the_same_bytes_of_another_source_are_another_message(bench: Bench) -> None:
    one = bench.append(bench.received(b"same", control_id="A", source="lab"))[0]
    other = bench.append(bench.received(b"same", control_id="A", source="ward"))[0]
    assert one.message_id != other.message_id
    assert not other.duplicate


def test_a_reused_control_id_names_the_first_message(bench: Bench) -> None:
    def reused(message_id: int) -> str | None:
        with bench.journal.read() as connection:
            message = messages.get(connection, message_id)
        assert message is not None
        assert message.attributes["kept"] == "yes"
        return message.attributes.get("control_id_reused")

    def received(body: bytes, source: str = "lab") -> int:
        one = bench.received(body, control_id="1", source=source, attributes={"kept": "yes"})
        return bench.append(one)[0].message_id

    first, second, third = received(b"a"), received(b"b"), received(b"c")
    elsewhere = received(b"d", source="ward")
    assert [reused(n) for n in (first, second, third, elsewhere)] == [
        None,
        str(first),
        str(first),
        None,
    ]
    together = bench.append(
        bench.received(b"e", control_id="2", attributes={"kept": "yes"}),
        bench.received(b"f", control_id="2", attributes={"kept": "yes"}),
    )
    assert reused(together[0].message_id) is None
    assert reused(together[1].message_id) == str(together[0].message_id)


def test_messages_without_a_control_id_reuse_nothing(bench: Bench) -> None:
    bench.message(body=b"a", control_id="")
    message_id = bench.message(body=b"b", control_id="")
    with bench.journal.read() as connection:
        message = messages.get(connection, message_id)
    assert message is not None
    assert message.attributes == {}


def test_hostile_text_is_kept_and_costs_the_neighbours_nothing(bench: Bench) -> None:
    hostile = bench.received(
        b"x", control_id="a\0b\udc80" + "é" * 3000, attributes={"k\0": "v\0\ud800"}
    )
    found = bench.append(bench.received(), hostile, bench.received())
    assert not any(appended.duplicate for appended in found)
    assert bench.append(hostile)[0].duplicate
    with bench.journal.read() as connection:
        message = messages.get(connection, found[1].message_id)
    assert message is not None
    assert message.control_id.startswith("a\\x00b\\udc80é")
    assert message.attributes == {"k\\x00": "v\\x00\\ud800"}


def test_a_group_gathers_and_its_due_time_is_put_off(bench: Bench) -> None:
    due = START + timedelta(seconds=10)
    first = bench.received(source="ct", group="1.2.3")
    bench.append(first, state=MessageState.GATHERING, due_at=due)
    bench.clock.advance(4)
    later = due + timedelta(seconds=4)
    bench.append(
        bench.received(source="ct", group="1.2.3"),
        bench.received(source="ct", group="1.2.3"),
        state=MessageState.GATHERING,
        due_at=later,
    )
    bench.append(first, state=MessageState.GATHERING, due_at=later + timedelta(seconds=60))
    with bench.journal.read() as connection:
        gathering = gatherings.get(connection, "ct", "1.2.3")
    assert gathering is not None
    assert (gathering.due_at, gathering.instances, gathering.round) == (later, 3, 0)
    assert (gathering.first_at, gathering.last_at) == (START, bench.clock())
    assert (gathering.lane, bench.due()) == ("in:ct", [])
    bench.clock.time = due
    assert bench.due() == ["in:ct"]


def test_what_a_program_does_wrong_is_said(bench: Bench) -> None:
    def arrival(**change: object) -> object:
        arguments: dict[str, object] = {
            "state": MessageState.RECEIVED,
            "lane": "in:lab",
            "cause": None,
            "group_due_at": None,
            "body": b"x",
        }
        received = bench.received(b"x", **change.pop("received", {}))  # type: ignore[arg-type]
        return prepare(received, **{**arguments, **change})  # type: ignore[arg-type]

    arrival()
    for wrong in (
        {"state": MessageState.DELIVERED},
        {"state": MessageState.GATHERING},
        {"lane": ""},
        {"lane": "x" * 257},
        {"body": None},
        {"body": b"longer"},
        {"received": {"source": "x" * 129}},
        {"received": {"attributes": {str(n): "" for n in range(65)}}},
        {"received": {"answer": b"x" * ((1 << 20) + 1)}},
    ):
        with pytest.raises(ValueError):
            arrival(**wrong)
