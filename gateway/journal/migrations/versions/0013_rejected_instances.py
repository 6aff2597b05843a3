"""Rejected instances in the index of what is held; patients who deny, found at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_DENIED = sa.text("feeding = 'opposed' OR record = 'closed'")
_MERGED = sa.text("merged_into IS NOT NULL")
_KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"


def upgrade() -> None:
    op.add_column(
        "held_instance", sa.Column("rejected", sa.String(16), nullable=False, server_default="")
    )
    op.create_index(
        "ix_patient_denied", "patient", ["id"], sqlite_where=_DENIED, postgresql_where=_DENIED
    )
    op.create_index(
        "ix_patient_merged", "patient", ["merged_into"],
        sqlite_where=_MERGED, postgresql_where=_MERGED,
    )  # fmt: skip
    # Rejection notes that came before are read once more, and take effect.
    op.execute(
        sa.text(
            "INSERT INTO unindexed (message_id) SELECT message_id FROM held_instance"
            " WHERE sop_class = :kind"
            " AND message_id NOT IN (SELECT message_id FROM unindexed)"
        ).bindparams(kind=_KEY_OBJECTS)
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
