"""Senders go on over open connections, plain and TLS, while the configuration changes."""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.hl7.framing import Frame, FrameReader, frame
from tests.acceptance.gateway_process import GatewayProcess
from tests.certificates import Authority
from tests.eventually import eventually
from tests.integration.hl7.fake_intake import adt, fields
from tests.servers import free_port

pytestmark = pytest.mark.acceptance
IN_FLIGHT = 4
ROUNDS = 6


@dataclass
class Sender(threading.Thread):
    """One connection for all of its messages, several of them under way at a time."""

    name_of: str
    port: int
    context: ssl.SSLContext | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    sent: list[str] = field(default_factory=list)
    answered: list[tuple[str, str]] = field(default_factory=list)
    fault: BaseException | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        try:
            self._converse()
        except BaseException as error:
            self.fault = error

    def _converse(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_hostname="localhost")
        frames = FrameReader()
        with connection:
            while not self.stopping.is_set() or len(self.answered) < len(self.sent):
                while (
                    not self.stopping.is_set() and len(self.sent) - len(self.answered) < IN_FLIGHT
                ):
                    self.sent.append(f"{self.name_of}-{len(self.sent)}")
                    connection.sendall(frame(adt(self.sent[-1])))
                data = connection.recv(1 << 16)
                assert data, "the connection was closed"
                for event in frames.receive(data):
                    assert isinstance(event, Frame)
                    answer = event.payload
                    code = fields(answer, "MSA", 1).decode()
                    self.answered.append((fields(answer, "MSA", 2).decode(), code))


def sources(gateway: GatewayProcess, tls: dict[str, Any], tls_port: int) -> list[dict[str, Any]]:
    secure = {"type": "mllp", "listen": f"127.0.0.1:{tls_port}", "tls": tls}
    return [
        {"name": "lab", "type": "mllp", "listen": f"127.0.0.1:{gateway.mllp_port}"},
        {"name": "ward", **secure, "clients": ["cn:ward"]},
        {"name": "imaging", **secure, "clients": ["cn:imaging"]},
    ]


def test_no_message_and_no_connection_is_lost(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    server = authority.issue("server")
    tls = {"certificate": str(server.certificate), "key": str(server.key),
           "client_ca": str(authority.certificate)}  # fmt: skip
    tls_port, extra_port = free_port(), free_port()
    gateway = GatewayProcess(tmp_path / "gateway")
    first = sources(gateway, tls, tls_port)
    gateway.extra = {"sources": first}

    def context(name: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(authority.certificate))
        client = authority.issue(name)
        made.load_cert_chain(client.certificate, client.key)
        return made

    def write(text: str) -> None:
        partial = gateway.configuration.with_suffix(".part")
        partial.write_text(text, encoding="utf-8")
        partial.replace(gateway.configuration)

    def reading() -> dict[str, Any]:
        found: dict[str, Any] = gateway.get("/api/v1/configuration")
        return found

    def reloaded_since(at: str) -> bool:
        return bool(reading()["at"] != at)

    gateway.start()
    senders = [Sender(f"lab{number}", gateway.mllp_port) for number in range(2)]
    senders += [Sender(name, tls_port, context(name)) for name in ("ward", "imaging")]
    try:
        for sender in senders:
            sender.start()
        base = yaml.safe_load(gateway.configuration.read_text(encoding="utf-8"))
        for number in range(ROUNDS):
            progress = [len(each.answered) for each in senders]
            changed = [
                {**each, "frame_bytes_max": 1_000_000 + number, "frames_in_flight_max": 2 + number,
                 "charset_default": "8859/1" if number % 2 else "UTF-8"}
                for each in first
            ]  # fmt: skip
            if number % 2:
                changed.append({"name": f"extra{number}", "type": "mllp",
                                "listen": f"127.0.0.1:{extra_port}"})  # fmt: skip
            at = reading()["at"]
            if number == 3:
                write("sources:\n  - {name: lab, type: mllp, listen: nowhere}\n")
            else:
                write(yaml.safe_dump({**base, "sources": changed}))
            if number == 4:
                authority.issue("server")  # taken up by itself, while all goes on
            if number % 3 == 2:
                gateway.command("reload")
            else:
                assert gateway.process is not None
                gateway.process.send_signal(signal.SIGHUP)
            eventually(lambda at=at: reloaded_since(at), timeout=30)
            last = reading()
            assert last["in_force"] is (number != 3), last
            if number == 3:
                assert ":2:5: sources.0: " in last["problems"][0], last
            eventually(
                lambda progress=progress: all(
                    sender.fault or len(sender.answered) > before + IN_FLIGHT
                    for sender, before in zip(senders, progress, strict=True)
                ),
                timeout=30,
            )
    finally:
        for sender in senders:
            sender.stopping.set()
        for sender in senders:
            sender.join(30)
        code = gateway.stop() if gateway.process and any(s.fault for s in senders) else None
    assert code is None, [sender.fault for sender in senders]
    for sender in senders:
        assert sender.answered == [(name, "AA") for name in sender.sent]
    eventually(gateway.settled, timeout=60)
    ledger = gateway.ledger()
    by_source = {"lab": senders[:2], "ward": senders[2:3], "imaging": senders[3:]}
    for name, own in by_source.items():
        expected = sum(len(sender.sent) for sender in own)
        assert (ledger[name]["received"], ledger[name]["duplicates"]) == (expected, 0)
    assert gateway.stop() == 0, gateway.log_tail()
