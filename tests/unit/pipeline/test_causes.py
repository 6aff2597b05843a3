"""The closed set of causes: each has its note."""

from __future__ import annotations

import pytest

from deadletter.causes import CAUSES, Exit, note
from gateway.model import CauseCode


@pytest.mark.parametrize("code", list(CauseCode))
def test_every_cause_says_what_it_means_and_what_to_do(code: CauseCode) -> None:
    found = note(code)
    assert 5 < len(found.title) < 60
    assert found.means.endswith(".")
    assert found.do.endswith(".")
    assert found.exit in Exit


def test_there_is_no_note_without_a_cause() -> None:
    assert set(CAUSES) == set(CauseCode)
    assert len({each.title for each in CAUSES.values()}) == len(CAUSES)
