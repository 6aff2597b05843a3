"""CDA over HTTP: one document per ``POST``, answered only after the journal's commit.

====== =====================================================================
status meaning
====== =====================================================================
201    kept; ``{"message_id", "disposition", "control_id"}`` and ``Location``
200    the same document had been kept before (``disposition: duplicate``)
400    no XML, malformed, a DTD or an entity, a limit of the reader
403    the patient's record takes nothing (``cause`` says why)
408    the body came too slowly
413    the body is larger than ``document_bytes_max``
415    the type is no XML, or the body is compressed
422    XML, but no CDA R2 document
503    nothing could be kept; ``Retry-After``
====== =====================================================================

Refused bytes are kept as evidence; of a body that is too large, its first MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from email.message import Message
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from adapters.cda.problem import problem, status_of
from adapters.cda.reception import Reception
from adapters.cda.settings import CdaHttpSourceSettings
from adapters.cda.spool import BodyTooLarge, Spool
from gateway.model import Cause, CauseCode, Disposition, Payload, Receipt, Received
from gateway.ports import Clock, Intake, IntakeUnavailable

EVIDENCE_BYTES_MAX = 1 << 20
XML_TYPES = frozenset({"application/xml", "text/xml"})
_WRITE_BYTES = 1 << 18


class CdaHttpSource:
    """One named HTTP way in. :func:`cda_router` gives it its route."""

    def __init__(self, settings: CdaHttpSourceSettings, intake: Intake, clock: Clock) -> None:
        self.settings = settings
        self.name = settings.name
        self.clock = clock
        self.reception = Reception(settings, intake)
        self._spool_folder: Path | None = None
        self._former_spools: list[Path] = []
        self._arriving = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Make the spool folder. Raises OSError when it cannot be made."""
        if self._spool_folder is None:
            self._spool_folder = await asyncio.to_thread(_make_spool, self.settings)

    async def stop(self) -> None:
        """Take no new body, let those in flight be answered, remove the spool. Idempotent."""
        folder, self._spool_folder = self._spool_folder, None
        await self._idle.wait()
        former, self._former_spools = self._former_spools, []
        for each in (folder, *former):
            if each is not None:
                await asyncio.to_thread(shutil.rmtree, each, ignore_errors=True)

    async def reconfigure(self, settings: CdaHttpSourceSettings) -> None:
        """Take new settings from the next body on. Raises OSError, and changes nothing then,
        when a new spool folder cannot be made."""
        if self._spool_folder is not None and settings.spool_folder != self.settings.spool_folder:
            fresh = await asyncio.to_thread(_make_spool, settings)
            self._former_spools.append(self._spool_folder)  # bodies in flight still lie there
            self._spool_folder = fresh
        self.settings = settings
        self.reception = Reception(settings, self.reception.intake)

    def address(self) -> str:
        """The route's path."""
        return f"/intake/cda/{self.name}"

    async def receive(self, request: Request, location: str) -> Response:
        """Answer one ``POST``. ``location`` is a URL with ``{message_id}`` in it."""
        folder = self._spool_folder
        if folder is None or self._arriving >= self.settings.uploads_max:
            return self._unavailable("too many documents are arriving, or the gateway is closing")
        spool = Spool(
            folder,
            memory_bytes_max=self.settings.memory_bytes_max,
            bytes_max=self.settings.document_bytes_max,
        )
        self._arriving += 1
        self._idle.clear()
        try:
            return await self._answer(request, spool, location)
        except IntakeUnavailable:
            return self._unavailable("the journal keeps nothing at the moment")
        except OSError:
            return self._unavailable("the spool folder takes no more")
        finally:
            self._arriving -= 1
            if not self._arriving:
                self._idle.set()

    async def _answer(self, request: Request, spool: Spool, location: str) -> Response:
        try:
            received = await self._received(request, spool)
        except BaseException:
            spool.discard()
            raise
        if received is None:
            return problem(
                413,
                Cause(
                    code=CauseCode.FRAME_OVERSIZED,
                    detail=f"at most {self.settings.document_bytes_max} bytes are taken",
                ),
                headers={"Connection": "close"},
            )
        future = self.reception.submit(received)
        # The journal reads the spooled file until its commit, also when nobody waits any more.
        future.add_done_callback(lambda _: spool.discard())
        return self._respond(received, await self.reception.committed(future), location)

    async def _received(self, request: Request, spool: Spool) -> Received | None:
        """The body and what it is; None when its declared length alone is too large."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self.settings.document_bytes_max:
            await self._drain(request.stream())
            return None
        peer = f"{request.client.host}:{request.client.port}" if request.client else ""
        cut = await self._arrive(request, spool)
        now = self.clock.now()
        if cut is not None:
            payload, attributes = await asyncio.to_thread(_evidence, spool, cut)
            return self.reception.refused(payload, now, cut, peer=peer, attributes=attributes)
        payload = await asyncio.to_thread(spool.payload)
        charset, cause = _content(request)
        if cause is not None:
            return self.reception.refused(payload, now, cause, peer=peer)
        return await self.reception.judge(payload, now, encoding=charset, peer=peer)

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
            await self._drain(stream)
            return Cause(
                code=CauseCode.FRAME_OVERSIZED,
                detail=f"at most {self.settings.document_bytes_max} bytes are taken",
            )
        return None

    async def _fill(self, stream: AsyncIterator[bytes], spool: Spool) -> None:
        """All blocks into the spool, what came before a cut included.

        Written here and not in a thread: 256 KiB are hashed and handed to the system
        in less time than a thread's turn, and a cut never leaves a write under way.
        """
        waiting = bytearray()
        try:
            while True:
                async with asyncio.timeout(self.settings.idle_timeout_seconds):
                    block = await anext(stream, None)
                if block is None:
                    break
                waiting += block
                if len(waiting) >= _WRITE_BYTES:
                    full, waiting = waiting, bytearray()
                    spool.write(bytes(full))
        finally:
            spool.write(bytes(waiting))

    async def _drain(self, stream: AsyncIterator[bytes]) -> None:
        """Read on and drop, within limits, so that the sender sees the answer and not a reset."""
        left = self.settings.document_bytes_max
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(self.settings.idle_timeout_seconds):
                async for block in stream:
                    left -= len(block)
                    if left < 0:
                        return

    def _respond(self, received: Received, receipt: Receipt, location: str) -> Response:
        cause = received.refusal or receipt.cause
        if receipt.disposition is Disposition.REFUSED or received.refusal is not None:
            cause = cause or Cause(code=CauseCode.INTERNAL)
            status = status_of(cause)
            headers = {"Connection": "close"} if status in (408, 413) else None
            return problem(status, cause, message_id=receipt.message_id, headers=headers)
        return JSONResponse(
            {
                "message_id": receipt.message_id,
                "disposition": str(receipt.disposition),
                "control_id": received.control_id,
            },
            201 if receipt.disposition is Disposition.ACCEPTED else 200,
            headers={"Location": location.format(message_id=receipt.message_id)},
        )

    def _unavailable(self, detail: str) -> Response:
        return problem(
            503,
            detail=f"{detail}; send the document again",
            headers={"Retry-After": str(self.settings.retry_after_seconds)},
        )


def _make_spool(settings: CdaHttpSourceSettings) -> Path:
    """A folder of this source's own; what a crash left in the configured place goes."""
    parent, prefix = settings.spool_folder, f"ecluse-cda-{settings.name}."
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{prefix}*"):
            shutil.rmtree(left)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def _evidence(spool: Spool, cause: Cause) -> tuple[Payload, dict[str, str]]:
    """What arrived of a body that was cut; of one too large, only its beginning."""
    if cause.code is not CauseCode.FRAME_OVERSIZED:
        return spool.payload(), {"truncated": "by the sender"}
    beginning = spool.beginning(EVIDENCE_BYTES_MAX)
    spool.discard()
    return Payload.from_bytes(beginning), {"truncated": f"after {len(beginning)} bytes"}


