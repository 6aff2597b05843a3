"""docs/v2-to-fhir.md says what the shipped mappings do, and gives every difference a reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def comparison(repository: Path, shared: Path) -> Iterator[ModuleType]:
    if not (shared / "corpora" / "v2-to-fhir").is_dir():
        pytest.skip("HL7's v2-to-FHIR tables are not beside the project")
    sys.path.insert(0, str(repository / "tools"))
    try:
        import build_comparison

        yield build_comparison
    finally:
        sys.path.pop(0)


def test_the_page_is_up_to_date(comparison: ModuleType) -> None:
    written = comparison.PAGE.read_text(encoding="utf-8")
    assert written == comparison.page(), "run python tools/build_comparison.py"


def test_every_difference_has_its_reason(comparison: ModuleType) -> None:
    assert comparison.unexplained() == [], (
        "write the reason beside the rule, or in the reasons file"
    )


def test_what_is_known_to_agree_is_said_to_agree(comparison: ModuleType) -> None:
    text = comparison.PAGE.read_text(encoding="utf-8")
    for row in ("| PID-7 | birthDate | same |", "| PID-5 | name[1] | same |",
                "| OBX-3 | code | same |", "| PV1-44 | period.start | same |",
                "| XPN.1 | [1].family | same |"):  # fmt: skip
        assert row in text
