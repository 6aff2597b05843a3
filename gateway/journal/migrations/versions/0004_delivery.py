"""Rooms of lanes, the standing of destinations, standstills, what was placed elsewhere, and the
chain over what was accepted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ROOM = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")


def upgrade() -> None:
    _rooms()
    _standing()
    op.create_table(
        "placed",
        sa.Column("destination", sa.String(128), nullable=False),
        sa.Column("reference", sa.String(256), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("provisional", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("destination", "reference", name="pk_placed"),
    )
    op.create_table(
        "standstill",
        sa.Column("id", _ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("up_to", sa.BigInteger),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_standstill"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_standstill_name", "standstill", ["kind", "name", "id"])
    op.create_table(
        "chain_link",
        sa.Column("chain", sa.String(32), nullable=False),
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("ids", sa.Text, nullable=False),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("chain", "number", name="pk_chain_link"),
    )
    op.create_index("ix_chain_link_at", "chain_link", ["at"])


def _rooms() -> None:
    op.add_column("lane", sa.Column("room", _ROOM, nullable=False, server_default=sa.text("''")))
    # A lane of deliveries is named <patient>@<destination>; no patient's id has an @. The
    # sources of those that wait are not known here: they share one room.
    place = {"sqlite": "instr(name, '@')", "postgresql": "strpos(name, '@')"}
    at = place[op.get_bind().dialect.name]
    op.execute(
        f"UPDATE lane SET room = CASE WHEN name LIKE 'in:%' OR {at} = 0 THEN name"  # noqa: S608
        f" ELSE substr(name, {at} + 1) || '/' END"
    )
    op.drop_index("ix_lane_next", "lane")
    op.create_index(
        "ix_lane_room",
        "lane",
        ["room", "next_at"],
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )


def _standing() -> None:
    op.create_table(
        "destination_standing",
        sa.Column("destination", sa.String(128), nullable=False),
        sa.Column("breaker", sa.String(16), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("openings", sa.Integer, nullable=False),
        sa.Column("until", Instant),
        sa.Column("rest_until", Instant),
        sa.Column("next_slot", Instant),
        sa.Column("cause_code", sa.String(64), nullable=False),
        sa.Column("cause_detail", sa.Text, nullable=False),
        sa.Column("cause_location", sa.Text, nullable=False),
        sa.Column("cause_protocol_code", sa.Text, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("destination", name="pk_destination_standing"),
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
