"""First come, first served."""

from __future__ import annotations

import threading

import pytest

from gateway.journal.turnstile import Turnstile
from tests.eventually import eventually


def test_threads_pass_in_the_order_in_which_they_came() -> None:
    turnstile = Turnstile()
    order: list[int] = []

    def pass_through(number: int) -> None:
        with turnstile:
            order.append(number)

    threads = []
    with turnstile:
        for number in range(10):
            thread = threading.Thread(target=pass_through, args=(number,))
            thread.start()
            threads.append(thread)
            eventually(lambda waiting=number + 1: len(turnstile._queue) == waiting)
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == list(range(10))


def test_whoever_comes_back_waits_behind_those_who_wait() -> None:
    turnstile = Turnstile()
    order: list[str] = []

    def other() -> None:
        with turnstile:
            order.append("other")

    thread = threading.Thread(target=other)
    with turnstile:
        thread.start()
        eventually(lambda: turnstile._queue)
        order.append("first")
    with turnstile:
        order.append("again")
    thread.join(10)
    assert order == ["first", "other", "again"]


def test_one_at_a_time_under_load() -> None:
    turnstile = Turnstile()
    count = 0

    def work() -> None:
        nonlocal count
        for _ in range(500):
            with turnstile:
                seen = count
                count = seen + 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert count == 4000


def test_asking_again_inside_is_an_error_and_not_a_standstill() -> None:
    turnstile = Turnstile()
    with turnstile, pytest.raises(RuntimeError), turnstile:
        pass
    with turnstile:
        pass


def test_an_exception_lets_the_next_one_in() -> None:
    turnstile = Turnstile()
    with pytest.raises(ZeroDivisionError), turnstile:
        _ = 1 / 0
    with turnstile:
        pass
