"""The first tables of the record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _patient() -> None:
    op.create_table(
        "record_patient",
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("survivor", sa.String(64)),
        sa.Column("merged_at", _ID),
        sa.Column("message_id", _ID),
        sa.PrimaryKeyConstraint("patient_id", name="pk_record_patient"),
    )
    op.create_index("ix_record_patient_survivor", "record_patient", ["survivor"])


def _entry() -> None:
    op.create_table(
        "record_entry",
        sa.Column("key", _ID, nullable=False),
        sa.Column("reference", sa.String(129), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("patient_id", sa.String(64)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("versions", sa.Integer, nullable=False),
        sa.Column("base", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("sequence", _ID, nullable=False),
        sa.Column("provisional", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("recorded_at", _ID, nullable=False),
        sa.Column("date_low", _ID, nullable=False),
        sa.Column("date_high", _ID, nullable=False),
        sa.Column("tokens", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_record_entry"),
        sa.UniqueConstraint("reference", name="uq_record_entry_reference"),
    )
    for name, column in (("key", "key"), ("recorded", "recorded_at"), ("date", "date_low")):
        columns = ["type", "key"] if column == "key" else ["type", column, "key"]
        op.create_index(f"ix_record_entry_type_{name}", "record_entry", columns)


def _version() -> None:
    op.create_table(
        "record_entry_version",
        sa.Column("entry_key", _ID, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sequence", _ID, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("source", sa.String(256), nullable=False),
        sa.Column("mapping", sa.String(256), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("provisional", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("derived", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("recorded_at", _ID, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("entry_key", "version", name="pk_record_entry_version"),
    )
    for column in ("sequence", "message_id", "hash"):
        op.create_index(f"ix_record_entry_version_{column}", "record_entry_version", [column])


def _found_by() -> None:
    op.create_table(
        "record_member",
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("entry_key", _ID, nullable=False),
        sa.PrimaryKeyConstraint("patient_id", "type", "entry_key", name="pk_record_member"),
    )
    op.create_table(
        "record_identifier",
        sa.Column("value", sa.String(256), nullable=False),
        sa.Column("system", sa.String(256), nullable=False),
        sa.Column("entry_key", _ID, nullable=False),
        sa.PrimaryKeyConstraint("value", "system", "entry_key", name="pk_record_identifier"),
    )
    op.create_table(
        "record_attachment",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("entry_key", _ID, nullable=False),
        sa.Column("patient_id", sa.String(64), nullable=False),
        sa.Column("media_type", sa.String(256), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("recorded_at", _ID, nullable=False),
        sa.PrimaryKeyConstraint("sha256", "entry_key", name="pk_record_attachment"),
    )
    op.create_table(
        "record_replacement",
        sa.Column("replaced", sa.String(129), nullable=False),
        sa.Column("entry_key", _ID, nullable=False),
        sa.PrimaryKeyConstraint("replaced", "entry_key", name="pk_record_replacement"),
    )
    for table in ("member", "identifier", "attachment", "replacement"):
        name = f"record_{table}"
        op.create_index(f"ix_{name}_entry_key", name, ["entry_key"])
    op.create_index("ix_record_attachment_patient_id", "record_attachment", ["patient_id"])


def upgrade() -> None:
    _patient()
    _entry()
    _version()
    _found_by()


def downgrade() -> None:
    raise NotImplementedError("the record only goes forward; restore a backup to go back")
