"""``ecluse demo --once --json``: the story comes out and its ledger adds up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.eventually import eventually


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


@pytest.mark.acceptance
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "demo"],
        env=dict(os.environ, TMPDIR=str(tmp_path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        # It says something: its starter knows that it is there.
        eventually(
            lambda: [f for f in tmp_path.glob("*/gateway.log") if f.stat().st_size], timeout=60
        )
        gateway = int(children.read_text().split()[0])
    finally:
        process.send_signal(number)
        process.wait(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.kill(gateway, 0)
    assert list(tmp_path.iterdir()) == []
