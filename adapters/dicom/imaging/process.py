"""The processes that decode pixel data, from the outside: started when needed, bounded,
replaced."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adapters.dicom.imaging.engine import ANSWER, RESULT_BYTES_MAX
from gateway.model import Payload

START_SECONDS_MAX = 60.0
ANSWER_BYTES_MAX = RESULT_BYTES_MAX + (1 << 20)
CACHE_BYTES_MAX = 32 << 20
"""Of small pictures that were made last."""
CACHED_PICTURE_BYTES_MAX = 256 << 10

WHY = {
    "no-pixels": "the instance has no pixels",
    "no-frame": "there is no frame of that number",
    "too-large": "the frame needs more memory than one picture may take",
    "not-decoded": "its transfer syntax cannot be decoded here",
    "unreadable": "its pixels cannot be read",
    "late": "it took too long",
    "ended": "the process that decodes it ended",
    "busy": "too many pictures are being made; ask again",
    "off": "pictures are not made here (dicomweb.pictures, and the extra `images`)",
}
"""Why there is no picture, for people."""


class NoPicture(Exception):
    """There is none; ``why`` is a key of :data:`WHY`."""

    def __init__(self, why: str) -> None:
        super().__init__(WHY.get(why, why))
        self.why = why


@dataclass(frozen=True, slots=True)
class Made:
    """What was made, and what is said of it (frames, rows, columns, center, width, syntax)."""

    data: bytes
    said: Mapping[str, Any]


class PictureSettings(Protocol):
    """What ``dicomweb`` says of pictures (``adapters.dicom.web.settings``)."""

    @property
    def pictures(self) -> bool: ...
    @property
    def picture_processes(self) -> int: ...
    @property
    def picture_seconds(self) -> float: ...
    @property
    def picture_memory_bytes(self) -> int: ...


def available() -> bool:
    """Whether what pictures need is installed (the extra ``images``)."""
    return all(importlib.util.find_spec(name) is not None for name in ("numpy", "PIL"))


class _Process:
    """One process. Not for two threads at once. It inherits neither the environment nor
    standard error: what a library prints as it crashes could hold data of a patient."""

    def __init__(self, memory_bytes_max: int) -> None:
        """Start it and wait until it is sealed. Raises NoPicture."""
        ours, theirs = socket.socketpair()
        root = Path(__file__).resolve().parents[3]
        kept = {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH"}
        environment = {name: value for name, value in os.environ.items() if name in kept}
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, sys.path)])
        # Threads of numerical libraries would each take memory of the limit.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  our own module
                [
                    sys.executable, "-P", "-m", "adapters.dicom.imaging.engine",
                    str(theirs.fileno()), str(memory_bytes_max),
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environment, cwd=root, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        self._socket = ours
        self._socket.settimeout(START_SECONDS_MAX)
        try:
            ready = self._socket.recv(16) == b"ready"
        except OSError:
            ready = False
        if not ready:
            self.close()
            raise NoPicture("ended")

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, descriptor: int, asked: Mapping[str, Any], seconds: float) -> Made:
        """Hand over a file and a task. After NoPicture of ``late`` or ``ended`` it is gone."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()
            # Who waits for its answer need not wait for its death.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

        watch = threading.Timer(seconds, end)
        watch.daemon = True
        watch.start()
        self._socket.settimeout(seconds + START_SECONDS_MAX)
        try:
            socket.send_fds(self._socket, [json.dumps(dict(asked)).encode()], [descriptor])
            told, made = ANSWER.unpack(self._read(ANSWER.size))
            if told + made > ANSWER_BYTES_MAX:
                raise OSError("an answer that is too long")
            said = json.loads(self._read(told))
            data = self._read(made)
        except (OSError, ValueError):
            self.close()
            raise NoPicture("late" if late.is_set() else "ended") from None
        finally:
            watch.cancel()
        if "none" in said:
            raise NoPicture(str(said["none"]))
        return Made(data, said)

    def _read(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            block = self._socket.recv(min(length - len(found), 1 << 20))
            if not block:
                raise OSError("closed")
            found += block
        return bytes(found)

    def close(self) -> None:
        """End it. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


class Pictures:
    """Makes pictures, frames and other transfer syntaxes. Thread-safe; every method blocks.

    ``settings`` gives how many processes there may be, the seconds and bytes that one picture
    may take, and whether there are pictures at all.
    """

    def __init__(self, settings: Callable[[], PictureSettings]) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()
        self._turns = threading.Condition()
        self._working = 0
        self._closed = False
        self._cache: OrderedDict[tuple[Any, ...], Made] = OrderedDict()
        self._cached = 0

    def on(self) -> bool:
        """Whether pictures are made."""
        return self._settings().pictures and available()

    def make(self, payload: Payload, do: str, **asked: Any) -> Made:
        """Do one task (``render``, ``frame``, ``transcode``) on an instance. Raises NoPicture,
        OSError when the instance cannot be opened."""
        if not self.on():
            raise NoPicture("off")
        key = (payload.sha256, do, *sorted(asked.items()))
        with self._turns:
            if (known := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return known
        made = self._made(payload, {"do": do, **asked})
        if len(made.data) <= CACHED_PICTURE_BYTES_MAX:
            with self._turns:
                self._keep(key, made)
        return made

    def _keep(self, key: tuple[Any, ...], made: Made) -> None:
        before = self._cache.pop(key, None)
        self._cached += len(made.data) - (len(before.data) if before is not None else 0)
        self._cache[key] = made
        while self._cached > CACHE_BYTES_MAX:
            _, oldest = self._cache.popitem(last=False)
            self._cached -= len(oldest.data)

    def _made(self, payload: Payload, asked: Mapping[str, Any]) -> Made:
        settings = self._settings()
        with self._turns:
            free = self._turns.wait_for(
                lambda: self._closed or self._working < settings.picture_processes,
                timeout=settings.picture_seconds,
            )
            if not free or self._closed:
                raise NoPicture("busy")
            self._working += 1
        process: _Process | None = None
        try:
            process = self._process(settings)
            with opened(payload) as descriptor:
                return process.ask(descriptor, asked, settings.picture_seconds)
        except NoPicture as none:
            if none.why in {"late", "ended"}:
                process = None
            raise
        finally:
            with self._turns:
                self._working -= 1
                self._turns.notify()
                if process is not None and not self._closed:
                    self._idle.put(process)
                elif process is not None:
                    process.close()

    def _process(self, settings: PictureSettings) -> _Process:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        return _Process(settings.picture_memory_bytes)

    def close(self) -> None:
        """End the processes. Idempotent."""
        with self._turns:
            self._closed = True
            self._turns.notify_all()
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


@contextlib.contextmanager
def opened(payload: Payload) -> Iterator[int]:
    """A descriptor of the instance's file; of one in memory, of a file that has no name."""
    if payload.path is not None:
        descriptor = os.open(payload.path, os.O_RDONLY | os.O_CLOEXEC)
    else:
        descriptor = os.memfd_create("instance", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(payload.read())
    try:
        yield descriptor
    finally:
        os.close(descriptor)
