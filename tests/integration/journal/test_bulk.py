"""Many rows in one statement of the driver, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from gateway import bulk
from gateway.bulk import Statement, Update, insert_new, insert_rows, instant_text
from gateway.journal import tables
from gateway.journal.faults import JournalFault
from tests.integration.journal.bench import Bench

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
LANE = ("name", "next_at", "token")
IDENTIFIER = ("message_id", "system", "value", "type")


def lanes(bench: Bench) -> dict[str, tuple[datetime | None, int]]:
    with bench.journal.read() as connection:
        found = connection.execute(select(tables.lane).order_by(tables.lane.c.name))
        return {row.name: (row.next_at, row.token) for row in found}


@pytest.mark.parametrize("count", [1, 3, 128, 129, 301])
def test_any_number_of_rows_goes_in_and_changes(bench: Bench, count: int) -> None:
    with bench.journal.write() as connection:
        given = [(f"l{n:03d}", instant_text(AT) if n % 2 else None, n) for n in range(count)]
        insert_rows(connection, tables.lane, given, columns=LANE)
        change = Update(
            tables.lane, "name", ("next_at", "token"), computed=(("token", "t.token + v.token"),)
        )
        change.rows(connection, [(f"l{n:03d}", instant_text(AT), 1000) for n in range(count)])
    assert lanes(bench) == {f"l{n:03d}": (AT, 1000 + n) for n in range(count)}


def test_nothing_is_no_statement(bench: Bench) -> None:
    with bench.journal.write() as connection:
        assert insert_rows(connection, tables.lane, [], columns=LANE, returning="name") == []
        Update(tables.lane, "name", ("token",)).rows(connection, [])
    assert lanes(bench) == {}


def test_changes_of_one_row_are_taken_in_their_order(bench: Bench) -> None:
    with bench.journal.write() as connection:
        insert_rows(connection, tables.lane, [("a", None, 1), ("b", None, 1)], columns=LANE)
        add = Update(
            tables.lane,
            "name",
            ("next_at", "token"),
            computed=(("token", "t.token * 10 + v.token"),),
        )
        add.rows(connection, [("a", None, 2), ("b", None, 5), ("a", instant_text(AT), 3)])
    assert lanes(bench) == {"a": (AT, 123), "b": (None, 15)}


def test_a_condition_leaves_rows_alone(bench: Bench) -> None:
    with bench.journal.write() as connection:
        insert_rows(connection, tables.lane, [("a", None, 1), ("b", None, 2)], columns=LANE)
        Update(tables.lane, "name", ("token",), where="t.token > 1").rows(
            connection, [("a", 9), ("b", 9), ("not there", 9)]
        )
    assert lanes(bench) == {"a": (None, 1), "b": (None, 9)}


def test_what_is_there_stays(bench: Bench) -> None:
    with bench.journal.write() as connection:
        first = insert_new(
            connection,
            tables.waiting,
            [(1, "s", "v", "PI"), (1, "s", "v", "MR"), (2, "s", "v", "PI")],
            columns=IDENTIFIER,
            returning=("message_id", "type"),
        )
        again = insert_new(
            connection,
            tables.waiting,
            [(2, "s", "v", "MR"), (3, "s", "v", "PI")],
            columns=IDENTIFIER,
            returning=("message_id",),
        )
    assert [tuple(row) for row in first] == [(1, "PI"), (2, "PI")]
    assert [tuple(row) for row in again] == [(3,)]


def test_a_statement_takes_values_lists_and_instants(bench: Bench) -> None:
    ask = Statement(
        "SELECT name, next_at FROM lane WHERE name = ANY(:names text) AND next_at <= :until"
        " ORDER BY name FOR UPDATE SKIP LOCKED"
    )
    paris = timezone(timedelta(hours=1))
    names = ["a", "it's", 'quo"te', "é", "b%s"]
    with bench.journal.write() as connection:
        insert_rows(
            connection,
            tables.lane,
            [(name, instant_text(AT + timedelta(hours=n)), 0) for n, name in enumerate(names)],
            columns=LANE,
        )
        until = (AT + timedelta(hours=3)).astimezone(paris)
        found = ask.rows(connection, names=[*names, "none"], until=until)
        assert ask.rows(connection, names=[], until=until) == []
    read = {name: bulk.given_instant(at) for name, at in found}
    assert read == {name: AT + timedelta(hours=n) for n, name in enumerate(names) if n <= 3}
    assert {at.tzinfo for at in read.values()} == {UTC}


def test_an_error_of_the_driver_is_the_journals(bench: Bench) -> None:
    with pytest.raises(JournalFault), bench.journal.write() as connection:
        insert_rows(connection, tables.lane, [("a", None, 1), ("a", None, 2)], columns=LANE)
    assert lanes(bench) == {}


@pytest.mark.parametrize(
    ("given", "read"),
    [("[]", []), ("{}", {}), ('{"a": [1]}', {"a": [1]}), ([2], [2]), (None, None)],
)
def test_json_is_read_whichever_way_it_comes(given: object, read: object) -> None:
    assert bulk.json_of(given) == read
