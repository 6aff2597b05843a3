"""What the exchanges stand on: a gateway as a process, and the two toolkits."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import httpx2
import yaml

from adapters.dicom.part10 import read_file_meta
from tests.certificates import Authority
from tests.eventually import eventually

TIMEOUT = 90.0


class NoAnswer(Exception):
    """A toolkit said nothing for too long, or ended."""


class Ports(NamedTuple):
    """Where everybody listens, on the loopback."""

    http: int
    hl7: int
    dicom: int
    tls: int
    node: int
    node_tls: int
    rust: int


def free_ports() -> Ports:
    """Ports that are free now and that no connection is given by chance (Linux takes those from
    32768 on), because some are listened at much later."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == len(Ports._fields):
            return Ports(*found)
    raise AssertionError("too few ports are free")


class Gateway:
    """``ecluse run`` with two DICOM doors (one for TLS with a client's certificate), an HL7
    door, and two archives to which studies go: one of each toolkit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports()
        self.authority = Authority(folder / "keys")
        self.own = self.authority.issue("gateway")
        self.other = self.authority.issue("peer")
        self._log: IO[bytes] = (folder / "gateway.log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    def _peers(self) -> list[dict[str, Any]]:
        ports, ca = self.ports, str(self.authority.certificate)
        return [
            {"ae_title": "NODE", "connect": f"127.0.0.1:{ports.node}"},
            {"ae_title": "NODESCP", "connect": f"127.0.0.1:{ports.node}"},
            {
                "ae_title": "NODETLS", "connect": f"127.0.0.1:{ports.node_tls}",
                "tls": {
                    "ca": ca, "certificate": str(self.own.certificate), "key": str(self.own.key),
                    "server_name": "localhost",
                },
            },
            {"ae_title": "RSSCU"},
            {"ae_title": "RSSCP", "connect": f"127.0.0.1:{ports.rust}"},
        ]  # fmt: skip

    def configuration(self) -> dict[str, Any]:
        """The settings of the gateway."""
        ports = self.ports
        plain = {
            "name": "imaging", "type": "dicom", "listen": f"127.0.0.1:{ports.dicom}",
            "free_bytes_min": 0, "quiet_seconds": 1, "query_results_max": 200, "peers": self._peers(),
            "associations_per_address_max": 40,
        }  # fmt: skip
        keys = {
            "certificate": str(self.own.certificate), "key": str(self.own.key),
            "client_ca": str(self.authority.certificate),
        }  # fmt: skip
        retry = {"base_seconds": 0.2, "cap_seconds": 0.5, "attempts_max": 100}
        again = {"breaker": {"failures": 2, "open_seconds": 0.3}, "retry": retry}
        return {
            "state": str(self.folder / "state"),
            "http": {"listen": f"127.0.0.1:{ports.http}"},
            "dicomweb": {"url": f"{self.base}/dicomweb"},
            "sources": [
                {"name": "ris", "type": "mllp", "listen": f"127.0.0.1:{ports.hl7}"},
                plain,
                plain | {"name": "secure", "listen": f"127.0.0.1:{ports.tls}", "tls": keys},
            ],
            "destinations": [
                {"name": "record"},
                {
                    "name": "node", "type": "dicom", "connect": f"127.0.0.1:{ports.node}",
                    "ae_title": "NODESCP", "commitment": True, **again,
                },
                {
                    "name": "rust", "type": "dicom", "connect": f"127.0.0.1:{ports.rust}",
                    "ae_title": "RSSCP", **again,
                },
            ],
        }  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        configuration = self.folder / "ecluse.yaml"
        configuration.write_text(yaml.safe_dump(self.configuration()), encoding="utf-8")
        command = [sys.executable, "-m", "gateway.cli", "run", "--config", str(configuration)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        eventually(self._ready, timeout=TIMEOUT)

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "gateway.log").read_text(encoding="utf-8"))
        with contextlib.suppress(httpx2.HTTPError):
            return httpx2.get(f"{self.base}/readyz", timeout=5).status_code == 200
        return False

    def stop(self) -> None:
        """End it. Its log stays in the folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        self._log.close()

    def get(self, path: str, **parameters: str) -> Any:
        """JSON of its REST API."""
        answer = httpx2.get(f"{self.base}{path}", params=parameters or None, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    def held(self, uid: str) -> tuple[str, str] | None:
        """Transfer syntax and digest of the data set of an object that is held."""
        content = self.file(uid)
        return None if content is None else part10(content)

    def file(self, uid: str) -> bytes | None:
        """An object that is held, as it is kept, by DICOMweb."""
        found = httpx2.get(
            f"{self.base}/dicomweb/instances", params={"SOPInstanceUID": uid}, timeout=TIMEOUT
        )
        if found.status_code != 200 or not found.content:
            return None
        (one,) = found.json()[:1]
        study, series = (one[tag]["Value"][0] for tag in ("0020000D", "0020000E"))
        answer = httpx2.get(
            f"{self.base}/dicomweb/studies/{study}/series/{series}/instances/{uid}",
            headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=TIMEOUT,
        )  # fmt: skip
        answer.raise_for_status()
        return answer.content

    def settled(self) -> bool:
        """Whether nothing that was accepted is on its way any more."""
        lines = self.get("/api/v1/status")["sources"]
        return all(line["pending"] == 0 for line in lines.values())

    def command(self, *arguments: str) -> int:
        """The exit code of ``ecluse dicom …``."""
        command = [sys.executable, "-m", "gateway.cli", "dicom", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        return done.returncode

    def tell(self, message: str) -> str:
        """An HL7 v2 message by MLLP; the code of its acknowledgement."""
        with socket.create_connection(("127.0.0.1", self.ports.hl7), timeout=TIMEOUT) as door:
            door.sendall(b"\x0b" + message.encode() + b"\x1c\r")
            answer = b""
            while not answer.endswith(b"\x1c\r"):
                piece = door.recv(65_536)
                if not piece:
                    raise NoAnswer("the gateway closed the HL7 connection")
                answer += piece
        return answer.split(b"MSA|")[1][:2].decode()


def part10(content: bytes) -> tuple[str, str]:
    """Transfer syntax, and digest of the data set, of a DICOM file."""
    meta = read_file_meta(BytesIO(content), len(content))
    return meta.transfer_syntax, hashlib.sha256(content[meta.data_set_offset :]).hexdigest()


class Node:
    """dcmjs-dimse as a process that is spoken to line by line (peer.js)."""

    def __init__(self, modules: Path, errors: IO[bytes]) -> None:
        script = Path(__file__).with_name("peer.js")
        self._process = subprocess.Popen(
            ["node", str(script), str(modules)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        self._said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)
        self._said.put(None)

    def do(self, deed: str, **asked: Any) -> Any:
        """One deed and what came of it. Raises NoAnswer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": deed, **asked}) + "\n")
            self._process.stdin.flush()
            said = self._said.get(timeout=TIMEOUT)
        except (OSError, queue.Empty):
            raise NoAnswer(f"dcmjs-dimse does not answer {deed}") from None
        if said is None:
            raise NoAnswer(f"dcmjs-dimse has ended at {deed}")
        told = json.loads(said)
        if "error" in told:
            raise NoAnswer(f"dcmjs-dimse fails at {deed}: {told['error']}")
        return told

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait(30)


class Rust:
    """The programs of dicom-rs."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs

    def run(self, program: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``dicom-…`` to its end. Raises NoAnswer when it does not come to one."""
        command = [str(self._programs / f"dicom-{program}"), *options]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"dicom-{program} has not ended") from None

    @contextlib.contextmanager
    def storing(self, port: int, folder: Path, *options: str) -> Iterator[Path]:
        """dicom-storescp, which puts what it gets into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        command = [str(self._programs / "dicom-storescp"), "-p", str(port), "-o", str(folder)]
        with (folder.parent / f"{folder.name}.log").open("wb") as log:
            process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
            try:
                eventually(lambda: _listens(port), timeout=TIMEOUT)
                yield folder
            finally:
                process.terminate()
                process.wait(30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
