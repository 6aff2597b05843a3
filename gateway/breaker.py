"""When a destination is left alone: a circuit breaker and a rate, as pure functions of values.

The breaker (M. Nygard, *Release It!*, 2nd edition, "Circuit Breaker") opens after so many
failures in a row, whichever the patient; while it is open nothing is attempted, so that no
attempt of any delivery is used up. Then one attempt is let through: it closes the breaker, or
opens it again for longer. Its state stands in the journal, where every worker sees the same.

The rate is a generic cell rate algorithm (ITU-T I.371, annex A) with one cell of tolerance per
``burst``: all that is remembered is the time of the next free slot.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.model import Cause

_EXPONENT_MAX = 64


class BreakerState(StrEnum):
    """Whether attempts are made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """One attempt is at work; it decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """``failures`` in a row open it; for ``open_for`` the first time, twice as long each time
    that the attempt after it fails, and never longer than ``open_max``. ``failures`` 0: never."""

    failures: int = 5
    open_for: timedelta = timedelta(seconds=15)
    open_max: timedelta = timedelta(minutes=5)

    def open_time(self, openings: int) -> timedelta:
        """How long it stays open the ``openings``-th time in a row (from 1)."""
        doubled = self.open_for.total_seconds() * 2.0 ** min(max(openings, 1) - 1, _EXPONENT_MAX)
        return timedelta(seconds=min(doubled, self.open_max.total_seconds()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a destination stands, for all workers.

    ``until``: when an open breaker lets an attempt through, or until when a half-open one waits
    for the attempt at work. ``rest_until``: until when the destination itself wants to be left
    alone. ``next_slot``: when the rate allows the next attempt. ``cause`` is the last failure's.
    """

    destination: str
    breaker: BreakerState = BreakerState.CLOSED
    failures: int = 0
    openings: int = 0
    until: datetime | None = None
    rest_until: datetime | None = None
    next_slot: datetime | None = None
    cause: Cause | None = None
    changed_at: datetime | None = None

    def closed_until(self, now: datetime) -> datetime | None:
        """Until when nothing is attempted; None when something may be."""
        waits = [self.rest_until]
        if self.breaker is not BreakerState.CLOSED:
            waits.append(self.until)
        return max((each for each in waits if each is not None and each > now), default=None)


@dataclass(frozen=True, slots=True)
class Go:
    """An attempt may be made. ``probe``: it decides about the breaker, and is not counted."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class NotBefore:
    """No attempt may be made before ``at``."""

    at: datetime


def admit(
    standing: Standing,
    now: datetime,
    *,
    per_second: float = 0.0,
    burst: int = 1,
    probe_for: timedelta,
) -> tuple[Go | NotBefore, Standing]:
    """Whether an attempt may be made now, and the standing after that.

    ``per_second`` 0: no rate. ``probe_for`` is how long the one attempt after an open breaker
    may take before another is let through in its place.
    """
    closed_until = standing.closed_until(now)
    if closed_until is not None:
        return NotBefore(closed_until), standing
    if per_second > 0:
        interval = timedelta(seconds=1 / per_second)
        earliest = now - interval * (burst - 1)
        slot = max(standing.next_slot or earliest, earliest)
        if slot > now:
            return NotBefore(slot), standing
        standing = replace(standing, next_slot=slot + interval)
    if standing.breaker is BreakerState.CLOSED:
        return Go(), standing
    half_open = replace(
        standing, breaker=BreakerState.HALF_OPEN, until=now + probe_for, changed_at=now
    )
    return Go(probe=True), half_open


def after_success(standing: Standing, now: datetime, *, probe: bool) -> Standing:
    """The standing after the destination has answered as it should (a refusal is an answer).

    A slow answer to an attempt from before the breaker opened does not close it.
    """
    if standing.breaker is not BreakerState.CLOSED and not probe:
        return standing
    if standing.breaker is BreakerState.CLOSED and not standing.failures:
        return standing
    return replace(
        standing,
        breaker=BreakerState.CLOSED,
        failures=0,
        openings=0,
        until=None,
        cause=None,
        changed_at=now,
    )


def after_failure(
    standing: Standing, now: datetime, policy: BreakerPolicy, cause: Cause, *, probe: bool
) -> Standing:
    """The standing after an attempt that failed for the destination's reasons."""
    if policy.failures == 0:
        return replace(standing, cause=cause, changed_at=now)
    if standing.breaker is not BreakerState.CLOSED and not probe:
        return standing
    failures = standing.failures + 1
    if not probe and failures < policy.failures:
        return replace(standing, failures=failures, cause=cause, changed_at=now)
    openings = standing.openings + 1
    return replace(
        standing,
        breaker=BreakerState.OPEN,
        failures=failures,
        openings=openings,
        until=now + policy.open_time(openings),
        cause=cause,
        changed_at=now,
    )


def after_rest(standing: Standing, until: datetime, cause: Cause, now: datetime) -> Standing:
    """The standing after the destination asked to be left alone until then."""
    latest = max(until, standing.rest_until or until)
    return replace(standing, rest_until=latest, cause=cause, changed_at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationPolicy:
    """How a destination elsewhere is treated. ``per_second`` 0: as fast as it answers.
    ``passes``: an item that must be tried again lets those behind it pass."""

    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    per_second: float = 0.0
    burst: int = 1
    passes: bool = False
