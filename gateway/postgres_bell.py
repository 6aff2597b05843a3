"""A doorbell without a broker: PostgreSQL's LISTEN and NOTIFY between processes.

A notification carries no lane, only "look": whoever hears it sweeps, and takes what is due. It
is sent when there is more to do than this process's own workers are about to. Losing one loses
nothing: everybody sweeps from time to time anyway.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterable

import dramatiq
import psycopg
import structlog
from sqlalchemy.engine import make_url

from gateway.broker import EmbeddedBroker
from gateway.failure import internal

CHANNEL = "ecluse_lanes"
TOGETHER_SECONDS = 0.02
"""Rings within so long are told with one notification."""
LISTEN_SECONDS = 1.0
"""How long one wait for notifications lasts: a stop is noticed after that."""
RETRY_SECONDS = 2.0
CONNECT_SECONDS = 5

log = structlog.get_logger("ecluse.bell")


class PostgresBell:
    """Rings the workers of this process in memory, and those of others by NOTIFY.

    ``url`` is the journal's; ``threads`` are this process's workers (0: it only tells others);
    ``heard`` is called when another process has work to share.
    """

    away = False
    busy = False

    def __init__(
        self,
        url: str,
        broker: EmbeddedBroker,
        actor: dramatiq.Actor[[str], None],
        heard: Callable[[], None],
        *,
        threads: int,
    ) -> None:
        address = make_url(url).set(drivername="postgresql")
        self._dsn = address.render_as_string(hide_password=False)
        self._broker = broker
        self._actor = actor
        self._heard = heard
        self._workers = threads
        self._name = uuid.uuid4().hex
        self._told = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._away: set[str] = set()

    def start(self) -> None:
        """Begin to tell, and to listen where there are workers."""
        self._stopping.clear()
        loops = [("tell", self._tell)] + ([("listen", self._listen)] if self._workers else [])
        self._threads = [
            threading.Thread(target=self._forever, args=(name, loop), daemon=True,
                             name=f"ecluse-{name}")
            for name, loop in loops
        ]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Tell and hear no more. Idempotent."""
        self._stopping.set()
        self._told.set()
        for thread in self._threads:
            thread.join(CONNECT_SECONDS + LISTEN_SECONDS)
        self._threads = []

    def ring(self, lane: str) -> None:
        """Wake a worker for the lane."""
        self.ring_all((lane,))

    def ring_all(self, lanes: Iterable[str]) -> None:
        """Wake workers for several lanes: our own, and others' if there are more than those."""
        if self._workers:
            self.ring_here(lanes)
        if self._broker.waiting() >= self._workers:
            self._told.set()

    def ring_here(self, lanes: Iterable[str]) -> None:
        """Wake the workers of this process only."""
        for lane in lanes:
            self._actor.send(lane)

    # --- the threads ------------------------------------------------------------------

    def _forever(self, name: str, loop: Callable[[psycopg.Connection], None]) -> None:
        while not self._stopping.is_set():
            try:
                with psycopg.connect(
                    self._dsn, autocommit=True, connect_timeout=CONNECT_SECONDS
                ) as connection:
                    self._say_back(name)
                    loop(connection)
            except psycopg.Error:
                if not self._away:
                    log.warning("the journal's database cannot be listened to; lanes are swept")
                self._away.add(name)
            except Exception as error:  # noqa: BLE001  the doorbell must outlive any fault
                fault = internal(error)
                log.critical("the doorbell failed", error=fault.detail, at=fault.location)
            self._stopping.wait(RETRY_SECONDS)

    def _say_back(self, name: str) -> None:
        if name in self._away:
            self._away.discard(name)
            if not self._away:
                log.warning("the journal's database can be listened to again")
            with contextlib.suppress(Exception):
                self._heard()

    def _tell(self, connection: psycopg.Connection) -> None:
        while not self._stopping.is_set():
            self._told.wait()
            if self._stopping.wait(TOGETHER_SECONDS):
                return
            self._told.clear()
            connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._name))

    def _listen(self, connection: psycopg.Connection) -> None:
        connection.execute(f"LISTEN {CHANNEL}".encode())
        while not self._stopping.is_set():
            for heard in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                if heard.payload != self._name:
                    self._heard()
