"""MLLP release 2: every block of content is answered by a commit acknowledgement.

A commit acknowledgement is a block of one byte: ``<0B> 06 <1C><0D>`` when the content
is in safe storage, ``<0B> 15 <1C><0D>`` when it is not. It is sent before anything
else, and no further content may follow until it came (HL7 v3 transport
specification MLLP, release 2). The acknowledgement of HL7 v2 is content itself, and
is acknowledged in its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from adapters.hl7.framing import frame

COMMITTED = b"\x06"
NOT_COMMITTED = b"\x15"
COMMITS = frozenset({COMMITTED, NOT_COMMITTED})
RESENDS_MAX = 3
"""How often an answer is sent again that the peer says it could not keep."""


class AnswerFlow:
    """Our answers on one connection: one at a time, each until its commit acknowledgement.

    Peers exist that never acknowledge an answer. New content from them, or
    ``overdue``, stands for it, and is counted as ``commit-missing``. Holds no more
    answers than there were messages in flight.
    """

    def __init__(self, write: Callable[[bytes], None], count: Callable[[str], None]) -> None:
        self._write = write
        self._count = count
        self._queue: deque[bytes] = deque()
        self._outstanding: bytes | None = None
        self._since = 0.0
        self._resent = 0

    def answer(self, payload: bytes, now: float) -> None:
        """Send an answer as soon as the one before it is acknowledged."""
        self._queue.append(frame(payload))
        if self._outstanding is None:
            self._next(now)

    def commit(self, payload: bytes, now: float) -> None:
        """The peer's commit acknowledgement has come, positive or negative."""
        if self._outstanding is None:
            self._count("commit-unexpected")
        elif payload == COMMITTED:
            self._next(now)
        elif self._resent < RESENDS_MAX:
            self._count("answer-not-committed")
            self._resent += 1
            self._since = now
            self._write(self._outstanding)
        else:  # the sender gets the same answer when it sends its message again
            self._count("answer-given-up")
            self._next(now)

    def content(self, now: float) -> None:
        """The peer goes on with content: whatever it owes us will not come."""
        if self._outstanding is not None:
            self._count("commit-missing")
            self._next(now)

    def overdue(self, now: float, seconds: float) -> None:
        """Wait no longer than ``seconds`` for a commit acknowledgement."""
        if self._outstanding is not None and now - self._since > seconds:
            self._count("commit-missing")
            self._next(now)

    def flush(self) -> None:
        """Send what is left: the peer cannot or need not acknowledge any more."""
        while self._queue:
            self._write(self._queue.popleft())

    def _next(self, now: float) -> None:
        self._outstanding = self._queue.popleft() if self._queue else None
        self._since, self._resent = now, 0
        if self._outstanding is not None:
            self._write(self._outstanding)
