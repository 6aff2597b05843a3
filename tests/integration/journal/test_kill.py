"""kill -9 in the middle of appends: what was promised is there, byte for byte."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from gateway.journal import messages, tables
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState

CHILD = """
import hashlib, os, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.writer import GroupWriter
from gateway.model import Format, Payload, Received

url, blobs, name = sys.argv[1:]
journal = Journal(url, blob_directory=Path(blobs))
writer = GroupWriter(journal)
writer.start()

def promise(number):
    for turn in range(100_000):
        size = 100_000 if turn % 7 == 3 else 2_000
        body = hashlib.shake_128(f"{name}/{number}/{turn}".encode()).digest(size)
        received = Received(
            source=f"{name}-{number}", format=Format.HL7V2, payload=Payload.from_bytes(body),
            received_at=datetime.now(UTC), control_id=str(turn), answer=b"AA")
        kept = writer.submit(received, state=MessageState.RECEIVED, lane=f"in:{number}").result()
        os.write(1, f"{kept.message_id} {name} {number} {turn} {size}\\n".encode())

threads = [threading.Thread(target=promise, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def run_and_kill(url: str, blobs: Path, name: str, promises: int, pause: float) -> list[list[str]]:
    """Let a child promise at least so many messages, kill it a moment later; the promises."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(blobs), name], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(promises)]
    assert child.poll() is None, "the child ended by itself"
    # Not a wait for something to happen: the moment of the kill shall fall anywhere in a commit.
    time.sleep(pause)
    os.kill(child.pid, signal.SIGKILL)
    lines += child.stdout.readlines()
    child.stdout.close()
    child.wait(30)
    return [line.decode().split() for line in lines if line.endswith(b"\n")]


@pytest.mark.timeout(180)
def test_every_promise_outlives_the_process(migrated_url: str, tmp_path: Path) -> None:
    chance = random.Random(20261122)
    blobs = tmp_path / "blobs"
    promised: list[list[str]] = []
    for turn in range(4):
        promised += run_and_kill(
            migrated_url, blobs, f"round{turn}", chance.randint(20, 200), chance.random() / 20
        )
    journal = Journal(migrated_url, blob_directory=blobs)
    with journal.read() as connection:
        if journal.dialect == "sqlite":
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        for message_id, name, number, turn_, size in promised:
            message = messages.get(connection, int(message_id))
            assert message is not None, "a promised message is not in the journal"
            expected = hashlib.shake_128(f"{name}/{number}/{turn_}".encode()).digest(int(size))
            assert messages.payload(journal, message).read() == expected
            assert (message.source, message.control_id) == (f"{name}-{number}", turn_)
            assert (message.state, message.answer) == (MessageState.RECEIVED, b"AA")
        # Nothing is there by halves: each row has its bytes, its beginning and its lane.
        whole = connection.execute(
            select(tables.message.c.id)
            .join(tables.content, tables.content.c.message_id == tables.message.c.id)
            .join(tables.event, tables.event.c.message_id == tables.message.c.id)
            .join(tables.lane, tables.lane.c.name == tables.message.c.lane)
            .where(tables.event.c.what == "received", tables.lane.c.next_at.is_not(None))
        ).all()
        rows = connection.execute(select(tables.message.c.id)).all()
    journal.close()
    assert len(promised) > 100
    assert sorted(row.id for row in whole) == sorted(row.id for row in rows)


def test_what_a_killed_process_left_can_be_read_without_writing(
    sqlite_url: str, tmp_path: Path
) -> None:
    """The command line looks at the journal of a gateway that crashed."""
    blobs = tmp_path / "blobs"
    promised = run_and_kill(sqlite_url, blobs, "crashed", 30, 0)
    assert (tmp_path / "journal.sqlite-wal").stat().st_size > 0
    beside = Journal(sqlite_url, blob_directory=blobs, read_only=True)
    with beside.read() as connection:
        kept = {message_id for message_id, *_ in promised}
        assert all(messages.get(connection, int(message_id)) for message_id in kept)
    beside.close()
