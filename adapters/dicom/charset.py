"""Text of a data set to Unicode, strictly (PS3.5 6.1, PS3.3 C.12.1.1.2).

What the declared Specific Character Set cannot decode is decoded as UTF-8 or
else Windows-1252 and the fallback is said: undeclared Latin-1 and UTF-8 are what
sites really send. Nothing is replaced by U+FFFD; the raw bytes stay reachable.
"""

from __future__ import annotations

import re
from typing import NamedTuple

DEFAULT = ("",)
"""No Specific Character Set: the default repertoire, ISO-IR 6."""

_SINGLE = {
    "6": "ascii",
    "13": "shift_jis",  # JIS X 0201; the two-byte part of Shift JIS is refused below
    "100": "iso8859_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "126": "iso8859_7",
    "127": "iso8859_6",
    "138": "iso8859_8",
    "144": "iso8859_5",
    "148": "iso8859_9",
    "166": "iso8859_11",
    "203": "iso8859_15",
}
_ALONE = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}

# The escape sequences of PS3.3 tables C.12-3 and C.12-4: code element and codec.
_ESCAPES = {
    b"\x1b(B": ("G0", "ascii"),
    b"\x1b(J": ("G0", "ascii"),
    b"\x1b$B": ("G0", "iso2022_jp"),
    b"\x1b$(D": ("G0", "iso2022_jp_2"),
    b"\x1b-A": ("G1", "iso8859_1"),
    b"\x1b-B": ("G1", "iso8859_2"),
    b"\x1b-C": ("G1", "iso8859_3"),
    b"\x1b-D": ("G1", "iso8859_4"),
    b"\x1b-F": ("G1", "iso8859_7"),
    b"\x1b-G": ("G1", "iso8859_6"),
    b"\x1b-H": ("G1", "iso8859_8"),
    b"\x1b-L": ("G1", "iso8859_5"),
    b"\x1b-M": ("G1", "iso8859_9"),
    b"\x1b-T": ("G1", "iso8859_11"),
    b"\x1b-b": ("G1", "iso8859_15"),
    b"\x1b)I": ("G1", "shift_jis"),
    b"\x1b$)C": ("G1", "euc_kr"),
    b"\x1b$)A": ("G1", "gb2312"),
}
_ESCAPE = re.compile(rb"\x1b(?:\$[()][A-Z]|\$[A-Z]|[()-][A-Za-z])")

_TERM = re.compile(r"(?:ISO_IR |ISO 2022 IR )\d{1,3}|GB18030|GBK|")


class Decoded(NamedTuple):
    """Text, and the codec that was used instead of the declared one (empty when none was)."""

    text: str
    fallback: str


def character_sets(value: bytes | None) -> tuple[str, ...]:
    """The defined terms of a raw Specific Character Set (0008,0005) value."""
    if value is None:
        return DEFAULT
    terms = tuple(term.strip(" \0") for term in value.decode("ascii", "replace").split("\\"))
    return terms if any(terms) else DEFAULT


def declared(sets: tuple[str, ...]) -> str:
    """The declared sets for a person; a term that the standard does not know is not repeated."""
    if sets == DEFAULT:
        return "the default character set"
    return "\\".join(term if _TERM.fullmatch(term) else "unknown" for term in sets)


def decode(raw: bytes, sets: tuple[str, ...], *, delimiters: bytes = b"\r\n\f\t\\") -> Decoded:
    """Decode a value under the declared sets; fall back and say so when they do not fit.

    ``delimiters`` are the bytes at which a code extension ends (PS3.5 6.1.2.5.3): for
    PN also ``^`` and ``=``.
    """
    if raw.isascii() and b"\x1b" not in raw and sets[0] not in ("ISO_IR 13", "ISO 2022 IR 13"):
        return Decoded(raw.decode("ascii"), "")
    try:
        return Decoded(_strict(raw, sets, delimiters), "")
    except (UnicodeDecodeError, LookupError):
        pass
    try:
        return Decoded(raw.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    # Five bytes have no meaning in Windows-1252; Latin-1 gives each byte one.
    try:
        return Decoded(raw.decode("windows-1252"), "windows-1252")
    except UnicodeDecodeError:
        return Decoded(raw.decode("iso8859_1"), "iso8859-1")


def _codec(term: str) -> str:
    """The codec of a defined term. Raises LookupError for one the standard does not define."""
    if term in _ALONE:
        return _ALONE[term]
    if term == "":
        return "ascii"
    for prefix in ("ISO_IR ", "ISO 2022 IR "):
        if term.startswith(prefix):
            number = term.removeprefix(prefix)
            if number in ("87", "149", "159", "58"):
                # A multi-byte set as the first value: reached by its escape sequence only.
                return "ascii"
            return _SINGLE[number]
    raise LookupError(term)


def _strict(raw: bytes, sets: tuple[str, ...], delimiters: bytes) -> str:
    first = _codec(sets[0])
    if b"\x1b" not in raw or sets[0] in _ALONE:
        return _single(raw, first)
    pieces: list[str] = []
    two_byte, codec, position = b"", first, 0
    for found in (*_ESCAPE.finditer(raw), None):
        piece = raw[position : found.start() if found else len(raw)]
        if two_byte:
            # In a two-byte set every byte pair is a character, also those that hold a delimiter.
            pieces.append((two_byte + piece).decode(_ESCAPES[two_byte][1]))
        else:
            text, codec = _one_byte(piece, codec, first, delimiters)
            pieces.append(text)
        if found:
            element, named = _ESCAPES[found.group()]
            if element == "G1":
                codec = named
            else:
                two_byte = b"" if named == "ascii" else found.group()
            position = found.end()
    return "".join(pieces)


def _one_byte(piece: bytes, codec: str, first: str, delimiters: bytes) -> tuple[str, str]:
    """Text up to the next escape, and the set that holds there: a delimiter brings the first."""
    for index, byte in enumerate(piece):
        if byte in delimiters:
            return _single(piece[:index], codec) + _single(piece[index:], first), first
    return _single(piece, codec), codec


def _single(raw: bytes, codec: str) -> str:
    text = raw.decode(codec)
    if codec == "shift_jis" and len(text) != len(raw):
        raise UnicodeDecodeError(codec, raw, 0, len(raw), "more than one byte per character")
    return text


def encoding_named(term: str) -> str | None:
    """Python's codec of a defined term without code extensions (PS3.3 C.12.1.1.2); None for
    another one. An empty term is the default repertoire."""
    if term in _ALONE:
        return _ALONE[term]
    return "ascii" if not term else _SINGLE.get(term.removeprefix("ISO_IR "))
