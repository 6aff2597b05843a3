"""Every input of ``hostile_inputs.yaml`` at a real listener over the real journal."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.hl7.framing import Frame, FrameReader, frame
from adapters.hl7.listener import MllpSource
from adapters.hl7.settings import MllpSourceSettings
from gateway.gate import PermissionGate
from gateway.intake import JournalIntake
from gateway.journal import messages
from gateway.journal.journal import Journal
from gateway.journal.values import MessageFilter
from gateway.journal.writer import GroupWriter
from tests.eventually import eventually
from tests.integration.hl7.fake_intake import RealClock, adt, fields
from tests.migrated import migrated

CASES: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("hostile_inputs.yaml").read_text(encoding="utf-8")
)
NUMBERS = itertools.count()
POSITIVE = {"AA", "CA"}
_REPEATED = re.compile(r"\{(\d+)\*((?:[^{}]|\{[^{}]*\})*)\}", re.DOTALL)
_MESSAGE = re.compile(r"\{(adt|head) ([^{}]*?)((?: [a-z]+=[^{} ]*)*)\}", re.DOTALL)


class Door:
    """A listener in a loop of its own, and the journal behind it."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(
            f"sqlite:///{migrated(folder / 'journal.sqlite')}", blob_directory=folder / "blobs"
        )
        self.journal.migrate()
        gate = PermissionGate()
        self.writer = GroupWriter(self.journal, judge=gate.judge)
        self.writer.start()
        settings = MllpSourceSettings(
            name="lab",
            listen="127.0.0.1:0",
            frame_bytes_max=500_000,
            junk_bytes_max=4096,
            frame_timeout_seconds=0.5,
            settle_seconds=0.05,
            batch_messages_max=50,
            continuation_fragments_max=3,
        )
        self.source = MllpSource(settings, JournalIntake(self.writer, gate), RealClock())
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.source.start(), self.loop).result(30)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.source.stop(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()
        self.writer.stop()
        self.journal.close()

    def connect(self) -> socket.socket:
        host, _, port = self.source.address().rpartition(":")
        return socket.create_connection((host, int(port)), timeout=15)

    def refused(self) -> int:
        with self.journal.read() as connection:
            lines = messages.ledger(connection)
        return lines["lab"].refused if "lab" in lines else 0

    def states(self, control_id: str) -> set[str]:
        with self.journal.read() as connection:
            found = messages.page(connection, MessageFilter(control_id=control_id), limit=50)
        return {each.state.value for each in found}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    opened = Door(tmp_path_factory.mktemp("door"))
    yield opened
    opened.close()


def expanded(text: str) -> str:
    """The text with its messages and repetitions."""
    text = re.sub(r"\{200\*X\}", "X" * 200, text)
    text = re.sub(r"kind=\{10000\*Z\}", "kind=" + "Z" * 10000, text)
    text = _MESSAGE.sub(_message, text)
    return _REPEATED.sub(lambda match: match[2] * int(match[1]), text)


def _message(match: re.Match[str]) -> str:
    changes = dict(each.split("=", 1) for each in match[3].split())
    changes = {name: value.replace("UNICODE-", "UNICODE ") for name, value in changes.items()}
    whole = adt(match[2], **changes).decode("latin-1")
    return whole if match[1] == "adt" else whole.partition("\r")[0]


def pieces(case: dict[str, Any]) -> list[bytes]:
    given = case["send"] if isinstance(case["send"], list) else [case["send"]]
    return [expanded(each).encode("latin-1") for each in given]


class Sender:
    """A socket and the blocks that came back."""

    def __init__(self, door: Door) -> None:
        self.socket = door.connect()
        self.frames = FrameReader()
        self.blocks: list[bytes] = []

    def answer(self) -> bytes:
        """The next answer, or nothing when the connection is closed."""
        while not self.blocks:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                return b""
            if not data:
                return b""
            for event in self.frames.receive(data):
                assert isinstance(event, Frame), "an answer that is no block"
                self.blocks.append(event.payload)
        return self.blocks.pop(0)


def lines_of(case: dict[str, Any]) -> list[str]:
    """The expected answers, one by one."""
    out: list[str] = []
    for line in case["answers"]:
        times, _, rest = line.partition("* ")
        out += [rest] * int(times) if rest and times.isdigit() else [expanded(line)]
    return out


def acknowledged(case: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Codes and control ids of the expected answers, where a journal can be asked for them."""
    for line in lines_of(case):
        for each in line.removeprefix("batch").split(","):
            code, control_id = (*each.split(), "", "")[:2]
            if control_id.isprintable() and control_id not in {"", "-", '""'}:
                yield code, control_id


def check(answer: bytes, expected: str) -> None:
    """One answer against its line of the table."""
    if expected.startswith("batch"):
        assert answer.split(b"|")[0] in {b"FHS", b"BHS"}
        found = [line.split(b"|") for line in answer.split(b"\r") if line.startswith(b"MSA|")]
        told = ", ".join(f"{f[1].decode()} {f[2].decode()}" for f in found)
        assert told == expected.removeprefix("batch").strip()
        return
    code, control_id, *error = expected.split(" ")
    assert fields(answer, "MSA", 1).decode("latin-1") == code
    told = fields(answer, "MSA", 2).decode("latin-1")
    assert told == ("" if control_id == "-" else control_id)
    assert (code in POSITIVE) == (b"\rERR|" not in answer)
    if error:
        assert fields(answer, "ERR", 2).decode() == error[0]
        assert fields(answer, "ERR", 3).decode().partition("^")[0] == error[1]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_answer_it_must_get_and_the_next_message_passes(
    door: Door, case: dict[str, Any]
) -> None:
    refused, counted = door.refused(), dict(door.source.statistics())
    sender = Sender(door)
    with contextlib.closing(sender.socket):
        for piece in pieces(case):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sender.socket.sendall(piece)  # it may close in the middle of what it refuses
            if isinstance(case["send"], list):
                time.sleep(0.01)  # a piece of its own on the wire
        if case.get("eof"):
            sender.socket.shutdown(socket.SHUT_WR)
        for expected in lines_of(case):
            check(sender.answer(), expected)
        if case.get("after", "open") == "closed":
            assert sender.answer() == b""
        else:
            passes(sender)
    for code, control_id in acknowledged(case):
        # A positive answer means kept and on its way, a negative one that it is not.
        assert bool(door.states(control_id) & {"received", "gathering"}) is (code in POSITIVE)
    eventually(lambda: door.refused() == refused + case.get("refused", 0))
    for name in case.get("counted", ()):
        assert door.source.statistics()[name] > counted.get(name, 0)
    other = Sender(door)
    with contextlib.closing(other.socket):
        passes(other)
    eventually(lambda: door.source.statistics()["held-bytes"] == 0)


def passes(sender: Sender) -> None:
    """A good message is taken, and nothing came before its answer."""
    control_id = f"NEXT{next(NUMBERS)}"
    sender.socket.sendall(frame(adt(control_id)))
    answer = sender.answer()
    assert (fields(answer, "MSA", 1), fields(answer, "MSA", 2)) == (b"AA", control_id.encode())


def test_there_are_enough_and_all_have_names_of_their_own() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60
