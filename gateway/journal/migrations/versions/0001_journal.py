"""The first tables of the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# Rows of these change often; PostgreSQL's default waits until a fifth of a table is dead.
_BUSY = ("message", "delivery", "lane", "waiting", "gathering")


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", _ID, nullable=False),
        sa.Column("delivery_id", _ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("ended_at", Instant),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("cause_code", sa.String(64), nullable=False),
        sa.Column("cause_detail", sa.Text, nullable=False),
        sa.Column("cause_location", sa.Text, nullable=False),
        sa.Column("cause_protocol_code", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
        sa.UniqueConstraint("delivery_id", "number", name="uq_attempt_delivery_id_number"),
    )


def _content() -> None:
    op.create_table(
        "content",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_content"),
    )


def _dead_letter() -> None:
    op.create_table(
        "dead_letter",
        sa.Column("id", _ID, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("delivery_id", _ID),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("cause_code", sa.String(64), nullable=False),
        sa.Column("cause_detail", sa.Text, nullable=False),
        sa.Column("cause_location", sa.Text, nullable=False),
        sa.Column("cause_protocol_code", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("buried_at", Instant, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("resolved_at", Instant),
        sa.Column("resolution", sa.String(16)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("child_message_id", _ID),
        sa.PrimaryKeyConstraint("id", name="pk_dead_letter"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dead_letter_message", "dead_letter", ["message_id"])
    _partial("ix_dead_letter_open", "dead_letter", ["id"], "resolved_at IS NULL")
    _partial(
        "ix_dead_letter_unresolved", "dead_letter", ["fingerprint", "id"], "resolved_at IS NULL"
    )


def _delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", _ID, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("lane", sa.String(256), nullable=False),
        sa.Column("patient_id", sa.String(36), nullable=False),
        sa.Column("destination", sa.String(128), nullable=False),
        sa.Column("sequence", _ID, nullable=False),
        sa.Column("idempotency_key", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.Column("unfinished", sa.Integer, nullable=False),
        sa.Column("due_at", Instant),
        sa.Column("cause_code", sa.String(64), nullable=False),
        sa.Column("cause_detail", sa.Text, nullable=False),
        sa.Column("cause_location", sa.Text, nullable=False),
        sa.Column("cause_protocol_code", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("merged_patients", sa.JSON, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("idempotency_key", name="uq_delivery_idempotency_key"),
        sqlite_autoincrement=True,
    )
    _partial(
        "ix_delivery_lane_pending", "delivery", ["lane", "sequence", "id"], "state = 'pending'"
    )
    op.create_index("ix_delivery_message", "delivery", ["message_id"])
    _partial("ix_delivery_patient_pending", "delivery", ["patient_id"], "state = 'pending'")
    op.create_index("ix_delivery_state", "delivery", ["state", "destination", "id"])


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("id", _ID, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_message", "event", ["message_id", "id"])


def _gathering() -> None:
    op.create_table(
        "gathering",
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("group_key", sa.String(256), nullable=False),
        sa.Column("lane", sa.String(256), nullable=False),
        sa.Column("due_at", Instant),
        sa.Column("first_at", Instant, nullable=False),
        sa.Column("last_at", Instant, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("source", "group_key", name="pk_gathering"),
    )
    op.create_index("ix_gathering_lane_due", "gathering", ["lane", "due_at"])


def _lane() -> None:
    op.create_table(
        "lane",
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("next_at", Instant),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_until", Instant),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_lane"),
    )
    _partial("ix_lane_next", "lane", ["next_at"], "next_at IS NOT NULL")


def _message() -> None:
    op.create_table(
        "message",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sequence", _ID, nullable=False),
        sa.Column("parent_id", _ID),
        sa.Column("carrier_id", _ID),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(256), nullable=False),
        sa.Column("control_id", sa.String(256), nullable=False),
        sa.Column("dedupe_key", sa.String(64), nullable=False),
        sa.Column("group_key", sa.String(256), nullable=False),
        sa.Column("lane", sa.String(256), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause_code", sa.String(64), nullable=False),
        sa.Column("cause_detail", sa.Text, nullable=False),
        sa.Column("cause_location", sa.Text, nullable=False),
        sa.Column("cause_protocol_code", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("encoding", sa.Text, nullable=False),
        sa.Column("peer", sa.Text, nullable=False),
        sa.Column("received_at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("arrivals", sa.Integer, nullable=False),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.Column("patient_id", sa.String(36)),
        sa.Column("mapping", sa.Text, nullable=False),
        sa.Column("mapping_version", sa.Text, nullable=False),
        sa.Column("mapping_digest", sa.Text, nullable=False),
        sa.Column("flags", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
        sa.UniqueConstraint(
            "source", "control_id", "dedupe_key", name="uq_message_source_control_id_dedupe_key"
        ),
        sqlite_autoincrement=True,
    )
    _partial("ix_message_carrier", "message", ["carrier_id"], "carrier_id IS NOT NULL")
    _partial("ix_message_child", "message", ["source", "parent_id"], "parent_id IS NOT NULL")
    _partial("ix_message_group", "message", ["group_key", "source", "id"], "group_key <> ''")
    _partial(
        "ix_message_lane_received", "message", ["lane", "sequence", "id"], "state = 'received'"
    )
    _partial("ix_message_patient", "message", ["patient_id", "id"], "patient_id IS NOT NULL")
    _partial("ix_message_repeated", "message", ["source", "arrivals"], "arrivals > 1")
    op.create_index("ix_message_state", "message", ["state", "source", "id"])


def _normalised() -> None:
    op.create_table(
        "normalised",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
        sa.Column("entries_size", sa.BigInteger, nullable=False),
        sa.Column("attachments", sa.JSON, nullable=False),
        sa.Column("mapping", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_normalised"),
    )


def _operation() -> None:
    op.create_table(
        "operation",
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("key", name="pk_operation"),
    )


def _patient() -> None:
    op.create_table(
        "patient",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("ins_system", sa.String(256), nullable=False),
        sa.Column("ins_value", sa.String(256), nullable=False),
        sa.Column("merged_into", sa.String(36)),
        sa.Column("feeding", sa.String(16), nullable=False),
        sa.Column("record", sa.String(16), nullable=False),
        sa.Column("feeding_message_id", _ID),
        sa.Column("record_message_id", _ID),
        sa.Column("created_at", Instant, nullable=False),
        sa.ForeignKeyConstraint(["merged_into"], ["patient.id"], name="fk_patient_merged_into"),
        sa.PrimaryKeyConstraint("id", name="pk_patient"),
        sa.UniqueConstraint("ins_system", "ins_value", name="uq_patient_ins_system_ins_value"),
    )


def _waiting() -> None:
    op.create_table(
        "waiting",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.Column("system", sa.String(256), nullable=False),
        sa.Column("value", sa.String(256), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "system", "value", name="pk_waiting"),
    )
    op.create_index("ix_waiting_identifier", "waiting", ["system", "value"])


def _patient_identifier() -> None:
    op.create_table(
        "patient_identifier",
        sa.Column("system", sa.String(256), nullable=False),
        sa.Column("value", sa.String(256), nullable=False),
        sa.Column("patient_id", sa.String(36), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("since_message_id", _ID),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name="fk_patient_identifier_patient_id"
        ),
        sa.PrimaryKeyConstraint("system", "value", name="pk_patient_identifier"),
    )
    op.create_index("ix_patient_identifier_patient", "patient_identifier", ["patient_id"])


def upgrade() -> None:
    _attempt()
    _content()
    _dead_letter()
    _delivery()
    _event()
    _gathering()
    _lane()
    _message()
    _normalised()
    _operation()
    _patient()
    _waiting()
    _patient_identifier()
    if op.get_bind().dialect.name == "postgresql":
        for table in _BUSY:
            op.execute(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02,"
                " autovacuum_analyze_scale_factor = 0.05)"
            )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
