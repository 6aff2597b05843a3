"""One thread at a time per name; whoever comes meanwhile is not forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from gateway.solo import Solo


def elsewhere(call: Callable[[], bool]) -> list[bool]:
    """What a call says in another thread."""
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(call()))
    thread.start()
    thread.join(20)
    return said


@pytest.mark.parametrize("again", [True, False])
def test_what_the_work_says_is_said(again: bool) -> None:
    assert Solo().do("in:lab", lambda: again) is again


def test_a_thread_that_comes_meanwhile_goes_and_the_first_says_again() -> None:
    solo, worked = Solo(), []

    def work() -> bool:
        worked.append("first")
        assert elsewhere(lambda: solo.do("in:lab", lambda: bool(worked.append("second")))) == [
            False
        ]
        return False

    assert solo.do("in:lab", work) is True
    assert worked == ["first"]
    # The word was passed on once.
    assert solo.do("in:lab", lambda: False) is False


def test_other_names_do_not_wait() -> None:
    solo = Solo()
    assert solo.do("in:lab", lambda: elsewhere(lambda: solo.do("in:ward", lambda: True)) == [True])


def test_a_fault_leaves_the_name_free() -> None:
    solo = Solo()

    def work() -> bool:
        raise OSError

    with pytest.raises(OSError):
        solo.do("in:lab", work)
    assert solo.do("in:lab", lambda: True) is True
