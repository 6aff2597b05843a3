"""Pages of CDA documents: one that is dropped here, that of a message, that of a record.

Each shows the report beside the document. The document itself is a page of its own, in a
frame whose policy lets it run and fetch nothing (:mod:`adapters.cda.rendering`).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, Request, UploadFile
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from adapters.cda.document import CEILING, Document, read_document
from adapters.cda.prolog import NotReadable
from adapters.cda.rendering.card import read_card
from adapters.cda.rendering.page import pdfs, render
from adapters.cda.validation.findings import Level, Report
from gateway.console.chart import CDA_TYPES
from gateway.console.clinical import items
from gateway.console.context import Alone, Console
from gateway.journal import messages
from gateway.model import Format, Payload

DROPPED_MAX = 50
DROPPED_BYTES_MAX = 128 << 20
DROPPED_SECONDS = 1800.0
FILES_MAX = 20
NAME_MAX = 120
LEVELS = {Level.ERROR: "Erreur", Level.WARNING: "Avertissement", Level.INFO: "Information"}


@dataclass(frozen=True, slots=True)
class Subject:
    """A document to be looked at. ``base`` is the address of its page; ``back`` where it was."""

    payload: Payload
    base: str
    heading: str
    back: str
    back_label: str
    current: str
    encoding: str = ""


@dataclass(slots=True)
class Dropped:
    """What people dropped, in memory and for half an hour: it is a patient's, and not kept."""

    _held: OrderedDict[str, tuple[float, str, Payload]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, data: bytes) -> str:
        """Hold a document; the token under which it is found."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._held[token] = (time.monotonic(), name, Payload.from_bytes(data))
            self._expire()
        return token

    def get(self, token: str) -> tuple[str, Payload] | None:
        """Name and bytes, if they are still held."""
        with self._lock:
            self._expire()
            found = self._held.get(token)
        return found[1:] if found is not None else None

    def _expire(self) -> None:
        oldest = time.monotonic() - DROPPED_SECONDS
        while self._held:
            at, _, _ = next(iter(self._held.values()))
            size = sum(payload.size for _, _, payload in self._held.values())
            many = len(self._held) > DROPPED_MAX or (
                size > DROPPED_BYTES_MAX and len(self._held) > 1
            )
            if at >= oldest and not many:
                return
            self._held.popitem(last=False)


def document_routes(console: Console) -> APIRouter:
    """``/documents`` and below."""
    router = APIRouter(include_in_schema=False)
    dropped = Dropped()
    _add_dropping(router, console, dropped)

    def of_drop(token: str) -> Subject:
        found = dropped.get(token)
        if found is None:
            raise HTTPException(404, "The document is not here any more: drop it again.")
        return Subject(
            found[1], f"/documents/dropped/{token}", found[0], "/documents", "Documents",
            "Documents",
        )  # fmt: skip

    def of_message(number: int) -> Subject:
        with console.journal.read() as connection:
            found = messages.get(connection, number)
        if found is None or found.format is not Format.CDA:
            raise HTTPException(404, f"Message {number} is no CDA document.")
        try:
            payload = messages.payload(console.journal, found)
        except KeyError:
            raise HTTPException(404, "The stored bytes are not there any more.") from None
        return Subject(
            payload, f"/documents/messages/{number}", f"Document of message {number}",
            f"/messages/{number}", f"Message {number}", "Messages", found.encoding,
        )  # fmt: skip

    def of_record(patient_id: str, document_id: str) -> Subject:
        with console.journal.read() as connection:
            payload = _recorded(console, connection, patient_id, document_id)
        if payload is None:
            raise HTTPException(404, "There is no such document in this record.")
        return Subject(
            payload, f"/documents/record/{patient_id}/{document_id}", "Document",
            f"/patients/{patient_id}", "Record", "Patients",
        )  # fmt: skip

    _add_pages(router, console, "/documents/dropped/{token}", of_drop)
    _add_pages(router, console, "/documents/messages/{number}", of_message)
    _add_pages(router, console, "/documents/record/{patient_id}/{document_id}", of_record)
    return router


def _add_dropping(router: APIRouter, console: Console, dropped: Dropped) -> None:
    @router.get("/documents", response_class=HTMLResponse)
    def drop_page() -> Response:
        return console.page("documents.html", "Documents", _drop_context(console))

    @router.post("/documents", response_class=HTMLResponse)
    def drop(request: Request, files: Annotated[list[UploadFile], File()]) -> Response:
        given = [each for each in files if each.filename][:FILES_MAX]
        tokens = []
        for each in given:
            name = PurePath(each.filename or "").name[:NAME_MAX]
            tokens.append((dropped.add(name, each.file.read()), name))
        console.saw(request, "documents dropped", count=len(tokens))
        if not tokens:
            return RedirectResponse("/documents", 303)
        if len(tokens) == 1:
            return RedirectResponse(f"/documents/dropped/{tokens[0][0]}", 303)
        rows = []
        for token, name in tokens:
            found = dropped.get(token)
            if found is not None:
                report = console.gateway.validator.check(found[1], limits=CEILING)
                rows.append({"name": name, "href": f"/documents/dropped/{token}",
                             "errors": report.errors, "warnings": report.warnings})  # fmt: skip
        context = {**_drop_context(console), "rows": rows}
        return console.page("documents.html", "Documents", context)


def _drop_context(console: Console) -> dict[str, Any]:
    pack = console.gateway.validator.pack
    return {"pack": pack.name if pack is not None else "", "rows": [], "minutes": 30,
            "files_max": FILES_MAX}  # fmt: skip


def _add_pages(router: APIRouter, console: Console, base: str, subject_of: Any) -> None:
    def page(request: Request) -> Response:
        subject: Subject = subject_of(**request.path_params)
        document = _read(subject)
        console.saw(request, "document shown")
        context = {
            "subject": subject,
            "title": read_card(document).title if document is not None else subject.heading,
            "readable": document is not None,
            "pdfs": len(pdfs(document)) if document is not None else 0,
        }
        return console.page("document.html", subject.current, context)

    def report(request: Request) -> Response:
        subject: Subject = subject_of(**request.path_params)
        found = console.gateway.validator.check(
            subject.payload, encoding=subject.encoding, limits=CEILING
        )
        alone = Alone(
            heading="Report", back=subject.base, back_label=subject.heading,
            current=subject.current,
        )  # fmt: skip
        return console.fragment(request, "document_report.html", _report_context(found), alone)

    def rendering(request: Request) -> Response:
        document = _read(subject_of(**request.path_params))
        if document is None:
            raise HTTPException(404, "The document cannot be read.")
        return HTMLResponse(render(document), headers={"Cache-Control": "no-store"})

    def pdf(request: Request) -> Response:
        number = int(request.path_params.pop("index"))
        document = _read(subject_of(**request.path_params))
        found = pdfs(document) if document is not None else []
        if not 0 <= number < len(found):
            raise HTTPException(404, "There is no such PDF in this document.")
        return Response(
            found[number], media_type="application/pdf", headers={"Cache-Control": "no-store"}
        )

    for path, answer in (("", page), ("/report", report), ("/rendering", rendering),
                         ("/pdf/{index:int}", pdf)):  # fmt: skip
        router.add_api_route(f"{base}{path}", _with_numbers(answer), methods=["GET"])


def _with_numbers(answer: Any) -> Any:
    """Paths hold text; a message's number is one of at most 15 digits."""

    def called(request: Request) -> Response:
        number = request.path_params.get("number")
        if number is not None:
            if not str(number).isdecimal() or len(str(number)) > 15:
                raise HTTPException(404, "There is no such message.")
            request.path_params["number"] = int(number)
        response: Response = answer(request)
        return response

    return called


