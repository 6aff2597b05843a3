"""Whatever the order in which messages reach the record, the same is current at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from gateway.model import Entry
from record.precedence import Standing, Verdict, judge
from record.store import Record
from tests.unit.record import making
from tests.unit.record.making import (
    document,
    observation,
    organization,
    patient,
    provisional,
    replacing,
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    yield from making.made_engine(request.param, request, tmp_path_factory)


Message = tuple[int, str, tuple[Entry, ...]]


def story() -> list[Message]:
    """Messages of two patients, the later of which say otherwise than the earlier."""
    return [
        (1, "a", (provisional(patient("a", "Labo")), observation("o", "a", "1"))),
        (2, "a", (patient("a", "Adt"), organization())),
        (3, "a", (observation("o", "a", "2"), document("d1", "a"))),
        (4, "b", (patient("b"), organization("lab", "Autre nom"), document("d3", "b"))),
        (5, "a", (replacing("d2", "a", "d1"), provisional(patient("a", "Labo 5")))),
        (6, "a", (observation("o", "a", "1"),)),
        (7, "b", (observation("moved", "b"), provisional(organization("lab", "Encore")))),
        (8, "a", (observation("moved", "a"), replacing("d2", "a", "d1", "d3"))),
        (9, "a", (document("d1", "a", description="corrigé"),)),
    ]


def state(record: Record, connection: Connection) -> dict[str, Any]:
    """All that is current, without what tells when and how it came."""
    found: dict[str, Any] = {}
    for owner in ("a", "b"):
        for entry in record.everything(connection, owner).entries:
            said = dict(entry.resource)
            said.pop("meta")
            if entry.type == "Provenance":
                said.pop("recorded")
            found[f"{owner} {entry.reference}"] = said
    return found


def play(engine: Engine, order: list[int], merge_at: int) -> dict[str, Any]:
    """Put the messages in an order (with repetitions), and merge b into a on the way."""
    record, messages = making.record(), story()
    with engine.connect() as connection:
        for step, number in enumerate(order):
            if step == merge_at:
                record.merge(connection, "a", "b")
            sequence, owner, entries = messages[number]
            record.put(
                connection,
                owner,
                entries,
                message_id=sequence,
                sequence=sequence,
                source="s",
                mapping="m@1",
            )
        return state(record, connection)


@pytest.fixture(scope="module")
def in_order(engine: Engine) -> dict[str, Any]:
    return play(engine, list(range(9)), merge_at=8)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order=st.permutations(list(range(9))),
    replays=st.lists(st.integers(0, 8), max_size=5),
    merge_at=st.integers(0, 8),
)
def test_any_order_and_any_replays_end_alike(
    engine: Engine, in_order: dict[str, Any], order: list[int], replays: list[int], merge_at: int
) -> None:
    assert play(engine, [*order, *replays], merge_at) == in_order


def test_what_is_current_at_the_end_is_what_was_said_last(in_order: dict[str, Any]) -> None:
    """So that the property above does not hold for the wrong state."""
    assert in_order["a Patient/a"]["name"][0]["family"] == "Adt"
    assert in_order["a Patient/a"]["link"] == [
        {"other": {"reference": "Patient/b"}, "type": "replaces"}
    ]
    assert str(in_order["a Observation/o"]["valueQuantity"]["value"]) == "1"
    assert in_order["a Organization/lab"]["name"] == "Autre nom"
    assert in_order["a Observation/moved"]["subject"]["reference"] == "Patient/a"
    assert in_order["a DocumentReference/d1"]["description"] == "corrigé"
    statuses = {name: in_order[f"a DocumentReference/{name}"]["status"] for name in ("d1", "d3")}
    assert statuses == {"d1": "superseded", "d3": "superseded"}
    assert len([name for name in in_order if "Provenance" in name]) == 18  # seen from a and b


hashes = st.sampled_from(["x", "y", "z"])
standings = st.builds(Standing, hashes, st.integers(1, 4), st.booleans())


@given(st.lists(standings, min_size=1, max_size=6))
def test_precedence_is_by_message_and_not_by_arrival(said: list[Standing]) -> None:
    """The rule alone: of contents with different sequences the same one is current."""
    unique = list({one.sequence: one for one in said}.values())

    def last(order: list[Standing]) -> str:
        current: Standing | None = None
        kept: set[tuple[str, int]] = set()
        for one in order:

            def known(sequence: int | None, one: Standing = one) -> bool:
                return any(h == one.hash and sequence in (None, s) for h, s in kept)

            verdict = judge(current, one, known)
            if verdict in (Verdict.CREATE, Verdict.REPLACE, Verdict.CONFIRM):
                current = one
            if verdict is not Verdict.NOTHING:
                kept.add((one.hash, one.sequence))
        assert current is not None
        return current.hash

    forward = last(sorted(unique, key=lambda one: one.sequence))
    assert last(sorted(unique, key=lambda one: -one.sequence)) == forward
    assert last(unique) == forward
    authoritative = [one for one in unique if not one.provisional]
    if authoritative:
        assert forward == max(authoritative, key=lambda one: one.sequence).hash
    else:
        assert forward == min(unique, key=lambda one: one.sequence).hash
