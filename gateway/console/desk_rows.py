"""Groups, replays and actions of the dead-letter desk as pages show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from gateway.console import plot
from gateway.journal import deadletters, desk_actions
from gateway.journal.alerting import Alert
from gateway.journal.desk_actions import Action, What
from gateway.journal.desk_tables import dead_letter_group
from gateway.journal.replaying import End, Job, JobState
from gateway.journal.values import DeadLetterGroup
from gateway.shapes import explanation
from gateway.wording import STAGES, plural

_TONES = {
    JobState.PREPARING: "moving", JobState.RUNNING: "moving", JobState.PAUSED: "held",
    JobState.HALTED: "dead", JobState.CANCELLED: "settled", JobState.DONE: "done",
}  # fmt: skip
ENDS = {
    End.DELIVERED: "Delivered",
    End.FAILED: "Failed again",
    End.ELSEWHERE: "Went elsewhere",
    End.WITHHELD: "Withheld",
    End.GONE: "Settled before",
    End.CANCELLED: "Not let go",
}
WORDS = {
    What.REPLAY: "replayed",
    What.PAUSE: "paused a replay of",
    What.RESUME: "resumed a replay of",
    What.CANCEL: "cancelled a replay of",
    What.HALT: "saw a replay halt by itself:",
    What.DONE: "saw a replay end:",
    What.EDIT_MESSAGE: "edited the message of",
    What.EDIT_ENTRY: "edited entries of",
    What.DISCARD: "discarded",
    What.BURY: "ended the wait of what is now",
    What.ASSIGN: "assigned",
    What.NOTE: "noted on",
    What.EXPORT: "exported",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCard:
    """One group of one fingerprint, with what to do."""

    fingerprint: str
    title: str
    code: str
    stage: str
    by_source: tuple[tuple[str, int], ...]
    destination: str
    location: str
    detail: str
    meaning: str
    remedy: str
    count: int
    total: int
    first_at: datetime
    last_at: datetime
    trend: str
    assignee: str
    notes: int
    sample_id: int


def cards(connection: Connection, groups: Sequence[DeadLetterGroup]) -> list[GroupCard]:
    """Groups as cards, each with the detail of its newest letter."""
    noted = desk_actions.notes(connection, [each.fingerprint for each in groups])
    return [_card(connection, each, noted.get(each.fingerprint, 0)) for each in groups]


def _card(connection: Connection, group: DeadLetterGroup, notes: int) -> GroupCard:
    words = explanation(group.code)
    sample = deadletters.get(connection, group.sample_id)
    buried = sum(group.trend)
    return GroupCard(
        fingerprint=group.fingerprint,
        title=words["title"],
        code=group.code,
        stage=STAGES[group.stage],
        by_source=tuple((name, group.by_source[name]) for name in group.sources),
        destination=group.destination,
        location=group.location,
        detail=sample.cause.detail if sample is not None else "",
        meaning=words["means"],
        remedy=words["do"],
        count=group.count,
        total=group.total,
        first_at=group.first_at,
        last_at=group.last_at,
        trend=plot.spark_bars(
            group.trend, f"{buried} {plural(buried, 'message')} buried in the last 24 hours"
        )
        if buried
        else "",
        assignee=group.assignee,
        notes=notes,
        sample_id=group.sample_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One replay: its progress in numbers and words."""

    job: Job
    title: str
    tone: str
    selected: int
    released: int
    in_flight: int
    share: int
    ends: tuple[tuple[str, int, str], ...]
    pace: str


def job_rows(connection: Connection, jobs: Sequence[Job]) -> list[JobRow]:
    """Replays as rows, each named by the trouble of its group."""
    group = dead_letter_group.c
    known = connection.execute(
        select(group.fingerprint, group.cause_code).where(
            group.fingerprint.in_({job.fingerprint for job in jobs if job.fingerprint})
        )
    )
    codes = {row.fingerprint: str(row.cause_code) for row in known}
    return [_job_row(job, codes.get(job.fingerprint, "")) for job in jobs]


