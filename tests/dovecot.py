"""A real IMAP server (Dovecot) for the tests, started by them and ended by them."""

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

from tests.certificates import Authority
from tests.eventually import eventually
from tests.servers import free_port

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
