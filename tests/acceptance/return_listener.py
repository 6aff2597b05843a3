"""The sender's own listener, to which a gateway gives its application acknowledgements."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from dataclasses import dataclass, field

from adapters.hl7.framing import Frame, FrameReader, frame


@dataclass
class ReturnListener:
    """Keeps what comes. ``confirm``: answers each with CA; else it never answers.

    ``tls`` is a server's context; ``release`` that of MLLP. ``shown`` are the common names of
    the certificates that its clients showed.
    """

    port: int
    confirm: bool = True
    tls: ssl.SSLContext | None = None
    release: int = 1
    shown: list[str] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    _server: socketserver.ThreadingTCPServer | None = None

    def start(self) -> None:
        listener = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                connection: socket.socket = self.request
                if listener.tls is not None:
                    try:
                        connection = listener.tls.wrap_socket(connection, server_side=True)
                    except OSError:
                        return
                    peer = connection.getpeercert() or {}
                    names = [pair for rdn in peer.get("subject", ()) for pair in rdn]
                    listener.shown += [value for kind, value in names if kind == "commonName"]
                with connection:
                    self.converse(connection)

            def converse(self, connection: socket.socket) -> None:
                frames = FrameReader()
                while data := connection.recv(1 << 16):
                    for event in frames.receive(data):
                        if not isinstance(event, Frame):
                            return
                        if event.payload == b"\x06":
                            continue
                        listener.taken.append(event.payload)
                        if listener.release == 2:
                            connection.sendall(b"\x0b\x06\x1c\r")
                        if listener.confirm:
                            connection.sendall(frame(accept(event.payload)))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def of(self, control_id: str) -> list[bytes]:
        """The acknowledgements of one message."""
        return [each for each in self.taken if part(each, "MSA", 2) == control_id]


def accept(message: bytes) -> bytes:
    """A CA for a message."""
    control_id = part(message, "MSH", 10)
    return (
        "MSH|^~\\&|DPI|CHU|ECLUSE|CHU|20261120081500+0100||ACK|CA-"
        f"{control_id[-8:]}|P|2.5\rMSA|CA|{control_id}\r"
    ).encode()


def part(message: bytes, segment: str, number: int) -> str:
    """A field by splitting, without the code under test."""
    for line in message.decode("utf-8").split("\r"):
        fields = line.split("|")
        if fields[0] == segment:
            index = number - 1 if segment == "MSH" else number
            return fields[index] if index < len(fields) else ""
    return ""


def asking(message: bytes, accept: str, application: str) -> bytes:
    """The same message with MSH-15 and MSH-16."""
    header, rest = message.split(b"\r", 1)
    fields = header.decode("utf-8").split("|")
    fields += [""] * (18 - len(fields))
    fields[14], fields[15] = accept, application
    return "|".join(fields).encode() + b"\r" + rest
