"""Drafts of the mappings: a file beside a message, its errors, and the way into force.

Only the site's own files are changed here; what ships is read. Each change is checked as a
whole, as a deployment would, and nothing counts before it is deployed with a reason.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.console import skeletons
from gateway.console.bench import bench_routes
from gateway.console.context import Alone, Console, actor
from gateway.deployment.checking import Checked
from gateway.deployment.deploying import CannotDeploy
from gateway.deployment.drafts import Opened
from gateway.journal.drafts import FILE_CHARACTERS_MAX, DraftRefused
from gateway.journal.mappings import Conflict
from gateway.mapping import Finding, TwinResult

FINDINGS_SHOWN = 50
PATH_MAX = 300

Path = Annotated[str, Form(max_length=PATH_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChoice:
    """One file of the set, for the list beside the editor."""

    path: str
    label: str
    group: str
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """One finding; ``here``: in the file that is open."""

    finding: Finding
    here: bool


def draft_routes(console: Console) -> APIRouter:
    """``/mappings/drafts``."""
    router = APIRouter(include_in_schema=False)

    @router.post("/mappings/drafts")
    def begin(
        request: Request,
        *,
        message: Annotated[str, Form(max_length=20)] = "",
        file: Path = "",
    ) -> Response:
        draft_id = console.gateway.drafts.begin(actor(request))
        return RedirectResponse(skeletons.address(draft_id, file=file, message=message), 303)

    @router.get("/mappings/drafts/{draft_id}", response_class=HTMLResponse)
    def page(draft_id: str, file: str = "", message: str = "", line: int = 0) -> Response:
        opened = open_draft(console, draft_id)
        return console.page("workbench.html", "Mappings", _page(console, opened, file, message,
                                                               line))  # fmt: skip

    _add_editing(router, console)
    _add_files(router, console)
    _add_deploying(router, console)
    router.routes.extend(bench_routes(console).routes)
    return router


def open_draft(console: Console, draft_id: str) -> Opened:
    """Raises HTTPException when there is no such draft."""
    opened = console.gateway.drafts.open(draft_id)
    if opened is None:
        raise HTTPException(404, "There is no such draft: it was deployed or dropped.")
    return opened


def _add_editing(router: APIRouter, console: Console) -> None:
    @router.post("/mappings/drafts/{draft_id}/save", response_class=HTMLResponse)
    def save(
        request: Request,
        draft_id: str,
        *,
        path: Path,
        text: Annotated[str, Form(max_length=FILE_CHARACTERS_MAX)] = "",
    ) -> Response:
        opened = open_draft(console, draft_id)
        try:
            opened = console.gateway.drafts.save(opened, path, text)
        except DraftRefused as error:
            raise HTTPException(422, f"{error}.") from None
        context = _checked(console, opened, path)
        alone = Alone(
            heading="Check", back=skeletons.address(draft_id, file=path), back_label="Draft",
            current="Mappings",
        )  # fmt: skip
        return console.fragment(request, "workbench_check.html", context, alone)

    @router.post("/mappings/drafts/{draft_id}/take-over")
    def take_over(draft_id: str, *, file: Path = "") -> Response:
        console.gateway.drafts.take_over(open_draft(console, draft_id))
        return RedirectResponse(skeletons.address(draft_id, file=file), 303)

    @router.post("/mappings/drafts/{draft_id}/drop")
    def drop(draft_id: str) -> Response:
        console.gateway.drafts.drop(draft_id)
        return RedirectResponse("/mappings", 303)


def _add_files(router: APIRouter, console: Console) -> None:
    @router.post("/mappings/drafts/{draft_id}/files")
    def new_file(
        draft_id: str,
        *,
        name: Annotated[str, Form(max_length=PATH_MAX)] = "",
        of: Path = "",
        message: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        """A new file of the site: with a name, or for what another file (``of``) holds."""
        opened = open_draft(console, draft_id)
        path, text = skeletons.new_file(opened, name.strip(), of)
        if opened.text(path) is None:
            _save(console, opened, path, text)
        return RedirectResponse(skeletons.address(draft_id, file=path, message=message), 303)

    @router.post("/mappings/drafts/{draft_id}/restore")
    def restore(draft_id: str, *, path: Path) -> Response:
        """The file as it was before the draft; one that the draft made is taken away."""
        opened = open_draft(console, draft_id)
        before = opened.before.files.get(path)
        _save(console, opened, path, before.decode("utf-8", "replace") if before else None)
        file = path if before is not None else ""
        return RedirectResponse(skeletons.address(draft_id, file=file), 303)

    @router.post("/mappings/drafts/{draft_id}/remove")
    def remove(draft_id: str, *, path: Path) -> Response:
        """Take a file of the site away."""
        _save(console, open_draft(console, draft_id), path, None)
        return RedirectResponse(skeletons.address(draft_id), 303)


def _save(console: Console, opened: Opened, path: str, text: str | None) -> None:
    try:
        console.gateway.drafts.save(opened, path, text)
    except DraftRefused as error:
        raise HTTPException(422, f"{error}.") from None


def _add_deploying(router: APIRouter, console: Console) -> None:
    @router.post("/mappings/drafts/{draft_id}/deploy", response_class=HTMLResponse)
    def deploy(
        request: Request,
        draft_id: str,
        *,
        key: Annotated[str, Form(min_length=8, max_length=64)],
        reason: Annotated[str, Form(max_length=500)] = "",
        file: Path = "",
        message: Annotated[str, Form(max_length=20)] = "",
    ) -> Response:
        opened = open_draft(console, draft_id)
        said = ""
        failed: Sequence[TwinResult] = ()
        try:
            done = console.gateway.drafts.deploy(
                opened, actor=actor(request), reason=reason, key=key
            )
        except Conflict as conflict:
            said = f"Not deployed: {conflict}. Take it over, and look at the differences again."
            opened = open_draft(console, draft_id)
        except CannotDeploy as error:
            said = str(error)[0].upper() + str(error)[1:] + "."
            failed = error.checked.failed if error.checked is not None else ()
        else:
            return RedirectResponse(f"/mappings?deployed={done.deployment.version}", 303)
        context = _page(console, opened, file, message, 0)
        context |= {"said": said, "failed_tests": failed, "reason": reason}
        return console.page("workbench.html", "Mappings", context, status=422)


def _page(console: Console, opened: Opened, file: str, message: str, line: int) -> dict[str, Any]:
    choices = _choices(opened)
    path = file if opened.text(file) is not None else _first(choices)
    number = int(message) if message.isdecimal() and len(message) < 16 else None
    return {
        "draft": opened.draft,
        "outdated": opened.outdated,
        "overlapping": opened.overlapping,
        "current": opened.current,
        "site": opened.after.site,
        "site_root": opened.after.site_root,
        "choices": _grouped(choices),
        "path": path,
        "text": opened.text(path) or "",
        "editable": opened.editable(path),
        "own": path in opened.draft.files,
        "was_there": path in opened.before.files,
        "overridable": bool(opened.after.site) and not opened.editable(path)
        and not path.endswith(".test.yaml"),
        "line": line,
        "number": number,
        "sources": [
            {"name": each.name, "type": each.type} for each in console.gateway.settings.sources
        ],
        "key": secrets.token_hex(16),
        "said": "",
        "failed_tests": (),
        "reason": "",
        "text_max": FILE_CHARACTERS_MAX,
        **_checked(console, opened, path),
    }  # fmt: skip


def _checked(console: Console, opened: Opened, path: str) -> dict[str, Any]:
    checked: Checked = console.gateway.drafts.check(opened)
    findings = [
        Marked(finding=each, here=each.file == path)
        for each in sorted(checked.findings, key=lambda f: (f.file != path, f.severity, f.line))
    ]
    return {
        "draft_id": opened.draft.id,
        "open_path": path,
        "findings": findings[:FINDINGS_SHOWN],
        "more_findings": max(len(findings) - FINDINGS_SHOWN, 0),
        "errors": len(checked.errors),
        "changes": opened.changes,
        "loads": checked.library is not None,
    }


def _choices(opened: Opened) -> list[FileChoice]:
    root, changed = opened.after.site_root, opened.changes
    marks = {
        **dict.fromkeys(changed.added, "new"),
        **dict.fromkeys(changed.changed, "changed"),
    }
    found = []
    for path in opened.after.files:
        if not path.endswith(".yaml"):
            continue
        own = bool(root) and path.startswith(root)
        top = path.split("/", 1)[0]
        group = f"Site {opened.after.site}" if own else "Shipped" if top == "base" else top
        label = path.removeprefix(root) if own else path.split("/", 1)[1]
        found.append(FileChoice(path=path, label=label, group=group, mark=marks.get(path, "")))
    return sorted(found, key=lambda each: (not each.group.startswith("Site"), each.path))


def _grouped(choices: Sequence[FileChoice]) -> list[tuple[str, list[FileChoice]]]:
    groups: dict[str, list[FileChoice]] = {}
    for each in choices:
        groups.setdefault(each.group, []).append(each)
    return list(groups.items())


def _first(choices: Sequence[FileChoice]) -> str:
    """What is open at first: a file that was changed, else one of the site, else any."""
    changed = [each.path for each in choices if each.mark]
    return changed[0] if changed else choices[0].path if choices else ""
