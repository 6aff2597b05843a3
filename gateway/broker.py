"""Dramatiq brokers that carry lane names, and nothing that could be lost.

The journal is the truth; a broker's message only says "look at this lane". So
none of Dramatiq's own safety is used: no retries (an attempt and its time stand
in the journal), no delays (they would wait in a worker's memory), no results.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

# Read by dramatiq.worker when it is imported: how soon a consumer that lost its
# broker tries again. Its own default of 3 s is a long time for a doorbell.
os.environ.setdefault("dramatiq_restart_delay", "1000")

import dramatiq
from dramatiq.brokers.stub import StubBroker

if TYPE_CHECKING:
    from gateway.rabbitmq import DoorbellRabbitmqBroker
    from gateway.redis_broker import DoorbellRedisBroker

POSTGRESQL = "postgresql"
"""As a broker's URL: no broker, the journal's database tells the processes."""

AMQP = ("amqp://", "amqps://")
"""How the URL of a RabbitMQ begins."""

QUEUE = "lanes"
ACTOR = "drain"

PENDING_MAX = 10_000
"""Rings that the embedded broker keeps; the sweep finds what it turns away."""


class EmbeddedBroker(StubBroker):
    """A broker inside the process: Dramatiq's StubBroker, each lane at most once.

    A ring for a lane whose ring nobody has taken yet is dropped: the drain that
    is going to start will see the work. A ring that comes while the lane is
    being drained is kept, because that drain may have looked already.
    """

    def __init__(self) -> None:
        super().__init__(middleware=[])
        self._waiting: set[str] = set()
        self._lock = threading.Lock()

    def declare_queue(self, queue_name: str) -> None:
        """Make the queue, and no delay queue for a worker to poll."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = queue.Queue()
            self.emit_after("declare_queue", queue_name)

    def enqueue(
        self, message: dramatiq.Message[Any], *, delay: int | None = None
    ) -> dramatiq.Message[Any]:
        """Queue a ring unless the lane has one that waits."""
        if delay is not None:
            raise ValueError("rings are never delayed: the journal keeps the time")
        lane = message.args[0]
        with self._lock:
            if lane in self._waiting or len(self._waiting) >= PENDING_MAX:
                return message
            self._waiting.add(lane)
        return super().enqueue(message)

    def waiting(self) -> int:
        """Rings that nobody has taken yet."""
        return len(self._waiting)

    def taken(self, lane: str) -> None:
        """A drain of the lane begins: from now on a ring is news again."""
        with self._lock:
            self._waiting.discard(lane)


class ServerBroker(Protocol):
    """A broker outside the process, as the bell sees it. ``name`` is what log lines call it."""

    name: str

    @property
    def unreachable(self) -> tuple[type[Exception], ...]:
        """What it raises when it is away, as opposed to broken."""
        ...

    def answers(self) -> bool:
        """Whether it answers now."""
        ...

    def length(self) -> int:
        """Rings that wait there. Raises one of ``unreachable``."""
        ...


def make_broker(
    url: str = "",
) -> EmbeddedBroker | DoorbellRedisBroker | DoorbellRabbitmqBroker:
    """The broker of a configuration: empty for the one inside the process, which is also what
    ``postgresql`` has beside the notifications.

    Connects to nothing yet. Raises ValueError for a URL that is none of
    ``redis://``, ``rediss://``, ``unix://``, ``amqp://``, ``amqps://``, and ImportError when
    RabbitMQ's client is not installed (``ecluse[rabbitmq]``).
    """
    quieten()
    if url in {"", POSTGRESQL}:
        return EmbeddedBroker()
    if url.startswith(AMQP):
        from gateway.rabbitmq import DoorbellRabbitmqBroker

        return DoorbellRabbitmqBroker(url)
    from gateway.redis_broker import DoorbellRedisBroker

    return DoorbellRedisBroker(url)


def declare_drain(
    broker: dramatiq.Broker, drain: Callable[[str], None]
) -> dramatiq.Actor[Any, Any]:
    """The one actor. Its only argument is a lane; ``drain`` must not raise."""

    def run(lane: str) -> None:
        if isinstance(broker, EmbeddedBroker):
            broker.taken(lane)
        drain(lane)

    declare = dramatiq.actor(broker=broker, actor_name=ACTOR, queue_name=QUEUE)
    actor: dramatiq.Actor[[str], None] = declare(run)
    return actor


class _OutageFilter(logging.Filter):
    """Drops Dramatiq's line per second about a broker that is away; the bell says it once."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg)
        return not text.startswith(("Consumer encountered a connection", "Restarting consumer"))


def quieten() -> None:
    """Keep lane names (which hold a pseudonym of a patient) out of Dramatiq's log lines."""
    logging.getLogger("dramatiq").setLevel(logging.WARNING)
    consumer = logging.getLogger(f"dramatiq.worker.ConsumerThread({QUEUE})")
    if not any(isinstance(each, _OutageFilter) for each in consumer.filters):
        consumer.addFilter(_OutageFilter())
