"""Batches in a block: each message to intake by itself, one batch as the answer."""

from __future__ import annotations

import pytest

from adapters.hl7.framing import frame
from gateway.model import CauseCode
from tests.integration.hl7.fake_intake import Running, adt, fields, running, until

pytestmark = pytest.mark.anyio

FHS = b"FHS|^~\\&|LAB|HOSP|ECLUSE|DMP|20240101||||FILE7\r"
BHS = b"BHS|^~\\&|LAB|HOSP|ECLUSE|DMP|20240101||||BATCH9\r"


async def exchange(run: Running, message: bytes) -> bytes:
    peer = await run.peer()
    await peer.send(frame(message))
    return await peer.answer()


def names(answer: bytes) -> list[bytes]:
    return [line[:3] for line in answer.split(b"\r") if line]


def acknowledged(answer: bytes) -> list[tuple[bytes, bytes]]:
    """MSA-1 and MSA-2 of each acknowledgement of a batch."""
    lines = [line.split(b"|") for line in answer.split(b"\r") if line.startswith(b"MSA")]
    return [(line[1], line[2]) for line in lines]


async def test_each_message_is_kept_and_acknowledged_in_one_batch() -> None:
    messages = [adt("A"), adt("B"), adt("C")]
    async with running() as run:
        answer = await exchange(run, FHS + BHS + b"".join(messages) + b"BTS|3\rFTS|1\r")
        assert [each.payload.data for each in run.intake.kept] == messages
        assert run.intake.kept[1].attributes["batch"] == "BATCH9"
        assert run.intake.kept[1].attributes["batch_message"] == "2 of 3"
        assert run.source.statistics()["batches"] == 1
        assert run.source.statistics()["answer-AA"] == 3
    assert names(answer) == [b"FHS", b"BHS", *[b"MSH", b"MSA"] * 3, b"BTS", b"FTS"]
    assert acknowledged(answer) == [(b"AA", b"A"), (b"AA", b"B"), (b"AA", b"C")]
    assert [fields(answer, "BHS", number) for number in (2, 3, 4, 5)] == [
        b"ECLUSE", b"DMP", b"LAB", b"HOSP",
    ]  # fmt: skip
    assert fields(answer, "BHS", 11) == b"BATCH9"  # BHS-12: fields() counts from the name
    assert fields(answer, "FHS", 11) == b"FILE7"
    assert fields(answer, "BTS", 1) == b"3"
    assert fields(answer, "FTS", 1) == b"1"


async def test_no_answer_before_the_last_commit_and_the_order_of_the_connection_is_kept() -> None:
    async with running() as run:
        run.intake.commit.clear()
        peer = await run.peer()
        batch = BHS + adt("B1") + adt("B2") + b"BTS|2\r"
        await peer.send(frame(adt("FIRST")) + frame(batch) + frame(adt("LAST")))
        await until(lambda: len(run.intake.submitted) == 4)
        with pytest.raises(TimeoutError):
            await peer.answer(timeout=0.1)
        run.intake.commit.set()
        assert acknowledged(await peer.answer()) == [(b"AA", b"FIRST")]
        assert acknowledged(await peer.answer()) == [(b"AA", b"B1"), (b"AA", b"B2")]
        assert acknowledged(await peer.answer()) == [(b"AA", b"LAST")]
        assert run.source.statistics()["held-bytes"] == 0


async def test_one_bad_message_is_refused_alone() -> None:
    batch = BHS + adt("GOOD") + adt("BAD", kind="ZZZ^Z99") + adt("ALSO") + b"BTS|3\r"
    async with running() as run:
        answer = await exchange(run, batch)
        assert [bool(each.refusal) for each in run.intake.kept] == [False, True, False]
    assert acknowledged(answer) == [(b"AA", b"GOOD"), (b"AR", b"BAD"), (b"AA", b"ALSO")]
    assert fields(answer, "ERR", 3).startswith(b"200^")


@pytest.mark.parametrize(
    ("trailers", "location", "told"),
    [
        (b"BTS|3\rFTS|1\r", b"BTS^1^1", b"BTS-1 says 3, and there are 2 messages"),
        (b"BTS|2\rFTS|2\r", b"FTS^1^1", b"FTS-1 says 2, and there is 1 batch"),
        (b"BTS|two\r", b"BTS^1^1", b"BTS-1 is not a number"),
    ],
)
async def test_a_wrong_count_refuses_all_and_keeps_the_whole(
    trailers: bytes, location: bytes, told: bytes
) -> None:
    block = FHS + BHS + adt("A") + adt("B") + trailers
    async with running() as run:
        peer = await run.peer()
        await peer.send(frame(block) + frame(adt("NEXT")))
        answer = await peer.answer()
        assert acknowledged(await peer.answer()) == [(b"AA", b"NEXT")]
        evidence, _ = run.intake.kept
    assert evidence.payload.data == block
    assert evidence.refusal is not None
    assert evidence.refusal.code is CauseCode.CONTENT_MISMATCH
    assert acknowledged(answer) == [(b"AE", b"A"), (b"AE", b"B")]
    assert fields(answer, "ERR", 2) == location
    assert told in fields(answer, "ERR", 8)


