"""The tables of transitions, and that nothing outside them passes."""

from __future__ import annotations

import pytest

from gateway.journal.states import (
    DELIVERY_TRANSITIONS,
    TRANSITIONS,
    DeliveryState,
    IllegalTransition,
    MessageState,
    check,
)

M = MessageState
D = DeliveryState


def test_every_state_has_a_line() -> None:
    assert set(TRANSITIONS) == set(MessageState)
    assert set(DELIVERY_TRANSITIONS) == set(DeliveryState)


@pytest.mark.parametrize("before", MessageState)
@pytest.mark.parametrize("after", MessageState)
def test_check_agrees_with_the_table(before: MessageState, after: MessageState) -> None:
    if after in TRANSITIONS[before]:
        check(before, after)
    else:
        with pytest.raises(IllegalTransition) as caught:
            check(before, after)
        assert (caught.value.before, caught.value.after) == (before, after)


@pytest.mark.parametrize("before", DeliveryState)
@pytest.mark.parametrize("after", DeliveryState)
def test_check_agrees_with_the_table_of_deliveries(
    before: DeliveryState, after: DeliveryState
) -> None:
    if after in DELIVERY_TRANSITIONS[before]:
        check(before, after)
    else:
        with pytest.raises(IllegalTransition):
            check(before, after)


def test_what_the_gateway_promises() -> None:
    """Written out, so that a change of the table is a decision and not a slip."""
    final = {state for state in MessageState if not TRANSITIONS[state]}
    assert final == {M.GATHERED, M.DISCARDED, M.REPLACED}
    assert {state for state in MessageState if M.REPLACED in TRANSITIONS[state]} == {
        M.HELD,
        M.UNMAPPED,
        M.REFUSED,
        M.DEAD,
    }
    assert M.RECEIVED not in TRANSITIONS[M.RECEIVED]
    assert not DELIVERY_TRANSITIONS[D.DELIVERED]
    assert not DELIVERY_TRANSITIONS[D.DISCARDED]


def test_a_message_is_no_delivery() -> None:
    with pytest.raises(IllegalTransition):
        check(M.DEAD, D.PENDING)  # type: ignore[call-overload]


def test_every_state_can_be_reached_from_a_beginning() -> None:
    reached = {M.RECEIVED, M.GATHERING, M.REFUSED}
    while more := {after for state in reached for after in TRANSITIONS[state]} - reached:
        reached |= more
    assert reached == set(MessageState)
