"""Keeping one mail: from its spool to the word on it, whichever way it came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.doors.reception import EVIDENCE_BYTES_MAX, Arrived, Contents, Verdict, verdict
from adapters.doors.spool import Spool
from adapters.mail.reception import MailReception
from gateway.model import Cause, CauseCode, Payload, Receipt
from gateway.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of a mail, after the commit of all of it."""

    contents: Contents
    receipts: Sequence[Receipt]

    @property
    def verdict(self) -> Verdict:
        """In numbers, attachments that are no documents left out: they are evidence, not faults."""
        both = zip(self.contents.received, self.receipts, strict=True)
        counted = [
            (received, receipt)
            for received, receipt in both
            if received.refusal is None or received.refusal.code is not CauseCode.UNSUPPORTED_TYPE
        ]
        if not counted:
            return verdict(self.contents, self.receipts)
        return verdict(Contents([one for one, _ in counted]), [other for _, other in counted])


async def keep(
    reception: MailReception,
    spool: Spool,
    clock: Clock,
    *,
    peer: str,
    sender: str = "",
    fault: Cause | None = None,
) -> Kept:
    """Hand a mail over and wait for the commit. The spool is discarded when nothing reads it.

    ``fault`` is why the transport refuses it; of one too large its beginning is kept. Raises
    IntakeUnavailable, OSError: it is then to come again.
    """
    try:
        payload, attributes = await asyncio.to_thread(_payload, spool, fault)
        if sender:
            attributes["mail_from"] = sender
        arrived = Arrived(
            payload=payload,
            received_at=clock.now(),
            peer=peer,
            attributes=attributes,
            fault=fault,
        )
        contents = await reception.open(arrived)
        futures = await reception.hand_over(contents)
    except BaseException:
        spool.discard()
        raise
    # The journal reads the spooled file until its commit, also when nobody waits any more.
    futures[-1].add_done_callback(lambda _: spool.discard())
    return Kept(contents=contents, receipts=await reception.receipts(futures))


def _payload(spool: Spool, fault: Cause | None) -> tuple[Payload, dict[str, str]]:
    if fault is None:
        return spool.payload(), {}
    beginning = spool.beginning(EVIDENCE_BYTES_MAX)
    spool.discard()
    return Payload.from_bytes(beginning), {"truncated": f"after {len(beginning)} bytes"}
