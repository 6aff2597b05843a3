"""What the answer of a storage SCP means for a delivery (PS3.4 table B.2-1, PS3.7 annex C). Pure.

=======================  ================================================================
0x0000, 0xB000, 0xB006,  the object is stored
0xB007; 0x0111           (0x0111: the peer has it already)
0xA7xx, 0x0213           Again: out of resources, which passes
0x0110                   Again: a processing failure
0x0124                   Wait: our access is wrong, not the object
0xA9xx, 0xCxxx, others   Refused: the object does not fit, or is not understood
=======================  ================================================================
"""

from __future__ import annotations

from datetime import timedelta

from adapters.dicom.sender import ACCEPTED
from gateway.model import Again, Cause, CauseCode, Delivered, Outcome, Refused, Wait

DUPLICATE = 0x0111
PROCESSING_FAILURE, NOT_AUTHORIZED, RESOURCE_LIMITATION = 0x0110, 0x0124, 0x0213
ACCESS_WAIT = timedelta(minutes=1)

_REFUSALS = {0xA9: "the data set does not match the SOP class", 0xC0: "it cannot understand it"}


def unknown(detail: str, code: str = "") -> Cause:
    """Nobody knows whether it arrived."""
    return Cause(code=CauseCode.OUTCOME_UNKNOWN, detail=detail, protocol_code=code)


def unavailable(detail: str, code: str = "") -> Cause:
    """The destination, or our way to it, does not work."""
    return Cause(code=CauseCode.DESTINATION_UNAVAILABLE, detail=detail, protocol_code=code)


def refused(detail: str, code: str = "") -> Cause:
    """The destination will never take an object as it is."""
    return Cause(code=CauseCode.DESTINATION_REFUSED, detail=detail, protocol_code=code)


def judged(status: int) -> Outcome:
    """The outcome of one C-STORE by its status."""
    code = f"0x{status:04X}"
    if status in ACCEPTED or status == DUPLICATE:
        return Delivered(evidence=code)
    if status >> 8 == 0xA7 or status == RESOURCE_LIMITATION:
        return Again(cause=unavailable("it is out of resources", code))
    if status == PROCESSING_FAILURE:
        return Again(cause=unavailable("its processing failed", code))
    if status == NOT_AUTHORIZED:
        return Wait(cause=unavailable("it does not let us store", code), after=ACCESS_WAIT)
    high = 0xC0 if status >> 12 == 0xC else status >> 8
    return Refused(cause=refused(_REFUSALS.get(high, "it refuses an object"), code))
