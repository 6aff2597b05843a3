"""What waits on a connection for intake's word and for its turn to be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters.hl7.batches import BatchArrival
from adapters.hl7.reception import Arrival
from gateway.model import CauseCode
from gateway.ports import Word

if TYPE_CHECKING:
    from adapters.hl7.connection import Connection

_NOT_WHOLE = frozenset({CauseCode.FRAME_OVERSIZED, CauseCode.FRAME_TRUNCATED})


class Exchange:
    """A message handed to intake, with the bytes that it holds in memory."""

    __slots__ = ("arrival", "connection", "size", "word")

    def __init__(self, connection: Connection, arrival: Arrival, size: int) -> None:
        self.connection = connection
        self.arrival = arrival
        self.size = size
        self.word: Word | None = None

    @property
    def settled(self) -> bool:
        """Has intake given its word?"""
        return self.word is not None

    @property
    def kept(self) -> bool:
        """Are the exact bytes in safe storage? Asked once there is a word."""
        refusal = self.arrival.received.refusal
        whole = refusal is None or refusal.code not in _NOT_WHOLE
        return whole and not isinstance(self.word, Exception)


class BatchExchange:
    """A batch of messages, answered together when intake has given its word on each."""

    __slots__ = ("arrived", "connection", "parts", "size")

    def __init__(self, connection: Connection, arrived: BatchArrival, size: int) -> None:
        self.connection = connection
        self.arrived = arrived
        self.size = size
        self.parts = [Exchange(connection, each, 0) for each in arrived.handed]

    @property
    def settled(self) -> bool:
        """Has intake given its word on all?"""
        return all(part.word is not None for part in self.parts)

    @property
    def words(self) -> list[Word]:
        """Intake's word on each part, once there is one on all."""
        return [part.word for part in self.parts if part.word is not None]

    @property
    def kept(self) -> bool:
        """Are the exact bytes of all its messages in safe storage?"""
        return all(part.kept for part in self.parts)
