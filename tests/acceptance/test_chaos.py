"""A short run of all faults on each store; the long one is ``make chaos``.

And the proof that the senders' ledger can say no: with a defect put into the gateway, it does.
"""

from __future__ import annotations

import random
import re
import threading
from pathlib import Path

import pytest

from tests.acceptance.gateway_process import GatewayProcess
from tests.chaos.defects import DEFECTS, FAULTS, PAUSE
from tests.chaos.house import STORES, house, interpreter, strace
from tests.chaos.senders import Sender
from tests.chaos.story import Plan, run

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

FAULT_SECONDS = 15
DEFECT_SECONDS = 20


@pytest.mark.parametrize("store", STORES)
def test_what_was_acknowledged_is_in_the_record_once_and_in_order(
    store: str, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    with house(store, tmp_path, movable_clock=True) as built:
        report = run(built, seed, Plan(FAULT_SECONDS))
    print(report.shape())
    assert report.faultless, report.shape()
    assert report.faults
    assert report.verdict.in_the_record >= report.acknowledged > 0


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_seeded_defect_is_shown(defect: str, tmp_path: Path) -> None:
    """A ledger that cannot say no proves nothing."""
    launcher = interpreter("tests.chaos.defects", defect)
    reports = []
    # On a machine that is slow for a moment few faults fall into the seconds of one run.
    for attempt in range(3):
        seed = random.SystemRandom().randrange(1 << 30)
        with house("sqlite", tmp_path / str(attempt), launcher=launcher) as built:
            plan = Plan(DEFECT_SECONDS, only=FAULTS, pause=PAUSE, settle_seconds=15)
            report = run(built, seed, plan)
        if report.verdict.lost:
            return
        reports.append(report.shape())
    pytest.fail(f"nothing was found missing: {reports}")


def test_the_flush_precedes_the_answer(tmp_path: Path) -> None:
    """As the kernel saw it: between two answers on one connection there is a flush."""
    program = strace()
    if program is None:
        pytest.skip("strace is not here: `make servers`")
    told = tmp_path / "calls"
    watching = (
        program, "-f", "--seccomp-bpf", "-qq", "-s", "256", "-o", str(told),
        "-e", "trace=fsync,fdatasync,sendto,write,writev,sendmsg",
    )  # fmt: skip
    gateway = GatewayProcess(
        tmp_path / "gateway", launcher=(*watching, *interpreter("gateway.cli"))
    )
    gateway.start(timeout=120)
    sender = Sender(0, gateway.mllp_port, threading.Event(), limit=20)
    sender.start()
    sender.join(timeout=60)
    gateway.stop()
    assert sender.total == 20
    flushes, answers = 0, 0
    for line in told.read_text(encoding="utf-8", errors="replace").splitlines():
        if re.search(r"\bf(data)?sync\(.*\)\s*= 0|<\.\.\. f(data)?sync resumed>.*= 0", line):
            flushes += 1
        elif "MSA|AA|" in line:
            answers += 1
            assert flushes > 0, f"answer {answers} was sent before a flush: {line}"
            flushes = 0
    assert answers == 20


def test_a_backlog_is_worked_off_after_a_restart(tmp_path: Path) -> None:
    with house("sqlite", tmp_path) as built:
        plan = Plan(0.5, only=("kill-gateway",), backlog=600, settle_seconds=120)
        report = run(built, 1, plan)
    assert report.backlog >= 600
    assert report.faultless, report.shape()
