"""Redis or Valkey as the doorbell: Dramatiq's RedisBroker, which carries lane names only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from gateway.broker import QUEUE

REDIS_TIMEOUT_SECONDS = 1.0
"""For connecting and for each answer. Nothing that is sent to Redis takes long, and to take
it for away too early costs nothing: the lanes are drained in process then."""

MAINTENANCE_CHANCE = 1_000_000
"""Of a million: with every command. The default (1,000) leaves the messages of a worker
that was killed lying for minutes on a quiet queue."""

HEARTBEAT_TIMEOUT_MILLISECONDS = 15_000
"""After this silence a worker counts as dead and its messages are given to others."""


class DoorbellRedisBroker(RedisBroker):
    """Dramatiq's RedisBroker with the settings and the one repair that a doorbell needs.

    redis-py's TimeoutError is no ConnectionError, and Dramatiq takes it for a
    defect of its own: the consumer forgets what it had prefetched. Here it is a
    lost connection like any other.
    """

    name = "redis"
    unreachable = (redis.ConnectionError, redis.TimeoutError, BrokerConnectionError, OSError)

    def __init__(self, url: str, *, namespace: str = "ecluse") -> None:
        client = redis.Redis.from_url(
            url,
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            socket_keepalive=True,
            health_check_interval=15,
            # A client made from a URL retries nothing by default.
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries=1),
        )
        super().__init__(  # type: ignore[no-untyped-call]
            client=client,
            middleware=[],
            namespace=namespace,
            maintenance_chance=MAINTENANCE_CHANCE,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MILLISECONDS,
        )
        self._consumer_class = _consumer_class(super().consumer_class)

    @property
    def consumer_class(self) -> Any:
        """The consumer that turns a timeout into a lost connection."""
        return self._consumer_class

    def declare_queue(self, queue_name: str) -> None:
        """Make the queue, and no delay queue for a worker to poll."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def answers(self) -> bool:
        """Whether Redis answers now (at most ``REDIS_TIMEOUT_SECONDS`` per try)."""
        try:
            return bool(self.client.ping())
        except self.unreachable:
            return False

    def length(self) -> int:
        """Rings that wait or are being worked on. Raises one of ``unreachable``."""
        return int(self.do_qsize(QUEUE))

    def close(self) -> None:
        """Close the connections to Redis."""
        self.client.close()


def _consumer_class(base: Any) -> Any:
    class DoorbellConsumer(base):  # type: ignore[misc]
        def __next__(self) -> Any:
            try:
                return super().__next__()
            except redis.TimeoutError as error:
                raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

        def ack(self, message: Any) -> None:
            try:
                super().ack(message)
            except redis.TimeoutError as error:
                raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

        def nack(self, message: Any) -> None:
            try:
                super().nack(message)
            except redis.TimeoutError as error:
                raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

        def requeue(self, messages: Iterable[Any]) -> None:
            try:
                super().requeue(messages)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    return DoorbellConsumer
