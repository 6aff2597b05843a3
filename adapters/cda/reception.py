"""What both ways in do with bytes: read the header, build Received, wait for the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import datetime

from adapters.cda.document import Limits, read_document
from adapters.cda.header import Header, read_header
from adapters.cda.prolog import NotReadable
from adapters.cda.settings import CdaSourceSettings
from gateway.model import Cause, Format, Payload, Receipt, Received
from gateway.ports import Intake, IntakeUnavailable


class Reception:
    """One source's way from bytes to a receipt, with its limits. Belongs to one event loop."""

    def __init__(self, settings: CdaSourceSettings, intake: Intake) -> None:
        self.settings = settings
        self.intake = intake
        self.limits = Limits(
            bytes_max=settings.document_bytes_max,
            depth_max=settings.depth_max,
            elements_max=settings.elements_max,
        )
        self._reading = asyncio.Semaphore(settings.reads_max)

    async def judge(
        self,
        payload: Payload,
        received_at: datetime,
        *,
        encoding: str = "",
        peer: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> Received:
        """Read the document and say what it is; a refusal is in ``Received.refusal``.

        The reading is done in a thread, at most ``reads_max`` at a time.
        """
        async with self._reading:
            outcome = await asyncio.to_thread(self._read, payload, encoding)
        if isinstance(outcome, Cause):
            return self.refused(
                payload, received_at, outcome, peer=peer, encoding=encoding, attributes=attributes
            )
        return Received(
            source=self.settings.name,
            format=Format.CDA,
            payload=payload,
            received_at=received_at,
            peer=peer,
            control_id=outcome.control_id,
            kind=outcome.kind,
            encoding=encoding,
            subject=outcome.subject,
            attributes={**(attributes or {}), **outcome.attributes},
        )

    def refused(
        self,
        payload: Payload,
        received_at: datetime,
        cause: Cause,
        *,
        peer: str = "",
        encoding: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> Received:
        """Bytes that are kept as evidence of a refusal and go no further."""
        return Received(
            source=self.settings.name,
            format=Format.CDA,
            payload=payload,
            received_at=received_at,
            peer=peer,
            encoding=encoding,
            refusal=cause,
            attributes=attributes or {},
        )

    def _read(self, payload: Payload, encoding: str) -> Header | Cause:
        try:
            return read_header(read_document(payload, encoding=encoding, limits=self.limits))
        except NotReadable as error:
            return Cause(code=error.code, detail=str(error), location=error.location)

    def submit(self, received: Received) -> Future[Receipt]:
        """Hand over; an Intake that refuses on the spot gives a failed future."""
        try:
            return self.intake.submit(received)
        except IntakeUnavailable as error:
            failed: Future[Receipt] = Future()
            failed.set_exception(error)
            return failed

    async def committed(self, future: Future[Receipt]) -> Receipt:
        """Wait for the commit. IntakeUnavailable after ``commit_timeout_seconds``.

        The commit may still happen later; the sender's next attempt is then a duplicate.
        """
        try:
            async with asyncio.timeout(self.settings.commit_timeout_seconds):
                # Shielded: a future that is being committed must not be cancelled.
                return await asyncio.shield(asyncio.wrap_future(future))
        except TimeoutError:
            raise IntakeUnavailable("the commit took too long") from None
