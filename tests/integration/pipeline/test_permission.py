"""Opposition and closed records: refused at the door, decided in stage 4, withdrawn again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.journal.journal import JournalUnavailable
from gateway.journal.states import MessageState
from gateway.model import Cause, CauseCode, Disposition
from gateway.ports import IntakeUnavailable
from tests.integration.pipeline.rig import Rig, local, national

WHO = {"patient": [national(1), local(1)]}


@pytest.mark.parametrize(
    ("kind", "code"),
    [("feeding", CauseCode.FEEDING_OPPOSED), ("record", CauseCode.RECORD_CLOSED)],
)
def test_a_denial_refuses_what_follows_and_its_withdrawal_lets_it_flow(
    rig: Rig, kind: str, code: CauseCode
) -> None:
    rig.send({**WHO, "facts": ["before"]})
    denial = rig.send({**WHO, kind: "deny", "facts": ["denied"]})
    assert denial.disposition is Disposition.ACCEPTED
    rig.settle()
    assert rig.state(denial) is MessageState.REFUSED
    assert rig.code(denial) is code
    refused = rig.send({"patient": [local(1)], "facts": ["during"]})
    assert refused.disposition is Disposition.REFUSED
    assert refused.cause is not None
    assert refused.cause.code is code
    assert refused.answer == b""
    assert rig.state(refused) is MessageState.REFUSED
    withdrawal = rig.send({**WHO, kind: "permit", "facts": ["permitted"]})
    rig.settle()
    assert rig.state(withdrawal) is MessageState.DELIVERED
    after = rig.send({"patient": [local(1)], "facts": ["after"]})
    assert after.disposition is Disposition.ACCEPTED
    rig.settle()
    assert rig.facts() == ["before", "permitted", "after"]


def test_a_denial_in_the_same_batch_judges_those_behind_it(rig: Rig) -> None:
    rig.submit({**WHO, "facts": ["before"]})
    rig.submit({**WHO, "feeding": "deny"})
    behind = rig.send({**WHO, "facts": ["behind"]})
    assert behind.disposition is Disposition.ACCEPTED  # nobody could know at the door
    rig.settle()
    assert rig.facts() == ["before"]
    assert rig.code(behind) is CauseCode.FEEDING_OPPOSED


def test_another_patient_is_not_concerned(rig: Rig) -> None:
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    other = rig.send({"patient": [national(2)], "facts": ["other"]})
    rig.settle()
    assert rig.state(other) is MessageState.DELIVERED


def test_a_repeated_refusal_is_refused_again_and_kept_once(rig: Rig) -> None:
    rig.send({**WHO, "record": "deny"})
    rig.settle()
    first = rig.send({**WHO, "facts": ["x"]}, control_id="SAME")
    again = rig.send({**WHO, "facts": ["x"]}, control_id="SAME")
    assert first.disposition is again.disposition is Disposition.REFUSED
    assert first.message_id == again.message_id
    assert again.cause == first.cause
    assert rig.message(first).arrivals == 2


def test_what_was_refused_may_be_sent_again_after_the_withdrawal(rig: Rig) -> None:
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    rig.send({**WHO, "facts": ["x"]}, control_id="SAME")
    rig.send({**WHO, "feeding": "permit"})
    rig.settle()
    again = rig.send({**WHO, "facts": ["x"]}, control_id="SAME")
    assert again.disposition is Disposition.ACCEPTED
    rig.settle()
    assert "x" in rig.facts()


def test_a_sender_who_missed_our_answer_gets_it_although_the_patient_opposed_since(
    rig: Rig,
) -> None:
    first = rig.send({**WHO, "facts": ["x"]}, control_id="SAME")
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    again = rig.send({**WHO, "facts": ["x"]}, control_id="SAME")
    assert again.disposition is Disposition.DUPLICATE
    assert (again.message_id, again.answer) == (first.message_id, first.answer)


def test_a_message_behind_an_unprocessed_withdrawal_is_let_in(rig: Rig) -> None:
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    rig.send({**WHO, "feeding": "permit"})
    behind = rig.send({"patient": [local(1)], "facts": ["behind"]})
    assert behind.disposition is Disposition.ACCEPTED
    rig.settle()
    assert rig.state(behind) is MessageState.DELIVERED
    # Once it is processed, the exception is over.
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    assert rig.send({"patient": [local(1)]}).disposition is Disposition.REFUSED


def test_the_gate_forgets_when_this_process_changes_a_permission(
    make_rig: Callable[..., Rig],
) -> None:
    rig = make_rig(remember_seconds=3600.0)
    rig.send({**WHO, "facts": ["before"]})
    rig.send({"patient": [local(1)]})
    assert rig.gate.remembered(rig.message_subject(WHO))
    rig.settle()
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    assert not rig.gate.remembered(rig.message_subject(WHO))
    assert rig.send({"patient": [local(1)]}).disposition is Disposition.REFUSED


def test_a_denial_of_either_side_outlives_a_merge(rig: Rig) -> None:
    rig.send({"patient": [national(1)], "facts": ["one"]})
    rig.send({"patient": [national(2)], "feeding": "deny"})
    rig.settle()
    merge = rig.send({"patient": [national(1)], "merges": [[national(2)]], "facts": ["merge"]})
    rig.settle()
    assert rig.code(merge) is CauseCode.FEEDING_OPPOSED
    assert rig.send({"patient": [national(1)]}).disposition is Disposition.REFUSED


def test_an_old_statement_that_comes_late_does_not_undo_a_newer_one(rig: Rig) -> None:
    """The denial waits for its identity while the withdrawal, sent later, goes first."""
    late = rig.send({"patient": [local(1)], "feeding": "deny"})
    rig.settle()
    assert rig.state(late) is MessageState.HELD
    rig.send({"patient": [national(1)], "feeding": "permit"}, source="adt")
    rig.settle()
    rig.send({"patient": [national(1), local(1)]}, source="adt")
    rig.settle()
    assert rig.state(late) is MessageState.DELIVERED
    assert rig.send({"patient": [national(1)]}).disposition is Disposition.ACCEPTED


def test_a_refusal_of_the_protocol_is_kept_and_goes_no_further(rig: Rig) -> None:
    cause = Cause(code=CauseCode.CHARACTER_SET, detail="not UTF-8", protocol_code="AR")
    receipt = rig.send(b"\xff\xfe", refusal=cause, answer=b"AR")
    assert receipt.disposition is Disposition.REFUSED
    assert receipt.cause == cause
    assert receipt.answer == b"AR"
    rig.settle()
    assert rig.state(receipt) is MessageState.REFUSED
    assert rig.message(receipt).body == b"\xff\xfe"


def test_nothing_is_promised_while_the_journal_cannot_be_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> list[None]:
        raise JournalUnavailable("away")

    monkeypatch.setattr(rig.gate, "judge", away)
    with pytest.raises(IntakeUnavailable):
        rig.send({**WHO, "facts": ["x"]})
    monkeypatch.undo()
    assert rig.send({**WHO, "facts": ["x"]}).disposition is Disposition.ACCEPTED


def test_nothing_is_promised_while_the_journal_cannot_be_written(rig: Rig) -> None:
    rig.writer.stop()
    with pytest.raises(IntakeUnavailable):
        rig.send({**WHO, "record": "permit"})


def test_messages_keep_their_order_through_the_gate(rig: Rig) -> None:
    """Some wait for the gate's reading, some need not: the order of submission stands."""
    futures = [
        rig.submit({"patient": [national(n % 3)], "facts": [f"f{n}"], **extra})
        for n in range(120)
        for extra in ({}, {"feeding": "permit"})
    ]
    ids = [future.result(timeout=20).message_id for future in futures]
    assert ids == sorted(ids)
