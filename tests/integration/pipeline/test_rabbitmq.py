"""RabbitMQ as the doorbell: the same rules as Redis. `make rabbitmq` runs those tests that need a
real server, whose start takes as long as a whole file of other tests; the rest need none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pika
import pytest
from structlog.testing import capture_logs

from gateway.broker import QUEUE, make_broker
from gateway.journal.times import utc_now
from gateway.rabbitmq import SERVER_QUEUE, DoorbellRabbitmqBroker
from gateway.settings_file import ConfigurationError
from tests.eventually import eventually
from tests.integration.pipeline.rig import Rig
from tests.integration.pipeline.test_workers import in_order, send_all
from tests.rabbitmq import Rabbitmq, running_rabbitmq
from tests.servers import free_port

WANTED = "ECLUSE_RABBITMQ"


@pytest.fixture
def real_rig(make_rig: Callable[..., Rig]) -> Rig:
    """A rig on the machine's clock."""
    return make_rig(clock=utc_now)


@pytest.fixture(scope="module")
def server() -> Iterator[Rabbitmq]:
    """One real server for all; skips unless it was asked for."""
    if not os.environ.get(WANTED):
        pytest.skip("a RabbitMQ takes many seconds to start: `make rabbitmq` runs this")
    with running_rabbitmq() as made:
        yield made


@pytest.fixture
def rabbitmq(server: Rabbitmq) -> Rabbitmq:
    """A server that answers, and whose queue is empty."""
    if not server.answers():
        server.start()
    with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
        connection.channel().queue_delete(SERVER_QUEUE)
    return server


# --- without a server ---------------------------------------------------------------------


def test_the_gateway_works_while_rabbitmq_is_away(real_rig: Rig) -> None:
    pool = real_rig.run_pool(f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    with capture_logs() as lines:
        send_all(real_rig, range(30))
        eventually(lambda: len(real_rig.facts()) == 30, timeout=40)
        eventually(lambda: pool.bell.away, timeout=30)
    assert in_order(real_rig, 30)
    said = [line["event"] for line in lines if line["event"].startswith("rabbitmq")]
    assert said == ["rabbitmq does not answer; lanes are drained in this process"]


def test_it_is_a_doorbell_and_nothing_else() -> None:
    broker = make_broker("amqp://guest:guest@127.0.0.1:1/")
    assert isinstance(broker, DoorbellRabbitmqBroker)
    broker.declare_queue(QUEUE)
    assert broker.get_declared_queues() == {QUEUE}
    assert broker.get_declared_delay_queues() == set()
    assert broker.middleware == []
    assert broker.parameters.heartbeat == 5
    own = DoorbellRabbitmqBroker("amqp://guest:guest@127.0.0.1:1/?heartbeat=30&socket_timeout=7")
    assert (own.parameters.heartbeat, own.parameters.socket_timeout) == (30, 7)
    assert not broker.answers()
    assert broker.length() == 0


def test_a_missing_client_is_said_when_the_configuration_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gateway import settings

    with pytest.raises(ConfigurationError, match="without a password"):
        settings.load_settings(environment={"ECLUSE_BROKER__URL": "amqp://guest@localhost/"})
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"ecluse\[rabbitmq\]"):
        settings.load_settings(environment={"ECLUSE_BROKER__URL": "amqp://guest:guest@localhost/"})


# --- with one -----------------------------------------------------------------------------


def test_rabbitmq_wakes_the_workers(real_rig: Rig, rabbitmq: Rabbitmq) -> None:
    real_rig.run_pool(rabbitmq.url, sweep_seconds=60)
    send_all(real_rig, range(100))
    eventually(lambda: len(real_rig.facts()) == 100, timeout=60)
    assert in_order(real_rig, 100)


def test_a_ring_is_a_lane_and_waits_in_no_other_queue(rabbitmq: Rabbitmq) -> None:
    from gateway.broker import declare_drain

    broker = DoorbellRabbitmqBroker(rabbitmq.url)
    declare_drain(broker, lambda lane: None).send("in:lab")
    assert broker.length() == 1
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        channel = connection.channel()
        method, properties, body = channel.basic_get(SERVER_QUEUE, auto_ack=True)
        assert method is not None
        assert properties.delivery_mode == 1
        assert b'"args":["in:lab"],"kwargs":{},"options":{}' in body
        for name in (QUEUE, f"{QUEUE}.DQ", f"{QUEUE}.XQ"):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker):
                connection.channel().queue_declare(name, passive=True)
    broker.close()


def test_rabbitmq_killed_and_restarted_loses_nothing(real_rig: Rig, rabbitmq: Rabbitmq) -> None:
    pool = real_rig.run_pool(rabbitmq.url)
    send_all(real_rig, range(40))
    with capture_logs() as lines:
        rabbitmq.kill()
        send_all(real_rig, range(40, 120))
        eventually(lambda: len(real_rig.facts()) == 120, timeout=60)
        eventually(lambda: pool.bell.away, timeout=30)
        rabbitmq.start()
        eventually(lambda: not pool.bell.away, timeout=60)
        send_all(real_rig, range(120, 160))
        eventually(lambda: len(real_rig.facts()) == 160, timeout=60)
    assert in_order(real_rig, 160)
    told = [line["event"] for line in lines if line["event"].startswith("rabbitmq")]
    assert told == [
        "rabbitmq does not answer; lanes are drained in this process",
        "rabbitmq answers again",
    ]


def test_a_frozen_rabbitmq_stops_nobody(real_rig: Rig, rabbitmq: Rabbitmq) -> None:
    pool = real_rig.run_pool(rabbitmq.url)
    send_all(real_rig, range(20))
    rabbitmq.signal(signal.SIGSTOP)
    try:
        send_all(real_rig, range(20, 80))
        eventually(lambda: len(real_rig.facts()) == 80, timeout=90)
    finally:
        rabbitmq.signal(signal.SIGCONT)
    eventually(lambda: not pool.bell.away, timeout=60)
    send_all(real_rig, range(80, 100))
    eventually(lambda: len(real_rig.facts()) == 100, timeout=60)
    assert in_order(real_rig, 100)


def test_a_queue_that_somebody_deletes_is_made_again(real_rig: Rig, rabbitmq: Rabbitmq) -> None:
    real_rig.run_pool(rabbitmq.url)
    for start in range(0, 90, 30):
        send_all(real_rig, range(start, start + 30))
        with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
            connection.channel().queue_delete(SERVER_QUEUE)
    eventually(lambda: len(real_rig.facts()) == 90, timeout=60)
    assert in_order(real_rig, 90)


def test_rubbish_in_the_queue_stops_nobody(real_rig: Rig, rabbitmq: Rabbitmq) -> None:
    real_rig.run_pool(rabbitmq.url, sweep_seconds=60)
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        channel = connection.channel()
        for rubbish in (b"no json", b"{}", b'{"queue_name": "lanes"}', b"\xff\x00"):
            channel.basic_publish("", SERVER_QUEUE, rubbish)
    send_all(real_rig, range(30))
    eventually(lambda: len(real_rig.facts()) == 30, timeout=60)
