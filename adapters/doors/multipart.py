"""Several documents in one HTTP body: ``multipart/form-data`` (RFC 7578), ``multipart/mixed`` and
``multipart/related`` (RFC 2046, RFC 2387), each part taken while the body still arrives.

Every part is a document of its own: kept, refused and answered as if it had come alone. The answer
is ``{"documents": [...]}`` with one object for each part in their order: ``part`` (from 1),
``status``, and what a single document would have been answered.

====== =====================================================================
status meaning
====== =====================================================================
201    all were taken, at least one of them for the first time
200    all had been kept before
207    some were taken and some refused (the word is RFC 4918's, the body is not)
4xx    all were refused: their common status, or 422 when they differ
400    no part, too many parts, or not the syntax of a multipart; what came before it is kept
408    the body came too slowly, or was cut: as 400
413    the body as a whole is too large: as 400
503    not all could be kept; sending the same again is safe
====== =====================================================================

With 4xx and 503 the body is ``application/problem+json``, whose ``documents`` are those parts that
came whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from adapters.doors.problem import MEDIA_TYPE, problem_body
from adapters.doors.reception import EVIDENCE_BYTES_MAX, Arrived, Contents, Reception, verdict
from adapters.doors.spool import BodyTooLarge, Spool
from gateway.model import Cause, CauseCode, Disposition, Payload, Receipt
from gateway.ports import IntakeUnavailable

if TYPE_CHECKING:
    from adapters.doors.http import HttpSource

KINDS = frozenset({"multipart/form-data", "multipart/mixed", "multipart/related"})
BOUNDARY_MAX = 70
"""RFC 2046, section 5.1.1."""
_IDENTITY = frozenset({"", "7bit", "8bit", "binary"})
_NAME_CHARACTERS_MAX = 255


@dataclass(frozen=True, slots=True)
class MultipartLimits:
    """``bytes_max`` is of the whole body, ``parts_max`` of its parts."""

    parts_max: int
    bytes_max: int


@dataclass(slots=True)
class _Part:
    """One part while it arrives; ``fault`` is why its bytes are not looked at."""

    number: int
    spool: Spool
    header: Message = field(default_factory=Message)
    fault: Cause | None = None
    full: bool = False


@dataclass(slots=True)
class _Answered:
    """What is known of one part; without futures nothing of it was kept."""

    number: int
    name: str
    contents: Contents
    futures: Sequence[Future[Receipt]] | None


class _Cut(Exception):
    """The body ends before its end, for this cause."""

    def __init__(self, cause: Cause, status: int) -> None:
        super().__init__(cause.detail)
        self.cause, self.status = cause, status


class SeveralDocuments:
    """The parts of one body on their way in. Used once."""

    def __init__(self, source: HttpSource, limits: MultipartLimits, peer: str) -> None:
        self._source, self._limits, self._peer = source, limits, peer
        self._reception: Reception = source.reception
        self._beginning = bytearray()
        self._size = 0
        self._events: list[tuple[str, bytes]] = []
        self._part: _Part | None = None
        self._count = 0
        self._complete = False
        self._field = self._value = b""
        self._pending: list[_Answered] = []
        self._pending_bytes = 0
        self._told: list[dict[str, Any]] = []
        self._location = ""

    async def answer(self, request: Request, boundary: str, location: str) -> Response:
        """Take the whole body and answer it. Raises OSError when the disk takes no more."""
        self._location = location
        cut: _Cut | None = None
        try:
            async with asyncio.timeout(self._source.settings.body_timeout_seconds):
                await self._receive(request.stream(), boundary)
        except _Cut as ended:
            cut = ended
        except TimeoutError:
            detail = "the body came too slowly and was cut"
            cut = _Cut(Cause(code=CauseCode.FRAME_TRUNCATED, detail=detail), 408)
        except ClientDisconnect:
            detail = "the sender closed in the middle"
            cut = _Cut(Cause(code=CauseCode.FRAME_TRUNCATED, detail=detail), 408)
        finally:
            if self._part is not None:
                self._part.spool.discard()
        if cut is None and not self._count:
            nothing = Cause(code=CauseCode.NOT_THE_FORMAT, detail="the multipart has no part")
            cut = _Cut(nothing, 400)
        await self._settle()
        if cut is not None:
            return await self._ended(cut)
        retry = self._source.settings.retry_after_seconds
        return _together(self._told, retry, self._source.titles)

    # --- arriving -----------------------------------------------------------------

    async def _receive(self, stream: AsyncIterator[bytes], boundary: str) -> None:
        """Raises _Cut."""
        parser = MultipartParser(boundary.encode("latin-1", "replace"), self._callbacks())
        while True:
            async with asyncio.timeout(self._source.settings.idle_timeout_seconds):
                block = await anext(stream, None)
            if block is None:
                break
            self._size += len(block)
            if len(self._beginning) < EVIDENCE_BYTES_MAX:
                self._beginning += block[: EVIDENCE_BYTES_MAX - len(self._beginning)]
            if self._size > self._limits.bytes_max:
                detail = f"at most {self._limits.bytes_max} bytes are taken in one multipart"
                await self._source.drain(stream)
                raise _Cut(Cause(code=CauseCode.FRAME_OVERSIZED, detail=detail), 413)
            try:
                parser.write(block)
            except FormParserError:
                await self._follow()
                raise _syntax("the body is not the multipart that its type announces") from None
            await self._follow()
        if not self._complete:
            raise _syntax("the end of the multipart is missing")

    def _callbacks(self) -> Any:
        def put(name: str, data: bytes = b"") -> None:
            self._events.append((name, data))

        def sliced(name: str) -> Any:
            return lambda data, start, end: put(name, data[start:end])

        return {
            "on_part_begin": lambda: put("begin"),
            "on_header_field": sliced("field"),
            "on_header_value": sliced("value"),
            "on_header_end": lambda: put("header"),
            "on_part_data": sliced("data"),
            "on_part_end": lambda: put("end"),
            "on_end": lambda: put("complete"),
        }

    async def _follow(self) -> None:
        """Do what the parser has seen. Raises _Cut."""
        events, self._events = self._events, []
        for name, data in events:
            part = self._part
            if name == "begin":
                self._part = self._begun()
            elif name == "complete":
                self._complete = True
            elif part is None:
                continue
            elif name == "field":
                self._field += data
            elif name == "value":
                self._value += data
            elif name == "header":
                self._header(part)
            elif name == "data":
                self._write(part, data)
            elif name == "end":
                self._part = None
                await self._ended_part(part)

    def _begun(self) -> _Part:
        self._count += 1
        if self._count > self._limits.parts_max:
            detail = f"at most {self._limits.parts_max} documents are taken in one multipart"
            raise _Cut(Cause(code=CauseCode.HOSTILE_CONTENT, detail=detail), 400)
        return _Part(self._count, self._source.make_spool())

    def _header(self, part: _Part) -> None:
        name, value = self._field.decode("latin-1").lower(), self._value
        self._field = self._value = b""
        if name not in part.header:
            part.header[name] = value.decode("utf-8", "replace").replace("\r", "").replace("\n", "")

    def _write(self, part: _Part, data: bytes) -> None:
        if part.full:
            return
        try:
            part.spool.write(data)
        except BodyTooLarge:
            part.full = True
            part.fault = self._reception.oversized()

    # --- one part -----------------------------------------------------------------

    async def _ended_part(self, part: _Part) -> None:
        """Judge and hand over a part that is whole."""
        try:
            arrived = await asyncio.to_thread(self._arrived, part)
            if arrived.payload.path is None:
                answered = await self._handed_over(part, arrived)
            else:
                async with self._source.large:
                    answered = await self._handed_over(part, arrived)
                    await self._reception.receipts(answered.futures or ())
                    self._pending_bytes = self._source.settings.memory_bytes_max
        except IntakeUnavailable:
            part.spool.discard()
            answered = _Answered(part.number, _name(part), Contents(()), None)
        except BaseException:
            part.spool.discard()
            raise
        self._pending.append(answered)
        self._pending_bytes += part.spool.size
        if self._pending_bytes >= self._source.settings.memory_bytes_max:
            await self._settle()  # what is in memory stays within that of one body

    async def _settle(self) -> None:
        """Wait for the commits of what was handed over, and keep only what is answered of it."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        self._told += [await self._told_of(each) for each in pending]

    async def _handed_over(self, part: _Part, arrived: Arrived) -> _Answered:
        contents = await self._reception.open(arrived)
        futures = await self._reception.hand_over(contents)
        futures[-1].add_done_callback(lambda _: part.spool.discard())
        return _Answered(part.number, _name(part), contents, futures)

    def _arrived(self, part: _Part) -> Arrived:
        fault, charset = part.fault, ""
        attributes = {"multipart_part": str(part.number)}
        if name := _name(part):
            attributes["file_name"] = name
        if fault is None:
            charset, fault = self._type_of(part)
            payload = part.spool.payload()
        else:
            beginning = part.spool.beginning(EVIDENCE_BYTES_MAX)
            part.spool.discard()
            payload = Payload.from_bytes(beginning)
            attributes["truncated"] = f"after {len(beginning)} bytes"
        return Arrived(
            payload=payload,
            received_at=self._source.clock.now(),
            peer=self._peer,
            encoding=charset,
            attributes=attributes,
            fault=fault,
        )

    def _type_of(self, part: _Part) -> tuple[str, Cause | None]:
        """The charset that a part names, or why its type is refused.

        A file without a type, or with that of any bytes, is judged by its bytes.
        """
        transfer = str(part.header.get("content-transfer-encoding", "")).strip().lower()
        if transfer not in _IDENTITY:
            detail = "a part with a Content-Transfer-Encoding is not accepted (RFC 7578, 4.7)"
            return "", Cause(code=CauseCode.UNSUPPORTED_TYPE, detail=detail, protocol_code="415")
        media_type = part.header.get_content_type()
        typed = "content-type" in part.header and media_type != "application/octet-stream"
        if self._source.takes(media_type) or (not typed and _name(part)):
            return part.header.get_content_charset("") or "", None
        detail = f"a part's type must be {self._source.types_taken}"
        return "", Cause(code=CauseCode.UNSUPPORTED_TYPE, detail=detail, protocol_code="415")

    # --- the answer ---------------------------------------------------------------

    async def _told_of(self, each: _Answered) -> dict[str, Any]:
        """What is answered for one part."""
        told: dict[str, Any] = {"part": each.number}
        if each.name:
            told["filename"] = each.name
        try:
            if each.futures is None:
                raise IntakeUnavailable
            receipts = await self._reception.receipts(each.futures)
        except IntakeUnavailable:
            return told | problem_body(503, detail="nothing was kept; send it again")
        outcome = verdict(each.contents, receipts)
        if outcome.rejected and outcome.cause is not None:
            return told | problem_body(
                self._source.status_of(outcome.cause),
                outcome.cause,
                message_id=outcome.message_id,
                titles=self._source.titles,
                reasons=self._reception.explain(each.contents, outcome),
            )
        receipt = receipts[0]
        return told | {
            "status": 201 if receipt.disposition is Disposition.ACCEPTED else 200,
            "message_id": receipt.message_id,
            "disposition": str(receipt.disposition),
            "control_id": each.contents.received[0].control_id,
            "location": self._location.format(message_id=receipt.message_id),
        }

    async def _ended(self, cut: _Cut) -> Response:
        """The answer to a body that is none; its beginning is kept as evidence."""
        evidence = Arrived(
            payload=Payload.from_bytes(bytes(self._beginning)),
            received_at=self._source.clock.now(),
            peer=self._peer,
            attributes={"truncated": f"after {len(self._beginning)} bytes"},
            fault=cut.cause,
        )
        try:
            futures = await self._reception.hand_over(await self._reception.open(evidence))
            receipts = await self._reception.receipts(futures)
        except IntakeUnavailable:
            body = problem_body(503, detail="nothing was kept; send it again")
            retry = self._source.settings.retry_after_seconds
            return _problem(body | {"documents": self._told}, retry)
        body = problem_body(
            cut.status, cut.cause, message_id=receipts[0].message_id, titles=self._source.titles
        )
        return _problem(body | {"documents": self._told}, 0, close=True)