def job_row(connection: Connection, job: Job) -> JobRow:
    """A replay as a page."""
    return job_rows(connection, [job])[0]


def _job_row(job: Job, code: str) -> JobRow:
    selected = job.counts.get("selected", 0)
    over = selected - job.waiting - job.in_flight
    return JobRow(
        job=job,
        title=_selection(job.selection, code),
        tone=_TONES[job.state],
        selected=selected,
        released=job.counts.get("released", 0),
        in_flight=job.in_flight,
        share=100 if job.state is JobState.DONE else 100 * over // selected if selected else 0,
        ends=tuple((label, job.counts.get(end.value, 0), end.value) for end, label in ENDS.items()),
        pace=_pace(job),
    )


def _pace(job: Job) -> str:
    ramp = ", ".join(str(step) for step in job.pace.ramp)
    rate = f"{job.pace.per_second:g} a second" if job.pace.per_second else "as quickly as it goes"
    first = f"first {ramp}, each step only when the one before went well; then {rate}"
    stops = f"halts above {job.pace.stop_percent} % failures"
    return f"{first if ramp else rate}; {stops}"


def _selection(kept: Mapping[str, Any], code: str) -> str:
    if kept["ids"]:
        number = len(kept["ids"])
        said = f"{number} chosen {plural(number, 'letter')}"
    elif kept["fingerprint"]:
        said = explanation(code)["title"] if code else f"Group {kept['fingerprint']}"
    elif kept["code"]:
        said = explanation(kept["code"])["title"]
    else:
        said = "All dead letters"
    for word, name in (("from", "source"), ("to", "destination"), ("of", "assignee")):
        if kept[name]:
            said += f" {word} {kept[name]}"
    return said


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRow:
    """One line of who did what."""

    at: datetime
    actor: str
    words: str
    tone: str
    object: str
    href: str
    reason: str
    more: str


_ACTION_TONES = {
    What.HALT: "dead", What.DISCARD: "refused", What.DONE: "done", What.REPLAY: "done",
    What.NOTE: "held",
}  # fmt: skip


def action_row(action: Action) -> ActionRow:
    """An action in words, with a link to what it was done to."""
    href, thing = "", f"{action.number} dead {plural(action.number, 'letter')}"
    if action.dead_letter_id is not None:
        href, thing = f"/dead/{action.dead_letter_id}", f"dead letter {action.dead_letter_id}"
    elif action.job_id is not None:
        href = f"/dead/replays/{action.job_id}"
    elif action.fingerprint:
        href = f"/dead/groups/{action.fingerprint}"
        if action.what in (What.NOTE, What.ASSIGN):
            thing = "the group"
    return ActionRow(
        at=action.at,
        actor=action.actor,
        words=WORDS[action.what],
        tone=_ACTION_TONES.get(action.what, ""),
        object=thing,
        href=href,
        reason=action.reason,
        more=_more(action),
    )


def _more(action: Action) -> str:
    detail = action.detail
    if action.what is What.ASSIGN:
        return f"to {detail['assignee']}" if detail.get("assignee") else "to nobody"
    if action.what is What.EXPORT:
        return "de-identified" if detail.get("deidentified") else "with data of patients"
    if action.what in (What.DONE, What.HALT):
        parts = [f"{detail[end.value]} {label.lower()}" for end, label in ENDS.items()
                 if detail.get(end.value)]  # fmt: skip
        return ", ".join(parts)
    if detail.get("child"):
        return f"went on as message {detail['child']}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert as a line."""

    alert: Alert
    title: str
    tone: str


def alert_row(alert: Alert) -> AlertRow:
    """An alert as a line."""
    tones = {"sent": "done", "due": "moving", "failed": "dead"}
    return AlertRow(
        alert=alert, title=str(alert.body.get("title", "")), tone=tones[alert.state.value]
    )
