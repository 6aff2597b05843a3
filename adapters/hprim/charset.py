"""The character set of a file, which HPRIM does not declare.

A source says in which order to try. Decoding is strict: the first character set in which
every byte is a printable character or a line end, tabulator or form feed is the one; when
there is none, the file is refused with the offset of the byte at which the best of them
failed. ISO 8859-1 gives a character to every byte, so it counts as wrong where it gives a
control character, and ``cp850`` fits nearly everything: it is not in the default list.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import Literal

Name = Literal["utf-8", "windows-1252", "iso-8859-1", "iso-8859-15", "cp850", "cp437", "mac-roman"]
"""The character sets that are read."""

DEFAULT: tuple[Name, ...] = ("utf-8", "windows-1252")

_CODECS = {
    "utf-8": "utf-8",
    "windows-1252": "cp1252",
    "iso-8859-1": "latin-1",
    "iso-8859-15": "iso8859-15",
    "cp850": "cp850",
    "cp437": "cp437",
    "mac-roman": "mac-roman",
}
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_END_OF_FILE = b"\x1a"
"""What DOS programs write behind the last line of a text file."""


class Undecodable(Exception):
    """No character set of the list fits; ``offset`` is the byte that fits none of them."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the byte at offset {offset} is in none of the character sets taken")
        self.offset = offset


def choose(data: bytes, names: Sequence[str]) -> str:
    """The first of ``names`` in which ``data`` is text. Raises Undecodable."""
    data = data.rstrip(_END_OF_FILE)
    furthest = 0
    for name in names:
        offset = _first_wrong(data, _CODECS[name])
        if offset is None:
            return name
        furthest = max(furthest, offset)
    raise Undecodable(furthest)


def decode(data: bytes, name: str) -> str:
    """The text, without a byte order mark. Raises Undecodable, for an unknown name too."""
    data = data.rstrip(_END_OF_FILE)
    codec = _CODECS.get(name)
    if codec is None:
        raise Undecodable(0)
    offset = _first_wrong(data, codec)
    if offset is not None:
        raise Undecodable(offset)
    return data.decode(codec).removeprefix("\ufeff")


def _first_wrong(data: bytes, codec: str) -> int | None:
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        wrong = error.start
        text = data[:wrong].decode(codec)
    else:
        wrong = -1
    control = _CONTROL.search(text)
    if control is not None:
        return len(codecs.encode(text[: control.start()], codec))
    return wrong if wrong >= 0 else None
