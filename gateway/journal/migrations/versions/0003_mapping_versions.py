"""Deployed versions of the mappings, and messages that are read anew with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "delivery", sa.Column("revision", sa.Integer, nullable=False, server_default=sa.text("0"))
    )
    _versions()
    _sweep()
    _reprocessing()


def _versions() -> None:
    op.create_table(
        "mapping_version",
        sa.Column("number", _ID, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("mappings", sa.JSON, nullable=False),
        sa.Column("edited", sa.JSON, nullable=False),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("tests", sa.Integer, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_mapping_version"),
        sa.UniqueConstraint("digest", name="uq_mapping_version_digest"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "mapping_deployment",
        sa.Column("id", _ID, nullable=False),
        sa.Column("follows", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("previous", sa.BigInteger, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mapping_deployment"),
        sa.UniqueConstraint("follows", name="uq_mapping_deployment_follows"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "mapping_draft",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("base", sa.BigInteger, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mapping_draft"),
    )


def _sweep() -> None:
    op.create_table(
        "unmapped_sweep",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("loaded", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_unmapped_sweep"),
    )


def _reprocessing() -> None:
    op.create_table(
        "reprocessing",
        sa.Column("id", _ID, nullable=False),
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("active", sa.Integer),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("selection", sa.JSON, nullable=False),
        sa.Column("loaded", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("batch_after", sa.BigInteger, nullable=False),
        sa.Column("until_id", sa.BigInteger, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("failures", sa.JSON, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("ended_at", Instant),
        sa.PrimaryKeyConstraint("id", name="pk_reprocessing"),
        sa.UniqueConstraint("key", name="uq_reprocessing_key"),
        sa.UniqueConstraint("active", name="uq_reprocessing_active"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reprocessed",
        sa.Column("message_id", _ID, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_reprocessed"),
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
