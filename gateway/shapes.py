"""Rows of the journal as plain JSON objects: the one form for the REST API and ``--json``.

Instants are RFC 3339 in UTC; enumerations are their lower-case values; an absent value is
null. No shape holds bytes of a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from deadletter.causes import CAUSES
from gateway.journal import deliveries, messages
from gateway.journal.alerting import Alert
from gateway.journal.desk_actions import Action
from gateway.journal.replaying import Job
from gateway.journal.standstills import Change
from gateway.journal.states import AnswerState
from gateway.journal.values import (
    Attempt,
    DeadLetter,
    DeadLetterGroup,
    DeliveryRow,
    Event,
    LedgerLine,
    Message,
    Normalised,
    Patient,
)
from gateway.model import Cause, CauseCode
from gateway.rooms import Room, Standstill

Shape = dict[str, Any]


def instant(value: datetime | None) -> str | None:
    """RFC 3339 with milliseconds, in UTC."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cause(value: Cause | None) -> Shape | None:
    """A cause with its title, its meaning and what to do."""
    if value is None:
        return None
    return {
        "code": value.code.value,
        "detail": value.detail,
        "location": value.location,
        "protocol_code": value.protocol_code,
        **explanation(value.code.value),
    }


def explanation(code: str) -> Shape:
    """Title, meaning and remedy of a cause code; the code itself when it is not a known one."""
    try:
        note = CAUSES[CauseCode(code)]
    except ValueError:
        return {"title": code, "means": "", "do": "", "exit": ""}
    return {"title": note.title, "means": note.means, "do": note.do, "exit": note.exit.value}


def message(value: Message) -> Shape:
    """One message without its bytes and its answer."""
    return {
        "id": value.id,
        "sequence": value.sequence,
        "parent_id": value.parent_id,
        "carrier_id": value.carrier_id,
        "source": value.source,
        "format": value.format.value,
        "kind": value.kind,
        "control_id": value.control_id,
        "group": value.group_key or None,
        "state": value.state.value,
        "cause": cause(value.cause),
        "sha256": value.sha256,
        "size": value.size,
        "encoding": value.encoding,
        "peer": value.peer,
        "received_at": instant(value.received_at),
        "changed_at": instant(value.changed_at),
        "arrivals": value.arrivals,
        "patient_id": value.patient_id,
        "mapping": value.mapping or None,
        "mapping_version": value.mapping_version or None,
        "mapping_digest": value.mapping_digest or None,
        "flags": [dict(flag) for flag in value.flags],
        "attributes": dict(value.attributes),
    }


def event(value: Event) -> Shape:
    """One moment of a message's life."""
    return {
        "at": instant(value.at),
        "stage": value.stage.value,
        "what": value.what,
        "detail": dict(value.detail),
    }


def delivery(value: DeliveryRow, attempts: list[Attempt]) -> Shape:
    """One delivery with its attempts."""
    return {
        "id": value.id,
        "destination": value.destination,
        "state": value.state.value,
        "idempotency_key": value.idempotency_key,
        "attempts_counted": value.attempts,
        "due_at": instant(value.due_at),
        "cause": cause(value.cause),
        "evidence": value.evidence,
        "created_at": instant(value.created_at),
        "changed_at": instant(value.changed_at),
        "attempts": [attempt(each) for each in attempts],
    }


def attempt(value: Attempt) -> Shape:
    """One attempt; ``ended_at`` null means unfinished."""
    return {
        "number": value.number,
        "started_at": instant(value.started_at),
        "ended_at": instant(value.ended_at),
        "outcome": value.outcome or None,
        "cause": cause(value.cause),
        "evidence": value.evidence,
    }


def normalised(value: Normalised | None, *, resources: bool) -> Shape | None:
    """What the mapping made. ``resources`` adds the FHIR resources, which are patient data."""
    if value is None:
        return None
    entries: list[Shape] = []
    for entry in value.entries:
        shape: Shape = {"reference": entry.reference, "create_only": entry.create_only}
        if resources:
            shape["resource"] = entry.resource
        entries.append(shape)
    return {
        "mapping": value.mapping,
        "version": value.version,
        "digest": value.digest,
        "entries": entries,
        "attachments": [asdict(each) for each in value.attachments],
    }


def life(connection: Connection, value: Message, *, resources: bool) -> Shape:
    """One message with everything that the journal knows of it.

    ``resources`` adds the FHIR resources, which are patient data.
    """
    return {
        **message(value),
        "waiting_for": [
            {"system": each.system, "value": each.value}
            for each in messages.waiting_for(connection, value.id)
        ],
        "events": [event(each) for each in messages.events(connection, value.id)],
        "normalised": normalised(messages.normalised(connection, value.id), resources=resources),
        "deliveries": [
            delivery(each, deliveries.attempts(connection, each.id))
            for each in deliveries.of_message(connection, value.id)
        ],
    }


