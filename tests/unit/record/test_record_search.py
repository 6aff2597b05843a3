"""Searches: what they find, in pages, and what they refuse; on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from gateway.model import Entry
from record.faults import SearchRefused
from record.searching import COUNT_MAX
from record.store import Record
from tests.unit.record import making
from tests.unit.record.making import INS, LOINC, document, observation, organization, patient


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    yield from making.made_engine(request.param, request, tmp_path_factory)


@pytest.fixture(scope="module")
def record() -> Record:
    return making.record()


def entries() -> list[tuple[str, Entry]]:
    """Two patients' entries, with what each search must tell apart."""
    coded = {"coding": [{"system": LOINC, "code": "NA"}]}
    return [
        ("a", patient("a", "D\u2019Été", birthDate="1985-01")),
        ("a", observation("o1", "a", effectiveDateTime="2024-01")),
        ("a", observation("o2", "a", effectiveDateTime="2024-02-29T23:30:00Z", status="amended")),
        ("a", observation("o3", "a", code=coded, effectivePeriod={"start": "2024-05-01"})),
        ("a", observation("o4", "a", code={"coding": [{"system": LOINC, "code": "Na"}]})),
        ("a", document("d1", "a", masterIdentifier={"system": "urn:m", "value": "1"})),
        ("a", document("undated", "a")),
        ("a", organization()),
        ("b", patient("b", "Martin", birthDate="1990-06-15")),
        ("b", observation("o5", "b", effectiveDateTime="2024-03-01T00:30:00+01:00")),
        ("b", organization()),
    ]


@pytest.fixture(scope="module")
def connection(engine: Engine, record: Record) -> Iterator[Connection]:
    with engine.connect() as connection:
        for number, (owner, entry) in enumerate(entries(), 1):
            for name in ("effectiveDateTime",):
                if entry.resource["id"] == "undated":
                    entry.resource.pop("date")
                if "effectivePeriod" in entry.resource:
                    entry.resource.pop(name, None)
            record.put(
                connection,
                owner,
                [entry],
                message_id=number,
                sequence=number,
                source="lab",
                mapping="m@1",
            )
        yield connection


@pytest.mark.parametrize(
    ("type_name", "query", "expected"),
    [
        ("Observation", {}, "o5 o4 o3 o2 o1"),
        ("Observation", {"patient": "a"}, "o4 o3 o2 o1"),
        ("Observation", {"subject": "Patient/b"}, "o5"),
        ("Observation", {"patient": "a,b", "status": "amended"}, "o2"),
        ("Observation", {"patient": "nobody"}, ""),
        ("Observation", {"_id": "o1,o3,zz"}, "o3 o1"),
        # tokens
        ("Observation", {"code": "718-7"}, "o5 o2 o1"),
        ("Observation", {"code": f"{LOINC}|718-7"}, "o5 o2 o1"),
        ("Observation", {"code": f"{LOINC}|HB"}, ""),
        ("Observation", {"code": "|HB"}, "o5 o2 o1"),
        ("Observation", {"code": "HB,NA"}, "o5 o3 o2 o1"),
        ("Observation", {"code": "NA"}, "o3"),
        ("Observation", {"code": "Na"}, "o4"),
        ("Observation", {"code": "18-7"}, ""),
        ("Observation", {"code": "%"}, ""),
        ("Observation", {"code": f"{LOINC}|"}, "o5 o4 o3 o2 o1"),
        ("Observation", {"category": "laboratory", "patient": "b"}, "o5"),
        ("Observation", {"status": "final", "patient": "a"}, "o4 o3 o1"),
        # dates, read in Paris: 2024-02-29T23:30Z is the first of March there
        ("Observation", {"date": "2024-01"}, "o1"),
        ("Observation", {"date": "2024-01-15"}, ""),
        ("Observation", {"date": "ap2024-01-15"}, "o1"),
        ("Observation", {"date": "2024-03-01"}, "o5 o4 o2"),
        ("Observation", {"date": "2024-02-29T23:30:00Z"}, "o5 o2"),
        ("Observation", {"date": "ge2024-03-01"}, "o5 o4 o3 o2"),
        ("Observation", {"date": "gt2024-03-01"}, "o3"),
        ("Observation", {"date": "lt2024-02-01"}, "o1"),
        ("Observation", {"date": "le2024-01"}, "o1"),
        ("Observation", {"date": "sa2024-03-01"}, "o3"),
        ("Observation", {"date": "eb2024-03"}, "o1"),
        ("Observation", {"date": "ne2024-01"}, "o5 o4 o3 o2"),
        ("Observation", {"_lastUpdated": "ge2024-03-01"}, "o5 o4 o3 o2 o1"),
        ("Observation", {"_lastUpdated": "lt2024-03-01"}, ""),
        ("DocumentReference", {"date": "lt2030"}, "d1"),
        ("DocumentReference", {"date": "ne2030"}, "d1"),
        ("DocumentReference", {"_sort": "date"}, "undated d1"),
        # order
        ("Observation", {"_sort": "date"}, "o1 o2 o5 o4 o3"),
        ("Observation", {"_sort": "-date"}, "o3 o4 o5 o2 o1"),
        ("Observation", {"_sort": "_id"}, "o1 o2 o3 o4 o5"),
        ("Observation", {"_sort": "_lastUpdated"}, "o1 o2 o3 o4 o5"),
        # identifiers and names
        ("Patient", {"identifier": f"{INS}|INS-a"}, "a"),
        ("Patient", {"identifier": "INS-b"}, "b"),
        ("Patient", {"identifier": f"{INS}0|INS-a"}, ""),
        ("Patient", {"identifier": "|INS-a"}, ""),
        ("DocumentReference", {"identifier": "urn:m|1"}, "d1"),
        ("Patient", {"family": "D\u2019ete"}, "a"),
        ("Patient", {"family": "ete"}, ""),
        ("Patient", {"given": "ZOE"}, "b a"),
        ("Patient", {"name": "mar"}, "b"),
        ("Patient", {"birthdate": "1985"}, "a"),
        ("Patient", {"birthdate": "ge1985-02"}, "b"),
        ("Organization", {"name": "labo"}, "lab"),
        ("Basic", {"patient": "a"}, ""),
    ],
)
def test_what_a_search_finds(
    record: Record, connection: Connection, type_name: str, query: dict[str, str], expected: str
) -> None:
    page = record.search(connection, type_name, query.items())
    assert " ".join(entry.id for entry in page.entries) == expected
    assert page.total == len(expected.split())
    assert page.next == ""


