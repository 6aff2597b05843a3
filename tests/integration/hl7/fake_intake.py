"""An intake in memory with the real one's rules of order, duplicates and refusal."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from adapters.cda.transmitted import CdaHeaders
from adapters.hl7.framing import Frame, FrameReader
from adapters.hl7.listener import MllpSource
from adapters.hl7.settings import MllpSourceSettings
from gateway.model import Cause, Disposition, Receipt, Received
from gateway.ports import IntakeUnavailable, Settle


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class FakeIntake:
    """Keeps what it gets, resolves futures in a thread of its own, in groups.

    ``held`` stops commits until released; ``unavailable`` makes it keep nothing;
    ``refuse`` decides a refusal of its own.
    """

    def __init__(self) -> None:
        self.kept: list[Received] = []
        self.submitted: list[Received] = []
        self.unavailable = False
        self.broken = False
        self.refuse: Callable[[Received], Cause | None] = lambda _: None
        self.commit = threading.Event()
        self.commit.set()
        self._answers: dict[tuple[str, str], bytes] = {}
        self._queue: queue.SimpleQueue[tuple[Received, Future[Receipt]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, received: Received) -> Future[Receipt]:
        self.submitted.append(received)
        if self.unavailable:
            raise IntakeUnavailable("the disk is full")
        future: Future[Receipt] = Future()
        self._queue.put((received, future))
        return future

    def submit_all(self, handed: Sequence[tuple[Received, Any]], settle: Settle) -> None:
        for received, token in handed:
            self.submit(received).add_done_callback(
                lambda future, token=token: settle([(token, future.exception() or future.result())])
            )

    def close(self) -> None:
        self.commit.set()
        self._queue.put(None)
        self._thread.join(10)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self.commit.wait()
            received, future = item
            if self.broken:
                future.set_exception(RuntimeError("PATIENT^SECRET"))
                continue
            self.kept.append(received)
            future.set_result(self._receipt(received))

    def _receipt(self, received: Received) -> Receipt:
        number = len(self.kept)
        cause = received.refusal or self.refuse(received)
        if cause is not None:
            return Receipt(message_id=number, disposition=Disposition.REFUSED, cause=cause)
        key = (received.control_id, received.payload.sha256)
        if key in self._answers:
            return Receipt(
                message_id=number,
                disposition=Disposition.DUPLICATE,
                answer=self._answers[key],
            )
        self._answers[key] = received.answer
        return Receipt(message_id=number, disposition=Disposition.ACCEPTED, answer=received.answer)


class Peer:
    """A raw socket that speaks MLLP as badly as a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._answers: list[bytes] = []

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, timeout: float = 10.0) -> bytes:
        """The next answer. Raises EOFError when the connection is closed."""
        while not self._answers:
            data = await asyncio.wait_for(self.reader.read(1 << 16), timeout)
            if not data:
                raise EOFError
            for event in self._frames.receive(data):
                assert isinstance(event, Frame), event
                self._answers.append(event.payload)
        return self._answers.pop(0)

    async def closed(self, timeout: float = 10.0) -> bool:
        """Has the peer closed, without another answer?"""
        try:
            data = await asyncio.wait_for(self.reader.read(1 << 16), timeout)
        except ConnectionError:
            return True
        return data == b""

    async def close(self) -> None:
        self.writer.close()


class Running:
    """A started source, its intake and its peers."""

    def __init__(self, source: MllpSource, intake: FakeIntake) -> None:
        self.source = source
        self.intake = intake
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        host, _, port = self.source.address().rpartition(":")
        peer = Peer(*await asyncio.open_connection(host, int(port)))
        self._peers.append(peer)
        return peer

    async def close(self) -> None:
        for peer in self._peers:
            await peer.close()


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Running]:
    """A listening source with these settings."""
    configuration = MllpSourceSettings(**{"name": "lab", "listen": "127.0.0.1:0", **settings})
    intake = FakeIntake()
    source = MllpSource(configuration, intake, RealClock(), documents=CdaHeaders())
    await source.start()
    run = Running(source, intake)
    try:
        yield run
    finally:
        intake.commit.set()
        await run.close()
        await source.stop()
        intake.close()


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Let the loop run until a condition holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


def fields(answer: bytes, segment: str, number: int) -> bytes:
    """A field of an answer with bars as separators."""
    for line in answer.split(b"\r"):
        parts = line.split(b"|")
        if parts[0] == segment.encode():
            index = number - 1 if segment == "MSH" else number
            return parts[index] if index < len(parts) else b""
    return b""


def adt(control_id: str = "1", **changes: str) -> bytes:
    """A small ADT in ASCII."""
    header = {
        "sender": "APP^1.2.3^ISO",
        "facility": "HOSP^4.5.6^ISO",
        "kind": "ADT^A01^ADT_A01",
        "processing": "P",
        "version": "2.5",
        "charset": "",
        **changes,
    }
    return (
        (
            "MSH|^~\\&|{sender}|{facility}|ECLUSE^7.8.9^ISO|DMP|20240101120000||{kind}|{id}"
            "|{processing}|{version}||||||{charset}\r"
            "EVN||20240101120000\r"
            "PID|1||279035121518989^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS"
            "~4711^^^HOSP^PI||DOE^JOHN||19800101|M\r"
            "PV1|1|I\r"
        )
        .format(id=control_id, **header)
        .encode()
    )
