"""The mappings' own page: what is in force, its history, the way back, and drafts."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console.context import Console, actor
from gateway.deployment.changes import Changes, changes
from gateway.deployment.deploying import CannotDeploy
from gateway.journal import drafts, reprocessing
from gateway.journal import mappings as kept
from gateway.journal.mappings import Conflict, Deployment, Version
from gateway.journal.reprocessing import Job
from gateway.row_number import RowNumber

HISTORY_ROWS = 30
JOB_ROWS = 8
KEY_MAX = 64
_VERBS = {"deploy": "deployed", "rollback": "went back", "start": "found at the start"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One change of what is in force. ``back``: whether it can be gone back to."""

    version: int
    previous: int
    verb: str
    actor: str
    reason: str
    at: datetime
    current: bool
    back: bool


def mapping_routes(console: Console) -> APIRouter:
    """``/mappings``, ``/mappings/versions/…`` and ``/mappings/rollback``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/mappings", response_class=HTMLResponse)
    def overview(deployed: RowNumber | None = None) -> Response:
        return console.page("mappings.html", "Mappings", _overview(console, deployed))

    @router.get("/mappings/versions/{number}", response_class=HTMLResponse)
    def version_page(number: RowNumber) -> Response:
        with console.journal.read() as connection:
            found = kept.version(connection, number)
            history = kept.deployments(connection, limit=200)
        if found is None:
            return console.not_found(f"version {number} of the mappings")
        context = {
            "shown": found,
            "history": [_row(each, found, current=0) for each in history if each.version == number],
            **_compared(console, history, found),
        }
        return console.page("mapping_version.html", "Mappings", context)

    _add_rollback(router, console)
    return router


def _add_rollback(router: APIRouter, console: Console) -> None:
    @router.get("/mappings/rollback", response_class=HTMLResponse)
    def plan(version: RowNumber) -> Response:
        with console.journal.read() as connection:
            found = kept.version(connection, version)
            last = kept.latest(connection)
        if found is None or not found.kept or last is None:
            return console.not_found(f"version {version} to go back to")
        return _plan(console, version, last.version)

    @router.post("/mappings/rollback", response_class=HTMLResponse)
    def act(
        request: Request,
        *,
        version: Annotated[RowNumber, Form(ge=1)],
        expected: Annotated[RowNumber, Form()],
        key: Annotated[str, Form(min_length=8, max_length=KEY_MAX)],
        reason: Annotated[str, Form(max_length=500)] = "",
    ) -> Response:
        try:
            done = console.gateway.deployer.rollback(
                version, actor=actor(request), reason=reason, expected=expected, key=key
            )
        except Conflict as conflict:
            said = f"{conflict}: look at what would change again."
            raise HTTPException(409, said[0].upper() + said[1:]) from None
        except CannotDeploy as error:
            return _plan(console, version, expected, reason=reason, said=str(error))
        return RedirectResponse(f"/mappings?deployed={done.deployment.version}", 303)


def _plan(
    console: Console, version: int, current: int, *, reason: str = "", said: str = ""
) -> HTMLResponse:
    deployer = console.gateway.deployer
    try:
        changed = changes(console.gateway.mappings.now.files, deployer.files(version))
    except CannotDeploy as error:
        raise HTTPException(404, str(error)) from None
    context = {
        "wanted": version,
        "current": current,
        "changes": changed,
        "key": secrets.token_hex(16),
        "reason": reason,
        "said": said,
    }
    status = 422 if said else 200
    return console.page("mapping_rollback.html", "Mappings", context, status=status)


def _overview(console: Console, deployed: int | None) -> dict[str, Any]:
    gateway, now = console.gateway, console.gateway.mappings.now
    with console.journal.read() as connection:
        history = kept.deployments(connection, limit=HISTORY_ROWS)
        versions = {each.number: each for each in kept.versions(connection)}
        jobs = reprocessing.jobs(connection, limit=JOB_ROWS)
        open_drafts = drafts.drafts(connection)
    return {
        "in_force": now.version,
        "checking": console.gateway.deployer.checking,
        "since": history[0] if history else None,
        "site": now.files.site,
        "programs": sorted(
            # Nothing that is known of their rules alone: these are compiled when they are needed,
            # and all of them together take a minute.
            ({"name": each.name, "version": each.version, "format": each.format.value}
             for each in now.library.programs),
            key=lambda each: str(each["name"]),
        ),
        "tables": len(now.library.tables),
        "history": [
            _row(each, versions.get(each.version), current=now.version) for each in history
        ],
        "jobs": [job_row(each) for each in jobs],
        "drafts": open_drafts,
        "deployed": deployed,
        "kept": gateway.settings.mappings.versions_kept,
    }  # fmt: skip


def _row(each: Deployment, version: Version | None, *, current: int) -> HistoryRow:
    return HistoryRow(
        version=each.version,
        previous=each.previous,
        verb=_VERBS[each.action.value],
        actor=each.actor,
        reason=each.reason,
        at=each.at,
        current=each.version == current,
        back=version is not None and version.kept and each.version != current,
    )


def _compared(console: Console, history: list[Deployment], found: Version) -> dict[str, Any]:
    """What changed when this version came into force first, as far as both are kept."""
    first = next((each for each in reversed(history) if each.version == found.number), None)
    deployer = console.gateway.deployer
    changed: Changes | None = None
    if first is not None and first.previous:
        with console.journal.read() as connection:
            before = kept.version(connection, first.previous)
        if before is not None:
            changed = _of_manifests(before, found)
    return {
        "first": first,
        "changes": changed,
        "in_force": deployer.current_version() == found.number,
    }


def _of_manifests(before: Version, after: Version) -> Changes:
    old, new = before.manifest, after.manifest
    return Changes(
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(name for name in old.keys() & new.keys() if old[name] != new[name])),
        tuple(sorted(old.keys() - new.keys())),
    )


def job_row(job: Job) -> dict[str, Any]:
    """What a page says of a reprocessing."""
    counts = job.counts
    selected = max(counts.get("selected", 0), counts.get("examined", 0))
    done = not job.active and job.state.value == "done"
    share = 100 if done or not selected else round(100 * counts.get("examined", 0) / selected)
    return {
        "job": job,
        "tone": {"running": "moving", "paused": "held", "stopped": "settled", "done": "done"}[
            job.state.value
        ],
        "selected": selected,
        "examined": counts.get("examined", 0),
        "changed": counts.get("changed", 0),
        "unchanged": counts.get("unchanged", 0),
        "failed": counts.get("failed", 0),
        "withheld": counts.get("withheld", 0),
        "facts": {
            name: counts.get(f"facts_{name}", 0) for name in ("added", "changed", "vanished")
        },
        "share": min(share, 100),
    }
