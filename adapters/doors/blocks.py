"""Small blocks of a body, held until they are worth a write."""

from __future__ import annotations

SMALL_BYTES = 4_096
"""Blocks that are no longer are put together at once: of a sender that pays out two bytes at a
time, what Python needs to hold each pair would be twenty times the bytes."""


class Blocks:
    """Blocks on their way, to be taken together once they are ``enough`` bytes.

    They are joined only then: added to one another, each byte would be copied twice. Who takes
    them as soon as they are enough holds less than that and one block.
    """

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self._blocks: list[bytes | bytearray] = []
        self.size = 0

    @property
    def enough(self) -> bool:
        """Whether they are worth a write by now."""
        return self.size >= self._enough

    def add(self, block: bytes) -> None:
        """Hold a block."""
        self.size += len(block)
        if len(block) > SMALL_BYTES:
            self._blocks.append(block)
        elif self._blocks and isinstance(last := self._blocks[-1], bytearray):
            last += block
        else:
            self._blocks.append(bytearray(block))

    def take(self) -> bytes:
        """All that is held, in its order; afterwards nothing is."""
        held, self._blocks, self.size = self._blocks, [], 0
        return b"".join(held)
