"""When a failed attempt is made again. A pure function of values.

The wait after the n-th attempt is drawn evenly between zero and
``min(cap, base * factor ** (n - 1))`` ("full jitter": M. Brooker, *Exponential
Backoff And Jitter*, AWS Architecture Blog, 2015), so that lanes which failed
together do not come back together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.model import Cause, CauseCode, Delivered, Outcome, Refused, Wait

WAIT_MIN = timedelta(milliseconds=100)
"""The shortest uncounted wait: one of zero would spin for ever."""

_EXPONENT_MAX = 1_000
"""Beyond this any factor above one has long met the cap; keeps the power finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient the gateway is with one destination.

    ``base``: upper bound of the first wait. ``factor``: growth of the bound per
    attempt, at least 1. ``cap``: the longest bound. ``attempts_max``: attempts
    after which an item is buried. ``give_up_after``: age since the first
    attempt at which it is buried whatever the number of attempts. ``causes``: other
    policies for attempts that failed for these causes. Raises ValueError when a bound
    makes no sense.
    """

    base: timedelta = timedelta(seconds=2)
    factor: float = 2.0
    cap: timedelta = timedelta(minutes=15)
    attempts_max: int = 12
    give_up_after: timedelta = timedelta(days=3)
    causes: Mapping[CauseCode, RetryPolicy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.base <= timedelta(0) or self.cap < self.base:
            raise ValueError("a wait needs a positive base and a cap that is not below it")
        if self.factor < 1 or self.attempts_max < 1 or self.give_up_after <= timedelta(0):
            raise ValueError("factor and attempts_max are at least 1, give_up_after is positive")

    def of(self, code: CauseCode) -> RetryPolicy:
        """The policy after a failure for this cause."""
        return self.causes.get(code, self)

    def bound(self, attempts: int) -> timedelta:
        """The longest wait after ``attempts`` attempts (at least 1)."""
        exponent = min(max(attempts, 1) - 1, _EXPONENT_MAX)
        base, cap = self.base.total_seconds(), self.cap.total_seconds()
        try:
            seconds = min(cap, base * self.factor**exponent)
        except OverflowError:
            seconds = cap
        return timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """It is done. ``evidence`` is what the destination answered."""

    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Do it again at ``at``. ``counted``: whether the attempt counts towards the limits."""

    at: datetime
    cause: Cause
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bury:
    """It goes to the dead letters; the lane goes on without it."""

    cause: Cause


Decision = Settled | Retry | Bury


def decide(
    outcome: Outcome,
    *,
    attempts: int,
    first_attempt_at: datetime,
    now: datetime,
    policy: RetryPolicy,
    random: Callable[[], float],
) -> Decision:
    """What to do after an attempt.

    ``attempts`` counts the counted attempts, this one included;
    ``first_attempt_at`` is when the first of them began; ``random`` gives an
    even number in [0, 1). A :class:`~gateway.model.Wait` is never counted and
    never buries: maintenance of a destination must not cost a message.
    """
    if isinstance(outcome, Delivered):
        return Settled(evidence=outcome.evidence)
    if isinstance(outcome, Refused):
        return Bury(cause=outcome.cause)
    if isinstance(outcome, Wait):
        return Retry(at=now + max(outcome.after, WAIT_MIN), cause=outcome.cause, counted=False)
    policy = policy.of(outcome.cause.code)
    if attempts >= policy.attempts_max:
        return Bury(cause=_gave_up(outcome.cause, f"after {attempts} attempts"))
    if now - first_attempt_at >= policy.give_up_after:
        hours = policy.give_up_after.total_seconds() / 3600
        return Bury(cause=_gave_up(outcome.cause, f"after {hours:g} hours"))
    wait = policy.bound(attempts) * random() if outcome.after is None else outcome.after
    return Retry(at=now + max(wait, timedelta(0)), cause=outcome.cause)


def _gave_up(cause: Cause, how: str) -> Cause:
    last = f"{cause.code.value}: {cause.detail}" if cause.detail else cause.code.value
    return Cause(
        code=CauseCode.GAVE_UP,
        detail=f"gave up {how}; the last one said {last}",
        location=cause.location,
        protocol_code=cause.protocol_code,
    )
