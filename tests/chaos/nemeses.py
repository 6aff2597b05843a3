"""The faults. Each is done once by a call, and undone before the call returns."""

from __future__ import annotations

import contextlib
import getpass
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import redis

from tests import fhir_server
from tests.chaos.house import STORES, House, strace
from tests.chaos.relay import Line, Relay
from tests.eventually import eventually
from tests.servers import Postgres, Redis

FULL_DISK_BYTES = 1 << 20
"""As large as a file may become while a server's disk is full."""

LIMIT_TRIES = 50
"""A tenth of a second apart: how often a process's limit is asked for."""


@dataclass(frozen=True)
class Length:
    """How long faults last, in seconds. ``frozen`` is longer than a lease in a long run."""

    shortest: float
    longest: float
    frozen: float

    def some(self, chance: random.Random) -> float:
        """A length drawn at random."""
        return chance.uniform(self.shortest, self.longest)


LONG = Length(0.5, 6.0, 75.0)
SHORT = Length(0.2, 1.0, 2.0)

Strike = Callable[[House, random.Random, Length], None]


@dataclass(frozen=True)
class Nemesis:
    """One fault; ``weight`` says how often it is drawn beside the others."""

    name: str
    strike: Strike
    weight: int = 4
    stores: Sequence[str] = STORES
    needs_clock: bool = False
    needs_strace: bool = False


def draw(house: House, chance: random.Random, only: Sequence[str] = ()) -> Nemesis:
    """A fault that can be done to this house."""
    possible = [
        each
        for each in NEMESES
        if house.store in each.stores
        and (house.clock is not None or not each.needs_clock)
        and (strace() is not None or not each.needs_strace)
        and (not only or each.name in only)
    ]
    if not possible:
        raise ValueError(f"none of {', '.join(only)} can be done to {house.store}")
    return chance.choices(possible, [each.weight for each in possible])[0]


# --- the gateway ------------------------------------------------------------------


def kill_gateway(house: House, chance: random.Random, length: Length) -> None:
    """SIGKILL, and a new start."""
    house.gateway.kill()
    house.gateway.start(timeout=120)


def kill_at_answer(house: House, chance: random.Random, length: Length) -> None:
    """SIGKILL in the moment in which a sender has read an answer: what was promised must be
    durable by then."""
    process = house.gateway.process
    assert process is not None
    chance.choice(house.senders).on_acknowledged = process.kill
    # No answer may come for a while, if the journal is away at the moment.
    with contextlib.suppress(AssertionError):
        eventually(lambda: process.poll() is not None, timeout=15)
    house.gateway.kill()
    house.gateway.start(timeout=120)


def kill_together(house: House, chance: random.Random, length: Length) -> None:
    """SIGKILL to the gateway and in the same moment to Redis, PostgreSQL or both, as one host
    with all of them dies."""
    servers: list[Postgres | Redis] = [each for each in (house.postgres, house.redis) if each]
    struck = chance.sample(servers, chance.randint(1, len(servers)))
    house.gateway.kill()
    for server in struck:
        server.kill()
    for server in struck:
        server.start()
    house.gateway.start(timeout=120)


def restart_gateway(house: House, chance: random.Random, length: Length) -> None:
    """SIGTERM as an upgrade does; what it has in hand is to be finished or given back."""
    code = house.gateway.stop()
    if code != 0:
        raise AssertionError(f"the gateway ended with {code}:\n{house.gateway.log_tail()}")
    house.gateway.start(timeout=120)


def kill_mapping_process(house: House, chance: random.Random, length: Length) -> None:
    """SIGKILL to a process beside the gateway that reads and maps, if there is one now."""
    children = house.all_processes()[1:]
    if children:
        with contextlib.suppress(psutil.NoSuchProcess):
            chance.choice(children).kill()


def freeze_gateway(house: House, chance: random.Random, length: Length) -> None:
    """SIGSTOP, as a host does that is moved or that swaps; then SIGCONT."""
    process = house.process()
    process.send_signal(signal.SIGSTOP)
    time.sleep(length.frozen)
    process.send_signal(signal.SIGCONT)


