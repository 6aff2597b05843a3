"""A listener and a file that nobody should touch, and what touched them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECRET = "CANARY-7f3a"
_IN_OPEN = 0x20


@dataclass
class Canary:
    """``heard`` is what reached the listener; :meth:`opened` whether the file was opened."""

    port: int
    file: Path
    heard: list[bytes] = field(default_factory=list)
    watch: int = -1

    def opened(self) -> bool:
        """Whether anybody has opened the file since the last question (inotify(7))."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self.watch, 4096))
        return False

    def placed(self, data: bytes) -> bytes:
        """The same bytes with the canaries' addresses where the table has its own."""
        return data.replace(b"127.0.0.1:PORT", f"127.0.0.1:{self.port}".encode()).replace(
            b"/CANARY", bytes(self.file)
        )


@contextlib.contextmanager
def canaries(folder: Path) -> Iterator[Canary]:
    """A canary of each kind; the file stands in ``folder``."""
    path = folder / "canary.txt"
    path.write_text(SECRET)
    listener = socket.create_server(("127.0.0.1", 0))
    canary = Canary(listener.getsockname()[1], path)
    libc = ctypes.CDLL(None, use_errno=True)
    canary.watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(canary.watch, bytes(path), _IN_OPEN) > 0
    path.read_text()
    assert canary.opened(), "the watch must see an opening"
    ending = threading.Event()
    listener.settimeout(0.05)

    def listen() -> None:
        while not ending.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    canary.heard.append(connection.recv(200))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield canary
    finally:
        ending.set()
        thread.join()
        listener.close()
        os.close(canary.watch)
