"""Editing what the mapping made, and what an edit changed: both show data of a patient."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from deadletter import editing
from gateway.console.clinical import says
from gateway.console.context import Alone, Console, actor
from gateway.console.differences import changed_segments, differences
from gateway.console.repair import REASON_MIN, TEXT_MAX, Editable, NotEditable
from gateway.journal import deadletters, messages
from gateway.journal.entries import EDITED
from gateway.model import Entry, Format
from gateway.row_number import RowNumber
from gateway.serialise import dumps, loads

ENTRIES_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One entry that may be chosen."""

    reference: str
    type: str
    says: str
    chosen: bool


def entry_repair_routes(console: Console) -> APIRouter:
    """``/dead/{number}/entries`` and ``/dead/{number}/changes``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/dead/{letter_id}/entries", response_class=HTMLResponse)
    def open_form(
        request: Request,
        letter_id: RowNumber,
        reference: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        given = _open(console, letter_id)
        console.saw(request, "entries shown", message_id=given.message.id, dead_letter=letter_id)
        chosen = _chosen(given, reference)
        text = dumps(chosen.resource, indent=True).decode()
        return _form(console, request, letter_id, given, chosen, text=text)

    @router.post("/dead/{letter_id}/entries", response_class=HTMLResponse)
    def submit(
        request: Request, letter_id: RowNumber, *,
        reference: Annotated[str, Form(max_length=200)],
        text: Annotated[str, Form(max_length=TEXT_MAX)],
        base: Annotated[str, Form(max_length=64)],
        key: Annotated[str, Form(min_length=8, max_length=64)],
        reason: Annotated[str, Form(max_length=500)] = "",
        action: Annotated[str, Form(max_length=16)] = "preview",
    ) -> Response:  # fmt: skip
        if action == "replay":
            pressed = console.gateway.journal
            with pressed.read() as connection:
                from gateway.journal import operations

                known = operations.get(connection, key)
            if known is not None and known.result is not None:
                return RedirectResponse(f"/dead/operations/{key}", 303)
        given = _open(console, letter_id)
        if given.base != base:
            raise HTTPException(409, "Other entries stand here now; open them again.")
        chosen = _chosen(given, reference)
        changes, problem = _read(console, given, reference, text)
        if not problem and action == "replay" and len(reason.strip()) < REASON_MIN:
            problem = "Say why it is edited: the reason is kept with the message."
        if problem or action != "replay":
            return _form(
                console, request, letter_id, given, chosen, text=text, key=key, reason=reason,
                said=problem or "It is valid FHIR R4.", fine=not problem, after=changes,
            )  # fmt: skip
        try:
            report = editing.edit_entries(
                console.journal, letter_id, {reference: changes}, base=base,
                actor=actor(request), key=key, reason=reason.strip(),
                check=console.gateway.normaliser.problem_of,
            )  # fmt: skip
        except editing.Stale as stale:
            raise HTTPException(409, f"{stale}.".capitalize()) from None
        console.counts.forget()
        console.saw(request, "dead letter's entries edited", dead_letter=letter_id, operation=key)
        return RedirectResponse(f"/dead/operations/{report.operation}", 303)

    _add_changes(router, console)
    return router


def _open(console: Console, letter_id: int) -> editing.EditableEntries:
    """Raises HTTPException."""
    try:
        with console.journal.read() as connection:
            return editing.open_entries(connection, letter_id)
    except LookupError:
        raise HTTPException(404, f"There is no dead letter {letter_id}.") from None
    except editing.Stale as stale:
        raise HTTPException(409, f"{stale}.".capitalize()) from None
    except editing.NothingToEdit as reason:
        raise HTTPException(422, f"{reason}.".capitalize()) from None


def _chosen(given: editing.EditableEntries, reference: str) -> Entry:
    """The entry that is edited: the first one that is not the patient, when none is named."""
    if reference:
        for entry in given.entries:
            if entry.reference == reference:
                return entry
        raise HTTPException(404, "There is no such entry.")
    return next(
        (each for each in given.entries if each.resource["resourceType"] != "Patient"),
        given.entries[0],
    )


def _read(
    console: Console, given: editing.EditableEntries, reference: str, text: str
) -> tuple[dict[str, Any], str]:
    """What was written, and what is wrong with it."""
    try:
        resource = loads(text)
    except ValueError as error:
        return {}, f"It is no JSON: {error}."
    if not isinstance(resource, dict):
        return {}, "It is no FHIR resource: an object is wanted."
    try:
        corrected = editing.edited(given, {reference: resource})
    except ValueError as error:
        return resource, f"{error}.".capitalize()
    problem = console.gateway.normaliser.problem_of(corrected)
    return resource, f"It is not valid FHIR R4: {problem}" if problem else ""


def _form(
    console: Console,
    request: Request,
    letter_id: int,
    given: editing.EditableEntries,
    chosen: Entry,
    *,
    text: str,
    key: str = "",
    reason: str = "",
    said: str = "",
    fine: bool = False,
    after: dict[str, Any] | None = None,
) -> Response:
    context = {
        "letter_id": letter_id,
        "choices": [
            Choice(
                reference=each.reference, type=str(each.resource["resourceType"]),
                says=says(each.resource, identity=False),
                chosen=each.reference == chosen.reference,
            )
            for each in given.entries[:ENTRIES_SHOWN]
        ],
        "reference": chosen.reference,
        "text": text,
        "rows": min(max(text.count("\n") + 2, 10), 34),
        "text_max": TEXT_MAX,
        "base": given.base,
        "key": key or secrets.token_hex(16),
        "reason": reason,
        "changes": differences(chosen.resource, after) if after else (),
        "said": said,
        "said_tone": "done" if fine else "dead",
    }  # fmt: skip
    alone = Alone(
        heading=f"Entries of message {given.message.id}",
        back=f"/dead/{letter_id}",
        back_label=f"Dead letter {letter_id}",
        current="Dead letters",
        status=422 if said and not fine else 200,
    )
    return console.fragment(request, "repair_entries.html", context, alone)


def _add_changes(router: APIRouter, console: Console) -> None:
    @router.get("/dead/{letter_id}/changes", response_class=HTMLResponse)
    def changes_of(request: Request, letter_id: RowNumber) -> Response:
        with console.journal.read() as connection:
            letter = deadletters.get(connection, letter_id)
            child_id = letter.child_message_id if letter is not None else None
            parent = messages.get(connection, letter.message_id) if letter is not None else None
            child = messages.get(connection, child_id) if child_id is not None else None
            if parent is None or child is None:
                return console.not_found(f"edited copy of dead letter {letter_id}")
            before = messages.normalised(connection, parent.id)
            after = messages.normalised(connection, child.id)
        console.saw(request, "changes shown", message_id=parent.id, dead_letter=letter_id)
        shown: list[tuple[str, str, str]] = []
        if EDITED in child.attributes and before is not None and after is not None:
            new = {each.reference: each.resource for each in after.entries}
            for entry in before.entries:
                shown += [
                    (f"{entry.resource['resourceType']} {each.path}", each.before or "",
                     each.after or "")
                    for each in differences(entry.resource, new.get(entry.reference, {}))
                ]  # fmt: skip
        elif parent.format is Format.HL7V2:
            shown = _segments(console, parent, child)
        alone = Alone(
            heading=f"What was edited in message {parent.id}", back=f"/dead/{letter_id}",
            back_label=f"Dead letter {letter_id}", current="Dead letters",
        )  # fmt: skip
        context = {"changes": shown, "parent": parent, "child": child}
        return console.fragment(request, "edited.html", context, alone)


def _segments(console: Console, parent: Any, child: Any) -> list[tuple[str, str, str]]:
    try:
        lines = [
            Editable.of(messages.payload(console.journal, each).read(), each.encoding).lines
            for each in (parent, child)
        ]
    except (KeyError, NotEditable):
        return []
    return [(each.name, each.before, each.after) for each in changed_segments(*lines)]
