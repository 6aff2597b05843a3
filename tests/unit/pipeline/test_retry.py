"""The retry decision: every outcome, every limit, and the jitter's bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Again, Cause, CauseCode, Delivered, Refused, Wait
from gateway.retry import WAIT_MIN, Bury, Decision, Retry, RetryPolicy, Settled, decide

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
AWAY = Cause(
    code=CauseCode.DESTINATION_UNAVAILABLE, detail="connection refused", protocol_code="503"
)
POLICY = RetryPolicy(
    base=timedelta(seconds=2), factor=2, cap=timedelta(minutes=5), attempts_max=8,
    give_up_after=timedelta(hours=24),
)  # fmt: skip


def decided(
    outcome: object, attempts: int = 1, age: timedelta = timedelta(0), draw: float = 0.5
) -> Decision:
    return decide(
        outcome,  # type: ignore[arg-type]
        attempts=attempts,
        first_attempt_at=NOW - age,
        now=NOW,
        policy=POLICY,
        random=lambda: draw,
    )


def test_delivered_settles_with_its_evidence() -> None:
    assert decided(Delivered(evidence="201")) == Settled(evidence="201")


def test_refused_is_buried_at_once_with_its_own_cause() -> None:
    cause = Cause(code=CauseCode.DESTINATION_REFUSED, protocol_code="422")
    assert decided(Refused(cause=cause), attempts=1) == Bury(cause=cause)


@given(st.integers(1, 7), st.floats(0, 1, exclude_max=True))
def test_the_wait_is_drawn_below_a_bound_that_doubles(attempts: int, draw: float) -> None:
    decision = decided(Again(cause=AWAY), attempts, draw=draw)
    assert isinstance(decision, Retry)
    assert decision.counted
    assert decision.cause is AWAY
    bound = min(2 * 2 ** (attempts - 1), 300)
    assert timedelta(0) <= decision.at - NOW <= timedelta(seconds=bound)
    assert abs((decision.at - NOW) - timedelta(seconds=bound * draw)) < timedelta(milliseconds=1)


@given(st.integers(1, 10**9))
def test_the_bound_never_leaves_the_cap(attempts: int) -> None:
    steep = RetryPolicy(factor=10.0, attempts_max=10**9)
    assert timedelta(0) < steep.bound(attempts) <= steep.cap
    assert steep.bound(attempts + 1) >= steep.bound(attempts)


def test_the_destination_may_say_when() -> None:
    decision = decided(Again(cause=AWAY, after=timedelta(minutes=42)), attempts=3)
    assert decision == Retry(at=NOW + timedelta(minutes=42), cause=AWAY)


def test_it_gives_up_after_the_last_attempt_and_says_what_was_last() -> None:
    assert isinstance(decided(Again(cause=AWAY), attempts=7), Retry)
    decision = decided(Again(cause=AWAY), attempts=8)
    assert isinstance(decision, Bury)
    assert decision.cause.code is CauseCode.GAVE_UP
    assert decision.cause.protocol_code == "503"
    assert decision.cause.detail == (
        "gave up after 8 attempts; the last one said destination-unavailable: connection refused"
    )


def test_it_gives_up_by_age() -> None:
    assert isinstance(decided(Again(cause=AWAY), age=timedelta(hours=23, minutes=59)), Retry)
    decision = decided(Again(cause=AWAY), age=timedelta(hours=24))
    assert isinstance(decision, Bury)
    assert "after 24 hours" in decision.cause.detail


@given(st.integers(0, 10**6), st.timedeltas(timedelta(0), timedelta(days=900)))
def test_waiting_is_never_counted_and_never_buries(attempts: int, age: timedelta) -> None:
    decision = decided(Wait(cause=AWAY, after=timedelta(minutes=1)), attempts, age)
    assert decision == Retry(at=NOW + timedelta(minutes=1), cause=AWAY, counted=False)


@given(st.timedeltas(timedelta(days=-9), timedelta(0)))
def test_no_wait_spins_and_none_goes_back_in_time(after: timedelta) -> None:
    assert decided(Wait(cause=AWAY, after=after)).at == NOW + WAIT_MIN  # type: ignore[union-attr]
    assert decided(Again(cause=AWAY, after=after)).at == NOW  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": timedelta(0)},
        {"base": timedelta(hours=1), "cap": timedelta(minutes=1)},
        {"factor": 0.5},
        {"attempts_max": 0},
        {"give_up_after": timedelta(0)},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"positive|at least"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
