"""Instants on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql, sqlite

from gateway.bulk import instant_text
from gateway.journal.times import Instant, utc_now

SQLITE, POSTGRESQL = sqlite.dialect(), postgresql.dialect()
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
INSTANTS = st.datetimes(
    min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=ZONES
)


@given(INSTANTS, INSTANTS)
def test_order_as_text_is_order_in_time(one: datetime, other: datetime) -> None:
    stored = [Instant().process_bind_param(t, SQLITE) for t in (one, other)]
    assert (stored[0] < stored[1]) == (one < other)
    assert stored == [instant_text(one), instant_text(other)]
    assert len(set(map(len, stored))) == 1


@given(INSTANTS)
def test_an_instant_comes_back_in_utc(instant: datetime) -> None:
    for dialect in (SQLITE, POSTGRESQL):
        stored = Instant().process_bind_param(instant, dialect)
        back = Instant().process_result_value(stored, dialect)
        assert back == instant
        assert back is not None
        assert back.tzinfo is UTC
    assert Instant().process_bind_param(None, SQLITE) is None
    assert Instant().process_result_value(None, SQLITE) is None


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError):
        Instant().process_bind_param(datetime(2026, 11, 22), SQLITE)
    assert utc_now().tzinfo is UTC
