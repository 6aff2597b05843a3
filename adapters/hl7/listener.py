"""An MLLP listener (``gateway.ports.Source``): the journal's commit, then the answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.hl7.acknowledge import Code
from adapters.hl7.batches import BatchArrival, BatchReception, begins_batch
from adapters.hl7.connection import Connection
from adapters.hl7.continuation import Continuations
from adapters.hl7.exchange import BatchExchange, Exchange
from adapters.hl7.framing import Deviation, Truncated
from adapters.hl7.grammar import VERSIONS, known_types
from adapters.hl7.modes import SILENT
from adapters.hl7.port import Port, Ports, certificates_of, takes
from adapters.hl7.reception import Arrival, Reception
from adapters.hl7.settings import MllpSourceSettings
from adapters.tls import HeldCertificate
from gateway.documents import DocumentHeaders
from gateway.model import Received
from gateway.ports import Clock, Intake, IntakeUnavailable, Word

log = logging.getLogger("ecluse.hl7")
_ANSWERS = {code: f"answer-{code}" for code in Code}
_SWEEPS_PER_TIMEOUT = 5


class MllpSource:
    """Listens on one port. All its connections live in one event loop.

    Answers are given in the order of the messages of a connection, each after the
    intake's receipt. ``ports`` is shared by the sources of a process, so that several
    may stand behind one port.
    """

    def __init__(
        self,
        settings: MllpSourceSettings,
        intake: Intake,
        clock: Clock,
        *,
        ports: Ports | None = None,
        documents: DocumentHeaders | None = None,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.intake = intake
        self.continuations = Continuations.of(settings)
        self.reception = Reception(settings, clock, documents, self.continuations)
        self.batches = BatchReception(settings, self.reception, clock)
        self.port: Port | None = None
        self._clock = clock
        self._documents = documents
        self._ports = ports or Ports()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._addresses: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._held = 0
        self._held_by: Counter[str] = Counter()
        self._handed: list[tuple[Received, Exchange | None]] = []
        self._settled: deque[tuple[Exchange | None, Word]] = deque()
        self._wake_scheduled = False

    # --- gateway.ports.Source -----------------------------------------------------

    async def start(self) -> None:
        """Begin to take messages. Raises OSError when the port cannot be bound and
        ``adapters.tls.TlsUnusable`` when the files of its TLS cannot be used."""
        self._loop = asyncio.get_running_loop()
        self.port = await self._ports.join(self, self.settings)
        self._sweeper = self._loop.create_task(self._sweep())
        # The grammars take a moment to load: now, so that no message waits for them.
        await self._loop.run_in_executor(None, known_types, VERSIONS[-1])
        log.info("source %s listens on %s", self.name, self.address())

    async def stop(self) -> None:
        """Take no more, answer what was handed over, close. Idempotent."""
        port, self.port = self.port, None
        if port is None:
            return
        self._ports.leave(self, port)
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.stop()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), self.settings.stop_timeout_seconds)
        for connection in list(self._connections):
            connection.abort()

    async def reconfigure(self, settings: MllpSourceSettings) -> None:
        """Take new settings: limits, character set and policies from the next message on.

        Open connections go on. With another address the new port is opened before the old
        one is closed. Connections of the old address, or that TLS would not let in any more,
        are answered what they have handed over and closed. Raises what :meth:`start` raises;
        then nothing is changed.
        """
        before, old = self.settings, self.port
        port = await self._ports.join(self, settings) if old is not None else None
        self.settings, self.port = settings, port
        self.continuations.bound(settings)
        self.reception = Reception(settings, self._clock, self._documents, self.continuations)
        self.batches = BatchReception(settings, self.reception, self._clock)
        if old is not None and old is not port:
            self._ports.leave(self, old)
        moved = old is not port or _trust(before) != _trust(settings)
        moved = moved or before.mllp_release != settings.mllp_release
        for connection in list(self._connections):
            if moved or not takes(settings, connection.certificate):
                self.count("closed-by-reconfiguration")
                connection.stop()
            else:
                connection.reconfigure()

    def address(self) -> str:
        """``host:port`` as bound; as configured before the start."""
        return self.settings.listen if self.port is None else self.port.address()

    def certificates(self) -> Sequence[HeldCertificate]:
        """The certificates that its port relies on; empty without TLS."""
        return certificates_of(self.port)

    # --- what is counted ----------------------------------------------------------

    def statistics(self) -> Mapping[str, int]:
        """What happened since the start, by name: answers (``answer-AA``), deviations of
        senders (``double-start``), messages that get no answer (``acknowledgements``,
        ``unanswered``), reasons of closed connections (``idle-timeout``), and what is held
        now (``connections``, ``held-bytes``)."""
        now = {"connections": len(self._connections), "held-bytes": self._held}
        return {**self._counts, **now}

    def count(self, what: str) -> None:
        """Count something by name."""
        self._counts[what] += 1

    def count_deviations(self, deviations: Counter[Deviation]) -> None:
        """Add and clear what a connection's frame reader has counted."""
        for deviation, number in deviations.items():
            self._counts[deviation.value] += number
        deviations.clear()

    # --- what connections ask -----------------------------------------------------

    def admit(self, connection: Connection) -> bool:
        """May a new connection stay? Limits in all and by address."""
        settings = self.settings
        if len(self._connections) >= settings.connections_max:
            self.count("refused-connections-limit")
            return False
        if self._addresses[connection.address] >= settings.connections_per_address_max:
            self.count("refused-address-limit")
            return False
        self._connections.add(connection)
        self._empty.clear()
        self._addresses[connection.address] += 1
        self.count("accepted-connections")
        return True

    def leave(self, connection: Connection) -> None:
        """A connection is closed."""
        if connection in self._connections:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]

    def hold(self, address: str, change: int) -> bool:
        """Count bytes in memory; False when more are held, in all or by the address, than may be.

        The limit by address keeps one sender from taking the room of all the others.
        """
        self._held += change
        held = self._held_by[address] = self._held_by[address] + change
        if not held:
            del self._held_by[address]
        settings = self.settings
        return change < 0 or (
            self._held <= settings.held_bytes_max and held <= settings.held_bytes_per_address_max
        )

    def hand_over(self, exchange: Exchange) -> None:
        """Give a message to intake, with all that arrive in the same turn of the loop."""
        self._hand_over(exchange.arrival.received, exchange)

    def keep(self, arrival: Arrival) -> None:
        """Hand over evidence that gets no answer."""
        self.count("evidence")
        self._hand_over(arrival.received, None)

    def answer_to(self, exchange: Exchange | BatchExchange) -> bytes:
        """The answer to a settled exchange, each acknowledgement counted by its code; empty
        when there is to be none."""
        if isinstance(exchange, BatchExchange):
            self.count("batches")
            return self.batches.answer(exchange.arrived, exchange.words, self._count_answer)
        if exchange.word is None:
            raise RuntimeError("an answer before intake's word")
        code, answer = self.reception.answer(exchange.arrival, exchange.word)
        if answer:
            self._counts[_ANSWERS[code]] += 1
        else:
            self._count_unanswered(exchange.arrival)
        if exchange.arrival.mode.unknown:
            self.count("unknown-acknowledgement-type")
        return answer

    def _count_unanswered(self, arrival: Arrival) -> None:
        silent = arrival.mode is SILENT
        self.count("acknowledgements" if silent else "unanswered")

    def _count_answer(self, code: Code) -> None:
        self._counts[_ANSWERS[code]] += 1

    def _hand_over(self, received: Received, exchange: Exchange | None) -> None:
        if not self._handed and self._loop is not None:
            self._loop.call_soon(self._submit)
        self._handed.append((received, exchange))

    def _submit(self) -> None:
        handed, self._handed = self._handed, []
        try:
            self.intake.submit_all(handed, self._take_word)
        except IntakeUnavailable as unavailable:
            self._take_word([(exchange, unavailable) for _, exchange in handed])

    def examine_aside(self, connection: Connection, payload: bytes, cut: Truncated | None) -> None:
        """Examine a large message or a batch in a thread, then give it back to its connection."""
        loop = asyncio.get_running_loop()
        if begins_batch(payload):
            task = loop.run_in_executor(None, self._open_batch, payload, connection.peer)
        else:
            task = loop.run_in_executor(None, self._open, payload, connection.peer, cut)
        size = len(payload)
        task.add_done_callback(lambda done: connection.examined(done.result(), size))

    def _open_batch(self, payload: bytes, peer: str) -> BatchArrival | Arrival:
        return self.batches.open(payload, peer)

    def _open(self, payload: bytes, peer: str, cut: Truncated | None) -> BatchArrival | Arrival:
        return self.reception.open(payload, peer, cut)

    # --- from other threads -------------------------------------------------------

    def _take_word(self, words: Sequence[tuple[Any, Word]]) -> None:
        """Intake's word on several messages. Callable from any thread.

        One wake-up of the loop serves all that come until it runs: the commits of a
        group come together. Even what is known at once is answered from there: an
        answer here would hand over the next message within this one's turn.
        """
        self._settled.extend(words)
        if not self._wake_scheduled:
            self._wake_scheduled = True
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        # Cleared first: what is appended from here on either is seen below or
        # schedules another run.
        self._wake_scheduled = False
        due: dict[Connection, None] = {}
        settled = self._settled
        while settled:
            exchange, word = settled.popleft()
            if exchange is not None:
                exchange.word = word
                due[exchange.connection] = None
            elif isinstance(word, Exception):
                log.error("source %s: evidence not kept (%s)", self.name, type(word).__name__)
        for connection in due:
            connection.answer()

    async def _sweep(self) -> None:
        """Check the limits of time of all connections."""
        loop = asyncio.get_running_loop()
        while True:
            settings = self.settings
            shortest = min(
                settings.idle_timeout_seconds,
                settings.frame_timeout_seconds,
                settings.write_timeout_seconds,
            )
            await asyncio.sleep(min(1.0, shortest / _SWEEPS_PER_TIMEOUT))
            now = loop.time()
            for connection in list(self._connections):
                connection.check(now)


def _trust(settings: MllpSourceSettings) -> tuple[object, ...]:
    """What, when it changes, makes connections that were let in before doubtful."""
    tls = settings.tls
    if tls is None:
        return (None,)
    return (tls.client_ca, tls.client_certificate, tls.minimum_version)
