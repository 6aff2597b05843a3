"""Rejected instances in the index of what is held (IHE RAD IOCM).

Functions that change something are called inside ``Journal.write()``, after the rows of the same
studies were put: that locks them, so that a note and what it names never miss each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from gateway.journal import imaging_tables, tables
from gateway.journal.rows import CONTENT_COLUMNS, MESSAGE_COLUMNS, message_of
from gateway.journal.states import MessageState
from gateway.journal.values import Message

NOTES_MAX = 10_000
"""Selections of one study that are looked at, the oldest first."""

_message = tables.message
_instance = imaging_tables.held_instance
_study = imaging_tables.held_study
_GONE = [s.value for s in (MessageState.REFUSED, MessageState.DISCARDED, MessageState.REPLACED)]


def selections(
    connection: Connection, studies: Sequence[str], sop_class: str
) -> dict[str, list[Message]]:
    """The key object selections that came to each study, in order of arrival, with their bytes
    when these are short and no purge took them."""
    found: dict[str, list[Message]] = {}
    rows = connection.execute(
        select(*MESSAGE_COLUMNS, *CONTENT_COLUMNS, _instance.c.study_uid.label("of_study"))
        .join(_instance, _instance.c.message_id == _message.c.id)
        .outerjoin(tables.content, tables.content.c.message_id == _message.c.id)
        .where(
            _instance.c.study_uid.in_(studies),
            _instance.c.sop_class == sop_class,
            _message.c.state.not_in(_GONE),
        )
        .order_by(_message.c.sequence, _message.c.id)
        .limit(NOTES_MAX)
    )
    for row in rows:
        found.setdefault(row.of_study, []).append(message_of(row, with_content=True))
    return found


def marked(connection: Connection, studies: Sequence[str]) -> frozenset[str]:
    """Those of the studies of which an instance is rejected now."""
    return frozenset(
        connection.execute(
            select(_instance.c.study_uid)
            .where(_instance.c.study_uid.in_(studies), _instance.c.rejected != "")
            .distinct()
        ).scalars()
    )


def mark(
    connection: Connection, study: str, reason: Callable[[str, str], str], *, lift: bool = True
) -> int:
    """Write down for what each instance of a study is rejected; ``reason`` gives it, empty for
    nothing, by series and SOP Instance UID. Without ``lift`` what is rejected stays so. How many
    changed."""
    rows = connection.execute(
        select(_instance.c.sop_instance, _instance.c.series_uid, _instance.c.rejected).where(
            _instance.c.study_uid == study
        )
    )
    changed: dict[str, list[str]] = {}
    for row in rows:
        code = reason(row.series_uid, row.sop_instance)
        if code != row.rejected and (code or lift):
            changed.setdefault(code, []).append(row.sop_instance)
    for code, uids in sorted(changed.items()):
        for start in range(0, len(uids), 500):
            connection.execute(
                update(_instance)
                .where(_instance.c.sop_instance.in_(uids[start : start + 500]))
                .values(rejected=code)
            )
    return sum(len(uids) for uids in changed.values())


def of_one_patient(
    connection: Connection, study: str, others: Sequence[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Those of the other studies that are held and of the same patient, as the objects name the
    patient, each with its attributes (DICOM JSON model)."""
    own = connection.execute(
        select(_study.c.patient_id, _study.c.issuer).where(_study.c.study_uid == study)
    ).one_or_none()
    if own is None or not own.patient_id:
        return []
    rows = connection.execute(
        select(_study.c.study_uid, _study.c.attributes)
        .where(
            _study.c.study_uid.in_(others),
            _study.c.patient_id == own.patient_id,
            _study.c.issuer == own.issuer,
        )
        .order_by(_study.c.study_uid)
    )
    return [(row.study_uid, row.attributes) for row in rows]


def notes(connection: Connection, uids: Sequence[str]) -> list[tuple[str, Message]]:
    """The messages of instances that are held, by SOP Instance UID."""
    rows = connection.execute(
        select(*MESSAGE_COLUMNS, *CONTENT_COLUMNS, _instance.c.sop_instance.label("uid"))
        .join(_instance, _instance.c.message_id == _message.c.id)
        .join(tables.content, tables.content.c.message_id == _message.c.id)
        .where(_instance.c.sop_instance.in_(uids), _message.c.state.not_in(_GONE))
        .order_by(_instance.c.sop_instance)
    )
    return [(row.uid, message_of(row, with_content=True)) for row in rows]


def held(connection: Connection, uids: Sequence[str]) -> frozenset[str]:
    """Those of the SOP Instance UIDs that are in the index."""
    return frozenset(
        connection.execute(
            select(_instance.c.sop_instance).where(_instance.c.sop_instance.in_(uids))
        ).scalars()
    )
