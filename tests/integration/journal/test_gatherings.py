"""Studies: rounds, carriers, late instances."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from gateway.journal import gatherings, messages
from gateway.journal.moves import move
from gateway.journal.states import MessageState
from gateway.model import Payload, Stage
from tests.integration.journal.bench import Bench

M = MessageState
QUIET = 10.0


def instance(bench: Bench, group: str = "1.2.3") -> int:
    due_at = bench.clock() + timedelta(seconds=QUIET)
    received = bench.received(source="ct", group=group)
    return bench.append(received, state=M.GATHERING, due_at=due_at)[0].message_id


def close(bench: Bench, now: datetime, group: str = "1.2.3") -> int | None:
    with bench.journal.write() as connection:
        return gatherings.close(connection, "ct", group, now)


def test_a_quiet_study_is_carried_by_its_newest_instance(bench: Bench) -> None:
    ids = [instance(bench) for _ in range(3)]
    assert close(bench, bench.clock.advance(QUIET - 1)) is None
    now = bench.clock.advance(1)
    with bench.journal.read() as connection:
        assert [g.group_key for g in gatherings.due(connection, "in:ct", now)] == ["1.2.3"]
    assert close(bench, now) == ids[2]
    assert [bench.state(n) for n in ids] == [M.GATHERED, M.GATHERED, M.RECEIVED]
    with bench.journal.read() as connection:
        gathering = gatherings.get(connection, "ct", "1.2.3")
        assert gatherings.due(connection, "in:ct", now) == []
        members = gatherings.members(connection, "ct", "1.2.3")
        told = messages.events(connection, ids[2])[-1]
    assert gathering is not None
    assert (gathering.due_at, gathering.round) == (None, 1)
    assert [(m.id, m.carrier_id) for m in members] == [
        (ids[0], ids[2]),
        (ids[1], ids[2]),
        (ids[2], None),
    ]
    assert (told.what, told.detail) == ("study-quiet", {"instances": 3, "round": 1})
    assert bench.due() == ["in:ct"]
    assert close(bench, now) is None


def test_a_late_instance_opens_a_round_with_all_members(bench: Bench) -> None:
    first = [instance(bench) for _ in range(2)]
    close(bench, bench.clock.advance(QUIET))
    late = instance(bench)
    with bench.journal.read() as connection:
        gathering = gatherings.get(connection, "ct", "1.2.3")
    assert gathering is not None
    assert gathering.due_at == bench.clock() + timedelta(seconds=QUIET)
    assert close(bench, bench.clock.advance(QUIET)) == late
    with bench.journal.read() as connection:
        members = gatherings.members(connection, "ct", "1.2.3")
        gathering = gatherings.get(connection, "ct", "1.2.3")
    assert [m.id for m in members] == [*first, late]
    assert gathering is not None
    assert (gathering.round, gathering.instances) == (2, 3)


def test_a_study_is_one_whichever_sources_bring_its_instances(bench: Bench) -> None:
    def came(source: str, uid: str, group: str = "1.2.3") -> int:
        received = bench.received(source=source, group=group, control_id=uid)
        return bench.append(received, state=M.GATHERING, due_at=bench.clock())[0].message_id

    ours, both, theirs = came("ct", "1"), came("ct", "2"), came("pacs", "3")
    twin, gone, _ = came("pacs", "2"), came("pacs", "4"), came("pacs", "5", group="1.2.4")
    with bench.journal.write() as connection:
        move(connection, gone, M.DISCARDED, event="discarded", stage=Stage.NORMALISE)
    with bench.journal.read() as connection:

        def read(number: int, **more: int) -> list[int]:
            message = messages.get(connection, number)
            assert message is not None
            return [each.id for each in gatherings.belonging(connection, message, **more)]

        assert read(ours) == [ours, both, theirs]
        assert read(theirs, limit=3) == [ours, theirs, twin]
        with pytest.raises(OverflowError):
            read(ours, limit=2)


def test_an_instance_that_comes_meanwhile_puts_the_round_off(bench: Bench) -> None:
    instance(bench)
    now = bench.clock.advance(QUIET)
    instance(bench)
    assert close(bench, now) is None
    assert close(bench, bench.clock.advance(QUIET)) is not None


def test_studies_and_sources_are_apart(bench: Bench) -> None:
    one, other = instance(bench, "1"), instance(bench, "2")
    now = bench.clock.advance(QUIET)
    assert close(bench, now, "1") == one
    assert bench.state(other) is M.GATHERING
    assert close(bench, now, "unknown") is None
    with bench.journal.read() as connection:
        assert [g.group_key for g in gatherings.due(connection, "in:ct", now)] == ["2"]
        assert gatherings.due(connection, "in:mr", now) == []


def test_members_leave_out_what_does_not_count(bench: Bench) -> None:
    ids = [instance(bench) for _ in range(3)]
    with bench.journal.write() as connection:
        messages.move(connection, ids[0], M.DISCARDED, event="discarded", stage=Stage.NORMALISE)
    close(bench, bench.clock.advance(QUIET))
    with bench.journal.read() as connection:
        assert [m.id for m in gatherings.members(connection, "ct", "1.2.3")] == ids[1:]
        with pytest.raises(OverflowError):
            gatherings.members(connection, "ct", "1.2.3", limit=1)


def test_members_follow_the_child_of_a_repaired_carrier(bench: Bench) -> None:
    ids = [instance(bench) for _ in range(2)]
    close(bench, bench.clock.advance(QUIET))
    with bench.journal.write() as connection:
        messages.move(connection, ids[1], M.DEAD, event="buried", stage=Stage.NORMALISE)
        child = messages.append_child(
            connection,
            bench.journal.blobs,
            ids[1],
            Payload.from_bytes(b"mended"),
            actor="anne",
            reason="r",
        )
    with bench.journal.read() as connection:
        members = gatherings.members(connection, "ct", "1.2.3")
    assert [(m.id, m.carrier_id) for m in members] == [(ids[0], child.id), (child.id, None)]


def test_a_large_study_is_closed_in_one_round(bench: Bench) -> None:
    due_at = bench.clock() + timedelta(seconds=QUIET)
    many = [bench.received(source="ct", group="big") for _ in range(2_500)]
    for start in range(0, len(many), 500):
        bench.append(*many[start : start + 500], state=M.GATHERING, due_at=due_at)
    assert close(bench, bench.clock.advance(QUIET), "big") is not None
    with bench.journal.read() as connection:
        counts = messages.counts(connection)
    assert counts == {("ct", M.GATHERED): 2_499, ("ct", M.RECEIVED): 1}


def test_a_complete_group_is_due_at_once_and_is_not_put_off_again(bench: Bench) -> None:
    first = instance(bench)
    with bench.journal.read() as connection:
        assert [each.id for each in gatherings.waiting(connection, "ct")] == [first]
    now = bench.clock.advance(1)
    last = bench.append(
        replace(bench.received(source="ct", group="1.2.3"), group_complete=True),
        state=M.GATHERING,
        due_at=now,
    )[0].message_id
    assert close(bench, now) == last
    assert [bench.state(first), bench.state(last)] == [M.GATHERED, M.RECEIVED]
    with bench.journal.read() as connection:
        assert gatherings.waiting(connection, "ct") == []


def test_the_character_set_of_a_group_is_more_than_that_of_its_last_member(bench: Bench) -> None:
    for name in ("ASCII", "UNICODE UTF-8", "ASCII"):
        bench.append(
            replace(bench.received(source="ct", group="1.2.3"), encoding=name),
            state=M.GATHERING,
            due_at=bench.clock(),
        )
    with bench.journal.read() as connection:
        members = gatherings.members(connection, "ct", "1.2.3")
    assert gatherings.encoding(members) == "UNICODE UTF-8"
    assert gatherings.encoding(members[:1]) == "ASCII"
    assert gatherings.encoding([]) == ""
