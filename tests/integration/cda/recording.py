"""An intake that keeps what it is given in memory and answers from another thread."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.model import Cause, Disposition, Receipt, Received
from gateway.ports import IntakeUnavailable


class FixedClock:
    """Always the same instant."""

    def now(self) -> datetime:
        return datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class RecordingIntake:
    """Keeps bytes and facts; the same accepted bytes again are a duplicate.

    ``permission`` refuses every document with its cause; ``available`` False keeps
    nothing; ``committing`` cleared holds every commit back until it is set.
    """

    permission: Cause | None = None
    available: bool = True
    committing: threading.Event = field(default_factory=threading.Event)
    kept: list[tuple[Received, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.committing.set()
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}
        self._pool = ThreadPoolExecutor(max_workers=1)

    def submit(self, received: Received) -> Future[Receipt]:
        return self._pool.submit(self._commit, received)

    def _commit(self, received: Received) -> Receipt:
        self.committing.wait(timeout=30)
        if not self.available:
            raise IntakeUnavailable("test")
        data = received.payload.read()
        with self._lock:
            known = self._known.get(received.payload.sha256)
            if known is not None and received.refusal is None:
                return Receipt(message_id=known, disposition=Disposition.DUPLICATE)
            self.kept.append((received, data))
            number = len(self.kept)
            cause = received.refusal or self.permission
            if cause is not None:
                return Receipt(message_id=number, disposition=Disposition.REFUSED, cause=cause)
            self._known[received.payload.sha256] = number
            return Receipt(message_id=number, disposition=Disposition.ACCEPTED)

    def accepted(self) -> list[bytes]:
        """The bytes of what was accepted, in order."""
        with self._lock:
            return [data for received, data in self.kept if received.refusal is None]

    def last(self) -> tuple[Received, bytes]:
        """What was kept last."""
        with self._lock:
            return self.kept[-1]
