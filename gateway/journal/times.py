"""Instants: always aware, always UTC, to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator, TypeEngine

CLOCK = "ecluse.clock"
"""Key of ``Connection.info`` under which the journal keeps its clock."""


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def moment(connection: Connection, at: datetime | None) -> datetime:
    """``at``, or the present instant by the clock of the journal that gave the connection."""
    if at is not None:
        return at
    clock = connection.info.get(CLOCK, utc_now)
    now: datetime = clock()
    return now


class Instant(TypeDecorator[datetime]):
    """``timestamp with time zone`` on PostgreSQL; on SQLite, which has no such type, ISO 8601
    text of fixed width in UTC, so that its order as text is its order in time.

    Takes aware instants only; raises ValueError for a naive one.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(32))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the journal takes aware instants only")
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        if dialect.name == "sqlite":
            return value.isoformat(timespec="microseconds")
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        instant = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        return instant if instant.tzinfo is UTC else instant.astimezone(UTC)
