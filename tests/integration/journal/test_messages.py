"""Looking, claiming and moving messages."""

from __future__ import annotations

import pytest

from gateway.journal import lanes, messages
from gateway.journal.journal import LeaseLost
from gateway.journal.messages import MessageFilter, Move
from gateway.journal.states import IllegalTransition, MessageState
from gateway.model import (
    Attachment,
    Cause,
    CauseCode,
    Entry,
    Flag,
    Mapped,
    Payload,
    Stage,
)
from tests.integration.journal.bench import Bench

M = MessageState
CAUSE = Cause(
    code=CauseCode.UNREADABLE, detail="no segment", location="PID(1)", protocol_code="207"
)


def move(bench: Bench, message_id: int, to: MessageState, cause: Cause | None = None) -> None:
    with bench.journal.write() as connection:
        messages.move(
            connection, message_id, to, event=f"to {to}", stage=Stage.NORMALISE, cause=cause
        )


def claim(bench: Bench, token: int, limit: int = 10, lane: str = "in:lab") -> list[tuple[int, int]]:
    with bench.journal.write() as connection:
        claimed = messages.claim(connection, lane, token, limit)
    return [(message.id, message.starts) for message in claimed]


def test_nothing_is_found_where_nothing_is(bench: Bench) -> None:
    with bench.journal.read() as connection:
        assert messages.get(connection, 1) is None
        assert messages.page(connection, MessageFilter()) == []
        assert messages.normalised(connection, 1) is None
        assert messages.counts(connection) == {}
        assert messages.ledger(connection) == {}


def test_a_move_changes_state_cause_patient_and_tells_it(bench: Bench) -> None:
    message_id = bench.message()
    bench.clock.advance(3)
    with bench.journal.write() as connection:
        messages.move(
            connection,
            message_id,
            M.DEAD,
            event="buried",
            stage=Stage.NORMALISE,
            cause=CAUSE,
            patient_id="p1",
            detail={"attempt": 1},
        )
    with bench.journal.read() as connection:
        message = messages.get(connection, message_id)
        events = messages.events(connection, message_id)
    assert message is not None
    assert (message.state, message.cause, message.patient_id) == (M.DEAD, CAUSE, "p1")
    assert message.changed_at == bench.clock()
    assert (events[1].what, events[1].stage, events[1].at) == (
        "buried",
        Stage.NORMALISE,
        bench.clock(),
    )
    assert events[1].detail == {"attempt": 1, "cause": "unreadable"}
    move(bench, message_id, M.RECEIVED)
    with bench.journal.read() as connection:
        message = messages.get(connection, message_id)
    assert message is not None
    assert (message.cause, message.patient_id) == (None, "p1")


def test_an_illegal_move_changes_nothing(bench: Bench) -> None:
    good, bad = bench.message(), bench.message()
    with pytest.raises(IllegalTransition), bench.journal.write() as connection:
        messages.move_all(
            connection,
            [
                Move(message_id=good, to=M.DISCARDED, event="x", stage=Stage.ROUTE),
                Move(message_id=bad, to=M.REPLACED, event="x", stage=Stage.ROUTE),
            ],
        )
    assert (bench.state(good), bench.state(bad)) == (M.RECEIVED, M.RECEIVED)
    with pytest.raises(LookupError), bench.journal.write() as connection:
        messages.move(connection, 999, M.DEAD, event="x", stage=Stage.ROUTE)


def test_becoming_received_again_rings_the_lane(bench: Bench) -> None:
    message_id = bench.message()
    move(bench, message_id, M.UNMAPPED)
    token = bench.lease("in:lab")
    with bench.journal.write() as connection:
        assert not lanes.release(connection, "in:lab", token, bench.clock())
    assert bench.due() == []
    move(bench, message_id, M.RECEIVED)
    assert bench.due() == ["in:lab"]


def test_a_claim_gives_the_order_of_arrival_with_bytes_and_answer(bench: Bench) -> None:
    ids = [bench.message(body=b"body %d" % n, answer=b"answer") for n in range(5)]
    bench.message(source="ward")
    token = bench.lease("in:lab")
    with bench.journal.write() as connection:
        claimed = messages.claim(connection, "in:lab", token, 3)
    assert [message.id for message in claimed] == ids[:3]
    assert [message.body for message in claimed] == [b"body 0", b"body 1", b"body 2"]
    assert {message.answer for message in claimed} == {b"answer"}
    assert {message.starts for message in claimed} == {1}


