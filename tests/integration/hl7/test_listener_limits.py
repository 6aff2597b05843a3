"""The listener and senders that are broken, slow, greedy or gone."""

from __future__ import annotations

import asyncio
import gc
import resource

import pytest

from adapters.hl7.framing import frame
from gateway.model import CauseCode
from tests.integration.hl7.fake_intake import adt, fields, running, until

pytestmark = pytest.mark.anyio
PDF = b"QUJD" * 1000


async def test_a_cut_message_is_evidence_and_never_acknowledged_positively() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(b"\x0b" + adt("CUT")[:-30] + frame(adt("WHOLE")))
        answer = await peer.answer()
        assert (fields(answer, "MSA", 1), fields(answer, "MSA", 2)) == (b"AA", b"WHOLE")
        cut, whole = run.intake.kept
    assert cut.refusal is not None
    assert cut.refusal.code is CauseCode.FRAME_TRUNCATED
    assert cut.payload.data == adt("CUT")[:-30]
    assert whole.refusal is None


async def test_a_start_byte_in_the_data_gives_one_negative_answer() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(b"\x0b" + adt("VT").replace(b"DOE", b"D\x0bE") + b"\x1c\r")
        answer = await peer.answer()
        assert (fields(answer, "MSA", 1), fields(answer, "MSA", 2)) == (b"AE", b"VT")
        await peer.send(frame(adt("NEXT")))
        assert fields(await peer.answer(), "MSA", 2) == b"NEXT"
        assert [bool(received.refusal) for received in run.intake.kept] == [True, True, False]


async def test_an_end_byte_in_the_data_gives_one_negative_answer() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(b"\x0b" + adt("FS").replace(b"DOE", b"D\x1cE") + b"\x1c\r")
        answer = await peer.answer()
        assert (fields(answer, "MSA", 1), fields(answer, "MSA", 2)) == (b"AE", b"FS")
        await peer.send(frame(adt("NEXT")))
        assert fields(await peer.answer(), "MSA", 2) == b"NEXT"


async def test_an_end_without_carriage_return_is_answered() -> None:
    async with running(settle_seconds=0.02) as run:
        peer = await run.peer()
        await peer.send(b"\x0b" + adt("E1") + b"\x1c")
        assert fields(await peer.answer(), "MSA", 1) == b"AA"
        assert run.source.statistics()["end-without-carriage-return"] == 1


async def test_a_missing_start_byte_keeps_the_message_and_closes() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(adt("NOVT") + b"\x1c\r")
        assert await peer.closed()
        await until(lambda: run.intake.kept)
        [evidence] = run.intake.kept
        assert evidence.payload.data == adt("NOVT") + b"\x1c"
        assert evidence.refusal is not None
        assert run.source.statistics()["missing-start"] == 1


async def test_half_a_message_times_out_and_its_bytes_are_kept() -> None:
    async with running(frame_timeout_seconds=0.1) as run:
        peer = await run.peer()
        await peer.send(frame(adt("A")))
        await peer.answer()
        await peer.send(b"\x0b" + adt("HALF")[:100])
        assert await peer.closed()
        await until(lambda: len(run.intake.kept) == 2)
        assert run.intake.kept[-1].payload.data == adt("HALF")[:100]
        assert run.intake.kept[-1].control_id == "HALF"
        assert run.source.statistics()["frame-timeout"] == 1


async def test_half_a_message_at_the_end_of_the_connection_is_kept() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(b"\x0b" + adt("HALF")[:100])
        await peer.close()
        await until(lambda: run.intake.kept)
        assert run.intake.kept[0].refusal is not None


async def test_a_sender_that_closes_its_side_still_gets_its_answers() -> None:
    async with running(frames_in_flight_max=1) as run:
        peer = await run.peer()
        await peer.send(b"".join(frame(adt(f"N{number}")) for number in range(20)))
        peer.writer.write_eof()
        assert [fields(await peer.answer(), "MSA", 1) for _ in range(20)] == [b"AA"] * 20
        assert await peer.closed()


async def test_idle_connections_are_closed_and_busy_ones_are_not() -> None:
    async with running(idle_timeout_seconds=0.1) as run:
        idle, waiting = await run.peer(), await run.peer()
        run.intake.commit.clear()
        await waiting.send(frame(adt("SLOW")))
        assert await idle.closed()
        run.intake.commit.set()
        assert fields(await waiting.answer(), "MSA", 1) == b"AA"
        assert run.source.statistics()["idle-timeout"] == 1


async def test_junk_beyond_the_limit_closes() -> None:
    async with running(junk_bytes_max=1000) as run:
        peer = await run.peer()
        await peer.send(b"x" * 5000)
        assert await peer.closed()
        assert run.source.statistics()["junk-limit"] == 1
        assert run.intake.kept == []


async def test_connection_limits() -> None:
    async with running(connections_max=3, connections_per_address_max=2) as run:
        first, second = await run.peer(), await run.peer()
        for peer in (first, second):
            await peer.send(frame(adt()))
            await peer.answer()
        third = await run.peer()
        assert await third.closed()
        assert run.source.statistics()["refused-address-limit"] == 1
        await first.close()
        await until(lambda: run.source.statistics()["connections"] == 1)
        fourth = await run.peer()
        await fourth.send(frame(adt()))
        assert fields(await fourth.answer(), "MSA", 1) == b"AA"


