"""What is kept of a refused request as evidence."""

from __future__ import annotations

from adapters.doors.reception import EVIDENCE_BYTES_MAX
from adapters.xds.incoming import Incoming
from gateway.model import Cause, CauseCode, Payload


def pieces(incoming: Incoming, cause: Cause) -> list[tuple[str, Payload]]:
    """The parts as far as they came. Of a request that is too large, or whose parts could not be
    told, only the beginning: 1 MiB of all of it."""
    envelope = incoming.envelope()
    if envelope is None:
        head = incoming.head()
        return [("beginning", Payload.from_bytes(head))] if head else []
    found = [("envelope", envelope)]
    found += [
        (f"document {number}", spool.payload())
        for number, spool in enumerate(incoming.parts.values(), 1)
    ]
    if cause.code not in (CauseCode.FRAME_OVERSIZED, CauseCode.FRAME_TRUNCATED):
        return found
    left, cut = EVIDENCE_BYTES_MAX, []
    for name, payload in found:
        with payload.open() as stream:
            beginning = stream.read(left)
        left -= len(beginning)
        if beginning:
            cut.append((name, Payload.from_bytes(beginning)))
    return cut
