"""The dead-letter desk: groups, one letter, dry run, replay, discard, repair.

Every action is a form that carries an operation key made when the form was shown: pressed
twice it acts once, and the second press shows what the first did.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from deadletter import replay as desk
from deadletter.selection import Report
from gateway.console import letters
from gateway.console.context import Console, actor
from gateway.console.repair import repair_routes
from gateway.journal import deadletters, operations
from gateway.journal.values import DeadLetterFilter
from gateway.wording import plural

PAGE_ROWS = 50
SETTLED_ROWS = 12
IDS_MAX = 500
KEY_MAX = 64


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters an action takes: some, a group, all of one cause."""

    ids: str = ""
    group: str = ""
    cause: str = ""

    def filter(self) -> DeadLetterFilter:
        """The journal's filter. Raises HTTPException when nothing is selected."""
        if self.ids:
            parts = self.ids.split(",")
            if len(parts) > IDS_MAX or not all(p.isdigit() and len(p) < 16 for p in parts):
                raise HTTPException(422, "the dead letters are named by their numbers")
            return DeadLetterFilter(ids=tuple(int(part) for part in parts))
        if self.group:
            return DeadLetterFilter(fingerprint=self.group)
        if self.cause:
            return DeadLetterFilter(code=self.cause)
        raise HTTPException(422, "nothing is selected")

    def hidden(self, key: str) -> list[tuple[str, str]]:
        """What the form carries unseen."""
        pairs = (("ids", self.ids), ("group", self.group), ("cause", self.cause), ("key", key))
        return [(name, value) for name, value in pairs if value]


Ids = Annotated[str, Query(max_length=10_000)]
Name = Annotated[str, Query(max_length=64)]
FormText = Annotated[str, Form(max_length=10_000)]
FormName = Annotated[str, Form(max_length=KEY_MAX)]
Reason = Annotated[str, Form(max_length=500)]


def desk_routes(console: Console) -> APIRouter:
    """``/dead`` and below."""
    router = APIRouter(include_in_schema=False)
    _add_reading(router, console)
    _add_actions(router, console)
    router.include_router(repair_routes(console))
    return router


def _add_reading(router: APIRouter, console: Console) -> None:
    @router.get("/dead", response_class=HTMLResponse)
    def groups_page() -> Response:
        with console.journal.read() as connection:
            groups = [letters.card(connection, each) for each in deadletters.groups(connection)]
            count = deadletters.count(connection, DeadLetterFilter())
            settled = deadletters.page(
                connection, DeadLetterFilter(resolved=True), limit=SETTLED_ROWS
            )
            resolved = letters.read_letters(connection, settled)
        context = {"groups": groups, "open_count": count, "resolved": resolved}
        return console.page("dead.html", "Dead letters", context)

    @router.get("/dead/groups/{fingerprint}", response_class=HTMLResponse)
    def group_page(fingerprint: str, before: int | None = None) -> Response:
        with console.journal.read() as connection:
            known = deadletters.groups(connection)
            group = next((g for g in known if g.fingerprint == fingerprint), None)
            if group is None:
                return console.not_found("open dead letter of this group any more")
            wanted = DeadLetterFilter(fingerprint=fingerprint)
            found = deadletters.page(connection, wanted, before_id=before, limit=PAGE_ROWS + 1)
            rows = letters.read_letters(connection, found[:PAGE_ROWS])
            shown = letters.card(connection, group)
        here = f"/dead/groups/{fingerprint}"
        more = len(found) > PAGE_ROWS
        context = {
            "group": shown,
            "rows": rows,
            "newer": here if before is not None else "",
            "older": f"{here}?before={rows[-1].id}" if more else "",
        }
        return console.page("dead_group.html", "Dead letters", context)

    @router.get("/dead/operations/{key}", response_class=HTMLResponse)
    def operation_page(key: str) -> Response:
        with console.journal.read() as connection:
            known = operations.get(connection, key)
        if known is None or known.result is None:
            return console.not_found("finished action of this name")
        report = Report.from_json(known.result)
        return console.page("decided.html", "Dead letters", _decided(report))


def _add_actions(router: APIRouter, console: Console) -> None:
    @router.get("/dead/replay", response_class=HTMLResponse)
    def plan_replay(ids: Ids = "", group: Name = "", cause: Name = "") -> Response:
        chosen = Selection(ids, group, cause)
        report = desk.replay(
            console.journal, chosen.filter(), actor="", key="dry-run", dry_run=True
        )
        return _decide(console, chosen, report)

    @router.get("/dead/discard", response_class=HTMLResponse)
    def plan_discard(ids: Ids = "", group: Name = "", cause: Name = "") -> Response:
        chosen = Selection(ids, group, cause)
        report = desk.discard(
            console.journal, chosen.filter(), actor="", key="dry-run", reason="dry run",
            dry_run=True,
        )  # fmt: skip
        return _decide(console, chosen, report)

    @router.post("/dead/replay")
    def replay(
        request: Request, *, ids: FormText = "", group: FormName = "", cause: FormName = "",
        key: FormName, reason: Reason = "",
    ) -> Response:  # fmt: skip
        wanted = Selection(ids, group, cause).filter()
        report = desk.replay(
            console.journal, wanted, actor=actor(request), key=key, reason=reason.strip()
        )
        return _done(console, request, report)

    @router.post("/dead/discard")
    def discard(
        request: Request, *, ids: FormText = "", group: FormName = "", cause: FormName = "",
        key: FormName, reason: Reason = "",
    ) -> Response:  # fmt: skip
        wanted = Selection(ids, group, cause).filter()
        try:
            report = desk.discard(
                console.journal, wanted, actor=actor(request), key=key, reason=reason.strip()
            )
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        return _done(console, request, report)

    @router.get("/dead/{letter_id}", response_class=HTMLResponse)
    def letter_page(letter_id: int) -> Response:
        with console.journal.read() as connection:
            found = deadletters.get(connection, letter_id)
            if found is None:
                return console.not_found(f"dead letter {letter_id}")
            (letter,) = letters.read_letters(connection, [found])
        return console.page("dead_letter.html", "Dead letters", {"letter": letter})


def _decide(console: Console, chosen: Selection, report: Report) -> HTMLResponse:
    with console.journal.read() as connection:
        plan = letters.plan(connection, report)
    discards = report.what == "discard"
    noun = f"{plan.count} dead {plural(plan.count, 'letter')}"
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
