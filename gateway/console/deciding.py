"""The page between a decision and its effect, and the effect: replay and discard.

Every action is a form that carries an operation key made when the form was shown: pressed twice it
acts once, and the second press shows what the first did. A replay of more than one letter is a job
with a pace.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from deadletter import replay as desk
from deadletter.jobs import DEFAULT_RAMP, CannotReplay, checked_pace
from deadletter.selection import Report
from gateway.console import letters
from gateway.console.context import Console, actor
from gateway.journal import deadletters, operations
from gateway.journal.replaying import Pace
from gateway.journal.values import DeadLetterFilter
from gateway.wording import plural

IDS_MAX = 500
KEY_MAX = 64


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters an action takes: some, a group, all of one cause; of these only those
    of a source or to a destination."""

    ids: str = ""
    group: str = ""
    cause: str = ""
    source: str = ""
    destination: str = ""

    def filter(self) -> DeadLetterFilter:
        """The journal's filter. Raises HTTPException when nothing is selected."""
        if self.ids:
            parts = self.ids.split(",")
            if len(parts) > IDS_MAX or not all(p.isdecimal() and len(p) < 16 for p in parts):
                raise HTTPException(422, "the dead letters are named by their numbers")
            return DeadLetterFilter(ids=tuple(int(part) for part in parts))
        if self.group or self.cause:
            return DeadLetterFilter(
                fingerprint=self.group, code=self.cause, source=self.source,
                destination=self.destination,
            )  # fmt: skip
        raise HTTPException(422, "nothing is selected")

    def hidden(self, key: str) -> list[tuple[str, str]]:
        """What the form carries unseen."""
        pairs = (
            ("ids", self.ids), ("group", self.group), ("cause", self.cause),
            ("source", self.source), ("destination", self.destination), ("key", key),
        )  # fmt: skip
        return [(name, value) for name, value in pairs if value]


Ids = Annotated[list[str], Query(max_length=IDS_MAX)]
Name = Annotated[str, Query(max_length=128)]
FormText = Annotated[str, Form(max_length=10_000)]
FormName = Annotated[str, Form(max_length=128)]
Key = Annotated[str, Form(min_length=8, max_length=KEY_MAX)]
Reason = Annotated[str, Form(max_length=500)]


def deciding_routes(console: Console) -> APIRouter:
    """``/dead/replay``, ``/dead/discard``, ``/dead/operations/…``."""
    router = APIRouter(include_in_schema=False)
    _add_plans(router, console)
    _add_replay(router, console)
    _add_discard(router, console)

    @router.get("/dead/operations/{key}", response_class=HTMLResponse)
    def operation_page(key: str) -> Response:
        with console.journal.read() as connection:
            known = operations.get(connection, key)
        if known is None or known.result is None:
            return console.not_found("finished action of this name")
        if "job" in known.result:
            return RedirectResponse(f"/dead/replays/{known.result['job']}", 303)
        report = Report.from_json(known.result)
        return console.page("decided.html", "Dead letters", _decided(report))

    return router


def _add_plans(router: APIRouter, console: Console) -> None:
    @router.get("/dead/replay", response_class=HTMLResponse)
    def plan_replay(
        ids: Ids = [], group: Name = "", cause: Name = "", source: Name = "",  # noqa: B006
        destination: Name = "",
    ) -> Response:  # fmt: skip
        chosen = Selection(",".join(ids), group, cause, source, destination)
        report = desk.replay(
            console.journal, chosen.filter(), actor="", key="dry-run", dry_run=True
        )
        return _decide(console, chosen, report)

    @router.get("/dead/discard", response_class=HTMLResponse)
    def plan_discard(
        ids: Ids = [], group: Name = "", cause: Name = "", source: Name = "",  # noqa: B006
        destination: Name = "",
    ) -> Response:  # fmt: skip
        chosen = Selection(",".join(ids), group, cause, source, destination)
        report = desk.discard(
            console.journal, chosen.filter(), actor="", key="dry-run", reason="dry run",
            dry_run=True,
        )  # fmt: skip
        return _decide(console, chosen, report)


