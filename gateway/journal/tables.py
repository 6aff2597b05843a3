"""The tables of the journal, as SQLAlchemy Core knows them.

The migrations build exactly these (a test compares). Exact bytes stand apart
from the rows that change state, so that a change of state never rewrites them.
No foreign key points to ``message`` or ``delivery``: bytes, entries and rows have
retention times of their own, and each key would cost the append path a look-up.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from gateway.journal.states import DeliveryState, MessageState
from gateway.journal.times import Instant

INLINE_BYTES_MAX = 65_536
"""Payloads up to this many bytes lie in the database, larger ones in the blobs."""

SOURCE_MAX = 128
KEY_MAX = 256
"""Length in characters of names that stand in an index (control id, group, lane, identifier).
PostgreSQL takes index rows up to 2,704 bytes, and a character has up to four."""
TEXT_MAX = 2048
"""Length in characters of free text (detail, evidence, location, reason)."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for a column of type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")


def literal_state(table: Table, state: MessageState | DeliveryState) -> ColumnElement[bool]:
    """``state = '…'`` in words, as the partial indexes have it: with a parameter in its place
    neither database knows that the index applies."""
    return table.c.state == literal_column(f"'{state.value}'")


def _key(length: int = KEY_MAX) -> String:
    return String(length)


def columns_of_cause() -> list[Column[str]]:
    """What a row says of a cause: its code, in words, where, and in the protocol's own."""
    return [
        Column("cause_code", String(64), nullable=False, default=""),
        Column("cause_detail", Text, nullable=False, default=""),
        Column("cause_location", Text, nullable=False, default=""),
        Column("cause_protocol_code", Text, nullable=False, default=""),
    ]


message = Table(
    "message",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("sequence", _Id, nullable=False),
    Column("parent_id", _Id),
    Column("carrier_id", _Id),
    Column("source", _key(SOURCE_MAX), nullable=False),
    Column("format", String(16), nullable=False),
    Column("kind", _key(), nullable=False),
    Column("control_id", _key(), nullable=False),
    Column("dedupe_key", String(64), nullable=False),
    Column("group_key", _key(), nullable=False),
    Column("lane", _key(), nullable=False),
    Column("state", String(16), nullable=False),
    *columns_of_cause(),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("arrivals", Integer, nullable=False),
    Column("starts", Integer, nullable=False),
    Column("patient_id", String(36)),
    Column("mapping", Text, nullable=False, default=""),
    Column("mapping_version", Text, nullable=False, default=""),
    Column("mapping_digest", Text, nullable=False, default=""),
    Column("flags", JSON, nullable=False),
    # The control id comes first because most senders count upwards, which keeps the
    # inserts of one source on few pages, and because it finds a reused control id.
    # The key is a digest over the control id, so it alone is as unique as both.
    UniqueConstraint("source", "control_id", "dedupe_key"),
    # Counts by state and source are read off this index, and so are listings of either: those
    # of one state are merged from its sources, those of one source from its states.
    Index("ix_message_state", "state", "source", "id"),
    sqlite_autoincrement=True,
)

Index(
    "ix_message_lane_received",
    message.c.lane,
    message.c.sequence,
    message.c.id,
    sqlite_where=text("state = 'received'"),
    postgresql_where=text("state = 'received'"),
)
Index(
    "ix_message_group",
    message.c.group_key,
    message.c.source,
    message.c.id,
    sqlite_where=text("group_key <> ''"),
    postgresql_where=text("group_key <> ''"),
)
Index(
    "ix_message_patient",
    message.c.patient_id,
    message.c.id,
    sqlite_where=text("patient_id IS NOT NULL"),
    postgresql_where=text("patient_id IS NOT NULL"),
)
Index(
    "ix_message_carrier",
    message.c.carrier_id,
    sqlite_where=text("carrier_id IS NOT NULL"),
    postgresql_where=text("carrier_id IS NOT NULL"),
)
Index(
    "ix_message_repeated",
    message.c.source,
    message.c.arrivals,
    sqlite_where=text("arrivals > 1"),
    postgresql_where=text("arrivals > 1"),
)
Index(
    "ix_message_child",
    message.c.source,
    message.c.parent_id,
    sqlite_where=text("parent_id IS NOT NULL"),
    postgresql_where=text("parent_id IS NOT NULL"),
)

Index(
    "ix_message_blob",
    message.c.sha256,
    # INLINE_BYTES_MAX: those whose bytes are a file, which goes when nobody names it any more.
    sqlite_where=text("size > 65536"),
    postgresql_where=text("size > 65536"),
)