def test_a_claim_without_the_lease_is_refused(bench: Bench) -> None:
    message_id = bench.message()
    token = bench.lease("in:lab", seconds=5)
    bench.clock.advance(6)
    bench.lease("in:lab", owner="two")
    with pytest.raises(LeaseLost):
        claim(bench, token)
    with bench.journal.read() as connection:
        message = messages.get(connection, message_id)
    assert message is not None
    assert message.starts == 0


def test_starts_count_and_a_suspect_comes_alone(bench: Bench) -> None:
    first, second, third = (bench.message() for _ in range(3))
    token = bench.lease("in:lab")
    assert claim(bench, token, 2) == [(first, 1), (second, 1)]
    assert claim(bench, token) == [(first, 2), (second, 2), (third, 1)]
    # A suspect is counted when its work begins, not when it is claimed.
    assert claim(bench, token) == [(first, 3)]
    assert claim(bench, token) == [(first, 3)]
    with bench.journal.write() as connection:
        messages.begin(connection, "in:lab", token, first)
    assert claim(bench, token) == [(first, 4)]
    move(bench, first, M.DEAD)
    assert claim(bench, token) == [(second, 3)]
    move(bench, second, M.ROUTED)
    # The suspect in the middle ends the claim before it.
    fourth = bench.message()
    assert claim(bench, token) == [(third, 2), (fourth, 1)]
    move(bench, third, M.UNMAPPED)
    move(bench, third, M.RECEIVED)
    assert claim(bench, token) == [(third, 1), (fourth, 2)]
    assert claim(bench, token, 1) == [(third, 2)]
    assert claim(bench, token) == [(third, 3)]


def test_a_suspect_behind_others_ends_the_claim(bench: Bench) -> None:
    first, second = bench.message(), bench.message()
    move(bench, first, M.UNMAPPED)
    token = bench.lease("in:lab")
    assert claim(bench, token) == [(second, 1)]
    assert claim(bench, token) == [(second, 2)]
    move(bench, first, M.RECEIVED)
    assert claim(bench, token) == [(first, 1)]


def test_a_claim_that_was_given_back_does_not_count(bench: Bench) -> None:
    message_id = bench.message()
    token = bench.lease("in:lab")
    claim(bench, token)
    with bench.journal.write() as connection:
        messages.give_back(connection, [message_id])
        messages.give_back(connection, [message_id])
        messages.give_back(connection, [])
    assert claim(bench, token) == [(message_id, 1)]


def test_pages_filter_and_go_on(bench: Bench) -> None:
    ids = [bench.message() for _ in range(7)]
    ward = bench.message(source="ward", control_id="W7")
    move(bench, ids[0], M.DEAD, CAUSE)
    move(bench, ids[1], M.UNMAPPED)
    move(bench, ids[2], M.ROUTED)

    def page(limit: int = 100, before_id: int | None = None, **wanted: object) -> list[int]:
        with bench.journal.read() as connection:
            found = messages.page(
                connection,
                MessageFilter(**wanted),  # type: ignore[arg-type]
                before_id=before_id,
                limit=limit,
            )
        assert all(message.body is None for message in found)
        return [message.id for message in found]

    assert page() == [ward, *reversed(ids)]
    assert page(limit=3) == [ward, ids[6], ids[5]]
    assert page(limit=3, before_id=ids[5]) == [ids[4], ids[3], ids[2]]
    assert page(states=(M.DEAD,)) == [ids[0]]
    assert page(states=(M.UNMAPPED, M.ROUTED, M.DEAD), limit=2) == [ids[2], ids[1]]
    assert page(states=(M.UNMAPPED, M.ROUTED, M.DEAD), limit=2, before_id=ids[1]) == [ids[0]]
    assert page(source="ward") == [ward]
    assert page(source="ward", states=(M.DEAD,)) == []
    assert page(source="ward", control_id="W7") == [ward]
    assert page(cause_code="unreadable") == [ids[0]]
    assert page(kind="nothing") == []
    assert page(since=bench.clock()) == [ward, *reversed(ids)]
    assert page(until=bench.clock()) == []
    for wrong in (0, 501):
        with pytest.raises(ValueError):
            page(limit=wrong)


