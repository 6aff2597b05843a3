"""Dead letters: burial, groups, pages, resolution."""

from __future__ import annotations

import pytest

from gateway.journal import deadletters, deliveries, messages
from gateway.journal.deadletters import DeadLetterFilter, Resolution
from gateway.journal.states import DeliveryState, IllegalTransition, MessageState
from gateway.model import Cause, CauseCode, Stage
from tests.integration.journal.bench import Bench

M = MessageState


def cause(location: str = "OBX(3)-5", code: CauseCode = CauseCode.MAPPING_FAILED) -> Cause:
    return Cause(code=code, detail="not a number", location=location)


def bury(bench: Bench, message_id: int, why: Cause | None = None, **fields: object) -> int:
    with bench.journal.write() as connection:
        return deadletters.bury(
            connection,
            message_id,
            Stage.NORMALISE,
            why or cause(),
            **fields,  # type: ignore[arg-type]
        )


def page(bench: Bench, **fields: object) -> list[int]:
    with bench.journal.read() as connection:
        wanted = DeadLetterFilter(**fields)  # type: ignore[arg-type]
        found = deadletters.page(connection, wanted)
        assert deadletters.count(connection, wanted) == len(found)
    return [letter.id for letter in found]


def test_a_burial_says_why(bench: Bench) -> None:
    message_id = bench.message()
    letter_id = bury(bench, message_id, attempts=4)
    with bench.journal.read() as connection:
        letter = deadletters.get(connection, letter_id)
        message = messages.get(connection, message_id)
        told = messages.events(connection, message_id)[-1]
        assert deadletters.get(connection, 999) is None
    assert letter is not None
    assert message is not None
    assert (letter.message_id, letter.stage, letter.cause) == (message_id, Stage.NORMALISE, cause())
    assert (letter.source, letter.kind, letter.attempts) == ("lab", "ORU^R01", 4)
    assert (letter.buried_at, letter.resolved_at) == (bench.clock(), None)
    assert (message.state, message.cause) == (M.DEAD, cause())
    assert (told.what, told.detail["dead_letter"]) == ("buried", letter_id)


def test_burying_again_brings_the_letter_up_to_date(bench: Bench) -> None:
    message_id = bench.message()
    first = bury(bench, message_id, attempts=1)
    assert bury(bench, message_id, cause("PID-3"), attempts=2) == first
    with bench.journal.read() as connection:
        letter = deadletters.get(connection, first)
    assert letter is not None
    assert (letter.attempts, letter.cause.location) == (2, "PID-3")
    with bench.journal.write() as connection:
        deadletters.resolve(connection, first, Resolution.REPLAYED, actor="anne")
    assert bury(bench, message_id) != first


def test_two_deliveries_of_a_message_die_apart(bench: Bench) -> None:
    message_id = bench.message()
    one, other = bench.route(message_id, "p", ("record", "pacs"))
    letters = {bury(bench, message_id, delivery_id=n) for n in (one, other)}
    assert len(letters) == 2
    with bench.journal.read() as connection:
        states = [d.state for d in deliveries.of_message(connection, message_id)]
    assert states == [DeliveryState.DEAD, DeliveryState.DEAD]
    assert bench.state(message_id) is M.DEAD


def test_what_is_delivered_or_gone_cannot_be_buried(bench: Bench) -> None:
    message_id = bench.message()
    delivery_id = bench.route(message_id, "p")[0]
    with bench.journal.write() as connection:
        deliveries.settle(
            connection, delivery_id, outcome="delivered", state=DeliveryState.DELIVERED
        )
        deliveries.conclude(connection, [message_id])
    with pytest.raises(IllegalTransition):
        bury(bench, message_id)
    with pytest.raises(LookupError):
        bury(bench, 999)
    assert page(bench, resolved=None) == []