async def test_an_empty_batch_is_answered_by_an_empty_batch() -> None:
    async with running() as run:
        peer = await run.peer()
        await peer.send(frame(BHS + b"BTS|0\r") + frame(adt("NEXT")))
        answer = await peer.answer()
        assert names(answer) == [b"BHS", b"BTS"]
        assert fields(answer, "BTS", 1) == b"0"
        assert acknowledged(await peer.answer()) == [(b"AA", b"NEXT")]
        assert [each.control_id for each in run.intake.kept] == ["NEXT"]


async def test_an_empty_batch_that_counts_messages_is_not_taken_for_a_good_one() -> None:
    async with running() as run:
        answer = await exchange(run, BHS + b"BTS|2\r")
        [evidence] = run.intake.kept
    assert evidence.refusal is not None
    assert acknowledged(answer) == [(b"AE", b"")]


@pytest.mark.parametrize(
    "block",
    [
        BHS + b"PID|1\r" + adt("A") + b"BTS|1\r",  # a segment of no message
        BHS + adt("A") + FHS + adt("B") + b"BTS|2\r",
        FHS + BHS + adt("A") + b"BTS|1\rFTS|1\r" + adt("B"),
        b"BHS|\r" + adt("A"),
        BHS + adt("A") + adt("B") + adt("C"),  # more than the limit of two
    ],
)
async def test_what_is_no_batch_of_the_standard_is_one_refusal(block: bytes) -> None:
    async with running(batch_messages_max=2) as run:
        answer = await exchange(run, block)
        [evidence] = run.intake.kept
        assert acknowledged(await exchange(run, adt("NEXT"))) == [(b"AA", b"NEXT")]
    assert evidence.payload.data == block
    assert evidence.refusal is not None
    [(code, control_id)] = acknowledged(answer)
    assert (code in {b"AE", b"AR"}, control_id) == (True, b"")


async def test_nothing_kept_refuses_each_and_the_batch_sent_again_is_taken() -> None:
    batch = BHS + adt("A") + adt("B") + b"BTS|2\r"
    async with running() as run:
        run.intake.unavailable = True
        assert acknowledged(await exchange(run, batch)) == [(b"AR", b"A"), (b"AR", b"B")]
        run.intake.unavailable = False
        first = await exchange(run, batch)
        again = await exchange(run, batch)
    assert acknowledged(first) == acknowledged(again) == [(b"AA", b"A"), (b"AA", b"B")]


async def test_other_delimiters_and_many_batches_in_a_file() -> None:
    head = b"BHS#*!/%%#LAB########B%d\r"
    block = head % 1 + adt("A") + b"BTS#1\r" + head % 2 + adt("B") + adt("C") + b"BTS#2\r"
    async with running() as run:
        answer = await exchange(run, b"\xef\xbb\xbf" + block + b"FTS#2\r")
    assert acknowledged(answer) == [(b"AA", b"A"), (b"AA", b"B"), (b"AA", b"C")]
    assert answer.count(b"BHS#*!/%#") == 2
    assert b"BTS#1\r" in answer
    assert b"BTS#2\r" in answer


async def test_a_thousand_messages_in_a_block() -> None:
    messages = b"".join(adt(f"M{number}") for number in range(1000))
    async with running(frames_in_flight_max=4) as run:
        answer = await exchange(run, BHS + messages + b"BTS|1000\r")
    assert acknowledged(answer) == [(b"AA", b"M%d" % number) for number in range(1000)]


async def test_a_sender_that_is_gone_does_not_undo_its_batch() -> None:
    async with running() as run:
        run.intake.commit.clear()
        peer = await run.peer()
        await peer.send(frame(BHS + adt("A") + adt("B") + b"BTS|2\r"))
        await until(lambda: len(run.intake.submitted) == 2)
        await peer.close()
        run.intake.commit.set()
        await until(lambda: len(run.intake.kept) == 2)
        await until(lambda: run.source.statistics()["connections"] == 0)
        assert run.source.statistics()["held-bytes"] == 0
