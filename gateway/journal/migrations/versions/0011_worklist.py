"""The modality worklist."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "scheduled_step",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("order_key", sa.String(64), nullable=False),
        sa.Column("step_id", sa.String(256), nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("sequence", _ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("start_date", sa.String(8), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("performed_uid", sa.String(64), nullable=False),
        sa.Column("performed", sa.String(16), nullable=False),
        sa.UniqueConstraint("order_key", "step_id", name="uq_scheduled_step_order_key_step_id"),
        sqlite_autoincrement=True,
    )
    for name in ("start_date", "study_uid", "performed_uid"):
        op.create_index(f"ix_scheduled_step_{name}", "scheduled_step", [name])
    op.create_table(
        "unscheduled",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_unscheduled"),
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
