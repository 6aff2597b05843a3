"""The gateway under the demonstration: a process of its own, on free ports, in a new folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.demo.clients import Http

START_SECONDS = 60.0
STEP_SECONDS = 30.0
T = TypeVar("T")


class DemonstrationFailed(Exception):
    """The story did not come out as it must. The message says where."""


def wait_for(what: str, condition: Callable[[], T], seconds: float = STEP_SECONDS) -> T:
    """The first truthy value of ``condition``. Raises DemonstrationFailed after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise DemonstrationFailed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class Stage:
    """Starts and ends the gateway; knows its addresses; runs ``ecluse`` commands against it."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    process: subprocess.Popen[bytes] | None = None

    @property
    def mllp(self) -> str:
        """Where HL7 v2 is taken."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def dicom(self) -> str:
        """Where DICOM is taken."""
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def http(self) -> Http:
        """The HTTP face."""
        return self._http

    @property
    def configuration(self) -> Path:
        """The configuration file that was written for the demonstration."""
        return self.folder / "ecluse.yaml"

    def start(self) -> None:
        """Write the configuration, start the process, wait until it is ready."""
        self.configuration.write_text(
            f"state: {json.dumps(str(self.folder / 'state'))}\n"
            f"http: {{listen: '127.0.0.1:{self.ports[2]}'}}\n"
            "sources:\n"
            f"  - {{name: hospital, type: mllp, listen: '{self.mllp}', zone: Europe/Paris}}\n"
            f"  - {{name: scanner, type: dicom, listen: '{self.dicom}', quiet_seconds: 1}}\n"
            "  - {name: practice, type: cda-http}\n",
            encoding="utf-8",
        )
        with (self.folder / "gateway.log").open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command("run"), stdout=output, stderr=output, env=dict(os.environ)
            )
        self._http = Http(f"127.0.0.1:{self.ports[2]}")
        wait_for("the gateway to start", self._ready, START_SECONDS)

    def stop(self) -> None:
        """End the process in order (SIGTERM), or at once if it does not listen."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)

    def ecluse(self, *arguments: str) -> Any:
        """Run an ``ecluse`` command with ``--json``; what it printed, read."""
        done = subprocess.run(  # noqa: S603 - our own command
            self._command(*arguments, "--json"),
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_SECONDS,
        )
        if done.returncode != 0:
            raise DemonstrationFailed(f"ecluse {arguments[0]} said: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def ledger(self) -> dict[str, dict[str, int]]:
        """Per source, what became of its messages."""
        return self._http.ledger()

    def _command(self, *arguments: str) -> list[str]:
        return [
            sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.configuration),
        ]  # fmt: skip

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.folder / "gateway.log").read_text(encoding="utf-8", errors="replace")
            raise DemonstrationFailed(f"the gateway ended by itself:\n{log[-4000:]}")
        return self._http.ready()
