"""The dead-letter desk: groups that are counted as they grow, actions, replay jobs, alerts."""

from __future__ import annotations

import hashlib
import re

import sqlalchemy as sa
from alembic import op

from gateway.journal.times import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LETTERS = 1_000


def upgrade() -> None:
    for name in ("destination", "assignee"):
        column = sa.Column(name, sa.String(128), nullable=False, server_default=sa.text("''"))
        op.add_column("dead_letter", column)
    _groups()
    _actions()
    _jobs()
    _alerts()
    _name_groups_anew()
    _fill_groups()
    for name, columns in (
        ("source", ["source", "id"]),
        ("cause", ["cause_code", "id"]),
        ("assignee", ["assignee", "id"]),
    ):
        _partial(f"ix_dead_letter_open_{name}", "dead_letter", columns, "resolved_at IS NULL")
    _partial("ix_dead_letter_settled", "dead_letter", ["id"], "resolved_at IS NOT NULL")


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def _groups() -> None:
    op.create_table(
        "dead_letter_group",
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("cause_code", sa.String(64), nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("destination", sa.String(128), nullable=False),
        sa.Column("open_count", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("first_at", Instant, nullable=False),
        sa.Column("last_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "source", name="pk_dead_letter_group"),
    )
    _partial(
        "ix_dead_letter_group_open", "dead_letter_group", ["fingerprint", "source"],
        "open_count > 0",
    )  # fmt: skip
    op.create_table(
        "dead_letter_hour",
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("hour", Instant, nullable=False),
        sa.Column("buried", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "hour", name="pk_dead_letter_hour"),
    )
    op.create_index("ix_dead_letter_hour_hour", "dead_letter_hour", ["hour"])
    op.create_table(
        "dead_letter_owner",
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("assignee", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_dead_letter_owner"),
    )


def _actions() -> None:
    op.create_table(
        "desk_action",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("what", sa.String(32), nullable=False),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("dead_letter_id", _ID),
        sa.Column("message_id", _ID),
        sa.Column("job_id", _ID),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_desk_action"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_desk_action_fingerprint", "desk_action", ["fingerprint", "id"])
    op.create_index("ix_desk_action_letter", "desk_action", ["dead_letter_id", "id"])
    op.create_index("ix_desk_action_job", "desk_action", ["job_id", "id"])


def _jobs() -> None:
    op.create_table(
        "replay_job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("active", sa.Integer),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("selection", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("pace", sa.JSON, nullable=False),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("ramp_step", sa.Integer, nullable=False),
        sa.Column("step_end", sa.BigInteger),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("baseline", sa.JSON, nullable=False),
        sa.Column("paced_at", Instant, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("ended_at", Instant),
        sa.PrimaryKeyConstraint("id", name="pk_replay_job"),
        sa.UniqueConstraint("key", name="uq_replay_job_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_replay_job_active", "replay_job", ["active"])
    op.create_index("ix_replay_job_fingerprint", "replay_job", ["fingerprint", "id"])
    op.create_table(
        "replay_item",
        sa.Column("job_id", _ID, autoincrement=False, nullable=False),
        sa.Column("place", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("dead_letter_id", _ID, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("delivery_id", _ID),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "place", name="pk_replay_item"),
    )
    _partial("ix_replay_item_released", "replay_item", ["job_id", "place"], "state = 'released'")
    op.create_index("ix_replay_item_state", "replay_item", ["job_id", "state", "place"])


def _alerts() -> None:
    op.create_table(
        "alert_level",
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("level", sa.BigInteger, nullable=False),
        sa.Column("empty_at", Instant),
        sa.Column("changed_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_alert_level"),
    )
    op.create_table(
        "alert",
        sa.Column("id", _ID, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(128), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", Instant),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("ended_at", Instant),
        sa.PrimaryKeyConstraint("id", name="pk_alert"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alert_due", "alert", ["state", "due_at"])


_VARIABLE = re.compile(r"\"[^\"]*\"|'[^']*'|[0-9a-f]{8,}|\d+", re.ASCII | re.IGNORECASE)
_REPETITION = re.compile(r"[(\[]\d+[)\]]", re.ASCII)


def _fingerprint(row: sa.Row[tuple[object, ...]]) -> str:
    """As the code that writes dead letters had it when these tables were made."""
    detail = " ".join(_VARIABLE.sub("#", row.cause_detail).lower().split())[:160]
    place = _REPETITION.sub("", row.cause_location)
    text = "|".join(
        (row.stage, row.cause_code, place, row.cause_protocol_code, detail, row.destination or "")
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _name_groups_anew() -> None:
    """A group is a trouble, whichever the source; that of a delivery is its destination's, too."""
    connection = op.get_bind()
    last = 0
    while True:
        rows = connection.execute(
            sa.text(
                "SELECT l.id, l.stage, l.cause_code, l.cause_detail, l.cause_location,"
                " l.cause_protocol_code, coalesce(d.destination, '') AS destination"
                " FROM dead_letter l LEFT JOIN delivery d ON d.id = l.delivery_id"
                " WHERE l.id > :last ORDER BY l.id LIMIT :many"
            ),
            {"last": last, "many": _LETTERS},
        ).all()
        if not rows:
            return
        last = rows[-1].id
        connection.execute(
            sa.text("UPDATE dead_letter SET fingerprint = :f, destination = :d WHERE id = :id"),
            [{"f": _fingerprint(r), "d": r.destination, "id": r.id} for r in rows],
        )


def _fill_groups() -> None:
    op.execute(
        "INSERT INTO dead_letter_group (fingerprint, source, stage, cause_code, location,"
        " destination, open_count, total, first_at, last_at)"
        " SELECT fingerprint, source, min(stage), min(cause_code), min(cause_location),"
        " min(destination), count(*), count(*), min(buried_at), max(buried_at)"
        " FROM dead_letter WHERE resolved_at IS NULL GROUP BY fingerprint, source"
    )


def downgrade() -> None:
    raise NotImplementedError("the journal only goes forward; restore a backup to go back")