def _add_replay(router: APIRouter, console: Console) -> None:
    @router.post("/dead/replay")
    def replay(
        request: Request, *, ids: FormText = "", group: FormName = "", cause: FormName = "",
        source: FormName = "", destination: FormName = "", key: Key, reason: Reason = "",
        ramp: FormName = "", per_second: FormName = "", stop_percent: FormName = "",
        paced: Annotated[bool, Form()] = False,
    ) -> Response:  # fmt: skip
        wanted = Selection(ids, group, cause, source, destination).filter()
        if not paced:
            report = desk.replay(
                console.journal, wanted, actor=actor(request), key=key, reason=reason.strip()
            )
            return _done(console, request, report)
        try:
            job, new = console.gateway.replays.submit(
                wanted, _pace(ramp, per_second, stop_percent), actor=actor(request), key=key,
                reason=reason.strip(),
            )  # fmt: skip
        except CannotReplay as error:
            raise HTTPException(422, f"{error}.") from None
        console.gateway.desk.wake()
        if new:
            console.saw(request, "a replay was submitted", job=job.id)
        return RedirectResponse(f"/dead/replays/{job.id}", 303)


def _pace(ramp: str, per_second: str, stop_percent: str) -> Pace:
    """The pace of a form. Raises CannotReplay."""
    steps = [part.strip() for part in ramp.replace(";", ",").split(",") if part.strip()]
    if not all(part.isdecimal() and len(part) < 8 for part in steps):
        raise CannotReplay("the first steps are numbers with commas between: 1, 5, 25")
    try:
        rate = float(per_second.replace(",", ".") or 0)
        percent = int(stop_percent or 10)
    except ValueError:
        raise CannotReplay("the rate and the share of failures are numbers") from None
    return checked_pace(rate, tuple(int(part) for part in steps), percent)


def _add_discard(router: APIRouter, console: Console) -> None:
    @router.post("/dead/discard")
    def discard(
        request: Request, *, ids: FormText = "", group: FormName = "", cause: FormName = "",
        source: FormName = "", destination: FormName = "", key: Key, reason: Reason = "",
    ) -> Response:  # fmt: skip
        wanted = Selection(ids, group, cause, source, destination).filter()
        try:
            report = desk.discard(
                console.journal, wanted, actor=actor(request), key=key, reason=reason.strip()
            )
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return _done(console, request, report)


def _decide(console: Console, chosen: Selection, report: Report) -> HTMLResponse:
    with console.journal.read() as connection:
        count = sum(report.counts.values())
        if report.more:
            count = deadletters.count(connection, chosen.filter())
        plan = letters.plan(connection, report, count)
    discards = report.what == "discard"
    paced = not discards and plan.count > 1
    noun = f"{plan.count:,} dead {plural(plan.count, 'letter')}".replace(",", "\u202f")
    context = {
        "heading": f"{'Discard' if discards else 'Replay'} {noun}",
        "lede": "They stay readable, with who decided and why, but go nowhere."
        if discards
        else "Each goes to its old place in line, under the key that its destination knows: "
        "what was delivered before is not delivered twice.",
        "plan": plan,
        "action": f"/dead/{report.what}",
        "hidden": chosen.hidden(secrets.token_hex(16)),
        "reason_required": discards,
        "reason_hint": "Why it does not go" if discards else "What was corrected",
        "danger": discards,
        "paced": paced,
        "ramp": ", ".join(str(step) for step in DEFAULT_RAMP if step < plan.count),
        "examined": sum(report.counts.values()),
        "button": f"{'Discard' if discards else 'Replay'} {noun}",
    }
    return console.page("decide.html", "Dead letters", context)


def _done(console: Console, request: Request, report: Report) -> Response:
    console.counts.forget()
    if not report.again:
        console.saw(
            request, "dead letters settled", operation=report.operation, outcome=report.what,
            dead_letters=sum(report.counts.values()),
        )  # fmt: skip
    if not report.finished:
        raise HTTPException(409, "the same action is at work already; look again in a moment")
    return RedirectResponse(f"/dead/operations/{report.operation}", 303)


def _decided(report: Report) -> dict[str, Any]:
    total = sum(report.counts.values())
    said = [f"{count} {letters.RESULTS[verdict]}" for verdict, count in report.counts.items()]
    lede = "; ".join(said) if said else "Nothing was left to do."
    if report.more:
        lede += ". There are more than one action takes: do it again for the rest"
    return {
        "heading": f"{total} dead {plural(total, 'letter')}",
        "lede": f"{lede}.",
        "rows": [
            {
                "id": item.dead_letter_id,
                "result": letters.RESULTS[item.verdict],
                "message_id": item.child or item.message_id,
            }
            for item in report.items
        ],
    }
