"""Workers, brokers and the sweep: everything goes, whatever becomes of the doorbell."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.broker import QUEUE, EmbeddedBroker, make_broker
from gateway.journal.journal import JournalUnavailable
from gateway.journal.states import MessageState
from gateway.journal.times import utc_now
from gateway.model import Again, Cause, CauseCode
from gateway.redis_broker import DoorbellRedisBroker
from gateway.retry import RetryPolicy
from tests.eventually import eventually
from tests.integration.pipeline.rig import Rig, ToyRemote, national, recorded
from tests.servers import Redis, running_redis

AWAY = Cause(code=CauseCode.DESTINATION_UNAVAILABLE)


@pytest.fixture
def real_rig(make_rig: Callable[..., Rig]) -> Rig:
    """A rig on the machine's clock."""
    return make_rig(clock=utc_now)


@pytest.fixture(scope="module")
def doomed_redis() -> Iterator[Redis]:
    """A Redis of this module's own, to be killed and frozen."""
    with running_redis() as server:
        yield server


@pytest.fixture
def own_redis(doomed_redis: Redis) -> Redis:
    if not doomed_redis.answers():
        doomed_redis.start()
    return doomed_redis


def in_order(rig: Rig, count: int) -> bool:
    """Whether each of ``count`` facts came exactly once, in order per patient."""
    rows = recorded(rig.journal)
    order: dict[str, list[int]] = {}
    for patient, _, sequence in rows:
        order.setdefault(patient, []).append(sequence)
    once = sorted(fact for _, fact, _ in rows) == sorted(f"f{n}" for n in range(count))
    return once and all(each == sorted(set(each)) for each in order.values())


def send_all(rig: Rig, numbers: range) -> None:
    futures = [rig.submit({"patient": [national(n % 11)], "facts": [f"f{n}"]}) for n in numbers]
    for future in futures:
        future.result(timeout=30)


# --- embedded -----------------------------------------------------------------------------


def test_the_embedded_broker_drains_what_comes(real_rig: Rig) -> None:
    real_rig.run_pool(sweep_seconds=60)
    send_all(real_rig, range(150))
    eventually(lambda: len(real_rig.facts()) == 150, timeout=30)
    assert in_order(real_rig, 150)


def test_what_was_accepted_before_the_start_is_found_by_the_first_sweep(real_rig: Rig) -> None:
    send_all(real_rig, range(50))
    real_rig.run_pool(sweep_seconds=60)
    eventually(lambda: len(real_rig.facts()) == 50, timeout=30)


def test_a_retry_comes_at_its_time_and_not_at_the_next_sweep(
    make_rig: Callable[..., Rig],
) -> None:
    remote = ToyRemote()
    remote.answers["f0"] = [Again(cause=AWAY, after=timedelta(milliseconds=300))]
    rig = make_rig(clock=utc_now, destinations=[remote])
    rig.run_pool(sweep_seconds=60)
    began = time.monotonic()
    rig.send({"patient": [national(1)], "facts": ["f0"]})
    # The sweep that is asleep for a minute learns of the new time from the ring.
    eventually(lambda: remote.order, timeout=20)
    assert 0.3 <= time.monotonic() - began < 15


def test_a_stop_finishes_the_batch_and_gives_the_lanes_back(real_rig: Rig) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert go_on.wait(20)

    real_rig.reader.bombs["hold"] = hold
    pool = real_rig.run_pool()
    held = real_rig.send({"patient": [national(1)], "facts": ["f0"], "bomb": "hold"})
    assert inside.wait(20)
    rest = real_rig.send({"patient": [national(1)], "facts": ["f1"]})
    stopping = threading.Thread(target=pool.stop)
    stopping.start()
    go_on.set()
    stopping.join(20)
    assert not stopping.is_alive()
    assert real_rig.state(held) is MessageState.ROUTED
    assert real_rig.state(rest) is MessageState.RECEIVED
    # No lease is left to wait for: another worker goes on at once.
    real_rig.drainer = real_rig.new_drainer()
    real_rig.settle()
    assert real_rig.facts() == ["f0", "f1"]