def dead_letter(value: DeadLetter) -> Shape:
    """One dead letter with its cause explained."""
    return {
        "id": value.id,
        "message_id": value.message_id,
        "delivery_id": value.delivery_id,
        "source": value.source,
        "kind": value.kind,
        "stage": value.stage.value,
        "cause": cause(value.cause),
        "group": value.fingerprint,
        "buried_at": instant(value.buried_at),
        "attempts": value.attempts,
        "resolution": value.resolution.value if value.resolution else None,
        "resolved_at": instant(value.resolved_at),
        "reason": value.reason or None,
        "actor": value.actor or None,
        "child_message_id": value.child_message_id,
        "destination": value.destination or None,
        "assignee": value.assignee or None,
    }


def ended_waits(buried: Mapping[int, int], asked: Iterable[int], *, dry_run: bool) -> Shape:
    """What became of messages whose wait was to be ended (``deadletter.waiting.end_wait``)."""
    return {
        "dry_run": dry_run,
        "buried": [
            {"message": number, "dead_letter": letter or None}
            for number, letter in sorted(buried.items())
        ],
        "not_waiting": sorted(set(asked) - buried.keys()),
    }


def replay_job(value: Job) -> Shape:
    """One replay: where it stands, at which pace, what became of its letters."""
    return {
        "id": value.id,
        "state": value.state.value,
        "active": value.active,
        "note": value.note or None,
        "actor": value.actor,
        "reason": value.reason or None,
        "group": value.fingerprint or None,
        "selection": {name: kept for name, kept in value.selection.items() if kept},
        "per_second": value.pace.per_second,
        "ramp": list(value.pace.ramp),
        "stop_percent": value.pace.stop_percent,
        "counts": dict(value.counts),
        "in_flight": value.in_flight,
        "waiting": value.waiting,
        "at": instant(value.at),
        "changed_at": instant(value.changed_at),
        "ended_at": instant(value.ended_at),
    }


def desk_action(value: Action) -> Shape:
    """Who did what at the dead-letter desk."""
    return {
        "id": value.id,
        "at": instant(value.at),
        "actor": value.actor,
        "what": value.what.value,
        "group": value.fingerprint or None,
        "dead_letter_id": value.dead_letter_id,
        "message_id": value.message_id,
        "job": value.job_id,
        "number": value.number,
        "reason": value.reason or None,
        "detail": dict(value.detail),
    }


def alert(value: Alert) -> Shape:
    """One alert to one channel."""
    return {
        "id": value.id,
        "at": instant(value.at),
        "kind": value.kind,
        "group": value.fingerprint,
        "channel": value.channel,
        "state": value.state.value,
        "attempts": value.attempts,
        "due_at": instant(value.due_at),
        "answer": value.answer or None,
        "body": dict(value.body),
    }


def group(value: DeadLetterGroup) -> Shape:
    """One group of unresolved dead letters with the same fingerprint."""
    return {
        "group": value.fingerprint,
        "stage": value.stage.value,
        "code": value.code,
        "location": value.location,
        **explanation(value.code),
        "count": value.count,
        "first_at": instant(value.first_at),
        "last_at": instant(value.last_at),
        "sources": list(value.sources),
        "by_source": dict(value.by_source),
        "sample_id": value.sample_id,
        "destination": value.destination or None,
        "assignee": value.assignee or None,
        "total": value.total,
        "trend": list(value.trend),
    }


def patient(value: Patient) -> Shape:
    """One patient of the index: the national identifier and the permissions, no traits."""
    return {
        "id": value.id,
        "ins": {"system": value.ins_system, "value": value.ins_value},
        "merged_into": value.merged_into,
        "feeding": value.feeding.value,
        "record": value.record.value,
        "created_at": instant(value.created_at),
    }


def acknowledgements(counts: Mapping[str, Mapping[AnswerState, int]]) -> Shape:
    """How many application acknowledgements of each source stand where."""
    return {
        source: {state.value: count for state, count in sorted(standing.items())}
        for source, standing in sorted(counts.items())
    }


def ledger(lines: Mapping[str, LedgerLine]) -> Shape:
    """The account of every source, and their sum."""
    sources = {name: asdict(line) for name, line in sorted(lines.items())}
    names = list(asdict(LedgerLine()))
    return {
        "sources": sources,
        "total": {name: sum(line[name] for line in sources.values()) for name in names},
    }


def standing(value: Standstill) -> Shape:
    """How a source or destination stands."""
    found: Shape = {"kind": value.kind, "name": value.name, "mode": value.mode}
    if value.kind == "destination":
        found |= {
            "breaker": value.breaker,
            "failures": value.failures,
            "closed_until": instant(value.closed_until),
            "cause": value.cause,
        }
    return found


def decision(value: Change) -> Shape:
    """A person's decision to let something stand still or go on."""
    return {
        "kind": value.kind.value,
        "name": value.name,
        "mode": value.mode.value,
        "actor": value.actor,
        "reason": value.reason,
        "at": instant(value.at),
    }


def room(value: Room) -> Shape:
    """What waits for one reason."""
    return {
        "code": value.code,
        "name": value.name,
        "title": value.title,
        "means": value.means,
        "do": value.do,
        "count": value.count,
        "what": value.what,
        "oldest_at": instant(value.oldest_at),
        "until": instant(value.until),
        "ages": dict(value.ages),
    }
