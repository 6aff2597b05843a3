"""What says that a study is complete, and requests for storage commitment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study_evidence",
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("reference", sa.String(256), nullable=False),
        sa.Column("group_key", sa.String(256), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("expected", sa.JSON, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("until", Instant, nullable=False),
        sa.Column("fulfilled_at", Instant),
        sa.PrimaryKeyConstraint("source", "reference", name="pk_study_evidence"),
    )
    op.create_index("ix_study_evidence_source_group_key", "study_evidence", ["source", "group_key"])
    op.create_table(
        "storage_commitment",
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("transaction_uid", sa.String(256), nullable=False),
        sa.Column("peer", sa.String(16), nullable=False),
        sa.Column("own_title", sa.String(16), nullable=False),
        sa.Column("instances", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", Instant),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("source", "transaction_uid", name="pk_storage_commitment"),
    )
    op.create_index(
        "ix_storage_commitment_source_due_at", "storage_commitment", ["source", "due_at"]
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