def _read(subject: Subject) -> Document | None:
    try:
        return read_document(subject.payload, encoding=subject.encoding, limits=CEILING)
    except NotReadable:
        return None


def _report_context(report: Report) -> dict[str, Any]:
    groups = [
        {
            "level": group.first.level.value,
            "word": LEVELS[group.first.level],
            "text": group.first.shown,
            "origin": group.first.origin,
            "rule": group.first.rule,
            "places": [(each.line, each.xpath) for each in group.findings[:10]],
            "more": max(0, len(group.findings) - 10),
            "count": len(group.findings),
        }
        for group in report.groups()
    ]
    return {"report": report, "groups": groups}


def _recorded(
    console: Console, connection: Connection, patient_id: str, document_id: str
) -> Payload | None:
    """The bytes of a document that is in this patient's record."""
    versions = console.gateway.record.history(connection, "DocumentReference", document_id, 1)
    # Somebody else's document does not exist here, even for one who knows its address.
    if not versions or versions[0].patient_id != patient_id:
        return None
    for content in items(versions[0].resource.get("content")):
        attachment = content.get("attachment")
        if not isinstance(attachment, dict) or attachment.get("contentType") not in CDA_TYPES:
            continue
        digest = str(attachment.get("url", "")).removeprefix("Binary/")
        try:
            return console.journal.blobs.payload(digest)
        except (KeyError, OSError, ValueError):
            continue
    return None
