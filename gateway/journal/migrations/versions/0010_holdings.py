"""The index of the DICOM studies that are held."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(256), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "held_study",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        *_texts("patient_id", "issuer", "patient_name", "birth_date", "sex", "accession"),
        *_texts("study_date", "study_time", "study_id", "description", "referring"),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name="pk_held_study"),
    )
    for name in ("patient_id", "accession", "study_date"):
        op.create_index(f"ix_held_study_{name}", "held_study", [name])
    op.create_table(
        "held_series",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("number", sa.BigInteger),
        *_texts("modality", "description", "performed_date", "performed_time"),
        *_texts("step_id", "procedure_id", "body_part"),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "series_uid", name="pk_held_series"),
    )
    op.create_index("ix_held_series_series_uid", "held_series", ["series_uid"])
    op.create_table(
        "held_instance",
        sa.Column("sop_instance", sa.String(64), nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("sop_class", sa.String(64), nullable=False),
        sa.Column("transfer_syntax", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("sop_instance", name="pk_held_instance"),
    )
    op.create_index(
        "ix_held_instance_study_uid_series_uid", "held_instance", ["study_uid", "series_uid"]
    )
    op.create_index("ix_held_instance_series_uid", "held_instance", ["series_uid"])
    op.create_table(
        "unindexed",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_unindexed"),
    )
    # What was kept before there was an index comes into it when the gateway next runs.
    op.execute(
        "INSERT INTO unindexed (message_id) SELECT id FROM message"
        " WHERE format = 'dicom' AND group_key <> ''"
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
