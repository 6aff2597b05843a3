"""One MLLP connection: frames in, answers out in order, and its limits."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, cast

from adapters.certificate import PeerCertificate
from adapters.hl7.batches import BatchArrival, begins_batch
from adapters.hl7.exchange import BatchExchange, Exchange
from adapters.hl7.framing import (
    Event,
    Frame,
    FrameReader,
    Junk,
    Oversized,
    Truncated,
    frame,
)
from adapters.hl7.reception import Arrival
from adapters.hl7.release2 import COMMITS, COMMITTED, NOT_COMMITTED, AnswerFlow

if TYPE_CHECKING:
    from adapters.hl7.listener import MllpSource

LARGE_BYTES = 1 << 20
"""Larger messages are examined off the loop, so that the other connections go on."""

FAULTS_MAX = 32
"""Messages cut or without a start byte after which a connection is given up."""


class Connection(asyncio.Protocol):
    """Reads frames, hands each to intake in order, answers in order after its commit.

    Reading stops while too many messages wait for their commit or while the peer
    does not read its answers; nothing is queued without a bound. What arrived
    whole is handed over even if the peer has gone: sent again, it is a duplicate.
    """

    def __init__(self, source: MllpSource) -> None:
        self.source = source
        self.peer = ""
        self.address = ""
        self.certificate: PeerCertificate | None = None  # what the peer showed, with TLS
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        settings = source.settings
        self._in_flight_max = settings.frames_in_flight_max
        self._reader = FrameReader(
            settings.frame_bytes_max, kept_bytes_max=settings.evidence_bytes_max
        )
        self._backlog: deque[Event] = deque()
        self._pending: deque[Exchange | BatchExchange] = deque()
        self._cut: Truncated | None = None
        self._whole = 0  # bytes of whole messages that are not answered yet
        self._held = 0  # bytes counted with the source: those, and an unfinished block
        self._active_at = self._loop.time()
        self._block_since: float | None = None
        self._stuck_since: float | None = None
        self._faults = 0
        self._aside = 0  # size of the large message that is examined off the loop
        self._paused = False
        self._secure = False
        self._ended = False  # nothing more is read
        self._stopping = False  # nothing more is handed over
        self._flow: AnswerFlow | None = None
        if settings.mllp_release == 2:
            self._flow = AnswerFlow(self._write, source.count)

    # --- asyncio.Protocol ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.address, self.peer = str(host), f"{host}:{port}"
        self._secure = transport.get_extra_info("sslcontext") is not None
        connected = transport.get_extra_info("socket")
        if connected is not None:  # notices a peer that is gone without a word
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self.source.admit(self):
            self._ended = self._stopping = True
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._ended or self._stopping:
            return
        reader = self._reader
        self._active_at = now = self._loop.time()
        events = reader.receive(data)
        if self._take_alone(events):
            return
        if events or reader.inside:
            self._enqueue(events)
        if not reader.inside:
            self._block_since = None
        elif events or self._block_since is None:
            self._block_since = now
        if reader.ending:
            self._loop.call_later(self.source.settings.settle_seconds, self._settle, now)
        if self._backlog:
            self._work()
        if reader.junk_pending > self.source.settings.junk_bytes_max:
            self._give_up("junk-limit")

    def _take_alone(self, events: list[Event]) -> bool:
        """The usual case, without detours: one whole message of usual size, nothing waiting."""
        if len(events) != 1 or self._backlog or self._aside or self._stuck_since is not None:
            return False
        event = events[0]
        if type(event) is not Frame or self._reader.inside or self._reader.deviations:
            return False
        size = len(event.payload)
        if size > LARGE_BYTES or len(self._pending) + 1 >= self._in_flight_max:
            return False
        if size < 2 or begins_batch(event.payload):
            return False
        self._block_since = None
        self._whole += size
        self._account()
        if not self._stopping and not self._ended:
            if self._flow is not None:
                self._flow.content(self._active_at)
            cut, self._cut = self._cut, None
            self._submit(self.source.reception.open(event.payload, self.peer, cut), size)
        return True

    def eof_received(self) -> bool:
        """The peer sends no more; it may still wait for answers. With TLS it does not: asyncio
        knows no connection that is closed in one direction there."""
        self._take_end()
        self._finish()
        return not self._secure

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # however it ended: what is unfinished is evidence, what is whole goes on
        self._stuck_since = None
        if not self._stopping:
            self._take_end()
        self._reader.end()  # what is left of a block when nothing more was handed over
        self._account()
        self.source.leave(self)

    def pause_writing(self) -> None:
        self._stuck_since = self._loop.time()
        self._throttle()

    def resume_writing(self) -> None:
        self._stuck_since = None
        self._work()

    # --- messages -----------------------------------------------------------------

    def _enqueue(self, events: list[Event]) -> None:
        for event in events:
            self._backlog.append(event)
            if isinstance(event, Frame):
                self._whole += len(event.payload)
        if self._reader.deviations:
            self.source.count_deviations(self._reader.deviations)
        self._account()

    def _work(self) -> None:
        """Hand over what is in the backlog as far as the limits allow."""
        while (
            self._backlog
            and len(self._pending) < self._in_flight_max
            and self._stuck_since is None
            and not self._aside
            and not self._stopping
        ):
            self._take(self._backlog.popleft())
        self._throttle()

    def _take(self, event: Event) -> None:
        reception = self.source.reception
        if isinstance(event, Frame):
            self._take_frame(event.payload)
        elif isinstance(event, Oversized):
            self._cut = None
            self._submit(reception.oversized(event.kept, self.peer), 0)
        elif isinstance(event, Truncated):
            arrival = reception.cut(event.kept, event.count, self.peer)
            if event.answered:
                self._submit(arrival, 0)
            else:
                self._cut = event
                self._keep(arrival)
        else:
            self._take_junk(event)

    def _take_frame(self, payload: bytes) -> None:
        size = len(payload)
        if size == 1 and payload in COMMITS:
            self._whole -= size
            self._account()
            if self._flow is not None:
                self._flow.commit(payload, self._loop.time())
            else:  # answering an acknowledgement would never end
                self.source.count("commit-unexpected")
            return
        if self._flow is not None:
            self._flow.content(self._loop.time())
        cut, self._cut = self._cut, None
        if size > LARGE_BYTES or begins_batch(payload):
            self._aside = size
            self.source.examine_aside(self, payload, cut)
        else:
            self._submit(self.source.reception.open(payload, self.peer, cut), size)

    def _take_junk(self, junk: Junk) -> None:
        """Noise is only counted; what looks like a message without its start byte is kept."""
        if b"MSH" not in junk.kept:
            return
        self._keep(self.source.reception.unframed(junk.kept, junk.count, self.peer))
        if junk.ended:
            # Its sender waits for an answer, and would take the next one for it.
            self._give_up("missing-start")

    def _keep(self, arrival: Arrival) -> None:
        """Evidence without an answer, which nothing slows down: bounded by its number."""
        self._faults += 1
        self.source.keep(arrival)
        if self._faults >= FAULTS_MAX:
            self.source.count("faults-limit")
            self.stop()

    def examined(self, arrival: Arrival | BatchArrival, size: int) -> None:
        """A large message or a batch has been examined off the loop: it is its turn."""
        self._aside = 0
        if self._stopping:
            self._whole -= size
            self._account()
            self._finish()
        else:
            self._submit(arrival, size)
            self._work()

    def _submit(self, arrival: Arrival | BatchArrival, size: int) -> None:
        if isinstance(arrival, BatchArrival):
            batch = BatchExchange(self, arrival, size)
            self._pending.append(batch)
            for part in batch.parts:
                self.source.hand_over(part)
            if not batch.parts:  # an empty batch is legal, and there is nothing to keep of it
                self._loop.call_soon(self.answer)
            return
        exchange = Exchange(self, arrival, size)
        self._pending.append(exchange)
        self.source.hand_over(exchange)

    def answer(self) -> None:
        """Write the answers that are due, in the order of the messages."""
        answers = []
        pending, source, flow = self._pending, self.source, self._flow
        while pending and pending[0].settled:
            exchange = pending.popleft()
            self._whole -= exchange.size
            payload = source.answer_to(exchange)  # empty: not every message wants one
            if flow is None:
                if payload:
                    answers.append(frame(payload))
            elif exchange.kept:
                self._write(frame(COMMITTED))
                if payload:
                    flow.answer(payload, self._loop.time())
            else:
                self._write(frame(NOT_COMMITTED))
        if answers:
            self._write(b"".join(answers) if len(answers) > 1 else answers[0])
        self._account()
        if self._backlog or self._paused:
            self._work()
        if self._ended or self._stopping:
            self._finish()

    def _write(self, blocks: bytes) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._active_at = self._loop.time()
            transport.write(blocks)

    # --- limits -------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Close what is stuck, too slow or idle; ``now`` is the loop's time."""
        settings = self.source.settings
        if self._flow is not None:
            self._flow.overdue(now, settings.commit_timeout_seconds)
        if self._stuck_since is not None:
            if now - self._stuck_since > settings.write_timeout_seconds:
                self._give_up("write-timeout", abort=True)
        elif self._paused or self._ended:
            return
        elif self._block_since is not None:
            if now - self._block_since > settings.frame_timeout_seconds:
                self._give_up("frame-timeout")
        elif not self.waiting and now - self._active_at > settings.idle_timeout_seconds:
            self._give_up("idle-timeout")

    @property
    def waiting(self) -> bool:
        """Are there messages whose commit is awaited?"""
        return bool(self._pending or self._aside)

    def stop(self) -> None:
        """Read and hand over no more; what has been handed over is still answered."""
        self._stopping = True
        self._drop_backlog()
        self._throttle()
        self._finish()

    def reconfigure(self) -> None:
        """The source has new settings: its limits hold from the next message on."""
        settings = self.source.settings
        self._in_flight_max = settings.frames_in_flight_max
        self._reader.limit(settings.frame_bytes_max, kept_bytes_max=settings.evidence_bytes_max)
        self._work()

    def abort(self) -> None:
        """Close at once."""
        self._stopping = True
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self, reason: str, *, abort: bool = False) -> None:
        """Read no more, keep what was unfinished, answer what was whole, close. Counted."""
        if self._ended or self._stopping:
            return
        self.source.count(reason)
        self._take_end()
        if self._transport is None:
            return
        if abort:
            self._transport.abort()
        else:
            self._transport.pause_reading()
            self._finish()

    def _drop_backlog(self) -> None:
        self._backlog.clear()
        self._whole = self._aside + sum(exchange.size for exchange in self._pending)
        self._account()

    def _settle(self, since: float) -> None:
        if self._reader.ending and self._active_at == since and not self._ended:
            self._enqueue(self._reader.settle())
            self._block_since = None
            self._work()

    def _take_end(self) -> None:
        """What the reader holds when nothing more comes, as events."""
        if not self._ended:
            self._ended = True
            self._block_since = None
            self._enqueue(self._reader.end())
            self._work()

    def _finish(self) -> None:
        """Close when all that was read is answered and no more will be read."""
        done = self._ended and not self._backlog
        if (done or self._stopping) and not self.waiting and self._transport is not None:
            if self._flow is not None:
                self._flow.flush()
            self._transport.close()

    def _throttle(self) -> None:
        """Read only while there is room for what would come."""
        pause = (
            len(self._pending) >= self._in_flight_max
            or bool(self._backlog)
            or self._stuck_since is not None
            or self._stopping
        )
        if pause is self._paused:
            return
        transport = self._transport
        if transport is None or transport.is_closing() or self._ended:
            return
        self._paused = pause
        if pause:
            transport.pause_reading()
        else:
            self._active_at = self._loop.time()
            if self._block_since is not None:  # it was we who did not read
                self._block_since = self._active_at
            transport.resume_reading()

    def _account(self) -> None:
        held = self._reader.buffered + self._whole
        change, self._held = held - self._held, held
        if change and not self.source.hold(self.address, change):
            self._give_up("held-bytes-limit", abort=True)