def _content(request: Request) -> tuple[str, Cause | None]:
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
    kind = message.get_content_type()
    if kind in XML_TYPES or kind.endswith("+xml"):
        return message.get_content_charset("") or "", None
    return "", Cause(
        code=CauseCode.UNSUPPORTED_TYPE,
        detail="the body's type must be application/xml, text/xml or end in +xml",
        protocol_code="415",
    )


def cda_router(*sources: CdaHttpSource, location: str = "/messages/{message_id}") -> APIRouter:
    """Routes ``POST /intake/cda`` (the first source) and ``POST /intake/cda/{source name}``.

    ``location`` is the URL under which a message can be seen, with ``{message_id}``.
    """
    return current_cda_router(lambda: sources, location=location)


def current_cda_router(
    current: Callable[[], Sequence[CdaHttpSource]], *, location: str = "/messages/{message_id}"
) -> APIRouter:
    """The same for sources that come and go: ``current`` gives those of the moment."""
    router = APIRouter()

    @router.post("/intake/cda", name="intake-cda")
    async def to_default(request: Request) -> Response:
        first = next(iter(current()), None)
        return await _receive(first, request)

    @router.post("/intake/cda/{source}", name="intake-cda-source")
    async def to_named(request: Request, source: str) -> Response:
        found = next((each for each in current() if each.name == source), None)
        return await _receive(found, request)

    async def _receive(source: CdaHttpSource | None, request: Request) -> Response:
        if source is None:
            return problem(404, detail="no CDA source has this name")
        return await source.receive(request, location)

    return router
