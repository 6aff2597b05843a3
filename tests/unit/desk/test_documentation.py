"""The page of the desk says what the code does, and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deadletter.causes import CAUSES
from gateway.model import CauseCode


@pytest.fixture(scope="module")
def page() -> str:
    root = Path(__file__).resolve().parents[3]
    return (root / "docs" / "dead-letters.md").read_text(encoding="utf-8")


def test_every_cause_stands_there_with_what_to_do(page: str) -> None:
    assert set(CAUSES) == set(CauseCode)
    for code, note in CAUSES.items():
        assert f"| `{code.value}`: {note.title} | {note.means} | {note.do} |" in page
    listed = re.findall(r"^\| `([a-z-]+)`: ", page, re.MULTILINE)
    assert sorted(listed) == sorted(code.value for code in CauseCode)


def test_the_tests_that_prove_the_comparison_exist(page: str, repository: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 20
    for path, function in named:
        source = (repository / path).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in source, f"{path}::{function}"


def test_every_row_of_the_comparison_is_proven(page: str) -> None:
    table = page.partition("## Beside other desks")[2]
    compared, proven = table.split("\n| what operators ask for")
    rows = re.findall(r"^\| ([a-z][^|]+) \|", compared, re.MULTILINE)
    assert len(rows) == 8
    for row in rows:
        # "rate, ramp, pause" has a row of its own for each.
        for part in [row] if row in proven else row.split(", "):
            assert re.search(rf"^\| {re.escape(part)}", proven, re.MULTILINE), row
    systems = compared.splitlines()
    widths = {line.count("|") for line in systems if line.startswith("|")}
    assert widths == {17}
