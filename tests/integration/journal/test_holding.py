"""Messages that wait for an identity."""

from __future__ import annotations

import pytest

from gateway.journal import messages, patients
from gateway.journal.states import IllegalTransition, MessageState
from gateway.model import Cause, CauseCode, Identifier, Stage
from tests.integration.journal.bench import Bench

AWAITED = Cause(code=CauseCode.IDENTITY_AWAITED, location="PID-3")
INS = Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value="279035121518989", type="INS")
LOCAL = Identifier(system="urn:oid:1.2.3", value="12345", type="PI")
OTHER = Identifier(system="urn:oid:1.2.3", value="99999", type="PI")
M = MessageState


def hold(bench: Bench, message_id: int, *identifiers: Identifier, cause: Cause = AWAITED) -> bool:
    with bench.journal.write() as connection:
        return messages.hold(connection, message_id, identifiers, cause)


def bring(bench: Bench, *identifiers: Identifier) -> list[int]:
    """What an ADT does: make the patient, link, release."""
    message_id = bench.message(source="adt")
    with bench.journal.write() as connection:
        patient = patients.ensure(connection, INS, message_id=message_id)
        patients.link(connection, patient.id, identifiers, message_id)
        return messages.release(connection, [INS, *identifiers])


def test_a_held_message_goes_when_its_identity_comes(bench: Bench) -> None:
    waits, other = bench.message(), bench.message()
    assert hold(bench, waits, LOCAL)
    assert hold(bench, other, OTHER)
    assert bench.state(waits) is M.HELD
    with bench.journal.read() as connection:
        assert messages.waiting_for(connection, waits) == (LOCAL,)
        message = messages.get(connection, waits)
        told = messages.events(connection, waits)[-1]
    assert message is not None
    assert message.cause == AWAITED
    assert LOCAL.value not in str(told.detail)
    assert bring(bench, LOCAL) == [waits]
    assert (bench.state(waits), bench.state(other)) == (M.RECEIVED, M.HELD)
    with bench.journal.read() as connection:
        assert messages.waiting_for(connection, waits) == ()
        assert [e.what for e in messages.events(connection, waits)] == [
            "received",
            "held",
            "released",
        ]
    assert bring(bench, LOCAL) == []


def test_any_one_of_several_identifiers_releases_once(bench: Bench) -> None:
    waits = bench.message()
    hold(bench, waits, LOCAL, OTHER, LOCAL)
    assert bring(bench, LOCAL, OTHER) == [waits]


def test_an_identity_that_came_meanwhile_is_not_waited_for(bench: Bench) -> None:
    """The message was looked at before the ADT was committed, and is held after."""
    late = bench.message()
    bring(bench, LOCAL)
    assert not hold(bench, late, LOCAL)
    assert bench.state(late) is M.RECEIVED
    assert "in:lab" in bench.due()


def test_another_cause_waits_whatever_is_known(bench: Bench) -> None:
    message_id = bench.message()
    bring(bench, LOCAL)
    assert hold(bench, message_id, LOCAL, cause=Cause(code=CauseCode.IDENTITY_CONFLICT))
    assert bench.state(message_id) is M.HELD


def test_a_discarded_message_waits_for_nothing(bench: Bench) -> None:
    waits = bench.message()
    hold(bench, waits, LOCAL)
    with bench.journal.write() as connection:
        messages.move(connection, waits, M.DISCARDED, event="discarded", stage=Stage.IDENTIFY)
    assert bring(bench, LOCAL) == []
    assert bench.state(waits) is M.DISCARDED


def test_only_a_received_message_can_be_held(bench: Bench) -> None:
    waits = bench.message()
    hold(bench, waits, LOCAL)
    with pytest.raises(IllegalTransition):
        hold(bench, waits, LOCAL)


def test_too_many_identifiers_are_refused(bench: Bench) -> None:
    many = [Identifier(system="urn:oid:1", value=str(n)) for n in range(257)]
    with pytest.raises(ValueError):
        hold(bench, bench.message(), *many)


def test_many_messages_are_released_in_order_of_arrival(bench: Bench) -> None:
    ids = [bench.message() for _ in range(30)]
    for message_id in reversed(ids):
        hold(bench, message_id, LOCAL)
    assert bring(bench, LOCAL) == ids
    token = bench.lease("in:lab")
    with bench.journal.write() as connection:
        claimed = messages.claim(connection, "in:lab", token, 100)
    assert [message.id for message in claimed] == ids
