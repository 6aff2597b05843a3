"""The group writer: concurrent arrivals share one commit, and no promise precedes it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from gateway.journal.append import append
from gateway.journal.arrival import Arrival, prepare
from gateway.journal.faults import JournalFault, JournalUnavailable
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.tables import INLINE_BYTES_MAX
from gateway.journal.values import Appended
from gateway.model import Cause, Payload, Received

__all__ = ["Appended", "GroupWriter"]

QUEUE_BYTES_MAX = 256 * 1024 * 1024
"""Bytes in memory that may wait to be written; one message is taken whatever its size."""
_BLOB_THREADS = 4

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Item:
    """One submitted message on its way to the commit."""

    received: Received
    state: MessageState
    lane: str
    cause: Cause | None
    group_due_at: datetime | None
    future: Future[Appended] = field(default_factory=Future)
    arrival: Arrival | None = None

    @property
    def weight(self) -> int:
        payload = self.received.payload
        return payload.size if payload.data is not None else min(payload.size, INLINE_BYTES_MAX)


class GroupWriter:
    """One thread that commits whatever is queued, up to ``batch_max`` messages at once.

    ``queue_max`` bounds the messages that wait, ``QUEUE_BYTES_MAX`` their bytes.
    ``on_commit`` is called in the writer's thread after each commit, with the
    lanes that have work now. Messages of one lane are written in the order in
    which they were submitted, large ones included.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        batch_max: int = 128,
        queue_max: int = 4096,
        on_commit: Callable[[set[str]], None] | None = None,
    ) -> None:
        if batch_max < 1 or queue_max < 1:
            raise ValueError("batch_max and queue_max are 1 at least")
        self._journal = journal
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._on_commit = on_commit
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        # Lanes in which a large message is still on its way to the blobs, with all
        # that was submitted after it.
        self._behind: dict[str, deque[_Item]] = {}
        self._waiting = 0
        self._bytes = 0
        self._open = False
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Begin to write. Raises RuntimeError when it was started before."""
        with self._changed:
            if self._open or self._thread is not None:
                raise RuntimeError("the writer was started before")
            self._pool = ThreadPoolExecutor(_BLOB_THREADS, thread_name_prefix="journal-blob")
            self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
            self._open = True
        self._thread.start()

    def stop(self) -> None:
        """Take no more, write what was taken, and end. Idempotent."""
        with self._changed:
            self._open = False
            thread, self._thread = self._thread, None
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
        """Queue a message from any thread; never blocks on the disk.

        The future resolves after the commit that holds the message. It cannot be
        cancelled. It raises JournalUnavailable when nothing was kept: queue full,
        writer stopped, disk full, database away; ValueError as ``arrival.prepare``
        says. A spooled payload belongs to the journal from here on: its file is
        moved into the blobs, or read and removed when it is small.
        """
        item = _Item(received, state, lane, cause, group_due_at)
        item.future.set_running_or_notify_cancel()
        payload = received.payload
        direct = payload.data is not None and payload.size <= INLINE_BYTES_MAX
        if direct:
            try:
                item.arrival = _arrival(item, payload.data)
            except ValueError as error:
                item.future.set_exception(error)
                return item.future
        with self._changed:
            refusal = self._refusal(item) or self._take(item, direct)
        if refusal is not None:
            item.future.set_exception(JournalUnavailable(refusal))
        return item.future

    def _refusal(self, item: _Item) -> str | None:
        if not self._open:
            return "the journal's writer is not running"
        if self._waiting >= self._queue_max:
            return "the journal's queue is full"
        if self._bytes and self._bytes + item.weight > QUEUE_BYTES_MAX:
            return "the journal's queue is full"
        return None

    def _take(self, item: _Item, direct: bool) -> str | None:
        """Called with the lock held; says why if it could not be taken."""
        if not direct:
            try:
                if self._pool is not None:
                    self._pool.submit(self._keep_blob, item)
            except RuntimeError:
                return "the process is ending"
        self._waiting += 1
        self._bytes += item.weight
        behind = self._behind.get(item.lane)
        if behind is not None:
            behind.append(item)
        elif direct:
            self._queue.append(item)
            self._changed.notify()
        else:
            self._behind[item.lane] = deque([item])
        return None

    def _keep_blob(self, item: _Item) -> None:
        """Make the bytes of a large or spooled message durable, then let its lane go on."""
        failure: Exception | None = None
        try:
            item.arrival = _arrival(item, _store(self._journal, item.received.payload))
        except (JournalUnavailable, ValueError) as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a future must never be left unresolved
            _log.error("a payload could not be kept: %s", type(error).__name__)
            failure = JournalUnavailable("a payload could not be kept")
        with self._changed:
            behind = self._behind[item.lane]
            if failure is not None:
                behind.remove(item)
                self._forget([item])
            while behind and behind[0].arrival is not None:
                self._queue.append(behind.popleft())
            if not behind:
                del self._behind[item.lane]
            self._changed.notify_all()
        if failure is not None:
            item.future.set_exception(failure)

    def _forget(self, items: Sequence[_Item]) -> None:
        """Called with the lock held."""
        self._waiting -= len(items)
        self._bytes -= sum(item.weight for item in items)

    def _next(self) -> list[_Item]:
        """What is to be written now; empty when the writer is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or not (self._open or self._waiting))
            count = min(len(self._queue), self._batch_max)
            return [self._queue.popleft() for _ in range(count)]

    def _run(self) -> None:
        while batch := self._next():
            self._write(batch)
            with self._changed:
                self._forget(batch)
                self._changed.notify_all()

    def _write(self, batch: Sequence[_Item]) -> None:
        try:
            appended = self._commit(batch)
        except JournalUnavailable as error:
            _fail(batch, str(error))
        except JournalFault as error:
            # One message that the database cannot take must not cost its neighbours.
            if len(batch) > 1:
                for item in batch:
                    self._write([item])
            else:
                _log.error("a message was refused by the database: %s", error)
                _fail(batch, str(error))
        except Exception as error:  # noqa: BLE001 - the one thread that writes must live on
            _log.error("a commit failed: %s", type(error).__name__)
            _fail(batch, "the commit failed")
        else:
            for item, result in zip(batch, appended, strict=True):
                item.future.set_result(result)
            self._tell(batch, appended)

    def _commit(self, batch: Sequence[_Item]) -> list[Appended]:
        arrivals = [item.arrival for item in batch if item.arrival is not None]
        with self._journal.write() as connection:
            return append(connection, arrivals, self._journal.now())

    def _tell(self, batch: Sequence[_Item], appended: Sequence[Appended]) -> None:
        if self._on_commit is None:
            return
        rung = {
            item.lane
            for item, result in zip(batch, appended, strict=True)
            if item.state is MessageState.RECEIVED and not result.duplicate
        }
        if not rung:
            return
        try:
            self._on_commit(rung)
        except Exception as error:  # noqa: BLE001 - a sweep rings again what was not told
            _log.warning("a ring after a commit failed: %s", type(error).__name__)


def _fail(batch: Sequence[_Item], reason: str) -> None:
    for item in batch:
        item.future.set_exception(JournalUnavailable(reason))


def _arrival(item: _Item, body: bytes | None) -> Arrival:
    return prepare(
        item.received,
        state=item.state,
        lane=item.lane,
        cause=item.cause,
        group_due_at=item.group_due_at,
        body=body,
    )


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
