"""Acknowledgements that are given later, and the sequence numbers of sources."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sequence_number",
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("last", sa.BigInteger),
        sa.PrimaryKeyConstraint("source", name="pk_sequence_number"),
    )
    op.create_table(
        "application_acknowledgement",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("condition", sa.String(2), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("control_id", sa.String(256), nullable=False),
        sa.Column("code", sa.String(2), nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", Instant),
        sa.Column("first_at", Instant),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("ended_at", Instant),
        sa.PrimaryKeyConstraint("message_id", name="pk_application_acknowledgement"),
    )
    op.create_index(
        "ix_application_acknowledgement_state",
        "application_acknowledgement",
        ["source", "state", "message_id"],
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
