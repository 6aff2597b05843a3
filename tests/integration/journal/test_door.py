"""Sequence numbers row by row (HL7 v2.9.1 section 2.10.1), and control ids that come again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select

from gateway.gate import PermissionGate
from gateway.intake import JournalIntake
from gateway.journal import acknowledgements, tables
from gateway.journal.journal import Journal
from gateway.journal.states import AnswerState
from gateway.journal.writer import GroupWriter
from gateway.model import (
    Cause,
    CauseCode,
    Disposition,
    LaterAnswer,
    Receipt,
    Received,
)
from tests.integration.journal.bench import Bench

WAIT = 30
CONTROL = Cause(code=CauseCode.LINK_CONTROL)


@pytest.fixture
def intake(journal: Journal) -> Iterator[JournalIntake]:
    gate = PermissionGate()
    writer = GroupWriter(journal, judge=gate.judge)
    writer.start()
    yield JournalIntake(writer, gate)
    writer.stop()


class Link:
    """A source that numbers its messages."""

    def __init__(self, bench: Bench, intake: JournalIntake) -> None:
        self.bench = bench
        self.intake = intake

    def message(self, number: int) -> Received:
        refusal = CONTROL if number < 1 else None
        return replace(self.bench.received(), sequence_number=number, refusal=refusal)

    def send(self, received: Received | int) -> tuple[str, int | None]:
        if isinstance(received, int):
            received = self.message(received)
        receipt = self.intake.submit(received).result(WAIT)
        return told(receipt), receipt.expected_number


def told(receipt: Receipt) -> str:
    if receipt.disposition is Disposition.REFUSED and receipt.cause is not None:
        return receipt.cause.code.value
    return receipt.disposition.value


@pytest.fixture
def link(bench: Bench, intake: JournalIntake) -> Link:
    return Link(bench, intake)


def test_b_starting_a_new_link(link: Link) -> None:
    """b2: nothing was accepted yet, so -1 is expected; the first positive number begins."""
    assert link.send(0) == ("link-control", -1)
    assert link.send(40) == ("accepted", 41)
    assert link.send(41) == ("accepted", 42)


def test_b_restarting_tells_the_number_after_the_last(link: Link) -> None:
    link.send(7)
    assert link.send(0) == ("link-control", 8)
    assert link.send(0) == ("link-control", 8)
    assert link.send(8) == ("accepted", 9)


def test_d1_the_acknowledgement_was_lost(link: Link) -> None:
    """The same message again is answered as before; another one under its number is told
    that the next one is expected."""
    first = link.message(3)
    assert link.send(first) == ("accepted", 4)
    assert link.send(first) == ("duplicate", 4)
    assert link.send(3) == ("sequence-number", 4)
    assert link.send(4) == ("accepted", 5)


def test_d2_a_number_is_missing(link: Link) -> None:
    link.send(1)
    late = link.message(3)
    assert link.send(late) == ("sequence-number", 2)
    assert link.send(0) == ("link-control", 2)
    assert link.send(2) == ("accepted", 3)
    assert link.send(late) == ("accepted", 4)


def test_d3_a_number_of_long_ago(link: Link) -> None:
    link.send(10)
    link.send(11)
    assert link.send(5) == ("sequence-number", 12)


def test_e_resynchronization(link: Link) -> None:
    link.send(10)
    assert link.send(-1) == ("link-control", -1)
    assert link.send(3) == ("accepted", 4)
    assert link.send(11) == ("sequence-number", 4)


def test_a_refused_message_leaves_its_number_free(link: Link) -> None:
    link.send(1)
    wrong = replace(link.message(2), refusal=Cause(code=CauseCode.CHARACTER_SET))
    assert link.send(wrong) == ("character-set", 2)
    assert link.send(2) == ("accepted", 3)


def test_messages_without_a_number_do_not_take_part(link: Link, bench: Bench) -> None:
    link.send(1)
    receipt = link.intake.submit(bench.received()).result(WAIT)
    assert (told(receipt), receipt.expected_number) == ("accepted", None)
    assert link.send(2) == ("accepted", 3)


def test_sources_count_for_themselves(link: Link) -> None:
    link.send(5)
    other = replace(link.message(9), source="radiology")
    assert link.send(other) == ("accepted", 10)
    assert link.send(6) == ("accepted", 7)


def test_numbers_in_one_commit_and_after_a_restart(link: Link, journal: Journal) -> None:
    twice = link.message(3)
    batch = [link.message(1), link.message(2), twice, twice, link.message(5), link.message(4)]
    answers: list[tuple[int, Receipt]] = []

    def settle(words: object) -> None:
        assert isinstance(words, list)
        answers.extend(words)

    writer = GroupWriter(journal)
    writer_intake = JournalIntake(writer, PermissionGate())
    handed = list(zip(batch, range(len(batch)), strict=True))
    writer.start()
    writer_intake.submit_all(handed, settle)
    writer.stop()
    assert [told(receipt) for _, receipt in sorted(answers, key=lambda each: each[0])] == [
        "accepted", "accepted", "accepted", "duplicate", "sequence-number", "accepted",
    ]  # fmt: skip
    assert link.send(0) == ("link-control", 5)


# --- control ids --------------------------------------------------------------------


def same_id(bench: Bench, body: bytes, **changes: object) -> Received:
    received = bench.received(body, control_id="SAME")
    return replace(received, control_id_unique=True, **changes)  # type: ignore[arg-type]


def test_another_message_with_the_same_control_id_is_refused(
    bench: Bench, intake: JournalIntake
) -> None:
    first, second = same_id(bench, b"one"), same_id(bench, b"two")
    assert told(intake.submit(first).result(WAIT)) == "accepted"
    receipt = intake.submit(second).result(WAIT)
    assert told(receipt) == "control-id-reused"
    assert receipt.cause is not None
    assert (receipt.cause.protocol_code, receipt.cause.location) == ("205", "MSH-10")
    assert told(intake.submit(second).result(WAIT)) == "control-id-reused"
    repeated = intake.submit(first).result(WAIT)
    assert (told(repeated), repeated.answer) == ("duplicate", b"AA")


def test_what_was_refused_may_be_corrected(bench: Bench, intake: JournalIntake) -> None:
    wrong = same_id(bench, b"w\xff", refusal=Cause(code=CauseCode.CHARACTER_SET), answer=b"AE")
    assert told(intake.submit(wrong).result(WAIT)) == "character-set"
    assert told(intake.submit(same_id(bench, b"right")).result(WAIT)) == "accepted"


def test_control_ids_within_one_commit(bench: Bench, journal: Journal) -> None:
    writer = GroupWriter(journal)
    intake = JournalIntake(writer, PermissionGate())
    writer.start()
    bodies = (b"one", b"two", b"one", b"three")
    receipts = [intake.submit(same_id(bench, body)) for body in bodies]
    writer.stop()
    assert [told(receipt.result(WAIT)) for receipt in receipts] == [
        "accepted", "control-id-reused", "duplicate", "control-id-reused",
    ]  # fmt: skip


# --- answers that are owed ------------------------------------------------------------


def test_an_owed_answer_is_kept_with_its_message_once(
    bench: Bench, intake: JournalIntake, journal: Journal
) -> None:
    refusal = Cause(code=CauseCode.CHARACTER_SET)
    asked = replace(bench.received(), later_answer=LaterAnswer(condition="AL"))
    ids = [
        intake.submit(each).result(WAIT).message_id
        for each in (
            asked,
            asked,
            bench.received(),
            replace(bench.received(), later_answer=LaterAnswer(condition="AL", linked=False)),
            replace(bench.received(), refusal=refusal, later_answer=LaterAnswer(condition="AL")),
            replace(
                bench.received(),
                refusal=refusal,
                later_answer=LaterAnswer(condition="ER", refusal_told=False),
            ),
        )
    ]
    table = tables.application_acknowledgement
    with journal.read() as connection:
        rows = {row.message_id: row.state for row in connection.execute(select(table))}
        counts = acknowledgements.counts(connection)
        ended, _ = acknowledgements.ended(connection, "lab")
    assert rows == {ids[0]: "awaited", ids[3]: "unlinked", ids[5]: "awaited"}
    assert counts == {"lab": {AnswerState.AWAITED: 2, AnswerState.UNLINKED: 1}}
    assert [(each.message_id, each.cause) for each in ended] == [(ids[5], refusal)]
