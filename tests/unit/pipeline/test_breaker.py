"""The circuit breaker and the rate: what they let through, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.breaker import (
    BreakerPolicy,
    BreakerState,
    Go,
    NotBefore,
    Standing,
    admit,
    after_failure,
    after_rest,
    after_success,
)
from gateway.model import Cause, CauseCode

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
AWAY = Cause(code=CauseCode.DESTINATION_UNAVAILABLE)
POLICY = BreakerPolicy(failures=3, open_for=timedelta(seconds=10), open_max=timedelta(seconds=35))
PROBE = timedelta(seconds=60)


def failed(standing: Standing, now: datetime, *, probe: bool = False) -> Standing:
    return after_failure(standing, now, POLICY, AWAY, probe=probe)


def opened() -> Standing:
    standing = Standing(destination="d")
    for _ in range(3):
        standing = failed(standing, NOW)
    return standing


def test_it_opens_after_so_many_failures_in_a_row_and_no_sooner() -> None:
    standing = failed(failed(Standing(destination="d"), NOW), NOW)
    assert standing.breaker is BreakerState.CLOSED
    standing = after_success(standing, NOW, probe=False)
    assert standing.failures == 0
    assert opened().breaker is BreakerState.OPEN
    assert opened().until == NOW + timedelta(seconds=10)


def test_one_attempt_is_let_through_at_the_end_and_decides() -> None:
    standing = opened()
    verdict, same = admit(standing, NOW, probe_for=PROBE)
    assert (verdict, same) == (NotBefore(NOW + timedelta(seconds=10)), standing)
    later = NOW + timedelta(seconds=10)
    verdict, half = admit(standing, later, probe_for=PROBE)
    assert verdict == Go(probe=True)
    assert isinstance(admit(half, later, probe_for=PROBE)[0], NotBefore)
    # If nothing is ever heard of it, another is let through.
    assert admit(half, later + PROBE, probe_for=PROBE)[0] == Go(probe=True)
    closed = after_success(half, later, probe=True)
    assert closed.breaker is BreakerState.CLOSED
    assert closed.openings == 0
    again = failed(half, later, probe=True)
    assert again.until == later + timedelta(seconds=20)


def test_it_stays_open_for_longer_each_time_up_to_a_limit() -> None:
    standing, now, times = opened(), NOW, []
    for _ in range(200):
        assert standing.until is not None
        times.append((standing.until - now).total_seconds())
        now = standing.until
        _, standing = admit(standing, now, probe_for=PROBE)
        standing = failed(standing, now, probe=True)
    assert times[:4] == [10, 20, 35, 35]
    assert set(times[3:]) == {35}


def test_a_slow_answer_from_before_changes_nothing_while_it_is_open() -> None:
    assert after_success(opened(), NOW, probe=False) == opened()
    assert failed(opened(), NOW) == opened()


def test_a_policy_without_a_breaker_never_opens() -> None:
    standing = Standing(destination="d")
    for _ in range(50):
        standing = after_failure(standing, NOW, BreakerPolicy(failures=0), AWAY, probe=False)
    assert standing.breaker is BreakerState.CLOSED
    assert standing.cause is AWAY


def test_what_the_destination_asks_for_is_given() -> None:
    rested = after_rest(Standing(destination="d"), NOW + timedelta(seconds=90), AWAY, NOW)
    assert isinstance(admit(rested, NOW + timedelta(seconds=89), probe_for=PROBE)[0], NotBefore)
    assert admit(rested, NOW + timedelta(seconds=90), probe_for=PROBE)[0] == Go()
    # A shorter rest does not end a longer one.
    both = after_rest(rested, NOW + timedelta(seconds=5), AWAY, NOW)
    assert both.rest_until == rested.rest_until


@given(
    st.lists(st.floats(0, 0.5), min_size=1, max_size=60),
    st.floats(0.5, 50),
    st.integers(1, 5),
)
def test_the_rate_is_never_exceeded_beyond_the_burst(
    waits: list[float], per_second: float, burst: int
) -> None:
    standing, now, allowed = Standing(destination="d"), NOW, []
    for wait in waits:
        now += timedelta(seconds=wait)
        verdict, standing = admit(
            standing, now, per_second=per_second, burst=burst, probe_for=PROBE
        )
        if isinstance(verdict, Go):
            allowed.append(now)
        else:
            assert verdict.at > now
    for place, begin in enumerate(allowed):
        for count, end in enumerate(allowed[place:], start=1):
            span = (end - begin).total_seconds()
            assert count <= burst + span * per_second + 0.01
