"""Real servers for the tests, started by them and ended by them: PostgreSQL, Redis, Dovecot."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis

from tests.certificates import Authority
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


DOVECOT = """
protocols = imap
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
auth_failure_delay = 0
default_internal_user = {user}
default_internal_group = {user}
default_login_user = {user}
first_valid_uid = 1
mail_location = maildir:{folder}/mail/%u
mail_max_userip_connections = 50
auth_mechanisms = plain external
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
ssl_ca = <{authority}
ssl_verify_client_cert = yes
ssl_require_crl = no
auth_ssl_username_from_cert = yes
ssl_min_protocol = TLSv1.2
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {secure_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap {{
  process_limit = 40
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
  mechanisms = plain login
}}
passdb {{
  driver = static
  args = nopassword=y
  mechanisms = external
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={folder}/home/%u
}}
"""


@dataclass
class Dovecot:
    """A private IMAP server with one password for all; TLS and STARTTLS on ports of its own."""

    folder: Path
    certificate: Path
    key: Path
    authority: Path
    password: str
    port: int = field(default_factory=free_port)
    secure_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def create(self, *users: str) -> None:
        user = "dovecot" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        for name in ("run", "mail", "home"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "users").write_text(
            "".join(f"{name}:{{PLAIN}}{self.password}\n" for name in users)
        )
        (self.folder / "dovecot.conf").write_text(
            DOVECOT.format(
                folder=self.folder, user=user, certificate=self.certificate, key=self.key,
                authority=self.authority, port=self.port, secure_port=self.secure_port,
            )
        )  # fmt: skip
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, "dovecot", "dovecot")

    def start(self) -> None:
        # After a SIGKILL the orphans hold the ports for a moment: a new master ends at once then.
        eventually(self._started, timeout=60, every=0.05)

    def _started(self) -> bool:
        as_dovecot = ["runuser", "-u", "dovecot", "--"] if os.geteuid() == 0 else []
        self.process = process = subprocess.Popen(
            [*as_dovecot, "/usr/sbin/dovecot", "-F", "-c", str(self.folder / "dovecot.conf")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip
        eventually(lambda: process.poll() is not None or self.answers(), timeout=30, every=0.02)
        return process.poll() is None

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """Kill all of its processes: what is connected is cut off."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=20)
            eventually(lambda: not self.answers(), timeout=30)


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
def running_dovecot(authority: Authority, users: Sequence[str]) -> Iterator[Dovecot]:
    """A fresh IMAP server whose certificate is of this authority, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="ecluse-imap-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        issued = authority.issue("localhost", file="imap")
        key, certificate, root = (folder / each for each in ("key.pem", "server.pem", "ca.pem"))
        for source, target in ((issued.key, key), (issued.certificate, certificate),
                               (authority.certificate, root)):  # fmt: skip
            shutil.copy(source, target)
        server = Dovecot(folder, certificate, key, root, password=secrets.token_hex(8))
        server.create(*users)
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
