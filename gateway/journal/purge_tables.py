"""Tables of what was taken out of the journal by policy: purges, seals, what they counted."""

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
)

from gateway.journal.tables import KEY_MAX, SOURCE_MAX, metadata
from gateway.journal.times import Instant

# SQLite numbers rows by itself only for a column of type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")

purge = Table(
    "purge",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("key", String(KEY_MAX), nullable=False),
    # 1 while it is not at its end, else None: there is one such at a time.
    Column("active", Integer),
    Column("state", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("policy", JSON, nullable=False),
    # Grows with every step: of two processes that would do the same step one does.
    Column("turn", BigInteger, nullable=False),
    Column("position", JSON, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("ended_at", Instant),
    UniqueConstraint("key"),
    UniqueConstraint("active"),
    Index("ix_purge_ended", "ended_at"),
    sqlite_autoincrement=True,
)
"""Who had what taken out, by which policy, and what it came to. Never deleted."""

purge_mark = Table(
    "purge_mark",
    metadata,
    # ``content`` or ``normalised``: up to which message a purge has looked. What is resolved and
    # has no row there was purged; above it a missing row is a loss.
    Column("part", String(16), primary_key=True),
    Column("up_to", BigInteger, nullable=False),
    Column("purge_id", _Id, nullable=False),
)

purge_count = Table(
    "purge_count",
    metadata,
    # What rows that are gone counted for in the account and in the metrics (journal/purged.py).
    Column("what", String(16), primary_key=True),
    Column("name", String(SOURCE_MAX), primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

chain_seal = Table(
    "chain_seal",
    metadata,
    Column("number", _Id, primary_key=True),
    # The links ``first`` to ``last`` of this chain were purged with all of their messages.
    Column("chain", String(32), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    # What the first of them followed, and the digest of the last.
    Column("before", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("purge_id", _Id, nullable=False),
    Column("actor", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("at", Instant, nullable=False),
    # Of the seal before this one, and of this one.
    Column("previous", String(64), nullable=False),
    Column("seal", String(64), nullable=False),
    UniqueConstraint("chain", "first"),
    Index("ix_chain_seal_digest", "digest"),
    sqlite_autoincrement=True,
)

journal_partition = Table(
    "journal_partition",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("part", String(16), nullable=False),
    # Messages from ``first_id`` up to, not including, ``end_id``; None: no end yet.
    Column("first_id", BigInteger, nullable=False),
    Column("end_id", BigInteger),
    Column("opened_at", Instant, nullable=False),
    Column("dropped_at", Instant),
    Index("ix_journal_partition_part", "part", "first_id"),
)
"""On PostgreSQL: the partitions of ``content`` and ``normalised``. Empty on SQLite."""
