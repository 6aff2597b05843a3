"""The sending side against a real socket, and an independent client against our listener."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import hl7
import pytest
from hl7.client import MLLPClient

from adapters.hl7.framing import Frame, FrameReader, frame
from adapters.hl7.sender import MllpClient, NoAnswer
from tests.integration.hl7.fake_intake import adt, fields, running

pytestmark = pytest.mark.anyio
Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def ack(control_id: bytes, code: bytes = b"AA") -> bytes:
    return frame(b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|" + code + b"|" + control_id + b"\r")


@asynccontextmanager
async def peer(respond: Respond) -> AsyncIterator[int]:
    """A receiver that does what a test says with each message; gives its port."""

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        frames = FrameReader()
        while data := await reader.read(1 << 16):
            for event in frames.receive(data):
                if isinstance(event, Frame):
                    await respond(event.payload, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_messages_to_our_own_listener() -> None:
    async with running() as run:
        host, _, port = run.source.address().rpartition(":")
        async with MllpClient(host, int(port)) as client:
            for number in range(20):
                answer = await client.send(adt(f"S{number}"))
                assert fields(answer, "MSA", 2) == f"S{number}".encode()
            both = await asyncio.gather(client.send(adt("X")), client.send(adt("Y")))
            assert [fields(answer, "MSA", 2) for answer in both] == [b"X", b"Y"]
            assert fields(await client.send(b"no header"), "MSA", 1) == b"AR"


async def test_an_answer_to_another_message_is_never_taken() -> None:
    async def late(message: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(ack(b"OTHER") + ack(fields(message, "MSH", 10), b"AE"))

    async with peer(late) as port, MllpClient("127.0.0.1", port) as client:
        answer = await client.send(adt("MINE"))
        assert (fields(answer, "MSA", 1), fields(answer, "MSA", 2)) == (b"AE", b"MINE")


async def test_a_late_answer_is_not_the_next_ones() -> None:
    seen: list[bytes] = []

    async def first_time_silent(message: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(fields(message, "MSH", 10))
        if len(seen) > 1:
            writer.write(b"".join(ack(each) for each in seen))

    async with peer(first_time_silent) as port:
        async with MllpClient("127.0.0.1", port, timeout_seconds=0.2) as client:
            with pytest.raises(NoAnswer, match="no answer within"):
                await client.send(adt("ONE"))
            assert fields(await client.send(adt("TWO")), "MSA", 2) == b"TWO"


async def test_a_connection_that_ends_is_no_answer_and_the_next_message_reconnects() -> None:
    calls = 0

    async def close_first(message: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            writer.close()
        else:
            writer.write(ack(fields(message, "MSH", 10)))

    async with peer(close_first) as port, MllpClient("127.0.0.1", port) as client:
        with pytest.raises(NoAnswer, match="ended before the answer"):
            await client.send(adt("ONE"))
        assert fields(await client.send(adt("ONE")), "MSA", 1) == b"AA"


async def test_an_answer_without_carriage_return() -> None:
    async def careless(message: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(ack(fields(message, "MSH", 10))[:-1])

    async with peer(careless) as port, MllpClient("127.0.0.1", port) as client:
        assert fields(await client.send(adt("ONE")), "MSA", 1) == b"AA"


async def test_nobody_listens() -> None:
    async with peer(lambda *_: asyncio.sleep(0)) as port:
        pass
    async with MllpClient("127.0.0.1", port) as client:
        with pytest.raises(OSError):
            await client.send(adt())
    with pytest.raises(ValueError, match="MLLP cannot carry"):
        await client.send(b"MSH\x0b")


async def test_python_hl7_as_an_independent_client() -> None:
    async with running() as run:
        host, _, port = run.source.address().rpartition(":")

        def converse() -> list[str]:
            with MLLPClient(host, int(port), encoding="utf-8") as client:
                sent = [adt(f"P{number}").decode() for number in range(10)]
                texts = [client.send_message(message).decode() for message in sent]
            # The library reads framed bytes off the socket: unframe with its own constants.
            return [text.strip("\x0b\x1c\r") for text in texts]

        answers = await asyncio.to_thread(converse)
        for number, text in enumerate(answers):
            parsed = hl7.parse(text)
            assert str(parsed.segment("MSA")[1]) == "AA"
            assert str(parsed.segment("MSA")[2]) == f"P{number}"
            assert str(parsed.segment("MSH")[9]) == "ACK^A01^ACK"
        assert [received.control_id for received in run.intake.kept] == [
            f"P{number}" for number in range(10)
        ]
        assert all(
            received.payload.data == adt(received.control_id) for received in run.intake.kept
        )
