"""The tables of the dead-letter desk: letters, groups, decisions, replays as jobs, alerts."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.journal.tables import KEY_MAX, SOURCE_MAX, columns_of_cause, metadata
from gateway.journal.times import Instant

# SQLite numbers rows by itself only for a column of type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("message_id", _Id, nullable=False),
    Column("delivery_id", _Id),
    Column("source", String(SOURCE_MAX), nullable=False),
    Column("stage", String(16), nullable=False),
    *columns_of_cause(),
    Column("fingerprint", String(16), nullable=False),
    Column("buried_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("resolved_at", Instant),
    Column("resolution", String(16)),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("child_message_id", _Id),
    # Of the delivery that died; empty for a message that died before it was routed.
    Column("destination", String(SOURCE_MAX), nullable=False, server_default=text("''")),
    Column("assignee", String(SOURCE_MAX), nullable=False, server_default=text("''")),
    Index("ix_dead_letter_message", "message_id"),
    sqlite_autoincrement=True,
)

Index(
    "ix_dead_letter_unresolved",
    dead_letter.c.fingerprint,
    dead_letter.c.id,
    sqlite_where=text("resolved_at IS NULL"),
    postgresql_where=text("resolved_at IS NULL"),
)
Index(
    "ix_dead_letter_open",
    dead_letter.c.id,
    sqlite_where=text("resolved_at IS NULL"),
    postgresql_where=text("resolved_at IS NULL"),
)

# Listings of the open ones by source, cause or assignee, and of the settled ones, newest first.
for _name, _columns in (
    ("source", (dead_letter.c.source, dead_letter.c.id)),
    ("cause", (dead_letter.c.cause_code, dead_letter.c.id)),
    ("assignee", (dead_letter.c.assignee, dead_letter.c.id)),
):
    Index(
        f"ix_dead_letter_open_{_name}",
        *_columns,
        sqlite_where=text("resolved_at IS NULL"),
        postgresql_where=text("resolved_at IS NULL"),
    )
Index(
    "ix_dead_letter_settled",
    dead_letter.c.id,
    sqlite_where=text("resolved_at IS NOT NULL"),
    postgresql_where=text("resolved_at IS NOT NULL"),
)

# What is asked of the groups all the time is kept, not counted: see journal/letter_counts.py.
dead_letter_group = Table(
    "dead_letter_group",
    metadata,
    Column("fingerprint", String(16), primary_key=True),
    Column("source", String(SOURCE_MAX), primary_key=True),
    Column("stage", String(16), nullable=False),
    Column("cause_code", String(64), nullable=False),
    Column("location", Text, nullable=False),
    Column("destination", String(SOURCE_MAX), nullable=False),
    Column("open_count", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    # Of the present episode: since the count was 0 the last time.
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
)
Index(
    "ix_dead_letter_group_open",
    dead_letter_group.c.fingerprint,
    dead_letter_group.c.source,
    sqlite_where=text("open_count > 0"),
    postgresql_where=text("open_count > 0"),
)

dead_letter_hour = Table(
    "dead_letter_hour",
    metadata,
    Column("fingerprint", String(16), primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("buried", BigInteger, nullable=False),
    Index("ix_dead_letter_hour_hour", "hour"),
)

dead_letter_owner = Table(
    "dead_letter_owner",
    metadata,
    Column("fingerprint", String(16), primary_key=True),
    Column("assignee", String(SOURCE_MAX), nullable=False),
)

desk_action = Table(
    "desk_action",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("what", String(32), nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("dead_letter_id", _Id),
    Column("message_id", _Id),
    Column("job_id", _Id),
    Column("number", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_desk_action_fingerprint", "fingerprint", "id"),
    Index("ix_desk_action_letter", "dead_letter_id", "id"),
    Index("ix_desk_action_job", "job_id", "id"),
    sqlite_autoincrement=True,
)

replay_job = Table(
    "replay_job",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("key", String(KEY_MAX), nullable=False),
    # 1 while there is something to do or to watch for it, else None.
    Column("active", Integer),
    Column("state", String(16), nullable=False),
    Column("note", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("selection", JSON, nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("pace", JSON, nullable=False),
    # Grows with every change: of two that would change the same state one does.
    Column("turn", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("ramp_step", Integer, nullable=False),
    Column("step_end", BigInteger),
    Column("counts", JSON, nullable=False),
    Column("baseline", JSON, nullable=False),
    Column("paced_at", Instant, nullable=False),
    Column("at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("ended_at", Instant),
    UniqueConstraint("key"),
    Index("ix_replay_job_active", "active"),
    Index("ix_replay_job_fingerprint", "fingerprint", "id"),
    sqlite_autoincrement=True,
)

replay_item = Table(
    "replay_item",
    metadata,
    Column("job_id", _Id, primary_key=True, autoincrement=False),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("dead_letter_id", _Id, nullable=False),
    Column("message_id", _Id, nullable=False),
    Column("delivery_id", _Id),
    Column("state", String(16), nullable=False),
)
Index(
    "ix_replay_item_released",
    replay_item.c.job_id,
    replay_item.c.place,
    sqlite_where=text("state = 'released'"),
    postgresql_where=text("state = 'released'"),
)
Index("ix_replay_item_state", replay_item.c.job_id, replay_item.c.state, replay_item.c.place)

# Up to which size people were told of a group; 0 once they were told of its end.
alert_level = Table(
    "alert_level",
    metadata,
    Column("fingerprint", String(16), primary_key=True),
    Column("level", BigInteger, nullable=False),
    Column("empty_at", Instant),
    Column("changed_at", Instant, nullable=False),
)

alert = Table(
    "alert",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("fingerprint", String(16), nullable=False),
    Column("channel", String(SOURCE_MAX), nullable=False),
    Column("body", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Instant),
    Column("answer", Text, nullable=False),
    Column("ended_at", Instant),
    Index("ix_alert_due", "state", "due_at"),
    sqlite_autoincrement=True,
)
