"""Real servers for the tests, started by them and ended by them: PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from tests.eventually import eventually


def free_port() -> int:
    """A TCP port on the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def postgres_binaries() -> Path:
    """The newest PostgreSQL server's bin folder. FileNotFoundError when none is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3])
    )
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise FileNotFoundError("no PostgreSQL server: run `make servers`")
    return Path(on_path).parent


@dataclass
class Postgres:
    """A private cluster; ``start``, ``stop``, ``kill`` (SIGKILL) and ``url`` of fresh databases."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    databases: int = 0

    def _as_postgres(self) -> list[str]:
        # PostgreSQL refuses to run as root; Debian's package brings the account.
        return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        subprocess.run(
            [
                *self._as_postgres(), str(postgres_binaries() / "initdb"), "-D",
                str(self.folder / "data"), "-U", "ecluse", "-A", "trust", "-E", "UTF8",
                "--locale=C.UTF-8", "--no-sync",
            ],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip

    def start(self) -> None:
        # After a SIGKILL the orphaned backends hold the shared memory for a moment, and a new
        # postmaster refuses to start beside them.
        eventually(self._started, timeout=30, every=0.05)

    def _started(self) -> bool:
        self._spawn()
        eventually(lambda: self.answers() or self._ended(), timeout=30, every=0.05)
        return not self._ended()

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def _spawn(self) -> None:
        self.process = subprocess.Popen(
            [
                *self._as_postgres(), str(postgres_binaries() / "postgres"), "-D",
                str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1",
                "-k", str(self.folder), "-c", "max_connections=60", "-c", "shared_buffers=64MB",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab") if os.geteuid() else subprocess.DEVNULL,
            cwd="/", start_new_session=True,
        )  # fmt: skip

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
            return True
        return False

    def dsn(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=ecluse dbname={database}"

    def fresh_database(self, like: str = "") -> str:
        """A new database; its SQLAlchemy URL. Empty, or a copy of that of the URL ``like``, to
        which nobody may be connected."""
        self.databases += 1
        name = f"test_{self.databases}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            copied = f' TEMPLATE "{like.rpartition("/")[2]}"' if like else ""
            connection.execute(f'CREATE DATABASE "{name}"{copied}'.encode())
        return f"postgresql+psycopg://ecluse@127.0.0.1:{self.port}/{name}"

    def _postmaster(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """SIGKILL to the postmaster, as a power cut of the process would do."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(self._postmaster(), signal.SIGKILL)
        self.process.wait(timeout=10)
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(self._postmaster(), signal.SIGINT)
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Redis:
    """A private redis-server with an append-only file; ``start``, ``stop``, ``kill``."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            raise FileNotFoundError("no redis-server: run `make servers`")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [
                binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir",
                str(self.folder), "--appendonly", "yes", "--save", "",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        eventually(self.answers, timeout=15, every=0.02)

    def answers(self) -> bool:
        client = redis.Redis(port=self.port, socket_timeout=1)
        with contextlib.suppress(redis.RedisError), contextlib.closing(client):
            return bool(client.ping())
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A fresh cluster for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="ecluse-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Postgres(folder / "cluster")
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_redis() -> Iterator[Redis]:
    """A fresh Redis for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="ecluse-redis-", ignore_cleanup_errors=True) as name:
        server = Redis(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()
