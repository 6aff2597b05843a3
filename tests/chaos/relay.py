"""A TCP relay between the gateway and a server, whose line can be cut in several ways."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from enum import Enum

from tests.servers import free_port


class Line(Enum):
    """What becomes of the bytes."""

    OPEN = "open"
    REFUSED = "refused"
    """New connections are closed at once, the old ones are cut."""
    MUTE = "mute"
    """What the client says arrives; what the server answers does not."""


@dataclass
class Relay:
    """Listens on ``port`` and speaks to ``target`` (a port of this machine)."""

    target: int
    port: int = field(default_factory=free_port)
    line: Line = Line.OPEN

    def __post_init__(self) -> None:
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.line is Line.REFUSED:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                if not (answers and self.line is Line.MUTE):
                    target.sendall(block)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> int:
        """Cut every connection in its middle; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        return len(pairs)

    def close(self) -> None:
        """Stop listening and cut."""
        self._listener.close()
        self.cut()