def fill_disk(house: House, chance: random.Random, length: Length) -> None:
    """No file of the gateway may grow for a while (EFBIG stands for ENOSPC)."""
    journal = house.gateway.folder / "state"
    largest = max((path.stat().st_size for path in _files(journal)), default=FULL_DISK_BYTES)
    with _files_no_larger_than(house.all_processes(), largest // 2):
        time.sleep(length.some(chance))


def move_clock(house: House, chance: random.Random, length: Length) -> None:
    """An hour or a day forward or an hour back; sometimes a crash before it is set right."""
    house.move_clock(chance.choice([3600, 86400, -3600]))
    time.sleep(length.some(chance))
    if chance.random() < 0.5:
        house.gateway.kill()
        house.move_clock(0)
        house.gateway.start(timeout=120)
    house.move_clock(0)


def _calls_fail(calls: str, error: str) -> Strike:
    """For a while the kernel answers these calls of the gateway's with an error, as it does for
    every file of a disk that is full, was mounted read-only after an error, or is failing."""

    def strike(house: House, chance: random.Random, length: Length) -> None:
        program = strace()
        assert program is not None, "it is drawn only where strace is"
        injecting = subprocess.Popen(
            [
                program, "-f", "-qq", "-o", "/dev/null", "-p", str(house.process().pid),
                "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(length.some(chance))
        injecting.terminate()
        injecting.wait(timeout=30)

    return strike


_WRITING = "pwrite64,pwritev,ftruncate,fallocate,rename,renameat2,unlink,unlinkat,mkdir"
_FLUSHING = "fsync,fdatasync"


# --- the destination elsewhere -----------------------------------------------------


def _region(fault: fhir_server.Fault) -> Strike:
    """For a while every request there ends like this; now and then the gateway dies over it."""

    def strike(house: House, chance: random.Random, length: Length) -> None:
        house.region.always = fault
        time.sleep(length.some(chance))
        if chance.random() < 0.3:
            kill_gateway(house, chance, length)
        house.region.always = None

    return strike


def hide_region(house: House, chance: random.Random, length: Length) -> None:
    """Its connections are cut and new ones are refused."""
    with _line(house.region.relay, Line.REFUSED) as relay_cut:
        relay_cut()
        time.sleep(length.some(chance))


def mute_region(house: House, chance: random.Random, length: Length) -> None:
    """It does what it is told and its answers are lost; then the connections are cut."""
    with _line(house.region.relay, Line.MUTE) as relay_cut:
        time.sleep(length.some(chance))
        relay_cut()


# --- Redis ------------------------------------------------------------------------


def kill_redis(house: House, chance: random.Random, length: Length) -> None:
    """SIGKILL; its append-only file is there when it starts again."""
    assert house.redis is not None
    house.redis.kill()
    time.sleep(length.some(chance))
    house.redis.start()


def forget_redis(house: House, chance: random.Random, length: Length) -> None:
    """SIGKILL, and no append-only file: it starts empty."""
    assert house.redis is not None
    house.redis.kill()
    shutil.rmtree(house.redis.folder / "appendonlydir", ignore_errors=True)
    house.redis.start()


def flush_redis(house: House, chance: random.Random, length: Length) -> None:
    """FLUSHALL by somebody who thought that it was another server."""
    assert house.redis is not None
    with contextlib.closing(redis.Redis(port=house.redis.port)) as client:
        client.flushall()


def freeze_redis(house: House, chance: random.Random, length: Length) -> None:
    """SIGSTOP for longer than a client waits."""
    assert house.redis is not None
    assert house.redis.process is not None
    house.redis.process.send_signal(signal.SIGSTOP)
    time.sleep(length.some(chance))
    house.redis.process.send_signal(signal.SIGCONT)


def hide_redis(house: House, chance: random.Random, length: Length) -> None:
    """Its connections are cut and new ones are refused."""
    with _line(_redis_relay(house), Line.REFUSED) as relay_cut:
        relay_cut()
        time.sleep(length.some(chance))


def mute_redis(house: House, chance: random.Random, length: Length) -> None:
    """It does what it is told and its answers are lost; then the connections are cut."""
    with _line(_redis_relay(house), Line.MUTE) as relay_cut:
        time.sleep(length.some(chance))
        relay_cut()


def cut_redis(house: House, chance: random.Random, length: Length) -> None:
    """Its connections are cut in the middle; new ones go through."""
    _redis_relay(house).cut()


# --- PostgreSQL -------------------------------------------------------------------


def kill_postgres(house: House, chance: random.Random, length: Length) -> None:
    """SIGKILL to the postmaster, and recovery."""
    assert house.postgres is not None
    house.postgres.kill()
    time.sleep(length.some(chance))
    house.postgres.start()


def restart_postgres(house: House, chance: random.Random, length: Length) -> None:
    """A fast shutdown and a start, as a failover looks to its clients."""
    assert house.postgres is not None
    house.postgres.stop()
    house.postgres.start()


def cut_postgres(house: House, chance: random.Random, length: Length) -> None:
    """Every backend of the gateway's is terminated."""
    _as_administrator(
        house, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%'"
    )


def read_only_postgres(house: House, chance: random.Random, length: Length) -> None:
    """New transactions may only read, as on a standby that was not promoted."""
    _as_administrator(house, "ALTER SYSTEM SET default_transaction_read_only = on")
    _as_administrator(house, "SELECT pg_reload_conf()")
    time.sleep(length.some(chance))
    _as_administrator(house, "ALTER SYSTEM RESET default_transaction_read_only", writing=True)
    _as_administrator(house, "SELECT pg_reload_conf()")


def fill_disk_of_postgres(house: House, chance: random.Random, length: Length) -> None:
    """No file of PostgreSQL may grow beyond 1 MiB for a while; it may crash over that."""
    assert house.postgres is not None
    assert house.postgres.process is not None
    top = psutil.Process(house.postgres.process.pid)
    with _files_no_larger_than([top, *top.children(recursive=True)], FULL_DISK_BYTES):
        time.sleep(length.some(chance))
    if not house.postgres.answers():
        house.postgres.stop()
        house.postgres.start()


def _on_sqlite(name: str, strike: Strike) -> Nemesis:
    return Nemesis(name, strike, 2, stores=("sqlite",), needs_strace=True)


NEMESES = (
    Nemesis("kill-gateway", kill_gateway, 12),
    Nemesis("kill-at-answer", kill_at_answer, 12),
    Nemesis("kill-together", kill_together, 8, stores=("postgresql",)),
    Nemesis("restart-gateway", restart_gateway),
    Nemesis("kill-mapping-process", kill_mapping_process),
    Nemesis("freeze-gateway", freeze_gateway, 1),
    Nemesis("fill-disk", fill_disk, stores=("sqlite",)),
    _on_sqlite("full-disk", _calls_fail(_WRITING, "ENOSPC")),
    _on_sqlite("read-only-disk", _calls_fail(_WRITING, "EROFS")),
    _on_sqlite("failing-disk", _calls_fail(_FLUSHING, "EIO")),
    Nemesis("move-clock", move_clock, needs_clock=True),
    Nemesis("region-answers-500", _region(fhir_server.says(500)), 1),
    Nemesis("region-silent-after-applying", _region(fhir_server.silent_after_applying), 2),
    Nemesis("region-hangs", _region(fhir_server.hangs), 1),
    Nemesis("region-resets", _region(fhir_server.resets), 1),
    Nemesis("region-resets-after-applying", _region(fhir_server.resets_after_applying), 2),
    Nemesis("region-answers-garbage", _region(fhir_server.garbage), 1),
    Nemesis("region-drips", _region(fhir_server.drips), 1),
    Nemesis("region-is-slow", _region(fhir_server.slowly(1.0)), 1),
    Nemesis("hide-region", hide_region, 1),
    Nemesis("mute-region", mute_region, 1),
    Nemesis("kill-redis", kill_redis, stores=("postgresql",)),
    Nemesis("forget-redis", forget_redis, stores=("postgresql",)),
    Nemesis("flush-redis", flush_redis, stores=("postgresql",)),
    Nemesis("freeze-redis", freeze_redis, 2, stores=("postgresql",)),
    Nemesis("hide-redis", hide_redis, stores=("postgresql",)),
    Nemesis("mute-redis", mute_redis, stores=("postgresql",)),
    Nemesis("cut-redis", cut_redis, stores=("postgresql",)),
    Nemesis("kill-postgres", kill_postgres, 8, stores=("postgresql",)),
    Nemesis("restart-postgres", restart_postgres, stores=("postgresql",)),
    Nemesis("cut-postgres", cut_postgres, stores=("postgresql",)),
    Nemesis("read-only-postgres", read_only_postgres, stores=("postgresql",)),
    Nemesis("fill-disk-of-postgres", fill_disk_of_postgres, 2, stores=("postgresql",)),
)


# --- what they are made of --------------------------------------------------------


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def _files_no_larger_than(processes: Sequence[psutil.Process], limit: int) -> Iterator[None]:
    """Writing beyond ``limit`` bytes of any file fails in these processes."""
    for process in processes:
        _limit(process, limit)
    try:
        yield
    finally:
        for process in processes:
            _limit(process, resource.RLIM_INFINITY)


def _limit(process: psutil.Process, soft: int) -> None:
    """The limit of a process, set by its own user: another one's is nobody's, not even root's.

    What is just ending, or just becoming another user's, refuses it for a moment."""
    limit = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)

    def refusal() -> str:
        """Empty when it is set, or when there is nothing left to set it for."""
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return ""
            user = process.username()
        except psutil.NoSuchProcess:
            return ""
        command = ["prlimit", f"--fsize={limit}:unlimited", "--pid", str(process.pid)]
        if user != getpass.getuser():
            command = ["runuser", "-u", user, "--", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"{' '.join(command)}: {done.stderr.strip()}" if done.returncode else ""

    for _ in range(LIMIT_TRIES):
        refused = refusal()
        if not refused:
            return
        time.sleep(0.1)
    raise AssertionError(refused)


@contextlib.contextmanager
def _line(relay: Relay, line: Line) -> Iterator[Callable[[], int]]:
    relay.line = line
    try:
        yield relay.cut
    finally:
        relay.line = Line.OPEN


def _redis_relay(house: House) -> Relay:
    assert house.relay is not None
    return house.relay


def _as_administrator(house: House, statement: str, *, writing: bool = False) -> None:
    assert house.postgres is not None
    postgres = house.postgres
    eventually(postgres.answers, timeout=30)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        if writing:
            connection.execute("SET default_transaction_read_only = off")
        connection.execute(statement.encode())
