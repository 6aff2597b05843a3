"""Imaging studies of the record, each with its manifest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "manifest",
        sa.Column("reference", sa.String(96), nullable=False),
        sa.Column("study", sa.String(64), nullable=False),
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(2048), nullable=False),
        sa.Column("marks", sa.Integer, nullable=False),
        sa.Column("due_at", Instant),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("uid", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("pending", sa.String(64), nullable=False),
        sa.Column("message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("reference", name="pk_manifest"),
    )
    op.create_index("ix_manifest_due_at", "manifest", ["due_at"])
    op.create_index("ix_manifest_patient_id", "manifest", ["patient_id"])


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
