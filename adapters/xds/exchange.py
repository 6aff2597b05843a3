"""One request at the endpoint, from its first block to its answer.

ITI TF-2 Appendix V.3; SOAP 1.2 Part 2 section 7 (HTTP binding).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from lxml import etree
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from adapters.doors.blocks import Blocks
from adapters.doors.reception import Arrived, Contents, Reception
from adapters.ebrim.faults import Refused
from adapters.ebrim.names import QUERY
from adapters.xds import soap
from adapters.xds.answers import XDS, Problem, registry_response, retrieve_response
from adapters.xds.catalogue import Catalogue, Memory
from adapters.xds.evidence import pieces
from adapters.xds.faults import SoapFault, too_large
from adapters.xds.incoming import Bounds, Expected, Incoming
from adapters.xds.mtom import content_type
from adapters.xds.provide import From, Providing, Submission, outcome, problem_of
from adapters.xds.registry import Registry
from adapters.xds.retrieve import Package, retrieve
from adapters.xds.settings import XdsSourceSettings
from adapters.xds.writing import Describing
from gateway.documents import DocumentHeaders, DocumentRegistry, RegistryUnavailable
from gateway.model import Cause, CauseCode, Payload, Received
from gateway.ports import Clock, IntakeUnavailable

PROVIDE = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
STORED_QUERY = "urn:ihe:iti:2007:RegistryStoredQuery"
RETRIEVE = "urn:ihe:iti:2007:RetrieveDocumentSet"
_BODIES = {
    PROVIDE: f"{{{XDS}}}ProvideAndRegisterDocumentSetRequest",
    STORED_QUERY: f"{{{QUERY}}}AdhocQueryRequest",
    RETRIEVE: f"{{{XDS}}}RetrieveDocumentSetRequest",
}
_WRITE_BYTES = 1 << 18
_READ_AT_ONCE_BYTES = 128 << 10


class Endpoint(Protocol):
    """What an exchange needs of the source whose endpoint it is at.

    ``large`` is held by a request that lies in files while it is worked on.
    """

    clock: Clock
    documents: DocumentRegistry
    headers: DocumentHeaders
    memory: Memory

    @property
    def large(self) -> asyncio.Semaphore: ...

    def count(self, what: str) -> None:
        """Note what happened."""
        ...

    async def drain(self, stream: AsyncIterator[bytes]) -> None:
        """Read on and drop, within limits, so that the sender sees the answer."""
        ...

    def describing(self, settings: XdsSourceSettings) -> Describing:
        """How entries are written."""
        ...


class _Said(NamedTuple):
    """An answer that is no fault: its body, its action, and the documents that go with it."""

    body: etree._Element
    action: str
    package: Package | None = None


class Exchange:
    """One request and its answer, under the settings with which it began."""

    def __init__(self, source: Endpoint, settings: XdsSourceSettings, reception: Reception) -> None:
        self._source = source
        self._settings = settings
        self._reception = reception
        self._packed = False
        self._inline: list[Payload] = []

    def bounds(self) -> Bounds:
        """The limits."""
        settings = self._settings
        return Bounds(
            request=settings.submission_bytes_max,
            envelope=settings.envelope_bytes_max,
            document=settings.document_bytes_max,
            memory=settings.memory_bytes_max,
            parts=settings.parts_max,
        )

    async def run(self, request: Request, folder: Path) -> Response:
        """Read, do, answer. Raises OSError when the spool takes no more."""
        refusal: SoapFault | None = None
        expected = None
        try:
            expected = Expected.by(request.headers.get("content-type", ""))
        except SoapFault as fault:
            refusal = fault
        incoming = Incoming(folder, expected, self.bounds())
        kept = False
        stream = request.stream()
        origin = From(
            received_at=self._source.clock.now(),
            peer=f"{request.client.host}:{request.client.port}" if request.client else "",
            message_id="",
        )
        self._packed = incoming.packed
        try:
            try:
                await self._read(request, stream, incoming)
                if refusal is not None:
                    raise refusal
                incoming.finish()
                message = await self._message(incoming)
            except SoapFault as fault:
                await self._source.drain(stream)
                await self._evidence(incoming, origin, fault.cause)
                return self.fault(fault)
            origin = From(origin.received_at, origin.peer, message.message_id)
            try:
                if message.action == PROVIDE:
                    answered, kept = await self._provided(message, incoming, origin)
                else:
                    answered = await self._asked(message)
            except SoapFault as fault:
                fault.relates_to = message.message_id
                await self._evidence(incoming, origin, fault.cause)
                return self.fault(fault)
            return self._answer(answered, message.message_id)
        finally:
            if not kept:
                incoming.discard()

    # --- reading -------------------------------------------------------------------

    async def _read(
        self, request: Request, stream: AsyncIterator[bytes], incoming: Incoming
    ) -> None:
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise SoapFault(
                "a compressed body is not accepted (Content-Encoding)",
                status=415, cause=CauseCode.UNSUPPORTED_TYPE,
            )  # fmt: skip
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._settings.submission_bytes_max:
            raise too_large("the request", self._settings.submission_bytes_max)
        try:
            async with asyncio.timeout(self._settings.body_timeout_seconds):
                await self._fill(stream, incoming)
        except TimeoutError:
            raise SoapFault(
                "the body came too slowly and was cut", status=408,
                cause=CauseCode.FRAME_TRUNCATED,
            ) from None  # fmt: skip
        except ClientDisconnect:
            raise SoapFault(
                "the sender closed in the middle", cause=CauseCode.FRAME_TRUNCATED
            ) from None

    async def _fill(self, stream: AsyncIterator[bytes], incoming: Incoming) -> None:
        """Gathers what comes to blocks that are worth a write; see ``HttpSource._fill``."""
        waiting = Blocks(_WRITE_BYTES)
        try:
            while True:
                async with asyncio.timeout(self._settings.idle_timeout_seconds):
                    block = await anext(stream, None)
                if block is None:
                    break
                waiting.add(block)
                if waiting.enough:
                    incoming.feed(waiting.take())
        except (TimeoutError, ClientDisconnect):
            # What came before the cut is evidence, also where it can be no message.
            with contextlib.suppress(SoapFault):
                incoming.feed(waiting.take())
            raise
        incoming.feed(waiting.take())

    async def _message(self, incoming: Incoming) -> soap.Request:
        payload = incoming.envelope()
        if payload is None:
            raise SoapFault("the SOAP envelope is empty")

        def read() -> soap.Request:
            return soap.read_envelope(
                payload.read(),
                bytes_max=self._settings.envelope_bytes_max,
                passed_over=self._settings.headers_passed_over,
                # Common software puts anything there; two actions that both are known are two
                # messages in one.
                action=incoming.action if incoming.action in _BODIES else "",
            )

        # A thread's turn takes longer than reading an envelope of the usual size.
        small = payload.size <= _READ_AT_ONCE_BYTES
        message = read() if small else await asyncio.to_thread(read)
        wanted = _BODIES.get(message.action)
        if wanted is None or message.body.tag != wanted:
            fault = soap.action_not_supported()
            fault.relates_to = message.message_id
            raise fault
        return message

    # --- the transactions ------------------------------------------------------------

    async def _provided(
        self, message: soap.Request, incoming: Incoming, origin: From
    ) -> tuple[_Said, bool]:
        """ITI-41. Also whether the journal may still read the spooled parts."""
        if not any(each.size > each.memory_bytes_max for each in incoming.parts.values()):
            return await self._provide(message, incoming, origin)
        async with self._source.large:
            return await self._provide(message, incoming, origin)

    async def _provide(
        self, message: soap.Request, incoming: Incoming, origin: From
    ) -> tuple[_Said, bool]:
        settings = self._settings
        providing = Providing(
            settings,
            self._source.documents,
            self._source.describing(settings),
            self._source.headers,
            self._source.memory,
        )
        action = f"{PROVIDE}Response"
        try:
            submission = await asyncio.to_thread(
                providing.understood, message.body, incoming.parts, self._inline
            )
            received = await providing.judged(submission, self._reception, origin)
        except Refused as refused:
            self._source.count("submissions-refused")
            await self._evidence(incoming, origin, refused.cause)
            return _Said(registry_response([problem_of(refused)]), action), False
        except RegistryUnavailable:
            problem = Problem("XDSRegistryNotAvailable", "the registry does not answer")
            return _Said(registry_response([problem]), action), False
        unsaid = (
            await asyncio.to_thread(providing.unsaid, submission) if submission.replaced else []
        )
        problems, kept = await self._handed_over(submission, received, incoming)
        if all(each.warning for each in problems):
            problems += [*unsaid, *await asyncio.to_thread(providing.noted, submission)]
        self._source.count("submissions" if kept or not received else "submissions-not-kept")
        return _Said(registry_response(problems), action), kept

    async def _handed_over(
        self, submission: Submission, received: Sequence[Received], incoming: Incoming
    ) -> tuple[list[Problem], bool]:
        """Hand over and wait for the commits: no positive word before them."""
        if not received:
            return [], False
        reception = self._reception
        said = "nothing can be kept at the moment: send it again"
        try:
            futures = await reception.hand_over(Contents(received))
        except IntakeUnavailable:
            return [Problem("XDSRepositoryOutOfResources", said)], False
        waiting = len(futures)

        def committed(_: object) -> None:
            # The journal reads the spooled parts until their commit, whoever still waits.
            nonlocal waiting
            waiting -= 1
            if not waiting:
                incoming.discard()

        for future in futures:
            future.add_done_callback(committed)
        try:
            receipts = await reception.receipts(futures)
        except IntakeUnavailable:
            return [Problem("XDSRepositoryOutOfResources", said)], True
        return outcome(submission, received, receipts), True

    async def _asked(self, message: soap.Request) -> _Said:
        """ITI-18 and ITI-43."""
        settings, source = self._settings, self._source
        if not settings.queries:
            raise soap.action_not_supported()
        describing = source.describing(settings)
        if message.action == STORED_QUERY:
            source.count("queries")
            catalogue = Catalogue(source.documents, describing, source.memory)
            registry = Registry(
                source.documents, catalogue, describing, results_max=settings.results_max
            )
            body = await asyncio.to_thread(registry.answer, message.body)
            return _Said(body, f"{STORED_QUERY}Response")
        source.count("retrievals")
        found = await asyncio.to_thread(retrieve, message.body, source.documents, describing)
        action = f"{RETRIEVE}Response"
        package = Package(_boundary(), action, b"", found.documents, found.payloads)
        return _Said(retrieve_response(found.documents, found.problems), action, package)

    # --- answering -------------------------------------------------------------------

    def _answer(self, said: _Said, relates_to: str) -> Response:
        """A request in MTOM is answered in MTOM, and ITI-43 always is."""
        envelope = soap.write_envelope(said.body, action=said.action, relates_to=relates_to)
        if said.package is None and not self._packed:
            return Response(
                envelope,
                headers={
                    "Content-Type": f'{soap.MEDIA_TYPE}; charset=UTF-8; action="{said.action}"'
                },
            )
        package = said.package or Package(_boundary(), said.action, b"")
        package = Package(
            package.boundary, said.action, envelope, package.documents, package.payloads
        )
        headers = {
            "Content-Type": content_type(package.boundary, said.action),
            "Content-Length": str(package.size()),
        }
        if not package.documents:
            return Response(b"".join(package.blocks()), headers=headers)
        return StreamingResponse(package.blocks(), headers=headers)

    def fault(self, fault: SoapFault) -> Response:
        """A SOAP fault. After one for which the body was not read to its end, no more on this
        connection."""
        self._source.count(f"fault-{fault.code.lower()}")
        body, media_type = soap.write_fault(fault)
        headers = {"Content-Type": f"{media_type}; charset=UTF-8"}
        if fault.status in (408, 413):
            headers["Connection"] = "close"
        return Response(body, fault.status, headers=headers)

    def busy(self) -> Response:
        """Too much at a time: before anything of the request is read."""
        fault = SoapFault(
            "too many requests are arriving, or the gateway is closing: send it again",
            code="Receiver", status=503,
        )  # fmt: skip
        response = self.fault(fault)
        response.headers["Retry-After"] = str(self._settings.retry_after_seconds)
        response.headers["Connection"] = "close"
        return response

    async def _evidence(self, incoming: Incoming, origin: From, cause: Cause) -> None:
        """Keep what came of a refused request: the envelope and the documents, or its beginning.

        Waits until it is kept, because the spooled parts go afterwards. Without a journal there
        is no evidence, and the refusal is told all the same.
        """
        found = await asyncio.to_thread(pieces, incoming, cause)
        attributes = {"transaction": "XDS"}
        if origin.message_id:
            attributes["soap_message"] = origin.message_id[:255]
        refused = [
            self._reception.refused(
                Arrived(
                    payload=payload,
                    received_at=origin.received_at,
                    peer=origin.peer,
                    attributes={**attributes, "part": name},
                ),
                cause,
            )
            for name, payload in found
        ]
        try:
            await self._reception.receipts(await self._reception.hand_over(Contents(refused)))
        except IntakeUnavailable:
            self._source.count("evidence-not-kept")


def _boundary() -> str:
    return f"MIMEBoundary_{uuid.uuid4().hex}"
