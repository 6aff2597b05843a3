"""The gateway as a process of its own, that a test may kill."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2
import yaml

from tests import forking
from tests.eventually import eventually
from tests.http_client import HTTP
from tests.migrated import migrated
from tests.servers import free_port


@dataclass
class GatewayProcess:
    """Started with its own configuration file; ports stay the same over restarts."""

    folder: Path
    journal_url: str = ""
    broker_url: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    mllp_port: int = field(default_factory=free_port)
    dicom_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | forking.Forked | None = None
    starts: int = 0
    launcher: tuple[str, ...] = ()
    """What runs the command line; ``python -m gateway.cli`` when empty, as a fork
    (:mod:`tests.forking`)."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def configuration(self) -> Path:
        return self.folder / "ecluse.yaml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def write_configuration(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tree: dict[str, Any] = {
            "state": str(self.folder / "state"),
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "sources": [
                {"name": "lab", "type": "mllp", "listen": f"127.0.0.1:{self.mllp_port}"},
                {
                    "name": "ct", "type": "dicom", "listen": f"127.0.0.1:{self.dicom_port}",
                    "quiet_seconds": 1,
                },
                {"name": "practice", "type": "cda-http"},
                {"name": "drop", "type": "cda-folder", "path": str(self.folder / "drop")},
            ],
        }  # fmt: skip
        if self.journal_url:
            tree["journal"] = {"url": self.journal_url}
        if self.broker_url:
            tree["broker"] = {"url": self.broker_url}
        tree.update(self.extra)
        self.configuration.write_text(yaml.safe_dump(tree), encoding="utf-8")
        if "journal" not in tree:
            migrated(self.folder / "state/journal.sqlite")

    def start(self, *, timeout: float = 60) -> None:
        if not self.configuration.exists():
            self.write_configuration()
        self.starts += 1
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = self._process(log)
        try:
            eventually(self.ready, timeout=timeout, every=0.03)
        except AssertionError:
            raise AssertionError(f"the gateway did not start:\n{self.log_tail()}") from None

    def _process(self, log: IO[bytes]) -> subprocess.Popen[bytes] | forking.Forked:
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1", **self.environment}
        command = ("run", "--config", str(self.configuration))
        python, option, module, *more = self.launcher or (sys.executable, "-m", "gateway.cli")
        if (python, option) == (sys.executable, "-m") and module in forking.MODULES:
            return forking.start(
                [*more, *command], stdout=log, stderr=log, environment=environment, module=module
            )
        return subprocess.Popen(
            [*self.launcher, *command],
            stdout=log, stderr=log, start_new_session=True, env=environment,
        )  # fmt: skip

    def ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the gateway ended by itself:\n{self.log_tail()}")
        with contextlib.suppress(httpx2.HTTPError):
            return HTTP.get(f"{self.url}/readyz", timeout=2).status_code == 200
        return False

    def log_tail(self, lines: int = 40) -> str:
        text = (self.folder / "gateway.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def command(self, *arguments: str, check: bool = True) -> Any:
        """Run an ``ecluse`` command against this gateway; its JSON when it prints any."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            process = forking.start(
                [*arguments, "--config", str(self.configuration)], stdout=stdout, stderr=stderr
            )
            try:
                code = process.wait(120)
            finally:
                process.kill()
            said, faults = (each.seek(0) or each.read().decode() for each in (stdout, stderr))
        if check and code != 0:
            raise AssertionError(f"ecluse {' '.join(arguments)}: {code}\n{faults}")
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(said)
        return said

    def get(self, path: str, **parameters: str) -> Any:
        answer = HTTP.get(f"{self.url}{path}", params=parameters or None, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def settled(self) -> bool:
        """Whether nothing is on its way any more."""
        return all(line["pending"] == 0 for line in self.ledger().values())

    def ledger(self) -> dict[str, dict[str, int]]:
        """Per source, from ``ecluse status --json``."""
        status: dict[str, dict[str, int]] = self.get("/api/v1/status")["sources"]
        return status