def test_the_fingerprint_leaves_out_what_differs_each_time() -> None:
    def print_of(
        location: str, destination: str = "", stage: Stage = Stage.NORMALISE, detail: str = "x"
    ) -> str:
        why = Cause(code=CauseCode.MAPPING_FAILED, detail=detail, location=location)
        return deadletters.fingerprint(stage, why, destination)

    assert print_of("OBX(3)-5") == print_of("OBX(17)-5")
    assert print_of("/entry[2]/act") == print_of("/entry[9]/act")
    assert print_of("OBX(3)-5") != print_of("OBX(3)-6")
    assert print_of("OBX-5", "record") != print_of("OBX-5", "dmp")
    assert print_of("OBX-5") != print_of("OBX-5", stage=Stage.DELIVER)
    assert len(print_of("OBX-5")) == 16
    for one, other in (
        ("12 attempts failed", "3 attempts failed"),
        ("no code 'GLU'", "no code 'K'"),
        ("request 8f14e45fceea167a", "request c9f0f895fb98ab91"),
    ):
        assert print_of("", detail=one) == print_of("", detail=other)
    assert print_of("", detail="HTTP refused") != print_of("", detail="HTTP timed out")


def test_groups_count_what_is_not_resolved(bench: Bench) -> None:
    letters = []
    for number in range(5):
        letters.append(bury(bench, bench.message(), cause(f"OBX({number})-5")))
        bench.clock.advance(60)
    other = bury(bench, bench.message(source="ward"), cause("PID-3", CauseCode.UNREADABLE))
    with bench.journal.write() as connection:
        deadletters.resolve(
            connection, letters[0], Resolution.DISCARDED, actor="anne", reason="a test"
        )
    with bench.journal.read() as connection:
        large, small = deadletters.groups(connection)
        assert deadletters.groups(connection, limit=1) == [large]
        newest = deadletters.get(connection, letters[4])
        second = deadletters.get(connection, letters[1])
    assert newest is not None
    assert second is not None
    assert (large.count, large.location, large.code) == (4, "OBX-5", "mapping-failed")
    assert (large.sample_id, large.sources) == (letters[4], ("lab",))
    assert (large.first_at, large.last_at) == (second.buried_at, newest.buried_at)
    assert large.fingerprint == newest.fingerprint
    assert (small.count, small.sample_id, small.sources) == (1, other, ("ward",))


def test_pages_filter_and_go_on(bench: Bench) -> None:
    sent = [bench.message() for _ in range(4)]
    letters = [bury(bench, message_id) for message_id in sent]
    ward = bury(bench, bench.message(source="ward"), cause("PID-3", CauseCode.UNREADABLE))
    with bench.journal.write() as connection:
        assert deadletters.resolve(connection, letters[1], Resolution.REPLAYED, actor="anne")
    open_ = [ward, letters[3], letters[2], letters[0]]
    assert page(bench) == open_
    assert page(bench, resolved=True) == [letters[1]]
    assert page(bench, resolved=None) == [ward, *reversed(letters)]
    assert page(bench, source="ward") == [ward]
    assert page(bench, code="unreadable") == [ward]
    assert page(bench, stage=Stage.DELIVER) == []
    assert page(bench, message_id=sent[0]) == [letters[0]]
    assert page(bench, ids=(letters[0], letters[1], ward)) == [ward, letters[0]]
    assert page(bench, since=bench.clock()) == open_
    assert page(bench, until=bench.clock()) == []
    assert page(bench, fingerprint=deadletters.fingerprint(Stage.NORMALISE, cause())) == open_[1:]
    with bench.journal.read() as connection:
        some = deadletters.page(connection, DeadLetterFilter(), before_id=letters[3], limit=1)
        with pytest.raises(ValueError):
            deadletters.page(connection, DeadLetterFilter(), limit=501)
    assert [letter.id for letter in some] == [letters[2]]


def test_a_letter_is_resolved_once(bench: Bench) -> None:
    message_id = bench.message()
    letter_id = bury(bench, message_id)
    with bench.journal.write() as connection:
        assert deadletters.resolve(
            connection,
            letter_id,
            Resolution.DISCARDED,
            actor="anne",
            reason="sent twice",
            child_message_id=None,
        )
    with bench.journal.write() as connection:
        assert not deadletters.resolve(connection, letter_id, Resolution.REPLAYED, actor="bob")
        with pytest.raises(LookupError):
            deadletters.resolve(connection, 999, Resolution.REPLAYED, actor="bob")
    with bench.journal.read() as connection:
        letter = deadletters.get(connection, letter_id)
        told = messages.events(connection, message_id)[-1]
    assert letter is not None
    assert (letter.resolution, letter.actor, letter.reason) == (
        Resolution.DISCARDED,
        "anne",
        "sent twice",
    )
    assert letter.resolved_at == bench.clock()
    assert (told.what, told.detail["actor"]) == ("discarded", "anne")