async def test_a_sender_that_never_reads_its_answers_is_closed() -> None:
    async with running(write_timeout_seconds=0.2, frames_in_flight_max=8) as run:
        peer = await run.peer()
        peer.writer.transport.pause_reading()
        block = b"".join(frame(adt("N" * 190)) for _ in range(500))

        async def flood() -> None:
            while not peer.writer.transport.is_closing():
                await peer.send(block)

        flooding = asyncio.ensure_future(flood())
        try:
            await until(lambda: run.source.statistics().get("write-timeout"), timeout=30)
        finally:
            flooding.cancel()
        assert run.source.statistics()["held-bytes"] < 1 << 20
        other = await run.peer()
        await other.send(frame(adt("OTHER")))
        assert fields(await other.answer(), "MSA", 1) == b"AA"


async def test_bytes_in_memory_are_bounded_over_all_connections() -> None:
    async with running(held_bytes_max=1 << 20, frame_bytes_max=600_000) as run:
        peers = [await run.peer() for _ in range(3)]
        for peer in peers:
            peer.writer.write(b"\x0b" + adt() + b"x" * 500_000)
        await until(lambda: run.source.statistics().get("held-bytes-limit"))
        assert run.source.statistics()["held-bytes"] <= 1 << 20


async def test_one_address_cannot_take_the_room_of_the_others() -> None:
    limits = {"held_bytes_max": 8 << 20, "held_bytes_per_address_max": 1 << 20}
    async with running(**limits, frame_bytes_max=600_000) as run:
        host, _, port = run.source.address().rpartition(":")
        greedy = [
            await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
            for _ in range(4)
        ]
        for _, writer in greedy:
            writer.write(b"\x0b" + adt() + b"x" * 500_000)
        await until(lambda: run.source.statistics().get("held-bytes-limit"))
        peer = await run.peer()
        await peer.send(b"\x0b" + adt("OTHER") + b"NTE|1||" + b"x" * 500_000)
        await until(lambda: run.source.statistics()["held-bytes"] > 500_000)
        await peer.send(b"\r\x1c\r")
        assert fields(await peer.answer(), "MSA", 1) == b"AA"
        for _, writer in greedy:
            writer.close()
        await until(lambda: run.source.statistics()["held-bytes"] == 0)


async def test_a_message_that_is_too_large_is_refused_with_flat_memory() -> None:
    async with running(frame_bytes_max=1 << 20) as run:
        peer = await run.peer()
        await peer.send(frame(adt("SMALL")))
        await peer.answer()
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await peer.send(b"\x0b" + adt("BIG") + b"OBX|1|ED|||")
        for _ in range(50):
            await peer.send(PDF * 256)
        await peer.send(b"\r\x1c\r")
        answer = await peer.answer()
        assert (fields(answer, "MSA", 1), fields(answer, "MSA", 2)) == (b"AR", b"BIG")
        await peer.send(frame(adt("NEXT")))
        assert fields(await peer.answer(), "MSA", 2) == b"NEXT"
        assert run.intake.kept[1].payload.size == 64 << 10
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 32 << 10  # KiB


async def test_a_large_message_within_the_limit_is_taken_in_its_turn() -> None:
    large = adt("LARGE") + b"OBX|1|ED|DOC||^TEXT^XML^Base64^" + PDF * 12_500 + b"||||||F\r"
    assert len(large) > 50_000_000
    async with running(frame_bytes_max=64 << 20) as run:
        peer = await run.peer()
        await peer.send(frame(adt("BEFORE")) + frame(large) + frame(adt("AFTER")))
        answers = [await peer.answer(timeout=60) for _ in range(3)]
        assert [fields(each, "MSA", 2) for each in answers] == [b"BEFORE", b"LARGE", b"AFTER"]
        assert {fields(each, "MSA", 1) for each in answers} == {b"AA"}
        assert [received.control_id for received in run.intake.kept] == ["BEFORE", "LARGE", "AFTER"]
        assert run.intake.kept[1].payload.data == large
        assert run.source.statistics()["held-bytes"] == 0


async def test_a_storm_of_cut_messages_ends_the_connection() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(b"\x0bMSH|" * 50_000)
        assert await peer.closed()
        assert len(run.intake.submitted) <= 32
        assert run.source.statistics()["faults-limit"] == 1
        # Bytes that stayed counted after their connection would close the others in the end.
        await until(lambda: run.source.statistics()["held-bytes"] == 0)


async def test_a_stop_while_a_large_message_is_examined_leaves_nothing_behind() -> None:
    async with running(frame_bytes_max=8 << 20) as run:
        peer = await run.peer()
        await peer.send(frame(adt("LARGE") + b"OBX|1|ED|D||" + PDF * 1000 + b"\r"))
        await until(lambda: run.source.statistics()["held-bytes"] > 4_000_000)
        await run.source.stop()
        await until(lambda: run.source.statistics()["held-bytes"] == 0)
        assert run.source.statistics()["connections"] == 0


async def test_stopping_answers_what_was_handed_over() -> None:
    async with running() as run:
        run.intake.commit.clear()
        peer = await run.peer()
        await peer.send(frame(adt("LAST")))
        await until(lambda: run.intake.submitted)
        stopping = asyncio.ensure_future(run.source.stop())
        await asyncio.sleep(0)
        run.intake.commit.set()
        assert fields(await peer.answer(), "MSA", 2) == b"LAST"
        assert await peer.closed()
        await stopping
        await run.source.stop()
        with pytest.raises(OSError):
            await run.peer()


async def test_a_port_in_use_is_an_error() -> None:
    async with running() as run:
        with pytest.raises(OSError):
            async with running(listen=run.source.address()):
                pass
