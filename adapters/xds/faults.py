"""What is no valid SOAP, said as SOAP says it.

SOAP 1.2 Part 1 section 5.4 (faults), Part 2 table 20 (their HTTP status); WS-Addressing 1.0 SOAP
Binding section 6.4 (predefined faults).
"""

from __future__ import annotations

from gateway.model import Cause, CauseCode


class SoapFault(Exception):
    """The message is not processed. ``code`` is a SOAP fault code, ``subcode`` a QName with the
    prefix ``wsa`` or empty, ``reason`` a sentence without a value of the message. ``status`` is
    the HTTP status; ``not_understood`` names a header block, as namespace and local name."""

    def __init__(
        self,
        reason: str,
        *,
        code: str = "Sender",
        subcode: str = "",
        status: int = 0,
        cause: CauseCode = CauseCode.NOT_THE_FORMAT,
        location: str = "",
        not_understood: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.subcode = subcode
        self.status = status or (400 if code == "Sender" else 500)
        self.not_understood = not_understood
        self.relates_to = ""
        self.soap_1_1 = False
        self.cause = Cause(
            code=cause, detail=reason, location=location, protocol_code=subcode or code
        )


def too_large(what: str, bytes_max: int) -> SoapFault:
    """Beyond a limit of bytes."""
    return SoapFault(
        f"{what} is larger than {bytes_max} bytes", status=413, cause=CauseCode.FRAME_OVERSIZED
    )


def hostile(reason: str, location: str = "") -> SoapFault:
    """Nothing that a well-meaning sender makes."""
    return SoapFault(reason, cause=CauseCode.HOSTILE_CONTENT, location=location)
