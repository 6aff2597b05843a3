"""kill -9, ten rounds: every acknowledged message is in the record exactly once, in order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.house import house
from tests.chaos.story import Plan, run

ROUNDS = 10
SECONDS_MAX = 240


@pytest.mark.acceptance
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("store", "faults"),
    [
        ("sqlite", ("kill-gateway", "kill-at-answer")),
        ("postgresql", ("kill-gateway", "kill-at-answer", "kill-together")),
    ],
)
def test_killed_ten_times(store: str, faults: tuple[str, ...], tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    plan = Plan(SECONDS_MAX, rounds=ROUNDS, only=faults, pause=(0.15, 0.9))
    with house(store, tmp_path) as built:
        report = run(built, seed, plan)
    print(report.shape())
    assert report.faultless, report.shape()
    assert report.faults.total() == ROUNDS
    assert report.acknowledged > ROUNDS * 6
