"""Tables of imaging: evidence of complete studies, what is held, the worklist, manifests.

They belong to the journal's metadata (:mod:`gateway.journal.tables`).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from gateway.journal.tables import KEY_MAX, SOURCE_MAX, TEXT_MAX, metadata
from gateway.journal.times import Instant

# SQLite numbers rows by itself only for a column of type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")

study_evidence = Table(
    "study_evidence",
    metadata,
    Column("source", String(SOURCE_MAX), primary_key=True),
    Column("reference", String(KEY_MAX), primary_key=True),
    Column("group_key", String(KEY_MAX), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("expected", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("fulfilled_at", Instant),
    Index("ix_study_evidence_source_group_key", "source", "group_key"),
)
"""What says which instances a study has: performed procedure steps, commitment requests."""

storage_commitment = Table(
    "storage_commitment",
    metadata,
    Column("source", String(SOURCE_MAX), primary_key=True),
    Column("transaction_uid", String(KEY_MAX), primary_key=True),
    Column("peer", String(16), nullable=False),
    Column("own_title", String(16), nullable=False),
    Column("instances", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index("ix_storage_commitment_source_due_at", "source", "due_at"),
)
"""Requests for storage commitment, until their sender has the answer."""

_uid = String(64)

held_study = Table(
    "held_study",
    metadata,
    Column("study_uid", _uid, primary_key=True),
    # The newest of its instances: what is said here is what that one says.
    Column("message_id", _Id, nullable=False),
    *(
        Column(name, String(KEY_MAX), nullable=False)
        for name in (
            *("patient_id", "issuer", "patient_name", "birth_date", "sex", "accession"),
            *("study_date", "study_time", "study_id", "description", "referring"),
        )
    ),
    Column("attributes", JSON, nullable=False),
    Index("ix_held_study_patient_id", "patient_id"),
    Index("ix_held_study_accession", "accession"),
    Index("ix_held_study_study_date", "study_date"),
)
"""The DICOM studies that are held, by what they are asked for (``adapters.dicom.matching``)."""

held_series = Table(
    "held_series",
    metadata,
    Column("study_uid", _uid, primary_key=True),
    Column("series_uid", _uid, primary_key=True),
    Column("message_id", _Id, nullable=False),
    Column("number", BigInteger),
    *(
        Column(name, String(KEY_MAX), nullable=False)
        for name in (
            *("modality", "description", "performed_date", "performed_time"),
            *("step_id", "procedure_id", "body_part"),
        )
    ),
    Column("attributes", JSON, nullable=False),
    Index("ix_held_series_series_uid", "series_uid"),
)

held_instance = Table(
    "held_instance",
    metadata,
    Column("sop_instance", _uid, primary_key=True),
    # The newest message that has this SOP Instance UID.
    Column("message_id", _Id, nullable=False),
    Column("source", String(SOURCE_MAX), nullable=False),
    Column("study_uid", _uid, nullable=False),
    Column("series_uid", _uid, nullable=False),
    Column("sop_class", _uid, nullable=False),
    Column("transfer_syntax", _uid, nullable=False),
    Column("number", BigInteger),
    Column("frames", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("attributes", JSON, nullable=False),
    # The code of CID 7011 for which it is rejected, or by which it rejects; empty for neither.
    Column("rejected", String(16), nullable=False, server_default=""),
    Index("ix_held_instance_study_uid_series_uid", "study_uid", "series_uid"),
    Index("ix_held_instance_series_uid", "series_uid"),
)

unindexed = Table(
    "unindexed",
    metadata,
    Column("message_id", _Id, primary_key=True, autoincrement=False),
)
"""DICOM instances that were kept and are not in the index of what is held yet."""

scheduled_step = Table(
    "scheduled_step",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("order_key", String(64), nullable=False),
    Column("step_id", String(KEY_MAX), nullable=False),
    # The message that spoke of it last.
    Column("message_id", _Id, nullable=False),
    Column("sequence", _Id, nullable=False),
    Column("state", String(16), nullable=False),
    Column("study_uid", _uid, nullable=False),
    Column("start_date", String(8), nullable=False),
    Column("content", JSON, nullable=False),
    # The performed procedure step that belongs to it, and that one's status.
    Column("performed_uid", _uid, nullable=False),
    Column("performed", String(16), nullable=False),
    UniqueConstraint("order_key", "step_id"),
    Index("ix_scheduled_step_start_date", "start_date"),
    Index("ix_scheduled_step_study_uid", "study_uid"),
    Index("ix_scheduled_step_performed_uid", "performed_uid"),
    sqlite_autoincrement=True,
)
"""The scheduled procedure steps that orders brought: the modality worklist."""

unscheduled = Table(
    "unscheduled",
    metadata,
    Column("message_id", _Id, primary_key=True, autoincrement=False),
)
"""Orders of imaging that were kept and are not in the worklist yet."""
manifest = Table(
    "manifest",
    metadata,
    Column("reference", String(96), primary_key=True),
    Column("study", String(64), nullable=False),
    Column("patient_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("cause", String(TEXT_MAX), nullable=False),
    Column("marks", Integer, nullable=False),
    Column("due_at", Instant),
    Column("version", Integer, nullable=False),
    Column("uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("pending", String(64), nullable=False),
    Column("message_id", _Id),
    Column("instances", Integer, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index("ix_manifest_due_at", "due_at"),
    Index("ix_manifest_patient_id", "patient_id"),
)
"""Imaging studies of the record, each with its manifest, or why there is none."""
