"""Tables of what was registered by submissions of IHE XDS.

They belong to the journal's metadata (:mod:`gateway.journal.tables`).
"""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table, Text

from gateway.journal.tables import KEY_MAX, SOURCE_MAX, metadata
from gateway.journal.times import Instant

OBJECT_ID_MAX = 64

submission_set = Table(
    "submission_set",
    metadata,
    Column("unique_id", String(KEY_MAX), primary_key=True),
    Column("source", String(SOURCE_MAX), nullable=False),
    # Of what it holds: the same set may come again, another one under its identifier may not.
    Column("digest", String(64), nullable=False),
    Column("registered_at", Instant, nullable=False),
)

registry_object = Table(
    "registry_object",
    metadata,
    Column("id", String(OBJECT_ID_MAX), primary_key=True),
    Column("kind", String(16), nullable=False),
    # The object of the submission set with which it came.
    Column("submission", String(OBJECT_ID_MAX), nullable=False),
    Column("unique_id", String(KEY_MAX), nullable=False),
    Column("patient", String(KEY_MAX), nullable=False),
    # Of an association: what it says, and its two ends. Empty for all others.
    Column("type", String(KEY_MAX), nullable=False),
    Column("source_object", String(OBJECT_ID_MAX), nullable=False),
    Column("target_object", String(OBJECT_ID_MAX), nullable=False),
    # What searches look at, as JSON, and the whole as it is given back, as XML.
    Column("facts", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("registered_at", Instant, nullable=False),
    Index("ix_registry_object_unique_id", "unique_id", "kind"),
    Index("ix_registry_object_patient", "patient", "kind"),
    Index("ix_registry_object_source_object", "source_object"),
    Index("ix_registry_object_target_object", "target_object"),
)
