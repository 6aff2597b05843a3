"""Stage 1: the one door. The journal's commit first, then the sender's answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from gateway.gate import PermissionGate
from gateway.journal.journal import JournalUnavailable
from gateway.journal.states import MessageState
from gateway.journal.submission import Submission
from gateway.journal.times import utc_now
from gateway.journal.values import Appended
from gateway.journal.writer import GroupWriter
from gateway.model import Disposition, Payload, Receipt, Received
from gateway.ports import IntakeUnavailable, Settle, Word
from gateway.route import inbound_lane

QUIET_DEFAULT = timedelta(seconds=10)
"""How long a study must be quiet when its source says nothing."""

_lane_of = lru_cache(maxsize=256)(inbound_lane)


class JournalIntake:
    """Implements :class:`gateway.ports.Intake` over the group-committing writer.

    The writer's judge is the ``gate``'s (``GroupWriter(…, judge=gate.judge)``). ``quiet``
    gives each source's quiet time for studies and continued messages. Messages keep the
    order in which they were submitted.
    """

    def __init__(
        self,
        writer: GroupWriter,
        gate: PermissionGate,
        *,
        quiet: Mapping[str, timedelta] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._writer = writer
        self._gate = gate
        self._quiet = {} if quiet is None else quiet  # the caller's: it may change
        self._now = now

    def submit(self, received: Received) -> Future[Receipt]:
        """Keep a message; see :meth:`gateway.ports.Intake.submit` and :meth:`submit_all`."""
        receipt: Future[Receipt] = Future()
        self.submit_all([(received, receipt)], _resolve)
        return receipt

    def keep(self, payload: Payload, *, flushed: bool = False) -> Payload:
        """See :meth:`gateway.ports.KeepsBytes.keep`."""
        try:
            return self._writer.keep(payload, flushed=flushed)
        except JournalUnavailable as error:
            raise _failure(error) from None

    def submit_all(self, handed: Sequence[tuple[Received, Any]], settle: Settle) -> None:
        """Keep messages; see :meth:`gateway.ports.Intake.submit_all`.

        A message that the protocol refused, or whose patient opposes feeding or
        has closed his record, is kept as evidence and its receipt is REFUSED
        with the cause; the same bytes sent again get the same receipt. A
        message that carries a permission is never refused for a permission.
        """
        self._writer.submit_all(
            [self._submission(received, token, settle) for received, token in handed]
        )

    def _submission(self, received: Received, token: Any, settle: Settle) -> Submission:
        state, due, expected = MessageState.RECEIVED, None, None
        if received.refusal is not None:
            state = MessageState.REFUSED
        else:
            if received.group:
                state = MessageState.GATHERING
                due = self._now()
                if not received.group_complete:
                    due += self._quiet.get(received.source, QUIET_DEFAULT)
            if received.carries_permission:
                expected = self._gate.expect(received.subject)
        return Submission(
            received,
            state,
            _lane_of(received.source),
            self._settle,
            (token, settle, expected),
            received.refusal,
            due,
            judged=state is MessageState.REFUSED
            or received.carries_permission
            or not received.subject,
            bound=received.control_id_unique or received.sequence_number is not None,
        )

    def _settle(self, results: Sequence[tuple[Submission, Appended | Exception]]) -> None:
        """The journal's word as receipts, together for all that wait with the same caller."""
        by_caller: dict[Settle, list[tuple[Any, Word]]] = {}
        for submission, result in results:
            token, settle, expected = submission.token
            word: Word
            if isinstance(result, Exception):
                word, kept_as = _failure(result), None
            else:
                word, kept_as = _receipt(result), result.message_id
            if expected is not None:
                self._gate.kept(expected, kept_as)
            by_caller.setdefault(settle, []).append((token, word))
        for settle, words in by_caller.items():
            settle(words)


def _resolve(words: Sequence[tuple[Any, Word]]) -> None:
    for receipt, word in words:
        if isinstance(word, Exception):
            receipt.set_exception(word)
        else:
            receipt.set_result(word)


def _failure(error: Exception) -> Exception:
    if isinstance(error, JournalUnavailable):
        return IntakeUnavailable("the journal kept nothing")
    return error


def _receipt(appended: Appended) -> Receipt:
    """REFUSED for a refused message and for each repetition of it, so that the
    sender hears the cause every time; a duplicate of anything else is DUPLICATE."""
    if appended.state is MessageState.REFUSED:
        disposition = Disposition.REFUSED
    elif appended.duplicate:
        disposition = Disposition.DUPLICATE
    else:
        disposition = Disposition.ACCEPTED
    return Receipt(
        message_id=appended.message_id,
        disposition=disposition,
        cause=appended.cause if disposition is Disposition.REFUSED else None,
        answer=appended.answer,
        expected_number=appended.expected_number,
    )
