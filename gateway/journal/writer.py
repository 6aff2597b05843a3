"""The group writer: concurrent arrivals share one commit, and no promise precedes it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from gateway.journal.append import append
from gateway.journal.arrival import Arrival
from gateway.journal.chain import Chain
from gateway.journal.door import check
from gateway.journal.faults import JournalFault, JournalUnavailable
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.submission import Group, Result, Submission, resolve, settle_all
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.journal.values import Appended
from gateway.model import Cause, Payload, Received

QUEUE_BYTES_MAX = 256 * 1024 * 1024
"""Bytes in memory that may wait to be written; one message is taken whatever its size."""
_BLOB_THREADS = 4

_log = logging.getLogger(__name__)

Judge = Callable[[Connection, Sequence[Received]], Sequence[Cause | None]]
"""Says for each message why it must be refused, or None, as the transaction sees the journal."""


class GroupWriter:
    """One thread that commits whatever is queued, up to ``batch_max`` messages at once.

    ``queue_max`` bounds the messages that wait, ``QUEUE_BYTES_MAX`` their bytes.
    ``judge`` is asked, within the transaction that keeps them, about the messages that are
    not ``judged``; those for which it gives a cause are kept as refused. ``on_commit`` is
    called in the writer's thread after each commit, with the lanes that have work now.
    Messages of one lane are written in the order in which they were submitted, large ones
    included.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        batch_max: int = 128,
        queue_max: int = 4096,
        judge: Judge | None = None,
        on_commit: Callable[[set[str]], None] | None = None,
    ) -> None:
        if batch_max < 1 or queue_max < 1:
            raise ValueError("batch_max and queue_max are 1 at least")
        self._journal = journal
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._judge = judge
        self._on_commit = on_commit
        self._changed = threading.Condition()
        self._queue: deque[Submission] = deque()
        # Lanes in which a large message is still on its way to the blobs, with all
        # that was submitted after it.
        self._behind: dict[str, deque[Submission]] = {}
        self._waiting = 0
        self._bytes = 0
        self._open = False
        self._writing: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._chain = Chain()

    def start(self) -> None:
        """Begin to write. Raises RuntimeError when it was started before."""
        with self._changed:
            if self._open or self._writing is not None:
                raise RuntimeError("the writer was started before")
            self._pool = ThreadPoolExecutor(_BLOB_THREADS, thread_name_prefix="journal-blob")
            self._writing = threading.Thread(target=self._run, name="journal-writer", daemon=True)
            self._open = True
        self._writing.start()

    def stop(self) -> None:
        """Take no more, write what was taken, and end. Idempotent."""
        with self._changed:
            self._open = False
            thread, self._writing = self._writing, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def submit(
        self,
        received: Received,
        *,
        state: MessageState,
        lane: str,
        cause: Cause | None = None,
        group_due_at: datetime | None = None,
    ) -> Future[Appended]:
        """Queue one message, which nobody judges; see :meth:`submit_all`.

        The future resolves after the commit that holds the message. It cannot be
        cancelled. It raises what a submission's ``settle`` would get.
        """
        future: Future[Appended] = Future()
        future.set_running_or_notify_cancel()
        self.submit_all([Submission(received, state, lane, resolve, future, cause, group_due_at)])
        return future

    def keep(self, payload: Payload, *, flushed: bool = False) -> Payload:
        """Make a spooled payload durable in the caller's thread: the same bytes as the journal
        has them, for :meth:`submit_all`, which then need not wait for another thread to do it.
        A small one is given back as it is. ``flushed`` as :meth:`Blobs.adopt` has it. Raises
        JournalUnavailable.
        """
        if payload.path is None or payload.size <= INLINE_BYTES_MAX:
            return payload
        blobs = self._journal.blobs
        blobs.adopt(payload.path, payload.sha256, flushed=flushed)
        return blobs.payload(payload.sha256)

    def submit_all(self, submissions: Sequence[Submission]) -> None:
        """Queue messages in their order, from any thread; never blocks on the disk.

        Each is settled once: with what was appended, after the commit that holds it; or
        with JournalUnavailable when nothing was kept (queue full, writer stopped, disk
        full, database away; when that is known at once, in this thread), or ValueError as
        ``arrival.prepare`` says. A spooled payload belongs to the journal from here on:
        its file is moved into the blobs, or read and removed when it is small.
        """
        refused: list[tuple[Submission, Result]] = []
        with self._changed:
            for submission in submissions:
                payload = submission.received.payload
                if payload.data is not None and payload.size <= INLINE_BYTES_MAX:
                    submission.body = payload.data
                    submission.ready = True
                elif self._journal.blobs.holds(payload):
                    submission.ready = True
                refusal = self._refusal(submission) or self._take(submission)
                if refusal is not None:
                    refused.append((submission, JournalUnavailable(refusal)))
            self._changed.notify()
        if refused:
            settle_all(refused)

    def _refusal(self, submission: Submission) -> str | None:
        if not self._open:
            return "the journal's writer is not running"
        if self._waiting >= self._queue_max:
            return "the journal's queue is full"
        if self._bytes and self._bytes + submission.weight > QUEUE_BYTES_MAX:
            return "the journal's queue is full"
        return None

    def _take(self, submission: Submission) -> str | None:
        """Called with the lock held; says why if it could not be taken."""
        if not submission.ready:
            try:
                if self._pool is not None:
                    self._pool.submit(self._keep_blob, submission)
            except RuntimeError:
                return "the process is ending"
        self._waiting += 1
        self._bytes += submission.weight
        behind = self._behind.get(submission.lane) if self._behind else None
        if behind is not None:
            behind.append(submission)
        elif submission.ready:
            self._queue.append(submission)
        else:
            self._behind[submission.lane] = deque([submission])
        return None

    def _keep_blob(self, submission: Submission) -> None:
        """Make the bytes of a large or spooled message durable, then let its lane go on."""
        failure: Exception | None = None
        try:
            submission.body = _store(self._journal, submission.received.payload)
            submission.arrival()
        except (JournalUnavailable, ValueError) as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a submission must never be left unsettled
            _log.error("a payload could not be kept: %s", type(error).__name__)
            failure = JournalUnavailable("a payload could not be kept")
        with self._changed:
            submission.ready = failure is None
            behind = self._behind[submission.lane]
            if failure is not None:
                behind.remove(submission)
                self._forget([submission])
            while behind and behind[0].ready:
                self._queue.append(behind.popleft())
            if not behind:
                del self._behind[submission.lane]
            self._changed.notify_all()
        if failure is not None:
            settle_all([(submission, failure)])

    def _forget(self, submissions: Iterable[Submission]) -> None:
        """Called with the lock held."""
        for submission in submissions:
            self._waiting -= 1
            self._bytes -= submission.weight

    def _next(self, done: Sequence[Submission]) -> list[Submission]:
        """What is to be written after ``done``; empty when the writer is to end."""
        with self._changed:
            self._forget(done)
            queue = self._queue
            while not queue and (self._open or self._waiting):
                self._changed.wait()
            if len(queue) <= self._batch_max:
                batch = list(queue)
                queue.clear()
            else:
                batch = [queue.popleft() for _ in range(self._batch_max)]
        return batch

    def _run(self) -> None:
        done: Sequence[Submission] = ()
        while batch := self._next(done):
            settled = self._write(batch)
            settle_all(settled)
            done = [submission for submission, _ in settled]

    def _write(
        self, batch: Sequence[Submission], *, alone: bool = False
    ) -> list[tuple[Submission, Result]]:
        """Commit a batch, and unless it is to go ``alone`` what comes meanwhile; what became of
        each, in its order or with the faulty ones first."""
        group = Group()
        group.add(batch)
        good, settled = group.submissions, group.settled
        if not good:
            return settled
        reason = "the commit failed"
        try:
            appended = self._commit(group, alone=alone)
        except JournalUnavailable as error:
            reason = str(error)
        except JournalFault as error:
            # One message that the database cannot take must not cost its neighbours.
            if len(good) > 1:
                for submission in good:
                    settled.extend(self._write([submission], alone=True))
                return settled
            _log.error("a message was refused by the database: %s", error)
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the one thread that writes must live on
            _log.error("a commit failed: %s", type(error).__name__)
        else:
            settled.extend(zip(good, appended, strict=True))
            self._tell(good, appended)
            return settled
        settled.extend((submission, JournalUnavailable(reason)) for submission in good)
        return settled

    def _commit(self, group: Group, *, alone: bool) -> list[Appended]:
        batch, arrivals = group.submissions, group.arrivals
        try:
            with self._journal.write() as connection:
                if not alone:
                    group.add(self._latecomers(len(batch)))
                appended = self._append(connection, batch, arrivals)
                kept = [
                    (each.message_id, *arrival.key, given.size, given.sha256, arrival.received_at)
                    for each, arrival, given in zip(
                        appended, arrivals, (each.received.payload for each in batch), strict=True
                    )
                    if not each.duplicate
                ]
                self._chain.link(connection, kept, self._journal.now())
        except BaseException:
            # Whether it was kept may not be known: the next link begins another chain.
            self._chain = Chain()
            raise
        self._chain.committed()
        return appended

    def _latecomers(self, count: int) -> list[Submission]:
        """What came while a commit of so many waited for its turn, and goes with it."""
        with self._changed:
            room = min(self._batch_max - count, len(self._queue))
            return [self._queue.popleft() for _ in range(room)]

    def _append(
        self, connection: Connection, batch: Sequence[Submission], arrivals: list[Arrival]
    ) -> list[Appended]:
        """Judge and insert; an arrival that is refused is replaced in ``arrivals``."""
        if self._judge is not None:
            asked = [place for place, each in enumerate(batch) if not each.judged]
            if asked:
                causes = self._judge(connection, [batch[place].received for place in asked])
                for place, cause in zip(asked, causes, strict=True):
                    if cause is not None:
                        arrivals[place] = batch[place].refused(cause)
        bound = [place for place, each in enumerate(batch) if each.bound]
        if not bound:
            return append(connection, arrivals, self._journal.now())
        expected = check(connection, [(place, batch[place]) for place in bound], arrivals)
        appended = append(connection, arrivals, self._journal.now())
        for place, number in expected.items():
            appended[place] = replace(appended[place], expected_number=number)
        return appended

    def _tell(self, batch: Sequence[Submission], appended: Sequence[Appended]) -> None:
        if self._on_commit is None:
            return
        rung = {
            submission.lane
            for submission, result in zip(batch, appended, strict=True)
            if result.state is MessageState.RECEIVED and not result.duplicate
        }
        if not rung:
            return
        try:
            self._on_commit(rung)
        except Exception as error:  # noqa: BLE001 - a sweep rings again what was not told
            _log.warning("a ring after a commit failed: %s", type(error).__name__)


def _store(journal: Journal, payload: Payload) -> bytes | None:
    """Put large bytes into the blobs (None); small spooled ones are given back to be inlined."""
    if payload.size > INLINE_BYTES_MAX:
        if payload.path is not None:
            journal.blobs.adopt(payload.path, payload.sha256)
        elif journal.blobs.put(payload.read()) != payload.sha256:
            raise ValueError("the payload does not have the digest that it tells")
        return None
    try:
        data = payload.read()
        if payload.path is not None:
            payload.path.unlink()
    except OSError as error:
        raise JournalUnavailable(f"a spooled payload: {error.strerror}") from None
    return data
