"""Tables of mappings: versions, deployments, drafts, and messages that are read anew.

They belong to the journal's metadata (:mod:`gateway.journal.tables`).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from gateway.journal.tables import KEY_MAX, metadata
from gateway.journal.times import Instant

# SQLite numbers rows by itself only for a column of type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")

mapping_version = Table(
    "mapping_version",
    metadata,
    Column("number", _Id, primary_key=True),
    Column("digest", String(64), nullable=False),
    # The packed files; None when they are not kept any more.
    Column("content", LargeBinary),
    Column("manifest", JSON, nullable=False),
    Column("site", Text, nullable=False),
    Column("mappings", JSON, nullable=False),
    Column("edited", JSON, nullable=False),
    Column("release", Text, nullable=False),
    Column("tests", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    UniqueConstraint("digest"),
    sqlite_autoincrement=True,
)

mapping_deployment = Table(
    "mapping_deployment",
    metadata,
    Column("id", _Id, primary_key=True),
    # The deployment before, 0 for the first: of two that follow the same one wins.
    Column("follows", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("previous", BigInteger, nullable=False),
    Column("action", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
    UniqueConstraint("follows"),
    sqlite_autoincrement=True,
)

mapping_draft = Table(
    "mapping_draft",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("base", BigInteger, nullable=False),
    Column("files", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

unmapped_sweep = Table(
    "unmapped_sweep",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # What was loaded when the unmapped messages up to ``position`` were looked at.
    Column("loaded", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("done", Integer, nullable=False),
)

reprocessing = Table(
    "reprocessing",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("key", String(KEY_MAX), nullable=False),
    # 1 while it is not at its end, else None: there is one such at a time.
    Column("active", Integer),
    Column("state", String(16), nullable=False),
    Column("note", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("selection", JSON, nullable=False),
    Column("loaded", String(64), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("batch_after", BigInteger, nullable=False),
    Column("until_id", BigInteger, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("failures", JSON, nullable=False),
    Column("at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("ended_at", Instant),
    UniqueConstraint("key"),
    UniqueConstraint("active"),
    sqlite_autoincrement=True,
)

reprocessed = Table(
    "reprocessed",
    metadata,
    Column("message_id", _Id, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
