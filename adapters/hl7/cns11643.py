"""CNS 11643-1992, planes 1 and 2, as EUC-TW writes it (MSH-18 ``CNS 11643-1992``).

Python has Big5 but not CNS 11643. Both have the same characters in nearly the same
order: Big5's level 1 is plane 1, its level 2 is plane 2. The runs below say which
stretch of a plane is which stretch of Big5; what only CNS 11643 has stands in ``_OWN``
(compared character by character with the C library's EUC-TW: 13,517, no difference).
A code of a higher plane does not decode.
"""

from __future__ import annotations

import codecs
import re
from functools import cache

CODEC = "ecluse_euc_tw"
# First cell of the plane (row * 94 + column), first cell of Big5 (row * 157 + column), length.
# fmt: off
_PLANE_1 = (
    (0, 0, 5), (6, 6, 8), (15, 15, 6), (21, 23, 2), (24, 22, 1), (29, 29, 44), (73, 74, 1),
    (74, 73, 1), (75, 75, 22), (98, 98, 1), (100, 100, 27), (127, 128, 1), (128, 127, 1),
    (129, 129, 19), (148, 149, 1), (149, 148, 1), (150, 150, 4), (155, 21, 1), (156, 158, 2),
    (160, 160, 1), (162, 162, 1), (165, 165, 69), (282, 234, 29), (312, 264, 1), (314, 266, 142),
    (470, 6101, 20), (3290, 471, 1412), (4702, 1884, 424), (5126, 1883, 1), (5127, 2308, 1876),
    (7003, 4571, 1), (7004, 4184, 387), (7391, 4572, 525), (7916, 5286, 1), (7917, 5097, 105),
    (8023, 5203, 83), (8106, 5287, 84), (8190, 5517, 1), (8191, 5371, 54), (8245, 5426, 1),
    (8246, 5425, 1), (8247, 5427, 90), (8337, 5518, 354),
)
_PLANE_2 = (
    (0, 6280, 10), (10, 6291, 33), (43, 6372, 1), (44, 6324, 48), (92, 6373, 46), (138, 6586, 1),
    (139, 6419, 167), (306, 6587, 1840), (2146, 9074, 1), (2147, 8428, 108), (2255, 8537, 537),
    (2792, 8427, 1), (2793, 9075, 100), (2893, 8536, 1), (2894, 9175, 399), (3293, 9575, 1637),
    (4930, 11761, 1), (4931, 11212, 146), (5077, 11899, 1), (5078, 11358, 287), (5365, 12508, 1),
    (5366, 11645, 116), (5482, 11762, 137), (5619, 11900, 104), (5723, 12425, 1),
    (5724, 12004, 222), (5946, 12227, 198), (6144, 12426, 82), (6226, 12509, 86),
    (6312, 12226, 1), (6313, 12595, 8), (6321, 12604, 153), (6474, 12758, 56), (6530, 13114, 1),
    (6531, 12814, 113), (6644, 12603, 1), (6645, 12927, 142), (6787, 12757, 1), (6788, 13069, 45),
    (6833, 13115, 71), (6904, 13380, 1), (6905, 13186, 194), (7099, 13381, 490), (7589, 13914, 1),
    (7590, 13871, 43), (7633, 13915, 1), (7634, 13917, 11), (7645, 13916, 1), (7646, 13928, 4),
)
_OWN = {
    5: '\u30fb',
    14: '\ufe51',
    23: '\ufe32',
    154: '\u2016',
    158: '\u2215\ufe68',
    161: '\uffe5',
    163: '\uffe0\uffe1',
    490: '\u2170\u2171\u2172\u2173\u2174\u2175\u2176\u2177\u2178\u2179',
    571: '\u4ea0',
    578: '\u51ab',
    583: '\u52f9',
    3102: "".join(map(chr, range(0x2400, 0x2420))) + "\u2421",
    8022: '\u5f5e',
}
# fmt: on
_TOKEN = re.compile(rb"[\x00-\x7f]+|\x8e[\xa1\xa2][\xa1-\xfe]{2}|[\xa1-\xfe]{2}")
_HIGH = bytes(range(0x80, 0x100))


def _big5(cell: int) -> str:
    row, column = divmod(cell, 157)
    trail = column + 0x40 if column < 63 else column - 63 + 0xA1
    return bytes((row + 0xA1, trail)).decode("big5")


@cache
def _characters() -> dict[bytes, str]:
    """EUC-TW bytes of each character of the two planes."""
    found: dict[bytes, str] = {}
    for lead, plane in ((b"", _PLANE_1), (b"\x8e\xa2", _PLANE_2)):
        for first, big5, length in plane:
            for step in range(length):
                found[lead + _cell(first + step)] = _big5(big5 + step)
    for first, characters in _OWN.items():
        for step, character in enumerate(characters):
            found[_cell(first + step)] = character
    return found


@cache
def _bytes() -> dict[str, bytes]:
    return {character: data for data, character in reversed(_characters().items())}


def _cell(number: int) -> bytes:
    row, column = divmod(number, 94)
    return bytes((row + 0xA1, column + 0xA1))


def decode(data: bytes, errors: str = "strict") -> tuple[str, int]:
    """Text of EUC-TW bytes, and how many bytes were read: all of them."""
    characters = _characters()
    data = bytes(data)
    out: list[str] = []
    position = 0
    while position < len(data):
        token = _TOKEN.match(data, position)
        piece = token[0] if token else b""
        if piece and piece[0] < 0x80:
            out.append(piece.decode("ascii"))
        else:
            plain = piece[2:] if piece[:2] == b"\x8e\xa1" else piece  # plane 1 said in full
            character = characters.get(plain)
            if character is None:
                fault = UnicodeDecodeError(CODEC, data, position, position + 1, "not CNS 11643")
                replacement, position = codecs.lookup_error(errors)(fault)
                out.append(str(replacement))
                continue
            out.append(character)
        position += len(piece)
    return "".join(out), len(data)


def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    """EUC-TW bytes of a text, and how many characters were written: all of them."""
    known = _bytes()
    out = bytearray()
    position = 0
    while position < len(text):
        character = text[position]
        data = character.encode() if character < "\x80" else known.get(character)
        if data is None:
            fault = UnicodeEncodeError(CODEC, text, position, position + 1, "not CNS 11643")
            replacement, position = codecs.lookup_error(errors)(fault)
            out += replacement if isinstance(replacement, bytes) else encode(replacement)[0]
            continue
        out += data
        position += 1
    return bytes(out), len(text)


class _Characters(codecs.BufferedIncrementalDecoder):
    """Keeps back what follows the last ASCII byte: it may end within a character."""

    def _buffer_decode(self, data: bytes, errors: str, final: bool) -> tuple[str, int]:  # type: ignore[override]
        return decode(data if final else data[: len(data.rstrip(_HIGH))], errors)


def _codec(name: str) -> codecs.CodecInfo | None:
    if name != CODEC:
        return None
    return codecs.CodecInfo(
        name="euc-tw",
        encode=encode,
        decode=decode,  # type: ignore[arg-type]
        incrementaldecoder=_Characters,
    )


codecs.register(_codec)
