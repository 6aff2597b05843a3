"""The chain over what was accepted, and whether all of it is somewhere: what was tampered with or
lost is found, whatever it is; what is in order is not accused."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.journal import chain, consistency
from gateway.journal.chain import Fault, Verified, ids_of, ranges
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.states import MessageState
from gateway.journal.writer import GroupWriter
from tests.integration.journal.bench import Bench


@pytest.fixture
def filled(bench: Bench) -> Bench:
    """Two processes have accepted forty messages, some of them twice."""
    writers = [GroupWriter(bench.journal, batch_max=4) for _ in range(2)]
    for writer in writers:
        writer.start()
    given = [bench.received() for _ in range(40)]
    waiting = [
        writers[n % 2].submit(each, state=MessageState.RECEIVED, lane="in:lab")
        for n, each in enumerate([*given, *given[:8]])
    ]
    assert sum(each.result(timeout=20).duplicate for each in waiting) == 8
    for writer in writers:
        writer.stop()
    return bench


def walk(journal: Journal) -> tuple[Verified, list[Fault]]:
    found = Verified()
    with journal.read() as connection:
        return found, list(chain.verify(connection, found))


def test_every_message_is_in_one_link_and_all_fit(filled: Bench) -> None:
    found, faults = walk(filled.journal)
    assert faults == []
    assert found.messages == 40
    assert found.links >= 10
    assert found.newest
    with filled.journal.read() as connection:
        assert list(consistency.check(connection)) == []


TAMPERING = {
    "a row changed": (
        "UPDATE message SET sha256 = 'x' WHERE id = (SELECT max(id) FROM message)",
        "was changed",
    ),
    "a time changed": (
        "UPDATE message SET source = 'other' WHERE id = (SELECT max(id) FROM message)",
        "was changed",
    ),
    "a row gone": ("DELETE FROM message WHERE id = (SELECT max(id) FROM message)", "are gone"),
    "a link changed": ("UPDATE chain_link SET content = 'x' WHERE number = 2", "itself"),
    "a link gone": ("DELETE FROM chain_link WHERE number = 2", "missing"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_what_was_tampered_with_is_found(filled: Bench, name: str) -> None:
    statement, said = TAMPERING[name]
    with filled.journal.write() as connection:
        connection.execute(text(statement))
    _, faults = walk(filled.journal)
    assert any(said in each.what for each in faults), faults


def test_a_chain_that_is_gone_altogether_is_missed_by_the_next(filled: Bench) -> None:
    later = GroupWriter(filled.journal)
    later.start()
    later.submit(filled.received(), state=MessageState.RECEIVED, lane="in:lab").result(timeout=20)
    later.stop()
    assert walk(filled.journal)[1] == []
    with filled.journal.write() as connection:
        last = (
            connection.execute(
                text(
                    "SELECT previous FROM chain_link WHERE number = 1 ORDER BY at DESC, chain LIMIT 3"
                )
            )
            .scalars()
            .all()
        )
        connection.execute(
            text(
                "DELETE FROM chain_link WHERE chain IN (SELECT chain FROM chain_link"
                " WHERE digest IN (:a, :b, :c))"
            ),
            dict(zip("abc", (*last, "", ""), strict=False)),
        )
    assert any("gone" in each.what for each in walk(filled.journal)[1])


def test_a_commit_that_failed_leaves_no_gap(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = GroupWriter(bench.journal)
    writer.start()

    def accept() -> None:
        future = writer.submit(bench.received(), state=MessageState.RECEIVED, lane="in:lab")
        future.result(timeout=20)

    accept()
    with monkeypatch.context() as patch:
        link = chain.Chain.link

        def fails(*given: object) -> None:
            link(*given)  # type: ignore[arg-type]
            raise JournalUnavailable("away")

        patch.setattr(chain.Chain, "link", fails)
        with pytest.raises(JournalUnavailable):
            accept()
    accept()
    writer.stop()
    found, faults = walk(bench.journal)
    assert (found.messages, faults) == (2, [])


STRANDED = {
    "stranded-messages": "UPDATE lane SET next_at = NULL",
    "laneless-messages": "DELETE FROM lane",
    "without-content": "DELETE FROM content WHERE message_id = (SELECT max(id) FROM message)",
    "routed-without-deliveries": "UPDATE message SET state = 'routed' WHERE id = (SELECT max(id) FROM message)",
    "dead-without-letter": "UPDATE message SET state = 'dead' WHERE id = (SELECT max(id) FROM message)",
}


@pytest.mark.parametrize("name", STRANDED)
def test_what_nobody_will_look_at_again_is_found(filled: Bench, name: str) -> None:
    with filled.journal.write() as connection:
        connection.execute(text(STRANDED[name]))
    with filled.journal.read() as connection:
        found = {each.check: each.count for each in consistency.check(connection)}
    assert name in found


def test_stranded_deliveries_are_found(bench: Bench) -> None:
    bench.route(bench.message(), "p")
    with bench.journal.write() as connection:
        connection.execute(text("UPDATE lane SET next_at = NULL"))
    with bench.journal.read() as connection:
        assert [each.check for each in consistency.check(connection)] == ["stranded-deliveries"]


def test_ranges_are_read_as_they_were_written(tmp_path: Path) -> None:
    for ids in ([1], [1, 2, 3], [1, 3, 4, 9], [5, 7]):
        assert ids_of(ranges(ids)) == ids
    with pytest.raises(ValueError):
        ids_of("1-99999999999")
