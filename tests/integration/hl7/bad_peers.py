"""Receivers that misbehave, written on bare sockets, and what they say."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from adapters.hl7.framing import Frame, FrameReader, frame
from tests.integration.hl7.fake_intake import adt, fields


def ack(control_id: bytes | str, code: str = "AA", *more: str) -> bytes:
    name = control_id.decode() if isinstance(control_id, bytes) else control_id
    lines = ("MSH|^~\\&|||||||ACK|9|P|2.5", f"MSA|{code}|{name}", *more, "")
    return frame("\r".join(lines).encode())


Respond = Callable[[bytes, int, socket.socket], None]


@dataclass
class BadPeer:
    """A receiver in a thread: ``respond`` gets the control id, its number, and the socket."""

    respond: Respond
    context: ssl.SSLContext | None = None
    seen: list[str] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        frames = FrameReader()
        with contextlib.suppress(OSError):
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while data := connection.recv(1 << 16):
                for event in frames.receive(data):
                    assert isinstance(event, Frame)
                    control_id = fields(event.payload, "MSH", 10)
                    self.seen.append(control_id.decode())
                    self.respond(control_id, len(self.seen), connection)

    def stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # close() alone leaves accept() waiting
        self._listening.close()

    def close(self) -> None:
        self.stop_listening()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def peer(respond: Respond, **options: Any) -> Iterator[BadPeer]:
    made = BadPeer(respond, **options)
    try:
        yield made
    finally:
        made.close()


def msa(answer: bytes) -> tuple[str, str]:
    return fields(answer, "MSA", 1).decode(), fields(answer, "MSA", 2).decode()


def asking(name: str, commit: str, application: str) -> bytes:
    return adt(name).replace(b"|2.5||||||", f"|2.5|||{commit}|{application}||".encode(), 1)
