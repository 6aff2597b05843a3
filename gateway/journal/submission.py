"""A message on its way to the commit that keeps it, and what its sender is told of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.journal.arrival import Arrival, prepare
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.journal.values import Appended
from gateway.model import Cause, Received

_log = logging.getLogger(__name__)

Result = Appended | Exception
"""What became of a submission."""


@dataclass(slots=True, eq=False)
class Submission:
    """One message on its way to the commit.

    ``settle`` is called in the writer's thread, after the commit, with all the submissions
    of that commit which have the same ``settle``, each with what became of it. ``token`` is
    the caller's own. ``judged``: the writer's judge is not asked about it. ``bound``: its
    number or control id is bound to what its source sent before (``gateway.journal.door``).
    """

    received: Received
    state: MessageState
    lane: str
    settle: Callable[[Sequence[tuple[Submission, Result]]], None]
    token: Any = None
    cause: Cause | None = None
    group_due_at: datetime | None = None
    judged: bool = True
    bound: bool = False
    body: bytes | None = None
    ready: bool = False

    @property
    def weight(self) -> int:
        """Bytes that it holds in memory while it waits."""
        payload = self.received.payload
        return payload.size if payload.data is not None else min(payload.size, INLINE_BYTES_MAX)

    def arrival(self) -> Arrival:
        """The rows to insert. Raises ValueError as :func:`gateway.journal.arrival.prepare`."""
        return prepare(
            self.received,
            state=self.state,
            lane=self.lane,
            cause=self.cause,
            group_due_at=self.group_due_at,
            body=self.body,
        )

    def refused(self, cause: Cause) -> Arrival:
        """The rows of the same message, refused. The positive answer that came along is
        left out: a repetition must not get it."""
        return prepare(
            replace(self.received, answer=b""),
            state=MessageState.REFUSED,
            lane=self.lane,
            cause=cause,
            group_due_at=None,
            body=self.body,
        )


class Group:
    """Submissions that are committed together, each with its arrival; and what became already
    of those that cannot be."""

    __slots__ = ("arrivals", "settled", "submissions")

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.arrivals: list[Arrival] = []
        self.settled: list[tuple[Submission, Result]] = []

    def add(self, batch: Iterable[Submission]) -> None:
        """Take some more."""
        for submission in batch:
            try:
                arrival = submission.arrival()
            except ValueError as error:
                self.settled.append((submission, error))
            else:
                self.submissions.append(submission)
                self.arrivals.append(arrival)


def settle_all(results: Sequence[tuple[Submission, Result]]) -> None:
    """Tell each caller what became of its submissions; a caller's fault stays its own."""
    by_caller: dict[Any, list[tuple[Submission, Result]]] = {}
    for each in results:
        by_caller.setdefault(each[0].settle, []).append(each)
    for settle, mine in by_caller.items():
        try:
            settle(mine)
        except Exception as error:  # noqa: BLE001 - the one thread that writes must live on
            _log.error("a caller could not take the journal's word: %s", type(error).__name__)


def resolve(results: Sequence[tuple[Submission, Result]]) -> None:
    """Settle submissions whose ``token`` is a future."""
    for submission, result in results:
        future: Future[Appended] = submission.token
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
