"""The addresses of DICOMweb (PS3.18 table 10.1-1) on the gateway's HTTP server.

``/dicomweb`` is the service, and stores to the first source of type ``dicomweb``;
``/dicomweb/<source>`` is the same and stores to that source. Searches and retrievals see what is
held of all sources, whichever way it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse

from adapters.dicom.holdings import (
    HeldInstance,
    HoldingsUnavailable,
    QueryLevel,
    UnknownKey,
)
from adapters.dicom.identification import is_uid
from adapters.dicom.web.frames import (
    THUMBNAIL_SIDE,
    BadParameter,
    frame_numbers,
    frames,
    picture,
    picture_parameters,
    transcoded,
    wanted_picture,
)
from adapters.dicom.web.media import (
    DICOM,
    DICOM_JSON,
    DICOM_XML,
    MULTIPART,
    chosen,
    syntaxes_wanted,
    wishes,
)
from adapters.dicom.web.native_xml import native_xml
from adapters.dicom.web.query import BadQuery, Query, query_of, result_of
from adapters.dicom.web.retrieving import (
    Multipart,
    NotAcceptable,
    NotHeld,
    Parts,
    Resource,
    blocks_of,
    bulk_value,
    held_of,
    metadata,
    one,
)
from adapters.dicom.web.service import PREFIX, Answered, Service
from adapters.doors.problem import problem
from gateway.model import Payload

_TITLES = {
    400: "The request is not understood",
    404: "There is no such resource",
    406: "It cannot be given in this form",
    503: "It cannot be answered now",
}


def dicomweb_routes(service: Service) -> APIRouter:
    """All routes, below ``/dicomweb`` and ``/dicomweb/{source}``."""
    router = APIRouter(include_in_schema=False)
    named = APIRouter(dependencies=[Depends(_known_source(service))])
    for prefix, into in (("", router), ("/{source}", named)):
        _storing(into, service, PREFIX + prefix)
        _searching(into, service, PREFIX + prefix)
        _retrieving(into, service, PREFIX + prefix)
    router.include_router(named)
    return router


def _known_source(service: Service) -> Callable[[str], None]:
    def known(source: str) -> None:
        if service.source(source) is None:
            raise Answered(problem(404, detail="no source of type dicomweb has this name"))

    return known


# --- store -----------------------------------------------------------------------------


def _storing(router: APIRouter, service: Service, prefix: str) -> None:
    @router.post(f"{prefix}/studies")
    async def store(request: Request) -> Response:
        return await _store(request, "")

    @router.post(f"{prefix}/studies/{{study}}")
    async def store_in_study(request: Request, study: str) -> Response:
        return await _store(request, study)

    async def _store(request: Request, study: str) -> Response:
        source = service.source(request.path_params.get("source", ""))
        if source is None:
            return problem(404, detail="there is no source of type dicomweb", titles=_TITLES)
        return await source.store(request, study, service.base(request))


# --- search ----------------------------------------------------------------------------

_SEARCHES = (
    ("/studies", QueryLevel.STUDY),
    ("/studies/{study}/series", QueryLevel.SERIES),
    ("/studies/{study}/instances", QueryLevel.IMAGE),
    ("/studies/{study}/series/{series}/instances", QueryLevel.IMAGE),
    ("/series", QueryLevel.SERIES),
    ("/instances", QueryLevel.IMAGE),
)
_NAMED = (("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID"))


def _searching(router: APIRouter, service: Service, prefix: str) -> None:
    def search_at(level: QueryLevel) -> Callable[[Request], Response]:
        def search(request: Request) -> Response:
            return _search(service, level, request)

        return search

    for path, level in _SEARCHES:
        router.add_api_route(prefix + path, search_at(level), methods=["GET"])


def _search(service: Service, level: QueryLevel, request: Request) -> Response:
    kind = chosen(request.headers.get("accept", ""), (DICOM_JSON, f"{MULTIPART};{DICOM_XML}"))
    if kind is None:
        return problem(406, detail=f"results are {DICOM_JSON} or {DICOM_XML}", titles=_TITLES)
    resource = {
        keyword: request.path_params[name]
        for name, keyword in _NAMED
        if name in request.path_params
    }
    base = service.base(request)
    try:
        query = query_of(level, request.query_params.multi_items(), resource)
        found = service.holdings.find(level, query.keys, limit=query.limit, offset=query.offset)
        after = query.offset + query.limit
        more = len(found) == query.limit and bool(
            service.holdings.find(level, query.keys, limit=1, offset=after)
        )
    except (BadQuery, UnknownKey) as error:
        return problem(400, detail=str(error), titles=_TITLES)
    except HoldingsUnavailable:
        return _away()
    results = [result_of(match, base, resource) for match in found]
    headers = _warnings(query, base, more=more)
    if not results:
        return Response(status_code=204, headers=headers)
    if kind == DICOM_JSON:
        return Response(orjson.dumps(results), headers=headers, media_type=DICOM_JSON)
    multipart = Multipart(DICOM_XML)
    parts = [multipart.head(DICOM_XML) + native_xml(each) + b"\r\n" for each in results]
    headers["Content-Type"] = multipart.content_type
    return Response(b"".join([*parts, multipart.end()]), headers=headers)


def _warnings(query: Query, base: str, *, more: bool) -> dict[str, str]:
    texts = list(query.warnings)
    if more:
        texts.append("There are additional results that can be requested")
    return {"Warning": ", ".join(f'299 {base} "{text}"' for text in texts)} if texts else {}


def _away() -> Response:
    return problem(
        503, detail="the journal does not answer", headers={"Retry-After": "5"}, titles=_TITLES
    )


# --- retrieve --------------------------------------------------------------------------

_INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"
_RESOURCES = ("/studies/{study}", "/studies/{study}/series/{series}", _INSTANCE)


def _resource(request: Request) -> Resource:
    """What the address names. Raises Answered for what is no UID."""
    values = {
        name: request.path_params[name]
        for name in ("study", "series", "instance")
        if name in request.path_params
    }
    if not all(is_uid(value) for value in values.values()):
        raise Answered(problem(400, detail="the address holds what is no UID", titles=_TITLES))
    return Resource(**values)


Named = Annotated[Resource, Depends(_resource)]


def _retrieving(router: APIRouter, service: Service, prefix: str) -> None:
    def retrieve(request: Request, resource: Named) -> Response:
        return _guarded(lambda: _retrieve(service, request, resource))

    def describe(request: Request, resource: Named) -> Response:
        return _guarded(lambda: _describe(service, request, resource))

    for path in _RESOURCES:
        router.add_api_route(prefix + path, retrieve, methods=["GET"])
        router.add_api_route(f"{prefix}{path}/metadata", describe, methods=["GET"])

    @router.get(f"{prefix}{_INSTANCE}/bulkdata/{{path:path}}")
    def bulk_data(request: Request, resource: Named, path: str) -> Response:
        return _guarded(lambda: _bulk(service, request, resource, path))

    for path in ("/rendered", "/frames/{frames}/rendered"):
        router.add_api_route(prefix + _INSTANCE + path, _picture(service, 0), methods=["GET"])
    for path in (*_RESOURCES, f"{_INSTANCE}/frames/{{frames}}"):
        picture_of = _picture(service, THUMBNAIL_SIDE)
        router.add_api_route(f"{prefix}{path}/thumbnail", picture_of, methods=["GET"])

    @router.get(f"{prefix}{_INSTANCE}/frames/{{frames}}")
    def stored_frames(request: Request, resource: Named) -> Response:
        return _guarded(lambda: _frames(service, request, resource))


def _picture(service: Service, side: int) -> Callable[[Request, Resource], Response]:
    """The route of a picture, in a square of ``side`` pixels unless that is 0."""

    def rendered(request: Request, resource: Named) -> Response:
        return _guarded(lambda: _render(service, request, resource, side))

    return rendered


def _render(service: Service, request: Request, resource: Resource, side: int) -> Response:
    kind = wanted_picture(request.headers.get("accept", ""))
    asked = picture_parameters(request.query_params)
    if side:
        asked = {"columns": side, "rows": side} | asked
    (number,) = frame_numbers(request.path_params.get("frames", "1"))[:1]
    held = one(service.holdings, resource)
    if service.pictures is None:
        raise NotAcceptable("pictures are not made here")
    payload = _payload(service, held)
    made = picture(service.pictures, payload, kind, frame=number, **asked)
    return Response(made.data, media_type=f"image/{kind}")


def _frames(service: Service, request: Request, resource: Resource) -> Response:
    numbers = frame_numbers(request.path_params["frames"])
    held = one(service.holdings, resource)
    if service.pictures is None:
        raise NotAcceptable("frames are not made here")
    content_type, body = frames(
        service.pictures, _payload(service, held), numbers, request.headers.get("accept", ""),
        stored=held.transfer_syntax,
    )  # fmt: skip
    return Response(body, headers={"Content-Type": content_type})


def _payload(service: Service, held: HeldInstance) -> Payload:
    try:
        return service.holdings.payload(held)
    except KeyError:
        raise NotHeld from None


def _guarded(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except NotHeld:
        return problem(404, detail="nothing of that name is held", titles=_TITLES)
    except NotAcceptable as error:
        return problem(406, detail=str(error), titles=_TITLES)
    except BadParameter as error:
        return problem(400, detail=str(error), titles=_TITLES)
    except HoldingsUnavailable:
        return _away()


def _retrieve(service: Service, request: Request, resource: Resource) -> Response:
    accept = request.headers.get("accept", "")
    wanted = syntaxes_wanted(accept)
    if wanted is None:
        raise NotAcceptable(f'instances are {MULTIPART}; type="{DICOM}"')
    makes = service.pictures
    transcode = (lambda payload: transcoded(makes, payload)) if makes is not None else None
    parts = Parts(service.holdings, wanted, transcode)
    instances = held_of(service.holdings, resource)
    first = next(instances, None)
    if first is None:
        raise NotHeld
    # Before the answer begins, the first one shows whether the form will do.
    syntax, payload = parts.ready(first)
    if resource.instance and any(wish.name == DICOM for wish in wishes(accept)[:1]):
        kind = f"{DICOM}; transfer-syntax={syntax}"
        return _streamed(service, blocks_of(payload), kind)
    multipart = Multipart(DICOM)

    def whole() -> Iterator[Any]:
        yield first
        yield from instances

    body = parts.body(multipart, whole(), service.base(request))
    return _streamed(service, body, multipart.content_type)


def _describe(service: Service, request: Request, resource: Resource) -> Response:
    if chosen(request.headers.get("accept", ""), (DICOM_JSON,)) is None:
        raise NotAcceptable(f"metadata is {DICOM_JSON}")
    instances = held_of(service.holdings, resource)
    first = next(instances, None)
    if first is None:
        raise NotHeld

    def whole() -> Iterator[Any]:
        yield first
        yield from instances

    body = metadata(service.holdings, whole(), service.base(request))
    return _streamed(service, body, DICOM_JSON)


def _bulk(service: Service, request: Request, resource: Resource, path: str) -> Response:
    octets = "application/octet-stream"
    kind = chosen(request.headers.get("accept", ""), (f"{MULTIPART};{octets}", octets))
    if kind is None:
        raise NotAcceptable(f"bulk data is {octets}")
    held = one(service.holdings, resource)
    value = bulk_value(_payload(service, held), path)
    if kind == octets:
        return Response(value, media_type=octets)
    multipart = Multipart(octets)
    body = multipart.head(octets) + value + b"\r\n" + multipart.end()
    return Response(body, headers={"Content-Type": multipart.content_type})


def _streamed(service: Service, body: Iterator[bytes], content_type: str) -> Response:
    """An answer block by block, one of those that may be at one time."""
    if not service.begin():
        return problem(
            503, detail="too many retrievals at the moment", headers={"Retry-After": "5"},
            titles=_TITLES,
        )  # fmt: skip

    return _Streamed(body, service.end, content_type)


class _Streamed(StreamingResponse):
    """Gives its turn back however it ends, also when nobody reads it to its end."""

    def __init__(self, body: Iterator[bytes], done: Callable[[], None], content_type: str) -> None:
        super().__init__(body, headers={"Content-Type": content_type})
        self._done = done

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._done()
