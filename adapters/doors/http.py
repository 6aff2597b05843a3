"""Files over HTTP: one body per ``POST``, answered only after the journal's commit.

====== =====================================================================
status meaning
====== =====================================================================
201    kept; ``{"message_id", "disposition", "control_id"}`` and ``Location``; of several
       messages in one body ``{"messages": [...]}``
200    the same content had been kept before (``disposition: duplicate``)
400    not readable as the format
403    the patient's record takes nothing (``cause`` says why)
408    the body came too slowly, or was cut
413    the body is larger than the source takes
415    the type is not the format's, or the body is compressed
422    readable, but not what the source takes
503    nothing could be kept, or not all of it; ``Retry-After``
====== =====================================================================

Refused bytes are kept as evidence; of a body that is too large, its first MiB. A format
whose protocol has an answer of its own gives that instead (:meth:`HttpSource.respond`). Several
documents in one body: :mod:`adapters.doors.multipart`.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from adapters.doors.blocks import Blocks
from adapters.doors.multipart import BOUNDARY_MAX, KINDS, MultipartLimits, SeveralDocuments
from adapters.doors.problem import problem, status_of
from adapters.doors.reception import EVIDENCE_BYTES_MAX, Arrived, Contents, Reception, verdict
from adapters.doors.settings import HttpDoorSettings
from adapters.doors.spool import BodyTooLarge, Spool
from gateway.model import Cause, CauseCode, Disposition, Payload, Receipt, Received
from gateway.ports import Clock, IntakeUnavailable

if TYPE_CHECKING:
    from fastapi import APIRouter

_WRITE_BYTES = 1 << 18


class HttpSource(ABC):
    """One named HTTP way in. :func:`intake_router` gives it its route.

    A format says under which ``route`` it stands, which media types it ``takes`` and,
    in words, ``types_taken``; ``titles`` are its own words for a status.
    """

    route: str
    types_taken: str
    titles: ClassVar[Mapping[int, str]] = {}

    def __init__(self, settings: HttpDoorSettings, reception: Reception, clock: Clock) -> None:
        self.settings = settings
        self.name = settings.name
        self.clock = clock
        self.reception = reception
        self._spool_folder: Path | None = None
        self._former_spools: list[Path] = []
        self._arriving = 0
        self.large = asyncio.Semaphore(settings.large_bodies_max)
        self._idle = asyncio.Event()
        self._idle.set()

    @abstractmethod
    def takes(self, media_type: str) -> bool:
        """Whether a body of this type (lower case, without parameters) is the format's."""

    def status_of(self, cause: Cause) -> int:
        """The HTTP status of a refusal."""
        return status_of(cause)

    async def start(self) -> None:
        """Make the spool folder. Raises OSError when it cannot be made."""
        if self._spool_folder is None:
            self._spool_folder = await asyncio.to_thread(self._make_spool, self.settings)

    def _make_spool(self, settings: HttpDoorSettings) -> Path:
        """A folder of this source's own; what a crash left in the configured place goes."""
        parent, prefix = settings.spool_folder, f"ecluse-{self.route}-{self.name}."
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
            for left in parent.glob(f"{prefix}*"):
                shutil.rmtree(left)
        return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))

    async def stop(self) -> None:
        """Take no new body, let those in flight be answered, remove the spool. Idempotent."""
        folder, self._spool_folder = self._spool_folder, None
        await self._idle.wait()
        former, self._former_spools = self._former_spools, []
        for each in (folder, *former):
            if each is not None:
                await asyncio.to_thread(shutil.rmtree, each, ignore_errors=True)

    @abstractmethod
    def make_reception(self, settings: Any) -> Reception:
        """The format's reception under other settings, with the same intake."""

    async def reconfigure(self, settings: HttpDoorSettings) -> None:
        """Take new settings from the next body on. Raises OSError, and changes nothing then,
        when a new spool folder cannot be made."""
        if self._spool_folder is not None and settings.spool_folder != self.settings.spool_folder:
            fresh = await asyncio.to_thread(self._make_spool, settings)
            self._former_spools.append(self._spool_folder)  # bodies in flight still lie there
            self._spool_folder = fresh
        self.settings, self.reception = settings, self.make_reception(settings)
        self.large = asyncio.Semaphore(settings.large_bodies_max)

    def address(self) -> str:
        """The route's path."""
        return f"/intake/{self.route}/{self.name}"

    async def receive(self, request: Request, location: str) -> Response:
        """Answer one ``POST``. ``location`` is a URL with ``{message_id}`` in it."""
        if self._spool_folder is None or self._arriving >= self.settings.uploads_max:
            return self._unavailable("too many bodies are arriving, or the gateway is closing")
        self._arriving += 1
        self._idle.clear()
        try:
            limits, boundary = self.several(), _boundary(request)
            if limits is not None and boundary:
                parts = SeveralDocuments(self, limits, _peer(request))
                return await parts.answer(request, boundary, location)
            return await self._answer(request, self.make_spool(), location)
        except OSError:
            return self._unavailable("the spool folder takes no more")
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._idle.set()

    def several(self) -> MultipartLimits | None:
        """The limits of a body with several documents; None when the format takes none such."""
        return None

    def make_spool(self) -> Spool:
        """A spool for one document. Raises OSError when the source is closed."""
        if self._spool_folder is None:
            raise OSError("the source is closed")
        return Spool(
            self._spool_folder,
            memory_bytes_max=self.settings.memory_bytes_max,
            bytes_max=self.reception.bytes_max,
        )

    async def _answer(self, request: Request, spool: Spool, location: str) -> Response:
        try:
            arrived = await self._arrived(request, spool)
        except BaseException:
            spool.discard()
            raise
        if arrived is None:
            return problem(
                413, self.reception.oversized(), headers={"Connection": "close"}, titles=self.titles
            )
        if arrived.payload.path is None:
            return await self._take(arrived, spool, location)
        async with self.large:
            return await self._take(arrived, spool, location)

    async def _take(self, arrived: Arrived, spool: Spool, location: str) -> Response:
        try:
            contents = await self.reception.open(arrived)
        except BaseException:
            spool.discard()
            raise
        try:
            futures = await self.reception.hand_over(contents)
        except IntakeUnavailable:
            # Those that were handed over have bytes of their own: a spooled file is one message.
            spool.discard()
            return self.not_kept(contents)
        # The journal reads the spooled file until its commit, also when nobody waits any more.
        if futures:
            futures[-1].add_done_callback(lambda _: spool.discard())
        else:
            spool.discard()
        try:
            receipts = await self.reception.receipts(futures)
        except IntakeUnavailable:
            return self.not_kept(contents)
        return self.respond(contents, receipts, location)

    async def _arrived(self, request: Request, spool: Spool) -> Arrived | None:
        """The body; None when its declared length alone is too large."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.reception.bytes_max:
            await self.drain(request.stream())
            return None
        peer = _peer(request)
        cut = await self._arrive(request, spool)
        now = self.clock.now()
        if cut is not None:
            payload, attributes = await asyncio.to_thread(_evidence, spool, cut)
            return Arrived(
                payload=payload, received_at=now, peer=peer, attributes=attributes, fault=cut
            )
        payload = await asyncio.to_thread(spool.payload)
        charset, cause = self._content(request)
        return Arrived(payload=payload, received_at=now, peer=peer, encoding=charset, fault=cause)

    async def _arrive(self, request: Request, spool: Spool) -> Cause | None:
        """Fill the spool; the cause when the body ended before its end."""
        stream = request.stream()
        try:
            async with asyncio.timeout(self.settings.body_timeout_seconds):
                await self._fill(stream, spool)
        except TimeoutError:
            return Cause(
                code=CauseCode.FRAME_TRUNCATED, detail="the body came too slowly and was cut"
            )
        except ClientDisconnect:
            return Cause(code=CauseCode.FRAME_TRUNCATED, detail="the sender closed in the middle")
        except BodyTooLarge:
            await self.drain(stream)
            return self.reception.oversized()
        return None

    async def _fill(self, stream: AsyncIterator[bytes], spool: Spool) -> None:
        """All blocks into the spool, what came before a cut included.

        Written here and not in a thread: 256 KiB are hashed and handed to the system
        in less time than a thread's turn, and a cut never leaves a write under way.
        """
        waiting = Blocks(_WRITE_BYTES)
        try:
            while True:
                async with asyncio.timeout(self.settings.idle_timeout_seconds):
                    block = await anext(stream, None)
                if block is None:
                    break
                waiting.add(block)
                if waiting.enough:
                    spool.write(waiting.take())
        finally:
            spool.write(waiting.take())

    async def drain(self, stream: AsyncIterator[bytes], bytes_max: int = 0) -> None:
        """Read on and drop, within limits (``bytes_max``, without it those of one message), so
        that the sender sees the answer and not a reset."""
        left = bytes_max or self.reception.bytes_max
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(self.settings.idle_timeout_seconds):
                async for block in stream:
                    left -= len(block)
                    if left < 0:
                        return

    def respond(self, contents: Contents, receipts: Sequence[Receipt], location: str) -> Response:
        """The answer once everything is committed."""
        outcome = verdict(contents, receipts)
        if outcome.rejected and outcome.cause is not None:
            status = self.status_of(outcome.cause)
            headers = {"Connection": "close"} if status in (408, 413) else None
            return problem(
                status,
                outcome.cause,
                message_id=outcome.message_id,
                headers=headers,
                titles=self.titles,
                reasons=self.reception.explain(contents, outcome),
            )
        told = [
            _told(received, receipt)
            for received, receipt in zip(contents.received, receipts, strict=True)
        ]
        fresh = any(receipt.disposition is Disposition.ACCEPTED for receipt in receipts)
        return JSONResponse(
            told[0] if len(told) == 1 else {"messages": told},
            201 if fresh else 200,
            headers={"Location": location.format(message_id=receipts[0].message_id)},
        )

    def not_kept(self, contents: Contents) -> Response:  # noqa: ARG002 - for answers of a protocol
        """The answer when not all of the body could be kept: it is to be sent again."""
        return self._unavailable("the journal keeps nothing at the moment")

    def _unavailable(self, detail: str) -> Response:
        return problem(
            503,
            detail=f"{detail}; send it again",
            headers={"Retry-After": str(self.settings.retry_after_seconds)},
        )

    def _content(self, request: Request) -> tuple[str, Cause | None]:
        """The charset that the transport names, or the cause for which the type is refused.

        A body without a type is judged by its bytes alone (RFC 9110 section 8.3).
        """
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding != "identity":
            return "", Cause(
                code=CauseCode.UNSUPPORTED_TYPE,
                detail="a compressed body is not accepted (Content-Encoding)",
                protocol_code="415",
            )
        header = request.headers.get("content-type")
        if not header:
            return "", None
        message = Message()
        message["content-type"] = header
        if self.takes(message.get_content_type()):
            return message.get_content_charset("") or "", None
        return "", Cause(
            code=CauseCode.UNSUPPORTED_TYPE,
            detail=f"the body's type must be {self.types_taken}",
            protocol_code="415",
        )


def _peer(request: Request) -> str:
    return f"{request.client.host}:{request.client.port}" if request.client else ""


def _boundary(request: Request) -> str:
    """The boundary of a multipart of documents; empty for any other body, or one compressed."""
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    if message.get_content_type() not in KINDS:
        return ""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return ""
    boundary = message.get_boundary() or ""
    return boundary if len(boundary) <= BOUNDARY_MAX else ""


def _told(received: Received, receipt: Receipt) -> dict[str, object]:
    told: dict[str, object] = {
        "message_id": receipt.message_id,
        "disposition": str(receipt.disposition),
        "control_id": received.control_id,
    }
    cause = received.refusal or receipt.cause
    if cause is not None:
        told |= {"disposition": "refused", "cause": str(cause.code), "detail": cause.detail}
    return told


def _evidence(spool: Spool, cause: Cause) -> tuple[Payload, dict[str, str]]:
    """What arrived of a body that was cut; of one too large, only its beginning."""
    if cause.code is not CauseCode.FRAME_OVERSIZED:
        return spool.payload(), {"truncated": "by the sender"}
    beginning = spool.beginning(EVIDENCE_BYTES_MAX)
    spool.discard()
    return Payload.from_bytes(beginning), {"truncated": f"after {len(beginning)} bytes"}


def intake_router(
    route: str, *sources: HttpSource, location: str = "/messages/{message_id}"
) -> APIRouter:
    """Routes ``POST /intake/{route}`` (the first source) and ``POST /intake/{route}/{source}``.

    ``location`` is the URL under which a message can be seen, with ``{message_id}``.
    """
    return current_intake_router(route, lambda: sources, location=location)


def current_intake_router(
    route: str,
    current: Callable[[], Sequence[HttpSource]],
    *,
    location: str = "/messages/{message_id}",
) -> APIRouter:
    """The same for sources that come and go: ``current`` gives those of the moment, of which
    the ones of other routes are left out."""
    from fastapi import APIRouter

    router = APIRouter()

    def of_route() -> Iterator[HttpSource]:
        return (each for each in current() if each.route == route)

    @router.post(f"/intake/{route}", name=f"intake-{route}")
    async def to_default(request: Request) -> Response:
        return await _receive(next(of_route(), None), request)

    @router.post(f"/intake/{route}/{{source}}", name=f"intake-{route}-source")
    async def to_named(request: Request, source: str) -> Response:
        return await _receive(next((each for each in of_route() if each.name == source), None),
                              request)  # fmt: skip

    async def _receive(source: HttpSource | None, request: Request) -> Response:
        if source is None:
            return problem(404, detail="no source of this kind has this name")
        return await source.receive(request, location)

    return router
