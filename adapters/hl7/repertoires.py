"""The sets that ISO 2022 and HL7 escape sequences switch to (ISO-IR register; HL7 v2.3, 2.9.2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repertoire:
    """A set that can be switched to: ``width`` bytes a character, each 21 to 7E.

    ``upper`` sets are written with the high bit on and leave the lower half as it is.
    """

    width: int
    codec: str
    lead: bytes = b""
    upper: bool = False

    def decode(self, data: bytes) -> str:
        """The text of whole characters; raises UnicodeDecodeError."""
        if self.codec == "":
            return data.decode("ascii")
        if data and min(data) < 0x20:  # 80 to 9F are no printable characters
            raise UnicodeDecodeError(self.codec, data, data.index(min(data)), len(data), "control")
        raised = bytes(byte | 0x80 for byte in data)
        if self.lead:
            pieces = (raised[at : at + self.width] for at in range(0, len(raised), self.width))
            raised = b"".join(self.lead + piece for piece in pieces)
        return raised.decode(self.codec)

    def encode(self, character: str) -> bytes | None:
        """The bytes (21 to 7E) of one character, or None."""
        try:
            raised = character.encode(self.codec or "ascii")
        except UnicodeEncodeError:
            return None
        if self.codec and min(raised) < 0x80:
            return None
        data = bytes(byte & 0x7F for byte in raised.removeprefix(self.lead))
        same = len(data) == self.width and len(raised) == self.width + len(self.lead)
        return data if same and data >= (b" " if self.upper else b"!") else None


class _Romaji(Repertoire):
    """ISO-IR 14: ASCII but for the yen sign and the overline."""

    __slots__ = ()

    def decode(self, data: bytes) -> str:
        return data.decode("ascii").replace("\\", "\u00a5").replace("~", "\u203e")

    def encode(self, character: str) -> bytes | None:
        special = {"\u00a5": b"\\", "\u203e": b"~"}.get(character)
        if special is not None:
            return special
        return character.encode() if "!" <= character <= "}" and character != "\\" else None


ASCII = Repertoire(1, "")
_LATIN = {  # the final byte of ESC - F and the part of ISO 8859 (ISO-IR 100, 101, …)
    b"A": 1, b"B": 2, b"C": 3, b"D": 4, b"L": 5, b"G": 6, b"F": 7, b"H": 8, b"M": 9,
    b"V": 10, b"T": 11, b"Y": 13, b"_": 14, b"b": 15,
}  # fmt: skip
REPERTOIRES: dict[bytes, Repertoire] = {
    b"(B": ASCII,
    b"(J": _Romaji(1, ""),
    b"(I": Repertoire(1, "shift_jis"),
    b")I": Repertoire(1, "shift_jis", upper=True),
    b"$@": Repertoire(2, "euc_jp"),
    b"$B": Repertoire(2, "euc_jp"),
    b"$(D": Repertoire(2, "euc_jp", b"\x8f"),
    b"$(C": Repertoire(2, "euc_kr"),
    b"$)C": Repertoire(2, "euc_kr", upper=True),
    b"$A": Repertoire(2, "gb2312"),
    b"$)A": Repertoire(2, "gb2312", upper=True),
    **{b"-" + final: Repertoire(1, f"iso8859-{n}", upper=True) for final, n in _LATIN.items()},
}
"""What an ISO 2022 sequence (without ESC) switches to."""

WRITTEN_IN = (b"$B", b"(J", b")I", b"$(D", b"$)C", b"$)A", b"-A", b"-b", b"-F", b"-L", b"-H")
"""In what order an encoder looks for a character that the default set does not have."""


def designation(sequence: str) -> bytes | None:
    r"""The ISO 2022 sequence that an HL7 one (``C2D41``, without ``\``) names, if we know it."""
    if sequence[:1] not in {"C", "M"} or len(sequence) not in {5, 7}:
        return None
    try:
        named = bytes.fromhex(sequence[1:])
    except ValueError:
        return None
    return named if named in REPERTOIRES else None
