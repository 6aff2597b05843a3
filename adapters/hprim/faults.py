"""What is wrong with a file, with the cause under which it is refused."""

from __future__ import annotations

from adapters.hprim.charset import Undecodable, decode
from gateway.model import CauseCode
from gateway.ports import Unreadable


class NotReadable(Unreadable):
    """A file or message that is refused. No patient value in the text.

    ``location`` is a segment and field (``H-12``) or ``line 7``.
    """

    def __init__(self, code: CauseCode, message: str, location: str = "") -> None:
        super().__init__(message, location)
        self.code = code


def text_of(content: bytes, encoding: str) -> str:
    """The decoded text of a message. Raises NotReadable with the offset of a wrong byte."""
    offset = -1
    try:
        return decode(content, encoding)
    except Undecodable as wrong:
        offset = wrong.offset
    # Raised outside the handler: what it handled may hold the patient's bytes.
    raise undecodable(offset)


def undecodable(offset: int) -> NotReadable:
    """The refusal of bytes that are no text in any character set that is taken."""
    return NotReadable(
        CauseCode.CHARACTER_SET,
        f"the byte at offset {offset} is in none of the character sets that the source takes",
        f"byte {offset}",
    )