def _together(
    told: list[dict[str, Any]], retry_after_seconds: int, titles: Mapping[int, str]
) -> Response:
    """The status of the whole, by the rule at the head of this module."""
    statuses = [int(each["status"]) for each in told]
    refused = [each for each in statuses if each >= 400]
    if 503 in statuses:
        body = problem_body(503, detail="not all of it was kept; send it again")
        return _problem(body | {"documents": told}, retry_after_seconds)
    if len(refused) == len(statuses):
        status = refused[0] if len(set(refused)) == 1 else 422
        body = problem_body(status, detail="every document was refused", titles=titles)
        return _problem(body | {"documents": told}, 0)
    status = 207 if refused else max(statuses)
    return Response(orjson.dumps({"documents": told}), status, media_type="application/json")


def _problem(body: dict[str, Any], retry_after_seconds: int, *, close: bool = False) -> Response:
    headers = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds else {}
    if close:
        headers["Connection"] = "close"
    return Response(orjson.dumps(body), body["status"], headers=headers, media_type=MEDIA_TYPE)


def _syntax(detail: str) -> _Cut:
    return _Cut(Cause(code=CauseCode.UNREADABLE, detail=detail), 400)


def _name(part: _Part) -> str:
    """The file name of its Content-Disposition, printable and not too long."""
    found = part.header.get_filename("")
    return "".join(each for each in found if each.isprintable())[:_NAME_CHARACTERS_MAX]
