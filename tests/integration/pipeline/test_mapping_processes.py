"""Reading and mapping beside the gateway: order, crashes, hangs, and what it does without."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from gateway.journal import deadletters, tables
from gateway.journal.states import MessageState
from gateway.journal.values import DeadLetterFilter
from gateway.mapping import MappingContext
from gateway.mapping_ahead import LOSSES_MAX, PIPE_MESSAGE_BYTES_MAX
from gateway.mapping_processes import MappingProcesses
from gateway.mapping_wire import Opening
from gateway.model import CauseCode, Payload, Receipt
from gateway.normalise import Original, Reading
from gateway.route import idempotency_key
from gateway.settings import load_settings
from gateway.subjects import Subjects
from gateway.written import name
from tests.eventually import eventually
from tests.integration.pipeline.rig import Rig, local, national, recorded

COMMAND = (sys.executable, "-m", "tests.integration.pipeline.toy_mapping_process")
MANY = 200


class Beside:
    """A rig whose drainer has mapping processes, and what they did."""

    def __init__(self, rig: Rig, bombs: Path, **options: Any) -> None:
        self.rig = rig
        self.bombs = bombs
        self.mapped: list[float] = []
        self.read_here: list[str] = []
        cpu_seconds = options.pop("cpu_seconds", 20.0)
        self.processes = MappingProcesses(
            Opening(settings=load_settings(environment={}), cpu_seconds=cpu_seconds),
            options.pop("content", "toy"),
            observe=self.mapped.append,
            command=COMMAND,
            backoff_seconds=(0.0, 0.0),
            **options,
        )
        rig.drainer = rig.new_drainer(processes=self.processes)
        for bomb in ("kill", "kill-once", "spin", "sleep"):
            rig.reader.bombs[bomb] = lambda bomb=bomb: self.read_here.append(bomb)  # type: ignore[misc]

    def ready(self) -> int:
        """Wait for a process; its number in the system."""
        process = self.processes.borrow_within(30)
        assert process is not None
        self.processes.give_back(process)
        return process.pid

    def send(self, count: int = MANY, **bombs: int) -> list[Receipt]:
        """Messages of three patients; ``kill=5`` makes the sixth a bomb."""
        at = {place: name.replace("_", "-") for name, place in bombs.items()}
        waiting = [
            self.rig.submit(
                {"patient": [national(n % 3)], "facts": [f"f{n}"]}
                | ({"bomb": at[n]} if n in at else {})
            )
            for n in range(count)
        ]
        return [each.result(timeout=20) for each in waiting]

    def exploded(self) -> Counter[str]:
        return Counter(self.bombs.read_text().split() if self.bombs.exists() else ())

    def in_order(self, count: int = MANY, *, without: int | None = None) -> bool:
        """Whether each patient's facts came once and in the order of arrival."""
        came: dict[str, list[int]] = {}
        for patient, fact, _ in recorded(self.rig.journal):
            came.setdefault(patient, []).append(int(fact[1:]))
        expected = [n for n in range(count) if n != without]
        return sorted(n for each in came.values() for n in each) == expected and all(
            each == sorted(each) for each in came.values()
        )


@pytest.fixture
def journal_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """On SQLite only: nothing here depends on the database."""
    shutil.copy(migrated_sqlite, tmp_path / "journal.sqlite")
    return f"sqlite:///{tmp_path / 'journal.sqlite'}"


@pytest.fixture
def beside(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Beside]]:
    monkeypatch.setenv("TOY_BOMBS", str(tmp_path / "bombs"))
    made: list[Beside] = []

    def make(**options: Any) -> Beside:
        made.append(Beside(rig, tmp_path / "bombs", **options))
        return made[-1]

    yield make
    for each in made:
        each.processes.close()
    assert not [each for each in psutil.Process().children() if COMMAND[-1] in each.cmdline()]


def test_a_backlog_is_mapped_beside_the_gateway_in_order(beside: Callable[..., Beside]) -> None:
    it = beside()
    it.ready()
    it.send()
    it.rig.settle()
    assert it.in_order()
    assert len(it.mapped) == MANY


def test_what_it_wrote_is_what_the_gateway_would_have_written(
    beside: Callable[..., Beside],
) -> None:
    """Byte for byte; patients that were merged and those of local identifiers too."""
    it = beside()
    it.ready()
    sent = [
        {"patient": [national(1), local(1)], "facts": ["a"]},
        {"patient": [local(1)], "facts": ["b"]},
        {"patient": [national(2)], "merges": [[national(1)]], "facts": ["c"]},
        {"patient": [national(1)], "facts": ["d"]},
        {"patient": [local(1)], "facts": ["e"]},
        *({"patient": [national(n)], "facts": [f"f{n}", f"g{n}"]} for n in range(3, 12)),
    ]
    receipts = [it.rig.send(each) for each in sent]
    it.rig.settle()
    assert len(it.mapped) == len(sent)
    for receipt, content in zip(receipts, sent, strict=True):
        message = it.rig.message(receipt)
        if "merges" in content:
            continue
        payload = Payload.from_bytes(json.dumps(content).encode())
        reading = it.rig.normaliser.normalise(
            Original(source="lab", format=message.format, payloads=[payload])
        )
        assert isinstance(reading, Reading)
        assert isinstance(reading.subjects, Subjects)
        named = name(
            reading.written,
            {reading.subjects.subject.reference: f"Patient/{message.patient_id}"},
        )
        with it.rig.journal.read() as connection:
            stored = connection.execute(
                select(tables.normalised.c.entries).where(
                    tables.normalised.c.message_id == message.id
                )
            ).scalar_one()
        assert bytes(stored) == named.kept
        key = idempotency_key(message.sequence, "record", named.digest)
        assert it.rig.delivery(receipt).idempotency_key == key
    # The fourth names one who was merged away: the index's name, not the expected one.
    assert it.rig.message(receipts[3]).patient_id == it.rig.message(receipts[2]).patient_id


