"""A real RabbitMQ for the tests, started by them and ended by them."""

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

from tests.eventually import eventually
from tests.servers import free_port


@dataclass
class Rabbitmq:
    """A private rabbitmq-server on the loopback; ``start``, ``stop``, ``kill``."""

    folder: Path
    port: int = field(default_factory=free_port)
    # Where Erlang's own name server listens, which outlives the node.
    names: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        binary = rabbitmq_binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "plugins").write_text("[].")
        environment = {
            **os.environ,
            "HOME": str(self.folder),  # where Erlang keeps the cookie of its nodes
            "RABBITMQ_NODENAME": f"ecluse{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1 -kernel inet_dist_use_interface"
            " {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.names),
        }
        with (self.folder / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [binary], env=environment, cwd=self.folder, start_new_session=True,
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        eventually(self.answers, timeout=90, every=0.1)

    def answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe,
        ):
            probe.sendall(b"AMQP\0\0\x09\x01")
            return bool(probe.recv(1))
        return False

    def signal(self, number: int) -> None:
        """To the server and all that it started."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=20)

    def stop(self) -> None:
        if self.process is not None:
            self.kill()
            environment = {**os.environ, "ERL_EPMD_PORT": str(self.names)}
            # Not before it has noticed that the node is gone.
            eventually(
                lambda: subprocess.call(
                    ["epmd", "-kill"], env=environment, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                ) == 0,
                timeout=30,
            )  # fmt: skip


def rabbitmq_binary() -> str:
    """FileNotFoundError when none is installed: it is optional (`tools/setup rabbitmq`)."""
    # The wrapper in /usr/sbin changes to an account of its own; this is what it runs.
    server = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    found = str(server) if server.exists() else shutil.which("rabbitmq-server")
    if found is None:
        raise FileNotFoundError("no rabbitmq-server: run `tools/setup rabbitmq`")
    return found


@contextlib.contextmanager
def running_rabbitmq() -> Iterator[Rabbitmq]:
    """A fresh RabbitMQ for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="ecluse-rabbit-", ignore_cleanup_errors=True) as name:
        server = Rabbitmq(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()
