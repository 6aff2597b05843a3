"""What was registered by a submission of IHE XDS, as it was registered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "registry_object",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("submission", sa.String(64), nullable=False),
        sa.Column("unique_id", sa.String(256), nullable=False),
        sa.Column("patient", sa.String(256), nullable=False),
        sa.Column("type", sa.String(256), nullable=False),
        sa.Column("source_object", sa.String(64), nullable=False),
        sa.Column("target_object", sa.String(64), nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("registered_at", Instant, nullable=False),
    )
    op.create_index("ix_registry_object_unique_id", "registry_object", ["unique_id", "kind"])
    op.create_index("ix_registry_object_patient", "registry_object", ["patient", "kind"])
    for name in ("source_object", "target_object"):
        op.create_index(f"ix_registry_object_{name}", "registry_object", [name])


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
