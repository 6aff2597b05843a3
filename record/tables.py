"""The tables of the record, in the journal's database but of their own.

An *entry* row is what is true now of one ``Type/id``; its *versions* keep every
content it ever had, as text, exactly as it was written. The other tables find entries:
by patient, by identifier, by document, and the documents that replaced others.
Instants are microseconds since 1970 in UTC, which both databases order alike.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

TYPE_MAX = 64
ID_MAX = 64
REFERENCE_MAX = TYPE_MAX + 1 + ID_MAX
NAME_MAX = 256
"""Characters of a source's or mapping's name."""
IDENTIFIER_MAX = 256
"""Characters of an identifier's system and of its value that are indexed; longer ones are
cut for the index and stay whole in the resource."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for a column of type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")


record_patient = Table(
    "record_patient",
    metadata,
    Column("patient_id", String(ID_MAX), primary_key=True),
    # The record that this one was merged into; followed once, never in a chain.
    Column("survivor", String(ID_MAX), index=True),
    Column("merged_at", _Id),
    Column("message_id", _Id),
)

record_entry = Table(
    "record_entry",
    metadata,
    Column("key", _Id, primary_key=True),
    Column("reference", String(REFERENCE_MAX), nullable=False, unique=True),
    Column("type", String(TYPE_MAX), nullable=False),
    # The patient whom the entry is about; null for what many share (an organisation).
    Column("patient_id", String(ID_MAX)),
    # The number of the current version, and of the last one that was given.
    Column("version", Integer, nullable=False),
    Column("versions", Integer, nullable=False),
    # Of the source's content that is current: the version that holds it, its hash, the
    # highest sequence that confirmed it, and whether it came as create-only.
    Column("base", Integer, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("sequence", _Id, nullable=False),
    Column("provisional", Boolean(create_constraint=False), nullable=False),
    # What a search looks at.
    Column("recorded_at", _Id, nullable=False),
    Column("date_low", _Id, nullable=False),
    Column("date_high", _Id, nullable=False),
    Column("tokens", Text, nullable=False),
    # Which reading of its message the current content is of: grows when it is read anew.
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Index("ix_record_entry_type_key", "type", "key"),
    Index("ix_record_entry_type_recorded", "type", "recorded_at", "key"),
    Index("ix_record_entry_type_date", "type", "date_low", "key"),
)

record_entry_version = Table(
    "record_entry_version",
    metadata,
    Column("entry_key", _Id, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sequence", _Id, nullable=False),
    Column("message_id", _Id, nullable=False, index=True),
    Column("patient_id", String(ID_MAX), nullable=False),
    Column("source", String(NAME_MAX), nullable=False),
    Column("mapping", String(NAME_MAX), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("provisional", Boolean(create_constraint=False), nullable=False),
    # True when the record made this version itself (a replaced document).
    Column("derived", Boolean(create_constraint=False), nullable=False),
    Column("recorded_at", _Id, nullable=False),
    Column("resource", Text, nullable=False),
    # Of one entry, so that it grows at its end: hashes alone would each go to another page.
    Index("ix_record_entry_version_entry_key_hash", "entry_key", "hash"),
)

record_member = Table(
    "record_member",
    metadata,
    Column("patient_id", String(ID_MAX), primary_key=True),
    Column("type", String(TYPE_MAX), primary_key=True),
    Column("entry_key", _Id, primary_key=True, autoincrement=False, index=True),
)

record_identifier = Table(
    "record_identifier",
    metadata,
    Column("value", String(IDENTIFIER_MAX), primary_key=True),
    Column("system", String(IDENTIFIER_MAX), primary_key=True),
    Column("entry_key", _Id, primary_key=True, autoincrement=False, index=True),
)

record_attachment = Table(
    "record_attachment",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("entry_key", _Id, primary_key=True, autoincrement=False, index=True),
    Column("patient_id", String(ID_MAX), nullable=False, index=True),
    Column("media_type", String(NAME_MAX), nullable=False),
    Column("title", Text, nullable=False),
    Column("recorded_at", _Id, nullable=False),
)

record_replacement = Table(
    "record_replacement",
    metadata,
    Column("replaced", String(REFERENCE_MAX), primary_key=True),
    Column("entry_key", _Id, primary_key=True, autoincrement=False, index=True),
)