def test_a_reload_of_the_sources_reaches_a_running_process(beside: Callable[..., Beside]) -> None:
    it = beside()
    pid = it.ready()
    contexts = it.rig.normaliser.contexts
    assert isinstance(contexts, dict)
    for zone in ("Europe/Paris", "Indian/Reunion"):
        contexts["lab"] = MappingContext(zone=zone, source="lab")
        receipts = it.send(10)
        it.rig.settle()
        assert {it.rig.message(each).mapping_version for each in receipts} == {zone}
    assert it.ready() == pid


def test_without_a_backlog_none_is_started_and_with_one_nobody_waits_for_it(
    beside: Callable[..., Beside],
) -> None:
    it = beside()
    it.send(7)
    it.rig.settle()
    assert not it.processes.starting
    assert it.processes.borrow(0) is None
    it.send(MANY)
    it.rig.settle()
    assert it.ready()
    assert len(recorded(it.rig.journal)) == 7 + MANY


def test_large_messages_stay_in_the_gateway(beside: Callable[..., Beside]) -> None:
    it = beside()
    it.ready()
    large = {"patient": [national(1)], "facts": ["f1"], "more": "x" * PIPE_MESSAGE_BYTES_MAX}
    it.rig.send({"patient": [national(1)], "facts": ["f0"], "more": "x" * 100_000})
    it.rig.send(large)
    it.rig.send({"patient": [national(1)], "facts": ["f2"]})
    it.rig.settle()
    assert it.in_order(3)
    assert len(it.mapped) == 2


def test_what_is_printed_is_no_answer(beside: Callable[..., Beside]) -> None:
    it = beside()
    it.ready()
    it.send(20, say=3)
    it.rig.settle()
    assert it.in_order(20)
    assert len(it.mapped) == 20


@pytest.mark.parametrize("place", [0, 70])
def test_one_that_ends_a_process_once_is_done_alone_in_another(
    beside: Callable[..., Beside], place: int
) -> None:
    it = beside()
    it.ready()
    it.send(kill_once=place)
    it.rig.settle()
    assert it.in_order()
    assert it.exploded() == {"kill-once": 2}
    assert it.read_here == []


@pytest.mark.parametrize(
    ("bomb", "limits"),
    [("kill", {}), ("spin", {"cpu_seconds": 0.2}), ("sleep", {"silence_seconds": 0.3})],
)
def test_one_that_ends_or_hangs_every_process_is_set_apart(
    beside: Callable[..., Beside], bomb: str, limits: dict[str, float]
) -> None:
    it = beside(**limits)
    it.ready()
    receipts = it.send(100, **{bomb: 70})
    it.rig.settle()
    assert it.in_order(100, without=70)
    assert it.exploded() == {bomb: LOSSES_MAX}
    assert it.read_here == []
    assert it.rig.state(receipts[70]) is MessageState.DEAD
    with it.rig.journal.read() as connection:
        (letter,) = deadletters.page(connection, DeadLetterFilter())
    assert (letter.message_id, letter.cause.code) == (
        receipts[70].message_id,
        CauseCode.HOSTILE_CONTENT,
    )


def test_one_under_which_gateways_ended_is_kept_from_the_next(
    beside: Callable[..., Beside],
) -> None:
    """Two gateways began it and never ended: the third has it read beside itself."""
    it = beside()
    (receipt,) = it.send(1, kill=0)
    with it.rig.journal.write() as connection:
        connection.exec_driver_sql("update message set starts = 2")
    it.rig.settle()
    assert it.rig.code(receipt) is CauseCode.HOSTILE_CONTENT
    assert it.read_here == []


def test_a_process_that_somebody_kills_costs_nothing(beside: Callable[..., Beside]) -> None:
    it = beside()
    pid = it.ready()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid) or _zombie(pid))
    it.send()
    it.rig.settle()
    assert it.in_order()
    assert it.ready() != pid


def test_one_that_stands_still_is_given_up(beside: Callable[..., Beside]) -> None:
    it = beside(silence_seconds=0.3)
    pid = it.ready()
    os.kill(pid, signal.SIGSTOP)
    it.send()
    it.rig.settle()
    assert it.in_order()
    assert not psutil.pid_exists(pid)


def test_other_mappings_are_not_used(beside: Callable[..., Beside]) -> None:
    it = beside(content="other")
    it.send(MANY)
    it.rig.settle()
    assert it.processes.borrow_within(30) is None
    it.send(MANY)
    it.rig.settle()
    assert it.mapped == []
    assert not it.processes.starting


def test_one_that_cannot_start_is_done_without(beside: Callable[..., Beside]) -> None:
    it = beside()
    it.processes._command = (sys.executable, "-c", "raise SystemExit(3)")
    it.send(MANY)
    it.rig.settle()
    assert it.in_order()
    assert it.mapped == []


def _zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
