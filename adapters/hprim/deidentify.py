"""HPRIM messages without what could name a person: only the names of segments stay."""

from __future__ import annotations

from adapters.hprim.charset import DEFAULT, Undecodable, choose, decode
from gateway.masking import NotDeidentifiable, masked
from gateway.model import Format


class HprimDeidentifier:
    """Everything but the first field of each line is masked."""

    format = Format.HPRIM
    suffix = "hpr"

    def deidentify(self, data: bytes, *, encoding: str, salt: bytes) -> bytes:  # noqa: ARG002
        """The message masked, in UTF-8."""
        try:
            text = decode(data, encoding or choose(data, DEFAULT))
        except Undecodable:
            raise NotDeidentifiable("its character set is not known") from None
        lines = []
        for line in text.replace("\r\n", "\r").replace("\n", "\r").split("\r"):
            name, separator, rest = line.partition("|")
            lines.append(f"{name if len(name) <= 3 else masked(name)}{separator}{masked(rest)}")
        return "\r".join(lines).encode()