def test_a_journal_that_comes_back_finds_its_workers(
    real_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = real_rig.journal.write
    away = threading.Event()

    @contextlib.contextmanager
    def write() -> Iterator[object]:
        if away.is_set() and threading.current_thread().name != "journal-writer":
            raise JournalUnavailable("gone")
        with really() as connection:
            yield connection

    monkeypatch.setattr(real_rig.journal, "write", write)
    real_rig.run_pool(sweep_seconds=0.1)
    away.set()
    receipt = real_rig.send({"patient": [national(1)], "facts": ["f0"]})
    assert real_rig.state(receipt) is MessageState.RECEIVED
    away.clear()
    eventually(lambda: real_rig.state(receipt) is MessageState.DELIVERED, timeout=20)


# --- Redis --------------------------------------------------------------------------------


def test_redis_wakes_the_workers(real_rig: Rig, redis_url: str) -> None:
    real_rig.run_pool(redis_url, sweep_seconds=60)
    send_all(real_rig, range(100))
    eventually(lambda: len(real_rig.facts()) == 100, timeout=40)
    assert in_order(real_rig, 100)


def test_redis_killed_and_restarted_loses_nothing(real_rig: Rig, own_redis: Redis) -> None:
    pool = real_rig.run_pool(own_redis.url)
    send_all(real_rig, range(40))
    with capture_logs() as lines:
        own_redis.kill()
        send_all(real_rig, range(40, 120))
        # Nothing stands still while Redis is away.
        eventually(lambda: len(real_rig.facts()) == 120, timeout=40)
        eventually(lambda: pool.bell.away, timeout=20)
        own_redis.start()
        eventually(lambda: not pool.bell.away, timeout=20)
        send_all(real_rig, range(120, 160))
        eventually(lambda: len(real_rig.facts()) == 160, timeout=40)
    assert in_order(real_rig, 160)
    told = [line["event"] for line in lines if line["event"].startswith("redis")]
    assert told == [
        "redis does not answer; lanes are drained in this process",
        "redis answers again",
    ]


def test_a_frozen_redis_stops_nobody(real_rig: Rig, own_redis: Redis) -> None:
    assert own_redis.process is not None
    pool = real_rig.run_pool(own_redis.url)
    send_all(real_rig, range(20))
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        send_all(real_rig, range(20, 80))
        eventually(lambda: len(real_rig.facts()) == 80, timeout=40)
    finally:
        own_redis.process.send_signal(signal.SIGCONT)
    eventually(lambda: not pool.bell.away, timeout=20)
    send_all(real_rig, range(80, 100))
    eventually(lambda: len(real_rig.facts()) == 100, timeout=40)
    assert in_order(real_rig, 100)


def test_redis_flushed_under_the_workers_loses_nothing(real_rig: Rig, own_redis: Redis) -> None:
    import redis

    real_rig.run_pool(own_redis.url)
    client = redis.Redis(port=own_redis.port)
    for start in range(0, 120, 30):
        send_all(real_rig, range(start, start + 30))
        client.flushall()
    eventually(lambda: len(real_rig.facts()) == 120, timeout=40)
    assert in_order(real_rig, 120)


def test_the_gateway_starts_while_redis_is_away(real_rig: Rig, own_redis: Redis) -> None:
    own_redis.kill()
    pool = real_rig.run_pool(own_redis.url)
    send_all(real_rig, range(30))
    eventually(lambda: len(real_rig.facts()) == 30, timeout=40)
    assert pool.bell.away


def test_rubbish_in_redis_stops_nobody(real_rig: Rig, own_redis: Redis) -> None:
    """Somebody else writes into our Redis: the sweep brings what the consumer loses."""
    import redis

    real_rig.run_pool(own_redis.url)
    client = redis.Redis(port=own_redis.port)
    client.hset(f"ecluse:{QUEUE}.msgs", "rubbish", "no json")
    client.rpush(f"ecluse:{QUEUE}", "rubbish")
    send_all(real_rig, range(30))
    eventually(lambda: len(real_rig.facts()) == 30, timeout=40)


def test_a_doorbell_that_rings_unheard_is_noticed(
    real_rig: Rig, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis takes every ring and no consumer listens: the sweep drains what is overdue."""
    from gateway import worker

    monkeypatch.setattr(worker, "OVERDUE", timedelta(milliseconds=200))
    monkeypatch.setattr(worker.Worker, "start", lambda self: None)
    monkeypatch.setattr(worker.Worker, "stop", lambda self, timeout: None)
    pool = real_rig.run_pool(redis_url, sweep_seconds=0.1)
    send_all(real_rig, range(20))
    eventually(lambda: len(real_rig.facts()) == 20, timeout=30)
    assert not pool.bell.away


def test_ringing_never_waits_for_a_redis_that_is_away(own_redis: Redis) -> None:
    from gateway.bell import ServerBell
    from gateway.broker import declare_drain

    broker = DoorbellRedisBroker(own_redis.url)
    unheard = threading.Event()
    bell = ServerBell(broker, declare_drain(broker, lambda lane: None), unheard.set)
    own_redis.kill()
    bell.start()
    began = time.monotonic()
    for n in range(1000):
        bell.ring(f"in:{n}")
    assert time.monotonic() - began < 1
    assert unheard.wait(20)
    assert bell.away
    assert bell.busy
    bell.stop()
    broker.close()


# --- the embedded broker by itself ----------------------------------------------------------


def test_a_lane_that_waits_is_not_rung_twice() -> None:
    broker = EmbeddedBroker()
    from gateway.broker import declare_drain

    drained: list[str] = []
    actor = declare_drain(broker, drained.append)
    for _ in range(5):
        actor.send("in:lab")
        actor.send("in:adt")
    assert broker.queues[QUEUE].qsize() == 2
    actor.fn("in:lab")  # a drain begins: from here on a ring is news
    actor.send("in:lab")
    actor.send("in:adt")
    assert broker.queues[QUEUE].qsize() == 3
    with pytest.raises(ValueError, match="never delayed"):
        broker.enqueue(actor.message("in:lab"), delay=1000)


def test_brokers_have_no_delay_queue_and_no_middleware() -> None:
    for broker in (make_broker(), make_broker("redis://127.0.0.1:1/0")):
        broker.declare_queue(QUEUE)
        assert broker.get_declared_queues() == {QUEUE}
        assert broker.get_declared_delay_queues() == set()
        assert broker.middleware == []
    assert isinstance(broker, DoorbellRedisBroker)
    assert broker.maintenance_chance == 1_000_000
    assert broker.heartbeat_timeout == 15_000


def test_the_policy_of_a_destination_is_its_own(
    make_rig: Callable[..., Rig], tmp_path: Path
) -> None:
    quick, slow = ToyRemote("quick"), ToyRemote("slow")
    quick.always = slow.always = Again(cause=AWAY)
    rig = make_rig(destinations=[quick, slow])
    rig.drainer = rig.new_drainer(policies={"quick": RetryPolicy(attempts_max=1)})
    rig.send({"patient": [national(1)], "facts": ["a"]})
    rig.settle()
    assert (len(quick.calls), len(slow.calls)) == (1, 1)
    from deadletter import triage

    assert [each.cause.code for each in triage.letters(rig.journal)] == [CauseCode.GAVE_UP]


def test_a_ring_that_comes_while_the_record_is_drained_is_not_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite the second worker leaves word and goes; the first one asks to be rung again."""
    first = rig.send({"patient": [national(1)], "facts": ["f1"]})
    rig.drainer.drain("in:lab")
    lane = rig.delivery(first).lane
    outbound = rig.drainer._outbound
    empty, go_on = threading.Event(), threading.Event()
    find_due = outbound._due

    def slowly(destination: str) -> tuple[list[str], int]:
        found = find_due(destination)
        if not found[0] and not empty.is_set():
            # It has seen that nothing is due, and has not gone yet.
            empty.set()
            assert go_on.wait(20)
        return found

    monkeypatch.setattr(outbound, "_due", slowly)
    again: list[bool] = []
    worker = threading.Thread(target=lambda: again.append(rig.drainer.drain(lane)))
    worker.start()
    assert empty.wait(20)
    rig.send({"patient": [national(1)], "facts": ["f2"]})
    rig.drainer.drain("in:lab")
    # On PostgreSQL, where workers do not exclude each other, this one does it.
    assert rig.drainer.drain(lane) is False
    assert rig.facts() == (["f1"] if rig.journal.dialect == "sqlite" else ["f1", "f2"])
    go_on.set()
    worker.join(20)
    assert again == [rig.journal.dialect == "sqlite"]
    rig.drainer.drain(lane)
    assert rig.facts() == ["f1", "f2"]


def test_lanes_of_the_record_share_a_ring(rig: Rig) -> None:
    names = [f"p{n:02d}@record" for n in range(40)]
    rung = rig.drainer.rings(["in:lab", *names])
    expected = names[:1] if rig.journal.dialect == "sqlite" else [names[0], names[32]]
    assert rung == ["in:lab", *expected]
