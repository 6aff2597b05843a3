"""What is held and not shown to who asks: rejected instances, studies of patients who deny."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, select, text

from gateway.journal import imaging_tables, patient_tables, tables
from gateway.journal.states import MessageState

_message = tables.message
_patient = patient_tables.patient
_instance = imaging_tables.held_instance
_GONE = [s.value for s in (MessageState.REFUSED, MessageState.DISCARDED, MessageState.REPLACED)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What is held and not shown: instances rejected for these codes of CID 7011, with the notes
    that reject them; studies of patients who oppose, or whose record is closed (``denied``)."""

    rejected: frozenset[str] = frozenset()
    denied: bool = False


NOTHING_HIDDEN = Hidden()


def shown(hidden: Hidden) -> list[ColumnElement[bool]]:
    """What an instance (with its message) must fulfil to be still held, its bytes among it, and
    shown."""
    content = tables.content
    kept = select(content.c.message_id).where(content.c.message_id == _instance.c.message_id)
    conditions: list[ColumnElement[bool]] = [_message.c.state.not_in(_GONE), kept.exists()]
    if hidden.rejected:
        conditions.append(_instance.c.rejected.not_in(sorted(hidden.rejected)))
    if hidden.denied:
        conditions.append(_instance.c.study_uid.not_in(_denied_studies()))
    return conditions


def _denied_studies() -> Select[Any]:
    """Studies of patients who oppose or whose record is closed, and of those merged into them."""
    denied = (
        select(_patient.c.id)
        .where(text(f"({patient_tables.DENIED})"), _patient.c.merged_into.is_(None))
        .cte("denied", recursive=True)
    )
    merged = _patient.alias("merged")
    denied = denied.union(
        select(merged.c.id)
        .join(denied, merged.c.merged_into == denied.c.id)
        .where(merged.c.merged_into.is_not(None))
    )
    whose = _message.alias("whose")
    return (
        select(whose.c.group_key)
        .join(denied, whose.c.patient_id == denied.c.id)
        .where(whose.c.patient_id.is_not(None), whose.c.group_key != "")
    )
