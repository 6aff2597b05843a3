"""The record's read API: FHIR R4 over HTTP, for reading only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.utils import format_datetime
from importlib import metadata
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from gateway.model import Payload
from record.bundles import etag, history_bundle, searchset
from record.capability import capability_statement
from record.faults import BytesMissing, SearchRefused
from record.outcomes import Rejected, bad_request, not_found, outcome
from record.parameters import PARAMETERS
from record.reading import Stored
from record.searching import COUNT_DEFAULT, COUNT_MAX
from record.store import Page, Record

MEDIA_TYPE = "application/fhir+json"
PARAMETERS_MAX = 64
VALUE_CHARACTERS_MAX = 4_096
_PREFIX = "/fhir"
_TYPE = re.compile(r"[A-Z][A-Za-z]{0,63}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_MEDIA = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;\s*[\w!#$&^.+-]+=[\w!#$&^.+-]+)*", re.ASCII)
_FORMATS = frozenset({"json", "application/json", "application/fhir+json", "text/json"})
_WILD = frozenset({"*/*", "application/*"})
_NOT_A_SEARCH = ("_format", "_pretty")
_SHOWN_INLINE = frozenset({"application/pdf", "image/png", "image/jpeg", "image/gif"})
_EXTENSIONS = {
    "application/pdf": "pdf",
    "application/xml": "xml",
    "text/xml": "xml",
    "application/hl7-v3+xml": "xml",
    "text/plain": "txt",
    "text/rtf": "rtf",
    "application/rtf": "rtf",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/tiff": "tiff",
    "application/dicom": "dcm",
}
_BLOCK = 1 << 16

ReadConnection = Callable[[], AbstractContextManager[Connection]]
Pairs = list[tuple[str, str]]


def fhir_router(record: Record, read_connection: ReadConnection) -> APIRouter:
    """The read API under ``/fhir``.

    ``read_connection`` gives a connection for one request; it is used from a thread of
    the server's pool. Access control and audit are the caller's, around this router.
    """
    api = FhirApi(record, read_connection)
    inner = APIRouter()
    for path, interaction in (
        ("/metadata", api.metadata),
        ("/Binary/{id}", api.binary),
        ("/Patient/{id}/$everything", api.everything),
        ("/{type}/{id}/_history/{version}", api.version),
        ("/{type}/{id}/_history", api.history),
        ("/{type}/{id}", api.read),
        ("/{type}", api.search),
    ):
        inner.add_route(path, api.answering(interaction), methods=["GET"], include_in_schema=False)
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    inner.add_route(
        "/{path:path}", api.answering(api.nothing_else), methods=methods, include_in_schema=False
    )
    outer = APIRouter()
    outer.include_router(inner, prefix=_PREFIX)
    return outer


class FhirApi:
    """The interactions, one method each; :func:`fhir_router` gives them their paths."""

    def __init__(self, record: Record, read_connection: ReadConnection) -> None:
        self._record = record
        self._connection = read_connection

    def answering(
        self, interaction: Callable[[Request], Response]
    ) -> Callable[[Request], Response]:
        """An interaction whose errors are OperationOutcomes."""

        def answer(request: Request) -> Response:
            try:
                self._negotiate(request)
                return interaction(request)
            except Rejected as error:
                rejected = error
            except SearchRefused as error:
                rejected = bad_request(error.parameter, error.reason, known=error.known)
            except BytesMissing as error:
                rejected = Rejected(500, "incomplete", str(error))
            body = outcome(rejected.code, rejected.diagnostics, expression=rejected.expression)
            return self._json(request, body, rejected.status, rejected.headers)

        return answer

    # --- interactions --------------------------------------------------------------

    def metadata(self, request: Request) -> Response:
        """``GET /metadata``: the CapabilityStatement."""
        with self._connection() as connection:
            types = self._record.types(connection)
        return self._json(request, capability_statement(_version(), types))

    def read(self, request: Request) -> Response:
        """``GET /{type}/{id}``: the current version; 304 when the client has it."""
        type_name, identifier = self._type(request), _id(request)
        with self._connection() as connection:
            found = self._record.read(connection, type_name, identifier)
        return self._one(request, found)

    def version(self, request: Request) -> Response:
        """``GET /{type}/{id}/_history/{version}``: one version."""
        type_name, number = self._type(request), request.path_params["version"]
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise not_found("version")
        with self._connection() as connection:
            found = self._record.version(connection, type_name, _id(request), int(number))
        return self._one(request, found)

    def history(self, request: Request) -> Response:
        """``GET /{type}/{id}/_history``: every version, the current one first, page by page."""
        type_name, identifier = self._type(request), _id(request)
        pairs, count, token = _pairs(request), COUNT_DEFAULT, ""
        for name, value in pairs:
            if name == "_count":
                count = _count(value)
            elif name == "page":
                token = value
            else:
                raise bad_request(name, "is no parameter of a history here", known=False)
        with self._connection() as connection:
            page = self._record.history_page(
                connection, type_name, identifier, count=count, page=token
            )
        if not page.total:
            raise not_found(type_name)
        path = f"{type_name}/{identifier}/_history"
        return self._json(request, history_bundle(page, _base(request), path, pairs))

    def search(self, request: Request) -> Response:
        """``GET /{type}?…``: a searchset, page by page."""
        type_name, pairs = self._type(request), _pairs(request)
        lenient = "handling=lenient" in request.headers.get("prefer", "").replace(" ", "")
        with self._connection() as connection:
            page = self._record.search(connection, type_name, pairs, lenient=lenient)
        return self._page(request, page, type_name, pairs)

    def everything(self, request: Request) -> Response:
        """``GET /Patient/{id}/$everything``: the patient's whole record, page by page."""
        pairs, types = _pairs(request), list[str]()
        count, token = COUNT_DEFAULT, ""
        for name, value in pairs:
            if name == "_count":
                count = _count(value)
            elif name == "_type":
                types.extend(item for item in value.split(",") if _TYPE.fullmatch(item))
            elif name == "page":
                token = value
            else:
                raise bad_request(name, "cannot be used with $everything", known=False)
        identifier = _id(request)
        with self._connection() as connection:
            page = self._record.everything(
                connection, identifier, types=types, count=count, page=token
            )
        if not page.total and not types:
            raise not_found("Patient")
        return self._page(request, page, f"Patient/{identifier}/$everything", pairs)

    def binary(self, request: Request) -> Response:
        """``GET /Binary/{sha256}``: a document's bytes as they came, never run or guessed."""
        sha256 = request.path_params["id"]
        with self._connection() as connection:
            document = self._record.document(connection, sha256)
        if document is None:
            raise not_found("document")
        tag = f'"{sha256}"'
        headers = {
            "ETag": tag,
            "Cache-Control": "private, no-cache",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
        }
        if _has(request, tag):
            return Response(status_code=304, headers=headers)
        media = document.media_type
        if _MEDIA.fullmatch(media) is None:
            media = "application/octet-stream"
        kind = media.partition(";")[0].strip().lower()
        shown = "inline" if kind in _SHOWN_INLINE else "attachment"
        name = f"{sha256[:16]}.{_EXTENSIONS.get(kind, 'bin')}"
        headers |= {
            "Content-Type": media,
            "Content-Length": str(document.payload.size),
            "Content-Disposition": f'{shown}; filename="{name}"',
        }
        return StreamingResponse(_blocks(document.payload), headers=headers)

    def nothing_else(self, request: Request) -> Response:
        """Whatever is no interaction of this API."""
        if request.method in ("GET", "HEAD"):
            raise not_found("interaction")
        reason = "the record is fed by the gateway alone and can only be read here"
        raise Rejected(405, "not-supported", reason, headers={"Allow": "GET, HEAD"})

    # --- requests ------------------------------------------------------------------

    def _type(self, request: Request) -> str:
        name: str = request.path_params["type"]
        if name in PARAMETERS:
            return name
        if _TYPE.fullmatch(name) is not None and name != "Binary":
            with self._connection() as connection:
                if name in self._record.types(connection):
                    return name
        raise Rejected(404, "not-supported", "the record has no entries of such a type")

    def _negotiate(self, request: Request) -> None:
        """Refuse what asks for anything but JSON (406); bytes are what they are."""
        wanted = request.query_params.get("_format")
        if wanted is None:
            if request.url.path.startswith(f"{_PREFIX}/Binary/"):
                return
            accept = request.headers.get("accept", "*/*")
            kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
            if kinds & (_FORMATS | _WILD):
                return
        elif wanted.replace(" ", "+").partition(";")[0] in _FORMATS:
            return
        raise Rejected(406, "not-supported", f"only {MEDIA_TYPE} can be had here")

    # --- answers -------------------------------------------------------------------

    def _one(self, request: Request, found: Stored | None) -> Response:
        if found is None:
            raise not_found(request.path_params["type"])
        headers = {
            "ETag": etag(found),
            "Last-Modified": format_datetime(found.recorded_at, usegmt=True),
        }
        if _has(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return self._json(request, found.resource, headers=headers)

    def _page(self, request: Request, page: Page, path: str, pairs: Pairs) -> Response:
        return self._json(request, searchset(page, _base(request), path, pairs))

    def _json(
        self,
        request: Request,
        body: dict[str, Any],
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        pretty = request.query_params.get("_pretty") == "true"
        return Response(
            self._record.json.dumps(body, indent=pretty),
            status_code=status,
            media_type=f"{MEDIA_TYPE}; charset=utf-8",
            headers={
                "Cache-Control": "private, no-cache",
                "X-Content-Type-Options": "nosniff",
                **(headers or {}),
            },
        )


def _id(request: Request) -> str:
    """The id in the path; what cannot be one is not found."""
    identifier: str = request.path_params["id"]
    if _ID.fullmatch(identifier) is None:
        raise not_found("entry")
    return identifier


def _count(value: str) -> int:
    """The size of a page that was asked for, within what a page may hold."""
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise bad_request("_count", "is not a number", known=True)
    return max(1, min(int(value), COUNT_MAX))


def _pairs(request: Request) -> Pairs:
    """The query's parameters that are a search's. Raises Rejected over the limits."""
    pairs = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in _NOT_A_SEARCH
    ]
    if len(pairs) > PARAMETERS_MAX or any(len(v) > VALUE_CHARACTERS_MAX for _, v in pairs):
        raise Rejected(400, "too-costly", "too many parameters, or one that is too long")
    return pairs


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/") + _PREFIX


def _has(request: Request, tag: str) -> bool:
    """Whether the client has this version (If-None-Match, compared weakly)."""
    given = request.headers.get("if-none-match", "")
    tags = {part.strip().removeprefix("W/") for part in given.split(",")}
    return "*" in tags or tag.removeprefix("W/") in tags


def _blocks(payload: Payload) -> Iterator[bytes]:
    with payload.open() as stream:
        while block := stream.read(_BLOCK):
            yield block


def _version() -> str:
    try:
        return metadata.version("ecluse")
    except metadata.PackageNotFoundError:
        return "unreleased"
