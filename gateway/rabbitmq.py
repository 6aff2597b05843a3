"""RabbitMQ as the doorbell: Dramatiq's RabbitmqBroker, which carries lane names and nothing else.

Needs ``pika`` (``pip install "ecluse[rabbitmq]"``); nothing else of the gateway imports it.

A ring need not outlive the server, so messages are transient; the queue is durable only because
newer servers want no others that are shared. It is short and forgets its oldest rings, and rings
that nobody took for a minute: the sweep rings for all work that is due. Dramatiq's delay queue
and dead-letter queue are not made. A publication is confirmed, which costs a round trip in the
bell's own thread: without it a queue that somebody deleted would swallow rings for ever
(https://www.rabbitmq.com/docs/confirms, https://www.rabbitmq.com/docs/publishers#unroutable).
"""

from __future__ import annotations

import logging
import time
from typing import Any

import dramatiq
import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from pika.exceptions import AMQPError, UnroutableError

from gateway.broker import QUEUE

SERVER_QUEUE = "ecluse.lanes"
"""The queue's name at the server. Gateways that share no journal share no virtual host either."""

RINGS_MAX = 5_000
RING_MILLISECONDS_MAX = 60_000
CONNECT_SECONDS = 3.0
HEARTBEAT_SECONDS = 5
"""A server that is silent for twice as long counts as away. Each consumer answers in time, since
it looks at its connection several times a second."""
MEASURED_SECONDS = 1.0
"""How often the queue's length is asked for, at most."""
STALE_SECONDS = 5.0

_FAULTS = (AMQPError, OSError, AssertionError)
"""What pika raises when a connection is lost; an assertion when it is lost inside a call."""


class DoorbellRabbitmqBroker(RabbitmqBroker):
    """Dramatiq's RabbitmqBroker with the settings that a doorbell needs.

    ``url`` is ``amqp://user:password@host:5672/vhost`` or ``amqps://…``; what its query says
    (``heartbeat``, ``socket_timeout``…) wins over what is set here. Raises ValueError for one
    that cannot be read.
    """

    name = "rabbitmq"
    unreachable = (BrokerConnectionError, OSError)

    def __init__(self, url: str) -> None:
        logging.getLogger("pika").setLevel(logging.CRITICAL)  # the bell says it once
        super().__init__(url=url, middleware=[], confirm_delivery=True)
        parameters = pika.URLParameters(url)
        if "heartbeat=" not in url:
            parameters.heartbeat = HEARTBEAT_SECONDS
        if "socket_timeout=" not in url:
            parameters.socket_timeout = CONNECT_SECONDS
        if "stack_timeout=" not in url:
            parameters.stack_timeout = CONNECT_SECONDS
        if "blocked_connection_timeout=" not in url:
            # A server that is short of memory or disk takes nothing more and says so.
            parameters.blocked_connection_timeout = CONNECT_SECONDS
        self.parameters = parameters
        self._length = 0
        self._measured_at = float("-inf")

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Know the queue, and no delay queue for a worker to poll; make it with ``ensure``."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure:
            self._ensure_queue(queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """Consume rings. Raises ConnectionClosed."""
        self.declare_queue(queue_name, ensure=True)
        try:
            return self.consumer_class(self, SERVER_QUEUE, prefetch, timeout)
        except _FAULTS as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    def enqueue(
        self, message: dramatiq.Message[Any], *, delay: int | None = None
    ) -> dramatiq.Message[Any]:
        """Publish a ring; over a fresh connection when the old one is gone. Raises
        ConnectionClosed when the server is away."""
        if delay is not None:
            raise ValueError("rings are never delayed: the journal keeps the time")
        for last in (False, True):
            try:
                self._ensure_queue(QUEUE)
                self._publish(message)
            except UnroutableError as error:
                self.queues_pending.add(QUEUE)
                self._forget(error, last=last)
            except _FAULTS as error:
                self._forget(error, last=last)
            else:
                break
        return message

    def _publish(self, message: dramatiq.Message[Any]) -> None:
        self.channel.basic_publish(
            exchange="",
            routing_key=SERVER_QUEUE,
            body=message.encode(),
            properties=pika.BasicProperties(
                delivery_mode=pika.DeliveryMode.Transient.value,
                expiration=str(RING_MILLISECONDS_MAX),
            ),
            mandatory=True,
        )
        if time.monotonic() - self._measured_at > MEASURED_SECONDS:
            self._measure()

    def _forget(self, error: BaseException, *, last: bool) -> None:
        del self.connection
        if last:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    def _measure(self) -> None:
        found = self.channel.queue_declare(queue=SERVER_QUEUE, passive=True)
        self._length = int(found.method.message_count)
        self._measured_at = time.monotonic()

    def answers(self) -> bool:
        """Whether RabbitMQ answers now. To be asked by the thread that rings."""
        try:
            self.queues_pending.add(QUEUE)
            self._ensure_queue(QUEUE)
            self._measure()
        except (*_FAULTS, ConnectionClosed):
            del self.connection
            return False
        return True

    def length(self) -> int:
        """Rings that waited when one was last sent; 0 when that is some seconds ago."""
        return self._length if time.monotonic() - self._measured_at < STALE_SECONDS else 0

    def _ensure_queue(self, canonical_queue_name: str) -> None:
        if canonical_queue_name not in self.queues_pending:
            return
        try:
            self.channel.queue_declare(
                queue=SERVER_QUEUE,
                durable=True,
                arguments={"x-max-length": RINGS_MAX, "x-overflow": "drop-head"},
            )
        except _FAULTS as error:
            del self.connection
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        self.queues_pending.discard(canonical_queue_name)
