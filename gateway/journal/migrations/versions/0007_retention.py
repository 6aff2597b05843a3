"""Retention: what was purged, seals of the chain, and on PostgreSQL months of the heavy parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _purges()
    _seals()
    op.create_index(
        "ix_message_blob",
        "message",
        ["sha256"],
        sqlite_where=sa.text("size > 65536"),
        postgresql_where=sa.text("size > 65536"),
    )
    op.create_table(
        "journal_partition",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("part", sa.String(16), nullable=False),
        sa.Column("first_id", sa.BigInteger, nullable=False),
        sa.Column("end_id", sa.BigInteger),
        sa.Column("opened_at", Instant, nullable=False),
        sa.Column("dropped_at", Instant),
        sa.PrimaryKeyConstraint("name", name="pk_journal_partition"),
    )
    op.create_index("ix_journal_partition_part", "journal_partition", ["part", "first_id"])
    if op.get_bind().dialect.name == "postgresql":
        for part in ("content", "normalised"):
            _partition(part)


def _purges() -> None:
    op.create_table(
        "purge",
        sa.Column("id", _ID, nullable=False),
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("active", sa.Integer),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("policy", sa.JSON, nullable=False),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.Column("position", sa.JSON, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("ended_at", Instant),
        sa.PrimaryKeyConstraint("id", name="pk_purge"),
        sa.UniqueConstraint("key", name="uq_purge_key"),
        sa.UniqueConstraint("active", name="uq_purge_active"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_purge_ended", "purge", ["ended_at"])
    op.create_table(
        "purge_mark",
        sa.Column("part", sa.String(16), nullable=False),
        sa.Column("up_to", sa.BigInteger, nullable=False),
        sa.Column("purge_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("part", name="pk_purge_mark"),
    )
    op.create_table(
        "purge_count",
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("what", "name", "label", name="pk_purge_count"),
    )


def _seals() -> None:
    op.create_table(
        "chain_seal",
        sa.Column("number", _ID, nullable=False),
        sa.Column("chain", sa.String(32), nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("before", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("purge_id", _ID, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("seal", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_chain_seal"),
        sa.UniqueConstraint("chain", "first", name="uq_chain_seal_chain_first"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chain_seal_digest", "chain_seal", ["digest"])


def _partition(part: str) -> None:
    """Make the table the first partition of one of the same name. Nothing is copied or read:
    its bounds take every number, and the index that it has is the index that it needs."""
    first = f"{part}_from_0"
    for statement in (
        f"ALTER TABLE {part} RENAME TO {first}",
        f"ALTER TABLE {first} RENAME CONSTRAINT pk_{part} TO pk_{first}",
        f"CREATE TABLE {part} (LIKE {first} INCLUDING DEFAULTS INCLUDING STORAGE,"
        f" CONSTRAINT pk_{part} PRIMARY KEY (message_id)) PARTITION BY RANGE (message_id)",
        f"ALTER TABLE {part} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO (MAXVALUE)",
        f"CREATE TABLE {part}_kept PARTITION OF {part} DEFAULT",
    ):
        op.execute(statement)
    op.execute(
        sa.text(
            "INSERT INTO journal_partition (name, part, first_id, opened_at)"
            " SELECT :name, :part, 0, coalesce(min(received_at), now()) FROM message"
        ).bindparams(name=first, part=part)
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
