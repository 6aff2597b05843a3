"""MLLP release 2 over a real socket, and our own client of it."""

from __future__ import annotations

import asyncio

import pytest

from adapters.hl7.framing import frame
from adapters.hl7.release2 import COMMITTED, NOT_COMMITTED
from adapters.hl7.release2_sender import Release2Client
from adapters.hl7.sender import NoAnswer
from tests.integration.hl7.fake_intake import Running, adt, fields, running, until

pytestmark = pytest.mark.anyio


def client_of(run: Running, timeout_seconds: float = 10) -> Release2Client:
    host, _, port = run.source.address().rpartition(":")
    return Release2Client(host, int(port), timeout_seconds=timeout_seconds)


async def test_the_commit_acknowledgement_comes_after_the_commit_and_before_the_answer() -> None:
    async with running(mllp_release=2) as run:
        run.intake.commit.clear()
        peer = await run.peer()
        await peer.send(frame(adt("R1")))
        await until(lambda: run.intake.submitted)
        with pytest.raises(TimeoutError):
            await peer.answer(timeout=0.1)
        run.intake.commit.set()
        assert await peer.reader.readexactly(4) == b"\x0b\x06\x1c\x0d"
        assert fields(await peer.answer(), "MSA", 2) == b"R1"
        await peer.send(frame(COMMITTED))
        await peer.send(frame(adt("R2")))
        assert await peer.answer() == COMMITTED
        assert fields(await peer.answer(), "MSA", 2) == b"R2"
        assert "commit-missing" not in run.source.statistics()
        assert [each.control_id for each in run.intake.kept] == ["R1", "R2"]


async def test_nothing_kept_is_told_by_a_negative_commit_alone() -> None:
    async with running(mllp_release=2) as run:
        run.intake.unavailable = True
        peer = await run.peer()
        await peer.send(frame(adt("U")))
        assert await peer.answer() == NOT_COMMITTED
        with pytest.raises(TimeoutError):
            await peer.answer(timeout=0.1)
        run.intake.unavailable = False
        await peer.send(frame(adt("U")))
        assert await peer.answer() == COMMITTED
        assert fields(await peer.answer(), "MSA", 1) == b"AA"


@pytest.mark.parametrize(
    ("block", "commit", "answered"),
    [
        (frame(adt("X", kind="ZZZ^Z99")), COMMITTED, True),  # refused, and kept as evidence
        (frame(adt("X") + b"x" * 5000), NOT_COMMITTED, False),
        (b"\x0b" + adt("X").replace(b"DOE", b"D\x1cE") + b"\x1c\r", NOT_COMMITTED, False),
    ],
)
async def test_what_is_not_whole_in_storage_is_not_committed(
    block: bytes, commit: bytes, answered: bool
) -> None:
    async with running(mllp_release=2, frame_bytes_max=2048) as run:
        peer = await run.peer()
        await peer.send(block)
        assert await peer.answer() == commit
        if answered:
            assert fields(await peer.answer(), "MSA", 1) == b"AR"
            await peer.send(frame(COMMITTED))
        await peer.send(frame(adt("NEXT")))
        assert await peer.answer() == COMMITTED
        assert fields(await peer.answer(), "MSA", 2) == b"NEXT"


async def test_an_answer_that_the_sender_could_not_keep_is_sent_again_a_few_times() -> None:
    async with running(mllp_release=2) as run:
        peer = await run.peer()
        await peer.send(frame(adt("N")))
        assert await peer.answer() == COMMITTED
        first = await peer.answer()
        for _ in range(3):
            await peer.send(frame(NOT_COMMITTED))
            assert await peer.answer() == first
        await peer.send(frame(NOT_COMMITTED))
        await until(lambda: run.source.statistics().get("answer-given-up"))
        await peer.send(frame(adt("NEXT")))
        assert await peer.answer() == COMMITTED
        assert fields(await peer.answer(), "MSA", 2) == b"NEXT"


async def test_pipelined_answers_wait_for_the_commits_of_those_before() -> None:
    async with running(mllp_release=2) as run:
        peer = await run.peer()
        await peer.send(frame(adt("P1")) + frame(adt("P2")) + frame(adt("P3")))
        answers = [await peer.answer() for _ in range(4)]
        assert answers.count(COMMITTED) == 3
        await peer.send(frame(COMMITTED))
        assert fields(await peer.answer(), "MSA", 2) == b"P2"
        await peer.send(frame(COMMITTED))
        assert fields(await peer.answer(), "MSA", 2) == b"P3"


async def test_a_sender_that_never_commits_is_served_and_counted() -> None:
    async with running(mllp_release=2, commit_timeout_seconds=0.1, idle_timeout_seconds=5) as run:
        peer = await run.peer()
        for name in (b"A", b"B", b"C"):
            await peer.send(frame(adt(name.decode())))
            assert await peer.answer() == COMMITTED
            assert fields(await peer.answer(), "MSA", 2) == name
        assert run.source.statistics()["commit-missing"] == 2
        await peer.send(frame(adt("D")) + frame(adt("E")))
        found = [await peer.answer() for _ in range(4)]
        assert [fields(each, "MSA", 2) for each in found if each != COMMITTED] == [b"D", b"E"]


async def test_a_batch_is_one_block() -> None:
    async with running(mllp_release=2) as run:
        peer = await run.peer()
        await peer.send(frame(b"BHS|^~\\&\r" + adt("A") + adt("B") + b"BTS|2\r"))
        assert await peer.answer() == COMMITTED
        assert (await peer.answer()).count(b"MSA|AA|") == 2


@pytest.mark.parametrize("stray", [COMMITTED, NOT_COMMITTED])
async def test_release_1_answers_no_commit_acknowledgement(stray: bytes) -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(frame(stray) + frame(adt("M")))
        assert fields(await peer.answer(), "MSA", 2) == b"M"
        assert run.source.statistics()["commit-unexpected"] == 1
        assert len(run.intake.kept) == 1


async def test_our_client() -> None:
    async with running(mllp_release=2) as run, client_of(run) as client:
        for name in ("C1", "C2"):
            assert fields(await client.send(adt(name)), "MSA", 2) == name.encode()
        run.intake.unavailable = True
        with pytest.raises(NoAnswer, match="could not keep"):
            await client.send(adt("C3"))
        run.intake.unavailable = False
        assert fields(await client.send(adt("C3")), "MSA", 1) == b"AA"
        assert "commit-missing" not in run.source.statistics()


async def test_our_client_tells_a_receiver_of_release_1() -> None:
    async with running() as run, client_of(run) as client:
        with pytest.raises(NoAnswer, match="release 1"):
            await client.send(adt("C"))


async def test_our_client_gives_up_without_a_commit() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with Release2Client("127.0.0.1", port, timeout_seconds=0.2) as client:
            with pytest.raises(NoAnswer, match="no commit acknowledgement"):
                await client.send(adt("C"))
