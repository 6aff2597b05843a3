"""Stage 1: the one door. The journal's commit first, then the sender's answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select

from gateway.failure import internal
from gateway.gate import PermissionGate
from gateway.journal.arrival import dedupe_key
from gateway.journal.fitting import fit
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.states import MessageState
from gateway.journal.tables import KEY_MAX, message
from gateway.journal.times import utc_now
from gateway.journal.writer import Appended, GroupWriter
from gateway.model import Cause, Disposition, Receipt, Received
from gateway.ports import IntakeUnavailable
from gateway.route import inbound_lane

GATE_QUEUE_MAX = 4096
"""Messages that wait for the gate's reading of the journal; more are turned away."""

GATE_BATCH_MAX = 256
"""Messages that the gate judges in one reading."""

QUIET_DEFAULT = timedelta(seconds=10)
"""How long a study must be quiet when its source says nothing."""

log = structlog.get_logger("ecluse.intake")


@dataclass(frozen=True, slots=True)
class _Submitted:
    received: Received
    receipt: Future[Receipt]


class JournalIntake:
    """Implements :class:`gateway.ports.Intake` over the group-committing writer.

    ``quiet`` gives each source's quiet time for studies. ``ring`` is called with
    the lane after the commit of a message that can go on; None when the journal
    itself rings (``Journal(on_ring=…)``).

    Messages keep the order in which ``submit`` was called: as soon as one of
    them must wait for the gate's reading, those behind it wait too.
    """

    def __init__(
        self,
        journal: Journal,
        writer: GroupWriter,
        ring: Callable[[str], None] | None,
        gate: PermissionGate,
        *,
        quiet: Mapping[str, timedelta] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._journal = journal
        self._writer = writer
        self._ring = ring
        self._gate = gate
        self._quiet = {} if quiet is None else quiet  # the caller's: it may change
        self._now = now
        self._queue: queue.SimpleQueue[_Submitted | None] = queue.SimpleQueue()
        # Reentrant: a receipt may be ready at once, and its callback may submit again.
        self._order = threading.RLock()
        self._queued = 0
        self._thread: threading.Thread | None = None

    def stop(self) -> None:
        """Judge what is queued, then end the thread. Stop the sources first. Idempotent."""
        with self._order:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def submit(self, received: Received) -> Future[Receipt]:
        """Keep a message; see :meth:`gateway.ports.Intake.submit`.

        A message that the protocol refused, or whose patient opposes feeding or
        has closed his record, is kept as evidence and its receipt is REFUSED
        with the cause; the same bytes sent again get the same receipt. A
        message that carries a permission is never refused for a permission.
        """
        receipt: Future[Receipt] = Future()
        judged = received.refusal is not None or received.carries_permission
        with self._order:
            if self._queued >= GATE_QUEUE_MAX:
                receipt.set_exception(IntakeUnavailable("too many messages wait at the gate"))
            elif self._queued or not (judged or self._gate.remembered(received.subject)):
                self._queued += 1
                self._queue.put(_Submitted(received, receipt))
                self._start_thread()
            else:
                self._append(received, received.refusal, receipt)
        return receipt

    # --- the gate's thread --------------------------------------------------------

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._judge_queued, name="ecluse-gate", daemon=True
            )
            self._thread.start()

    def _judge_queued(self) -> None:
        running = True
        while running:
            batch: list[_Submitted] = []
            first = self._queue.get()
            running = first is not None
            if first is not None:
                batch.append(first)
            while running and len(batch) < GATE_BATCH_MAX:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                running = following is not None
                if following is not None:
                    batch.append(following)
            self._judge(batch)

    def _judge(self, batch: list[_Submitted]) -> None:
        asked = [
            each
            for each in batch
            if each.received.refusal is None and not each.received.carries_permission
        ]
        verdicts: dict[int, Cause | None] = {}
        failure: IntakeUnavailable | None = None
        try:
            causes = self._gate.judge([each.received.subject for each in asked])
            for each, cause in zip(asked, causes, strict=True):
                if cause is not None and not self._kept_before(each.received):
                    verdicts[id(each)] = cause
        except JournalUnavailable:
            failure = IntakeUnavailable("the journal cannot be read")
        except Exception as error:  # noqa: BLE001  the gate's thread must outlive any fault
            fault = internal(error)
            log.critical("the permission gate failed", error=fault.detail, at=fault.location)
            failure = IntakeUnavailable("the permission gate failed")
        for each in batch:
            with self._order:
                self._queued -= 1
                if failure is None:
                    cause = each.received.refusal or verdicts.get(id(each))
                    self._append(each.received, cause, each.receipt)
            if failure is not None:
                each.receipt.set_exception(failure)

    def _kept_before(self, received: Received) -> bool:
        """Whether these very bytes were accepted before the patient opposed: the sender
        then missed our answer, and gets the stored one instead of a refusal."""
        accepted = dedupe_key("accepted", received.control_id, received.payload.sha256)
        with self._journal.read() as connection:
            known = connection.execute(
                select(message.c.id)
                .where(
                    message.c.source == received.source,
                    message.c.control_id == fit(received.control_id, KEY_MAX),
                    message.c.dedupe_key == accepted,
                    message.c.state != MessageState.REFUSED.value,
                )
                .limit(1)
            ).first()
        return known is not None

    # --- to the writer ------------------------------------------------------------

    def _append(self, received: Received, cause: Cause | None, receipt: Future[Receipt]) -> None:
        lane = inbound_lane(received.source)
        state, due = MessageState.RECEIVED, None
        if cause is not None:
            state = MessageState.REFUSED
            if received.refusal is None:
                # The positive answer that came along must not be what a repetition gets.
                received = replace(received, answer=b"")
        elif received.group:
            state = MessageState.GATHERING
            due = self._now() + self._quiet.get(received.source, QUIET_DEFAULT)
        token = None
        if received.carries_permission and cause is None:
            token = self._gate.expect(received.subject)
        try:
            appended = self._writer.submit(
                received, state=state, lane=lane, cause=cause, group_due_at=due
            )
        except JournalUnavailable as error:
            self._conclude(receipt, lane, token, None, error)
            return
        appended.add_done_callback(
            lambda future: self._conclude(
                receipt,
                lane,
                token,
                None if future.exception() else future.result(),
                future.exception(),
            )
        )

    def _conclude(
        self,
        receipt: Future[Receipt],
        lane: str,
        token: object | None,
        appended: Appended | None,
        error: BaseException | None,
    ) -> None:
        if token is not None:
            self._gate.kept(token, appended.message_id if appended else None)
        if appended is None:
            receipt.set_exception(_unavailable(error))
            return
        rings = not appended.duplicate and appended.state is MessageState.RECEIVED
        if self._ring is not None and rings:
            self._ring(lane)
        receipt.set_result(_receipt(appended))


def _unavailable(error: BaseException | None) -> BaseException:
    if isinstance(error, JournalUnavailable):
        return IntakeUnavailable("the journal kept nothing")
    return error if error is not None else IntakeUnavailable("the journal kept nothing")


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
    )
