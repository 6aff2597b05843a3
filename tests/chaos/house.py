"""The processes that faults are done to: a gateway, and the servers that it needs."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.gateway_process import GatewayProcess
from tests.chaos import region
from tests.chaos.region import Region
from tests.chaos.relay import Relay
from tests.chaos.senders import Sender
from tests.servers import Postgres, Redis, free_port, running_postgres, running_redis

STORES = ("sqlite", "postgresql")


@dataclass
class House:
    """``store`` is sqlite (embedded, alone) or postgresql (with Redis behind a relay). Messages of
    the source that listens on ``ward_port`` go to the region, too."""

    store: str
    gateway: GatewayProcess
    region: Region
    ward_port: int
    postgres: Postgres | None = None
    redis: Redis | None = None
    relay: Relay | None = None
    clock: Path | None = None
    """The file that moves the gateway's clock, where that is possible."""
    senders: list[Sender] = field(default_factory=list)
    """Those that send now."""

    def process(self) -> psutil.Process:
        """The gateway's process."""
        assert self.gateway.process is not None
        return psutil.Process(self.gateway.process.pid)

    def all_processes(self) -> list[psutil.Process]:
        """The gateway's process and those that it started, as far as they still are there."""
        try:
            process = self.process()
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def move_clock(self, seconds: int) -> None:
        """3600 puts the gateway's clock an hour forward, 0 back to the truth."""
        assert self.clock is not None
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(str(seconds), encoding="ascii")
        fresh.replace(self.clock)

    def raise_up(self) -> None:
        """Start whatever does not run any more."""
        if self.postgres is not None and not self.postgres.answers():
            self.postgres.stop()
            self.postgres.start()
        if self.redis is not None and not self.redis.answers():
            self.redis.stop()
            self.redis.start()
        process = self.gateway.process
        if process is None or process.poll() is not None:
            self.gateway.start(timeout=120)


@contextlib.contextmanager
def house(
    store: str,
    folder: Path,
    *,
    launcher: Sequence[str] = (),
    movable_clock: bool = False,
    lease_seconds: float = 5.0,
) -> Iterator[House]:
    """A house that stands; everything in it ends with the block.

    ``launcher`` replaces ``-m gateway.cli`` (a gateway with a seeded defect). For up to
    ``lease_seconds`` nobody touches a lane whose worker was killed.
    """
    with contextlib.ExitStack() as stack:
        gateway = GatewayProcess(folder / "gateway", launcher=tuple(launcher))
        built = House(store, gateway, Region(), free_port())
        stack.callback(built.region.close)
        gateway.extra = _configured(built, lease_seconds)
        if movable_clock:
            folder.mkdir(parents=True, exist_ok=True)
            built.clock = folder / "clock"
            built.move_clock(0)
            gateway.launcher = tuple(interpreter("tests.chaos.clock", str(built.clock)))
        if store == "postgresql":
            built.postgres = stack.enter_context(running_postgres())
            built.redis = stack.enter_context(running_redis())
            built.relay = Relay(built.redis.port)
            stack.callback(built.relay.close)
            gateway.journal_url = built.postgres.fresh_database()
            gateway.broker_url = f"redis://127.0.0.1:{built.relay.port}/0"
        stack.callback(_end, gateway)
        yield built


def _configured(house: House, lease_seconds: float) -> dict[str, Any]:
    """What differs from a gateway's configuration in other tests."""
    listen = {"type": "mllp"}
    return {
        "worker": {"lease_seconds": lease_seconds},
        "sources": [
            {"name": "lab", "listen": f"127.0.0.1:{house.gateway.mllp_port}", **listen},
            {"name": region.SOURCE, "listen": f"127.0.0.1:{house.ward_port}", **listen},
        ],
        "destinations": [
            {"name": "record"},
            {
                "name": region.NAME, "type": "fhir", "url": house.region.url,
                "sources": [region.SOURCE],
                "timeout_seconds": 3, "connect_timeout_seconds": 2, "connections": 2,
                "breaker": {"failures": 3, "open_seconds": 1, "open_max_seconds": 4},
                # A run is a bad day: nothing is given up.
                "retry": {"base_seconds": 0.2, "cap_seconds": 2, "attempts_max": 1000},
            },
        ],
    }  # fmt: skip


def _end(gateway: GatewayProcess) -> None:
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.kill()


def interpreter(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of the tests in place of ``-m gateway.cli``."""
    return [sys.executable, "-m", module, *arguments]


def strace() -> str | None:
    """The program that shows what a process asks of the kernel; None where there is none."""
    return shutil.which("strace")
