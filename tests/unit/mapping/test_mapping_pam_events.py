"""Every event of IHE PAM France 2.11 has a mapping, and every visit's event a state."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

MAPPINGS = Path(__file__).resolve().parents[3] / "mappings"
IDENTITY = ("A28", "A31", "A40", "A44", "A47", "A49")
"""Events of persons and files (ITI-30): they say nothing of how a visit stands."""
VISITS = (
    "A01", "A02", "A03", "A04", "A05", "A06", "A07", "A09", "A10", "A11", "A12", "A13",
    "A14", "A15", "A16", "A21", "A22", "A25", "A26", "A27", "A32", "A33", "A38", "A52",
    "A53", "A54", "A55", "Z80", "Z81", "Z84", "Z85",
)  # fmt: skip
"""Events of visits (ITI-31 and the French extension); Z99 corrects one of them (ZBE-6)."""


def taken() -> dict[str, str]:
    """The mapping that takes each ADT event."""
    found: dict[str, str] = {}
    for file in sorted((MAPPINGS / "hl7").glob("adt*.yaml")):
        if file.name.endswith(".test.yaml"):
            continue
        match = yaml.safe_load(file.read_text("utf-8"))["source"]["match"]
        for event in match["MSH-9.2"]:
            assert event not in found, event
            found[event] = file.name
    return found


@pytest.mark.parametrize("event", [*IDENTITY, *VISITS, "Z99"])
def test_an_event_has_a_mapping(event: str) -> None:
    assert event in taken()


def test_an_event_of_a_visit_says_how_it_stands() -> None:
    table = MAPPINGS / "terminology" / "hl7" / "0003-encounter-status.yaml"
    rows = yaml.safe_load(table.read_text("utf-8"))["rows"]
    assert sorted(set(VISITS) - set(rows)) == []