content = Table(
    "content",
    metadata,
    Column("message_id", _Id, primary_key=True, autoincrement=False),
    Column("body", LargeBinary),
    Column("answer", LargeBinary, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("message_id", _Id, nullable=False),
    Column("at", Instant, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("what", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_event_message", "message_id", "id"),
)

gathering = Table(
    "gathering",
    metadata,
    Column("source", _key(SOURCE_MAX), primary_key=True),
    Column("group_key", _key(), primary_key=True),
    Column("lane", _key(), nullable=False),
    Column("due_at", Instant),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Index("ix_gathering_lane_due", "lane", "due_at"),
)

waiting = Table(
    "waiting",
    metadata,
    Column("message_id", _Id, primary_key=True, autoincrement=False),
    Column("system", _key(), primary_key=True),
    Column("value", _key(), primary_key=True),
    Column("type", String(16), nullable=False),
    Index("ix_waiting_identifier", "system", "value"),
)

lane = Table(
    "lane",
    metadata,
    Column("name", _key(), primary_key=True),
    Column("next_at", Instant),
    Column("lease_owner", Text),
    Column("lease_until", Instant),
    Column("token", BigInteger, nullable=False),
    # Whose work it is (``gateway.journal.lanes``): ``in:<source>`` or ``<destination>/<source>``.
    # Compared byte by byte, whatever the database's language.
    Column(
        "room",
        _key().with_variant(String(KEY_MAX, collation="C"), "postgresql"),
        nullable=False,
        server_default=text("''"),
    ),
)

Index(
    "ix_lane_room",
    lane.c.room,
    lane.c.next_at,
    sqlite_where=text("next_at IS NOT NULL"),
    postgresql_where=text("next_at IS NOT NULL"),
)

normalised = Table(
    "normalised",
    metadata,
    Column("message_id", _Id, primary_key=True, autoincrement=False),
    Column("entries", LargeBinary, nullable=False),
    Column("entries_size", BigInteger, nullable=False),
    Column("attachments", JSON, nullable=False),
    Column("mapping", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("message_id", _Id, nullable=False),
    Column("lane", _key(), nullable=False),
    Column("patient_id", String(36), nullable=False),
    Column("destination", _key(SOURCE_MAX), nullable=False),
    Column("sequence", _Id, nullable=False),
    Column("idempotency_key", _key(), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    # How many attempts were ever begun, and how many of them since the last one that ended.
    Column("starts", Integer, nullable=False),
    Column("unfinished", Integer, nullable=False),
    Column("due_at", Instant),
    *columns_of_cause(),
    Column("evidence", Text, nullable=False, default=""),
    Column("merged_patients", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    # Of entries that a message was read for anew by a reprocessing: its number, else 0.
    Column("revision", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("idempotency_key"),
    Index("ix_delivery_message", "message_id"),
    Index("ix_delivery_state", "state", "destination", "id"),
    sqlite_autoincrement=True,
)

Index(
    "ix_delivery_lane_pending",
    delivery.c.lane,
    delivery.c.sequence,
    delivery.c.id,
    sqlite_where=text("state = 'pending'"),
    postgresql_where=text("state = 'pending'"),
)
Index(
    "ix_delivery_patient_pending",
    delivery.c.patient_id,
    sqlite_where=text("state = 'pending'"),
    postgresql_where=text("state = 'pending'"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("delivery_id", _Id, nullable=False),
    Column("number", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("outcome", String(16), nullable=False),
    *columns_of_cause(),
    Column("evidence", Text, nullable=False, default=""),
    UniqueConstraint("delivery_id", "number"),
)

sequence_number = Table(
    "sequence_number",
    metadata,
    Column("source", _key(SOURCE_MAX), primary_key=True),
    # None: the next positive number will do.
    Column("last", BigInteger),
)

application_acknowledgement = Table(
    "application_acknowledgement",
    metadata,
    Column("message_id", _Id, primary_key=True, autoincrement=False),
    Column("source", _key(SOURCE_MAX), nullable=False),
    Column("condition", String(2), nullable=False),
    Column("state", String(16), nullable=False),
    # The acknowledgement's own MSH-10 and bytes, the same at every attempt.
    Column("control_id", _key(), nullable=False),
    Column("code", String(2), nullable=False),
    Column("body", LargeBinary),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Instant),
    Column("first_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("ix_application_acknowledgement_state", "source", "state", "message_id"),
)

operation = Table(
    "operation",
    metadata,
    Column("key", _key(), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("result", JSON(none_as_null=True)),
)

destination_standing = Table(
    "destination_standing",
    metadata,
    Column("destination", _key(SOURCE_MAX), primary_key=True),
    # The circuit breaker: closed, open until ``until``, or half-open with one attempt at work.
    Column("breaker", String(16), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("openings", Integer, nullable=False),
    Column("until", Instant),
    # What the destination itself asked for (Retry-After), and when the rate allows the next.
    Column("rest_until", Instant),
    Column("next_slot", Instant),
    *columns_of_cause(),
    Column("changed_at", Instant, nullable=False),
)

placed = Table(
    "placed",
    metadata,
    Column("destination", _key(SOURCE_MAX), primary_key=True),
    Column("reference", _key(), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("provisional", Integer, nullable=False),
)

standstill = Table(
    "standstill",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", _key(SOURCE_MAX), nullable=False),
    Column("mode", String(16), nullable=False),
    # Of a destination that is drained: the last message whose deliveries still go.
    Column("up_to", BigInteger),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Index("ix_standstill_name", "kind", "name", "id"),
    sqlite_autoincrement=True,
)

chain_link = Table(
    "chain_link",
    metadata,
    Column("chain", String(32), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    # Ids of the messages of one commit, as ranges: ``1-128,130``.
    Column("ids", Text, nullable=False),
    Column("content", String(64), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("at", Instant, nullable=False),
    Index("ix_chain_link_at", "at"),
)
