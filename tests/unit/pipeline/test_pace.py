"""Lanes with a steady stream gather; no other lane waits."""

from __future__ import annotations

from gateway.pace import GATHER_SECONDS, LANES_MAX, STEADY_SECONDS, Pace


class Hours:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def pace(self) -> Pace:
        return Pace(monotonic=lambda: self.now, sleep=self.slept.append)


def test_a_lane_that_was_emptied_a_moment_ago_gathers_once() -> None:
    hours = Hours()
    pace = hours.pace()
    pace.emptied("in:lab")
    hours.now += STEADY_SECONDS / 2
    pace.gather("in:lab")
    pace.gather("in:lab")
    assert hours.slept == [GATHER_SECONDS]


def test_the_first_message_after_a_pause_goes_at_once() -> None:
    hours = Hours()
    pace = hours.pace()
    pace.gather("in:lab")
    pace.emptied("in:lab")
    hours.now += 2 * STEADY_SECONDS
    pace.gather("in:lab")
    assert hours.slept == []


def test_lanes_do_not_wait_for_one_another() -> None:
    hours = Hours()
    pace = hours.pace()
    pace.emptied("in:lab")
    pace.gather("in:ward")
    assert hours.slept == []


def test_only_so_many_lanes_are_remembered() -> None:
    pace = Hours().pace()
    for number in range(3 * LANES_MAX):
        pace.emptied(f"in:{number}")
    assert len(pace._emptied) <= LANES_MAX
