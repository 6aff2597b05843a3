"""The tables of patients: who is known by which identifiers, and who lets nothing in.

They belong to the journal's metadata (:mod:`gateway.journal.tables`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    text,
)

from gateway.journal.tables import KEY_MAX, metadata
from gateway.journal.times import Instant

# SQLite numbers rows by itself only for a column of type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")

DENIED = "feeding = 'opposed' OR record = 'closed'"
"""Of patients: who opposes, or whose record is closed."""

patient = Table(
    "patient",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("ins_system", String(KEY_MAX), nullable=False),
    Column("ins_value", String(KEY_MAX), nullable=False),
    Column("merged_into", String(36), ForeignKey("patient.id")),
    Column("feeding", String(16), nullable=False),
    Column("record", String(16), nullable=False),
    Column("feeding_message_id", _Id),
    Column("record_message_id", _Id),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("ins_system", "ins_value"),
    # Those who let nothing in are few, and asked for at each query of what is held.
    Index(
        "ix_patient_denied",
        "id",
        sqlite_where=text(DENIED),
        postgresql_where=text(DENIED),
    ),
    Index(
        "ix_patient_merged",
        "merged_into",
        sqlite_where=text("merged_into IS NOT NULL"),
        postgresql_where=text("merged_into IS NOT NULL"),
    ),
)

patient_identifier = Table(
    "patient_identifier",
    metadata,
    Column("system", String(KEY_MAX), primary_key=True),
    Column("value", String(KEY_MAX), primary_key=True),
    Column("patient_id", String(36), ForeignKey("patient.id"), nullable=False),
    Column("type", String(16), nullable=False),
    Column("since_message_id", _Id),
    Index("ix_patient_identifier_patient", "patient_id"),
)
