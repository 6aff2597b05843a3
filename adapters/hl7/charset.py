"""Character sets of HL7 table 0211, as MSH-18 names them and as senders misname them.

Decoding is strict: a byte that does not decode refuses the message and says at
which offset it stands; no character is ever replaced. Every character set here
keeps the bytes 00-7F as ASCII, so that delimiters and segment names are found
before the character set is known.

Sources: HL7 v2.9.1 chapter 2, MSH-18 and table 0211 (empty means ASCII, the first
repetition is the default of the whole message).
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from functools import lru_cache

BYTE_ORDER_MARK = codecs.BOM_UTF8
_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Charset:
    """One character set: ``name`` as an answer writes it in MSH-18, ``codec`` in Python."""

    name: str
    codec: str


class Undecodable(Exception):
    """A message whose bytes are not in the character set that it (or its source) declares.

    ``offset`` is the position of the first wrong byte, or -1 when the character
    set itself is not one that we read (``charset_known`` is then false).
    """

    def __init__(self, message: str, offset: int, *, charset_known: bool = True) -> None:
        super().__init__(message)
        self.offset = offset
        self.charset_known = charset_known


ASCII = Charset("ASCII", "ascii")
UTF_8 = Charset("UNICODE UTF-8", "utf-8")
_ISO_8859 = {part: Charset(f"8859/{part}", f"iso8859-{part}") for part in (*range(2, 10), 15)}
_ISO_8859[1] = Charset("8859/1", "latin-1")
_WINDOWS_1252 = Charset("WINDOWS-1252", "cp1252")

_BY_COMPACT_NAME = {
    "ASCII": ASCII,
    "USASCII": ASCII,
    "ISOIR6": ASCII,
    "UTF8": UTF_8,
    "UNICODE": UTF_8,
    "UNICODEUTF8": UTF_8,
    "WINDOWS1252": _WINDOWS_1252,
    "CP1252": _WINDOWS_1252,
    "LATIN1": _ISO_8859[1],
    "LATIN9": _ISO_8859[15],
    "ISOIR100": _ISO_8859[1],
    **{f"8859{part}": charset for part, charset in _ISO_8859.items()},
    **{f"ISO8859{part}": charset for part, charset in _ISO_8859.items()},
}
_NOT_SIGNIFICANT = re.compile(r"[\s_/.:-]+")


@lru_cache(maxsize=256)
def charset_named(name: str) -> Charset | None:
    """The character set of that name, or None when we do not read it.

    Case, spaces, hyphens, underscores and slashes do not count, so that
    ``UNICODE UTF-8``, ``UTF8``, ``8859/1``, ``ISO-8859-1`` and ``iso 8859/1`` are found.
    ``UNICODE`` alone is UTF-8, as HAPI and dcm4che read it.
    """
    return _BY_COMPACT_NAME.get(_NOT_SIGNIFICANT.sub("", name).upper())


def choose(payload: bytes, declared: str, default: str) -> Charset:
    """The character set in which ``payload`` is to be read.

    ``declared`` is the first repetition of MSH-18; ``default`` is the source's
    setting for messages that declare nothing, empty when the standard's ASCII is
    meant. A payload of ASCII bytes is ASCII whatever is declared. Raises
    Undecodable when the declared name is not one that we read.
    """
    declared = declared.strip()
    # An escape byte may switch character sets (ISO 2022), so it is not plain ASCII.
    if payload.isascii() and b"\x1b" not in payload:
        return ASCII
    if not declared and payload.startswith(BYTE_ORDER_MARK):
        return UTF_8
    name = declared or default or ASCII.name
    charset = charset_named(name)
    if charset is None:
        raise Undecodable("MSH-18 names an unsupported character set", -1, charset_known=False)
    return charset


def first_undecodable(payload: bytes, charset: Charset, start: int = 0) -> int | None:
    """Offset of the first byte from ``start`` on that is not of ``charset``, or None.

    Constant memory. A NUL counts as wrong in every character set: MLLP carries
    printable characters only, and no store of text keeps a NUL.
    """
    nul = payload.find(0)
    if charset is ASCII and payload.isascii():
        return nul if nul >= 0 else None
    end = nul if nul >= 0 else len(payload)
    if end <= _BLOCK_BYTES:
        whole = start == 0 and nul < 0
        try:
            (payload if whole else payload[start:end]).decode(charset.codec)
        except UnicodeDecodeError as error:
            return start + error.start
        return nul if nul >= 0 else None
    view = memoryview(payload)
    decoder = codecs.getincrementaldecoder(charset.codec)(errors="strict")
    for position in range(start, end, _BLOCK_BYTES):
        held = len(decoder.getstate()[0])
        upto = min(position + _BLOCK_BYTES, end)
        try:
            decoder.decode(view[position:upto], final=upto >= end)
        except UnicodeDecodeError as error:
            return position - held + error.start
    return nul if nul >= 0 else None


def decode(payload: bytes, charset: Charset, start: int = 0) -> str:
    """The text of ``payload`` from byte ``start`` on.

    Raises Undecodable with the offset (in ``payload``) of the first wrong byte.
    """
    offset = -1
    text = ""
    try:
        text = (payload[start:] if start else payload).decode(charset.codec)
    except UnicodeDecodeError as error:
        offset = error.start
    else:
        if "\0" in text:
            offset = len(text[: text.index("\0")].encode(charset.codec))
    if offset < 0:
        return text
    # Raised outside the handler: the decoder's own error holds the patient's bytes.
    offset += start
    raise Undecodable(f"the byte at offset {offset} is not {charset.name}", offset)
