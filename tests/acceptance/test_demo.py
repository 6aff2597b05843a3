"""``ecluse demo --once --json``: the story comes out and its ledger adds up."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_the_story_comes_out_and_the_ledger_adds_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "demo", "--once", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["adds_up"] is True
    assert not told["problems"]
    assert set(told["sources"]) == {"hospital", "scanner", "practice"}
    for line in told["sources"].values():
        assert line["sent"] == line["received"]
        accounted = line["delivered"] + line["waiting"] + line["refused"] + line["dead"]
        assert accounted == line["received"]
    hospital = told["sources"]["hospital"]
    assert hospital["replayed"] == 1
    assert hospital["refused"] == 4  # two at the door, two by the opposition
    assert hospital["dead"] == hospital["waiting"] == 0