def test_entries_come_back_as_they_were_made(bench: Bench) -> None:
    message_id = bench.message()
    pdf = Payload.from_bytes(b"%PDF" * 50_000)
    assert pdf.data is not None
    mapped = Mapped(
        mapping="hl7/mdm",
        version="3",
        digest="d" * 64,
        entries=(
            Entry(resource={"resourceType": "Patient", "id": "p", "name": [{"family": "Éluard"}]}),
            Entry(resource={"resourceType": "Observation", "id": "o"}, create_only=True),
        ),
        attachments=(Attachment(sha256=pdf.sha256, media_type="application/pdf", data=pdf.data),),
        flags=(Flag(code="unknown-code", target="Observation.code", source="OBX(1)-3"),),
    )
    with bench.journal.write() as connection:
        messages.store_normalised(connection, bench.journal.blobs, message_id, mapped)
    with bench.journal.read() as connection:
        kept = messages.normalised(connection, message_id)
        message = messages.get(connection, message_id)
    assert kept is not None
    assert message is not None
    assert kept.entries == mapped.entries
    assert (kept.mapping, kept.version, kept.digest) == ("hl7/mdm", "3", "d" * 64)
    assert [(a.sha256, a.media_type, a.size) for a in kept.attachments] == [
        (pdf.sha256, "application/pdf", 200_000)
    ]
    assert bench.journal.blobs.payload(pdf.sha256).read() == pdf.data
    assert (message.mapping, message.mapping_version) == ("hl7/mdm", "3")
    assert message.flags[0]["code"] == "unknown-code"
    newer = Mapped(mapping="hl7/mdm", version="4", digest="e" * 64, entries=())
    with bench.journal.write() as connection:
        messages.store_normalised(connection, bench.journal.blobs, message_id, newer)
    with bench.journal.read() as connection:
        kept = messages.normalised(connection, message_id)
    assert kept is not None
    assert (kept.entries, kept.version) == ((), "4")


def test_an_attachment_under_a_wrong_name_is_refused(bench: Bench) -> None:
    message_id = bench.message()
    wrong = Attachment(sha256="0" * 64, media_type="text/plain", data=b"x")
    mapped = Mapped(mapping="m", version="1", digest="", entries=(), attachments=(wrong,))
    with pytest.raises(ValueError), bench.journal.write() as connection:
        messages.store_normalised(connection, bench.journal.blobs, message_id, mapped)


def test_many_flags_are_counted_and_not_all_kept(bench: Bench) -> None:
    message_id = bench.message()
    mapped = Mapped(mapping="m", version="1", digest="", entries=(), flags=(Flag(code="f"),) * 1000)
    with bench.journal.write() as connection:
        messages.store_normalised(connection, bench.journal.blobs, message_id, mapped)
    with bench.journal.read() as connection:
        message = messages.get(connection, message_id)
    assert message is not None
    assert message.flags[-1] == {"code": "more-flags", "detail": "800 more"}


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_child_takes_its_parents_place(bench: Bench, size: int) -> None:
    parent, later = bench.message(body=b"broken", control_id="A"), bench.message()
    move(bench, parent, M.DEAD, CAUSE)
    repaired = Payload.from_bytes(b"r" * size)
    bench.clock.advance(60)
    with bench.journal.write() as connection:
        child = messages.append_child(
            connection, bench.journal.blobs, parent, repaired, actor="anne", reason="PID-3 mended"
        )
    assert (child.parent_id, child.sequence, child.lane) == (parent, parent, "in:lab")
    assert (child.state, child.control_id, child.cause) == (M.RECEIVED, "A", None)
    assert messages.payload(bench.journal, child).read() == repaired.data
    assert bench.state(parent) is M.REPLACED
    with bench.journal.read() as connection:
        original = messages.get(connection, parent)
        told = messages.events(connection, parent)[-1]
        born = messages.events(connection, child.id)[0]
    assert original is not None
    assert original.body == b"broken"
    assert (told.what, told.detail["child"]) == ("replaced", child.id)
    assert (born.what, born.detail["parent"], born.detail["actor"]) == ("repaired", parent, "anne")
    token = bench.lease("in:lab")
    assert claim(bench, token) == [(child.id, 1), (later, 1)]


def test_only_what_is_stuck_can_be_repaired(bench: Bench) -> None:
    parent = bench.message()
    payload = Payload.from_bytes(b"x")
    with pytest.raises(IllegalTransition), bench.journal.write() as connection:
        messages.append_child(
            connection, bench.journal.blobs, parent, payload, actor="a", reason="r"
        )
    with pytest.raises(LookupError), bench.journal.write() as connection:
        messages.append_child(connection, bench.journal.blobs, 99, payload, actor="a", reason="r")
    with bench.journal.read() as connection:
        assert len(messages.page(connection, MessageFilter())) == 1


def test_a_note_is_an_event_and_no_change(bench: Bench) -> None:
    message_id = bench.message()
    with bench.journal.write() as connection:
        messages.note(connection, message_id, event="looked-at", stage=Stage.ROUTE)
    with bench.journal.read() as connection:
        assert [event.what for event in messages.events(connection, message_id)] == [
            "received",
            "looked-at",
        ]
        assert len(messages.events(connection, message_id, limit=1)) == 1
    assert bench.state(message_id) is M.RECEIVED