def test_entries_are_found_by_several_identifiers_at_once(
    record: Record, connection: Connection
) -> None:
    wanted = [("urn:m", "1"), ("urn:m", "2"), ("urn:n", "1"), (INS, "INS-a")]
    assert [each.id for each in record.identified(connection, "DocumentReference", wanted)] == [
        "d1"
    ]
    assert [each.id for each in record.identified(connection, "Patient", wanted)] == ["a"]
    assert record.identified(connection, "Patient", [("urn:m", "1")]) == []


def test_a_parameter_given_twice_must_hold_twice(record: Record, connection: Connection) -> None:
    between = [("date", "ge2024-01"), ("date", "lt2024-03-01")]
    page = record.search(connection, "Observation", between)
    assert [entry.id for entry in page.entries] == ["o1"]


@pytest.mark.parametrize("sort", ["", "date", "-date", "_id", "-_id", "_lastUpdated"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pages_hold_every_entry_once(
    record: Record, connection: Connection, sort: str, count: int
) -> None:
    query = [("_sort", sort)] if sort else []
    whole = [entry.id for entry in record.search(connection, "Observation", query).entries]
    seen: list[str] = []
    token = ""
    for _ in range(10):
        more = [("page", token)] if token else []
        page = record.search(connection, "Observation", [*query, ("_count", str(count)), *more])
        assert page.total == 5
        seen.extend(entry.id for entry in page.entries)
        token = page.next
        if not token:
            break
    assert seen == whole


def test_everything_is_paged_too(record: Record, connection: Connection) -> None:
    for count in (1, 2, 100):
        seen: list[str] = []
        token = ""
        for _ in range(30):
            page = record.everything(connection, "a", count=count, page=token)
            seen.extend(entry.reference for entry in page.entries)
            token = page.next
            if not token:
                break
        assert seen[0] == "Patient/a"
        assert len(seen) == len(set(seen)) == page.total == 16
    only = record.everything(connection, "a", types=["Organization", "Patient"])
    assert {entry.type for entry in only.entries} == {"Organization", "Patient"}


def test_counts_have_limits(record: Record, connection: Connection) -> None:
    none = record.search(connection, "Observation", [("_count", "0")])
    assert (none.entries, none.total) == ((), 5)
    many = record.search(connection, "Observation", [("_count", str(COUNT_MAX * 10))])
    assert len(many.entries) == 5


@pytest.mark.parametrize(
    ("type_name", "name", "value", "known"),
    [
        ("Observation", "colour", "red", False),
        ("Observation", "code:in", "x", False),
        ("Observation", "birthdate", "1985", False),
        ("Patient", "patient", "a", False),
        ("Provenance", "identifier", "x", False),
        ("Observation", "date", "yesterday", True),
        ("Observation", "date", "2024-02-31", True),
        ("Observation", "date", "xx2024", True),
        ("Observation", "_count", "-1", True),
        ("Observation", "_count", "many", True),
        ("Observation", "_sort", "code", True),
        ("Observation", "page", "???", True),
        ("Observation", "page", "WzEsMiwzXQ", True),
        ("Observation", "page", "W1tb" * 1_000, True),  # [[[… without end
        ("Observation", "page", "WyJhIiwxXQ", True),
        ("Observation", "page", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LDFd", True),
        ("Observation", "patient", "Group/a", True),
        ("Observation", "patient", "", True),
        ("Observation", "code", "a\x00b", True),
        ("Observation", "code", ",".join("abcdefghij" * 20), True),
        ("Patient", "identifier", f"{INS}|", True),
    ],
)
def test_what_cannot_be_understood_is_refused(
    record: Record, connection: Connection, type_name: str, name: str, value: str, known: bool
) -> None:
    with pytest.raises(SearchRefused) as refusal:
        record.search(connection, type_name, [(name, value)])
    assert refusal.value.parameter == name
    assert refusal.value.known is known


def test_lenient_leaves_out_what_is_unknown(record: Record, connection: Connection) -> None:
    query = [("colour", "red"), ("_id", "o1")]
    page = record.search(connection, "Observation", query, lenient=True)
    assert [entry.id for entry in page.entries] == ["o1"]
    assert page.ignored == ("colour",)


def test_a_search_reads_an_index(engine: Engine, record: Record, connection: Connection) -> None:
    """The plan of a search on SQLite never walks a whole table."""
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL prefers to walk small tables")
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        statements.append((sql, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        record.search(connection, "Observation", [("patient", "a"), ("code", "718-7")])
        record.search(connection, "Patient", [("identifier", f"{INS}|INS-a")])
        record.search(connection, "Observation", [("_sort", "-date"), ("_count", "2")])
        record.everything(connection, "a")
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len(statements) > 6
    for sql, parameters in statements:
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters):
            assert not row.detail.startswith("SCAN record_"), (sql, row.detail)
