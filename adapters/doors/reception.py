"""From the bytes of a file or body to the messages in it, their commits and the last word."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from adapters.doors.settings import DoorSettings
from gateway.model import Cause, CauseCode, Disposition, Format, Payload, Receipt, Received
from gateway.ports import Intake, IntakeUnavailable

log = logging.getLogger("ecluse.doors")

EVIDENCE_BYTES_MAX = 1 << 20
"""How much is kept of what is too large."""

IN_FLIGHT_MAX = 256
"""Messages of one file that await their commit at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """The bytes of one file or body, and what is known of how they came.

    ``encoding`` is the character set that the transport names. ``fault`` is why the
    transport itself refuses them (too large, cut): the payload is then the evidence
    that is kept of them.
    """

    payload: Payload
    received_at: datetime
    peer: str = ""
    encoding: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    fault: Cause | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file or body holds: messages in the order in which they go in.

    One that the protocol refuses is in it with its refusal, as evidence. A file may be
    right and hold no message (an empty batch).
    """

    received: Sequence[Received]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a file. ``cause`` and ``message_id`` are those of its first refused
    message, and without one ``message_id`` is its first message's (0 in an empty file)."""

    accepted: int
    refused: int
    message_id: int
    cause: Cause | None = None

    @property
    def rejected(self) -> bool:
        """Whether nothing of the file goes on, and something should have."""
        return self.accepted == 0 and self.refused > 0


def verdict(contents: Contents, receipts: Sequence[Receipt]) -> Verdict:
    """What became of the messages of a file, one receipt for each."""
    refusals = [
        (receipt.message_id, received.refusal or receipt.cause or Cause(code=CauseCode.INTERNAL))
        for received, receipt in zip(contents.received, receipts, strict=True)
        if received.refusal is not None or receipt.disposition is Disposition.REFUSED
    ]
    first, cause = refusals[0] if refusals else (receipts[0].message_id if receipts else 0, None)
    return Verdict(
        accepted=len(receipts) - len(refusals),
        refused=len(refusals),
        message_id=first,
        cause=cause,
    )


class Reception(ABC):
    """One source's way from bytes to receipts, with its limits. Belongs to one event loop.

    A format implements :meth:`open` and, where its protocol has an answer in bytes,
    :meth:`answer`. ``phrases`` says in French what a cause means for a file of this format.
    """

    format: Format
    phrases: ClassVar[Mapping[CauseCode, str]] = {}

    def __init__(self, settings: DoorSettings, intake: Intake, *, bytes_max: int) -> None:
        self.name = settings.name
        self.intake = intake
        self.bytes_max = bytes_max
        self._commit_timeout_seconds = settings.commit_timeout_seconds

    @abstractmethod
    async def open(self, arrived: Arrived) -> Contents:
        """Find the messages; a refusal is in ``Received.refusal``. Raises nothing.

        The payload may be larger than ``bytes_max`` only when ``arrived.fault`` is set.
        """

    def answer(
        self,
        contents: Contents,  # noqa: ARG002 - for the formats that answer in bytes
        receipts: Sequence[Receipt],  # noqa: ARG002
    ) -> bytes:
        """What the protocol answers, in its own bytes; empty when it has no such answer."""
        return b""

    def explain(
        self,
        contents: Contents,  # noqa: ARG002 - for the formats whose refusals have reasons
        outcome: Verdict,  # noqa: ARG002
    ) -> Sequence[str]:
        """Reasons for a refusal, a line each, for the sender: they may repeat its own values."""
        return ()

    def refused(self, arrived: Arrived, cause: Cause) -> Received:
        """Bytes that are kept as evidence of a refusal and go no further."""
        return Received(
            source=self.name,
            format=self.format,
            payload=arrived.payload,
            received_at=arrived.received_at,
            peer=arrived.peer,
            encoding=arrived.encoding,
            refusal=cause,
            attributes=arrived.attributes,
        )

    def oversized(self) -> Cause:
        """The cause of what is larger than ``bytes_max``."""
        return Cause(
            code=CauseCode.FRAME_OVERSIZED, detail=f"at most {self.bytes_max} bytes are taken"
        )

    async def hand_over(self, contents: Contents) -> list[Future[Receipt]]:
        """Submit the messages in their order, not more than ``IN_FLIGHT_MAX`` ahead of the
        commits. IntakeUnavailable when one was not kept: those behind it were then not
        handed over, and the whole may be sent again."""
        futures: list[Future[Receipt]] = []
        for number, received in enumerate(contents.received):
            if number >= IN_FLIGHT_MAX:
                await self.committed(futures[number - IN_FLIGHT_MAX])
            futures.append(self.submit(received))
        return futures

    async def receipts(self, futures: Sequence[Future[Receipt]]) -> list[Receipt]:
        """Wait for the commits of a file's messages. Raises IntakeUnavailable."""
        return [await self.committed(future) for future in futures]

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
            if future.done():
                return future.result()
            async with asyncio.timeout(self._commit_timeout_seconds):
                # Shielded: a future that is being committed must not be cancelled.
                return await asyncio.shield(asyncio.wrap_future(future))
        except IntakeUnavailable:
            raise
        except TimeoutError:
            raise IntakeUnavailable("the commit took too long") from None
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is known to be kept
            # The type only: a message's content may stand in an exception's text.
            kind = type(error).__name__
            log.error("intake failed with %s at source %s", kind, self.name)  # noqa: TRY400
            raise IntakeUnavailable("the intake failed") from None
