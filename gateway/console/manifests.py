"""Imaging manifests: which studies have one, and one of them as a tree of series and instances."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from starlette.responses import HTMLResponse

from adapters.dicom.dictionary import uid_name
from adapters.dicom.selection import FAULTS, Selection, read_file
from gateway.console.clinical import Json, items, text
from gateway.console.context import Console
from gateway.journal.manifests import STATES, accounts, counts
from gateway.model import Payload

SHOWN = 100
INSTANCES_SHOWN = 2_000
"""Instances of one manifest on a page."""
DICOM_TYPE = "application/dicom"
FILE_BYTES_MAX = 64 << 20

WORDS = {
    "due": "Not looked at yet",
    "waiting": "Waits",
    "stopped": "Stopped: a person must look",
    "made": "Made",
    "withdrawn": "Withdrawn",
}


def manifest_routes(console: Console) -> APIRouter:
    """``/manifests`` and below."""
    router = APIRouter(include_in_schema=False)

    @router.get("/manifests", response_class=HTMLResponse)
    def manifests_page(state: Annotated[str, Query(max_length=16)] = "") -> HTMLResponse:
        wanted = [state] if state in STATES else []
        with console.journal.read() as connection:
            found = accounts(connection, states=wanted, limit=SHOWN)
            numbers = counts(connection)
        context = {
            "manifests": found,
            "state": wanted[0] if wanted else "",
            "counts": [(each, WORDS[each], numbers[each]) for each in STATES],
            "words": WORDS,
            "shown": SHOWN,
            "settings": console.gateway.settings.manifest,
        }
        return console.page("manifests.html", "Studies", context)

    @router.get("/manifests/record/{patient_id}/{document_id}", response_class=HTMLResponse)
    def manifest_page(request: Request, patient_id: str, document_id: str) -> HTMLResponse:
        with console.journal.read() as connection:
            versions = console.gateway.record.history(
                connection, "DocumentReference", document_id, 1
            )
        # Somebody else's document does not exist here, even for one who knows its address.
        if not versions or versions[0].patient_id != patient_id:
            raise HTTPException(404, "There is no such document in this record.")
        selection, size = _selection(console, versions[0].resource)
        if selection is None:
            raise HTTPException(404, "This document is no key object selection.")
        console.saw(request, "manifest shown")
        context = {
            "selection": selection,
            "status": text(versions[0].resource.get("status")),
            "document": versions[0].resource,
            "patient_id": patient_id,
            "document_id": document_id,
            "size": size,
            "studies": shown(selection),
            "instances_shown": INSTANCES_SHOWN,
            "class_name": class_name,
        }
        return console.page("manifest.html", "Patients", context)

    return router


def shown(selection: Selection) -> list[tuple[str, list[tuple[object, list[object]]]]]:
    """Studies with their series, and of each series the instances that a page shows."""
    left, found = INSTANCES_SHOWN, []
    for study in selection.studies:
        series: list[tuple[object, list[object]]] = []
        for each in study.series:
            series.append((each, list(each.instances[:left])))
            left -= min(left, len(each.instances))
        found.append((study.uid, series))
    return found


def class_name(uid: str) -> str:
    """The name of a SOP class; the UID itself for one that the standard does not know."""
    return uid_name(uid).removesuffix(" Storage") if uid else ""


def digest_of(resource: Json) -> str:
    """The digest of a document's bytes when it is a DICOM file; empty when it is none."""
    for content in items(resource.get("content")):
        attachment = content.get("attachment")
        if isinstance(attachment, dict) and text(attachment.get("contentType")) == DICOM_TYPE:
            return text(attachment.get("url")).removeprefix("Binary/")
    return ""


def _selection(console: Console, resource: Json) -> tuple[Selection | None, int]:
    digest = digest_of(resource)
    if not digest:
        return None, 0
    try:
        payload: Payload = console.journal.blobs.payload(digest)
        if payload.size > FILE_BYTES_MAX:
            return None, payload.size
        return read_file(payload), payload.size
    except (KeyError, ValueError, *FAULTS):
        return None, 0
