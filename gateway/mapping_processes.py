"""The gateway's side of the processes that read and map messages for it.

Python runs one thread at a time, so a gateway that maps in its own threads leaves the
machine's other cores to the others. A mapping process is started when there is a
backlog worth it; until it is ready, and whenever it is not, the drain's own thread
does the work. POSIX only: elsewhere there are none.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from gateway import mapping_process
from gateway.failure import internal
from gateway.mapping_wire import Answer, BrokenFrame, Frames, Opening, Ready, Task, frame

if sys.platform != "win32":
    import fcntl

PIPE_BYTES = 1 << 20
"""How much either pipe should hold, so that the process goes on while nobody reads."""

BACKLOG_MIN = 8
"""Messages in one batch for which a process is started."""

READY_SECONDS_MAX = 60.0
"""How long a process may take to load the mappings."""

CPU_SECONDS_MAX = 10.0
"""Processor time for one message; 1 MiB of HL7 v2 takes about a fifth of it."""

SILENCE_SECONDS_MAX = 15.0
"""How long a process may leave the thread that waits for it without an answer."""

BACKOFF_SECONDS = (0.0, 2.0, 10.0, 60.0)
"""Pauses before the next start, by how many processes ended in a row; the last for more."""

STOP_SECONDS_MAX = 2.0

COMMAND = (sys.executable, "-P", "-m", mapping_process.__name__)

log = structlog.get_logger("ecluse.mapping")


class ProcessLost(Exception):
    """A mapping process ended, said nothing for too long, or nothing that makes sense."""


class MappingProcess:
    """One process, used by one thread at a time. ``in_flight`` are the messages that were
    given to it and not yet answered, in order: it works on the first of them."""

    def __init__(self, command: Sequence[str], opening: Opening, *, silence_seconds: float) -> None:
        self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # The same code as ours, however this gateway was started.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path)},
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._in, self._out = self._child.stdin.fileno(), self._child.stdout.fileno()
        for each in (self._in, self._out):
            os.set_blocking(each, False)
            with contextlib.suppress(AttributeError, OSError):  # Linux only, and limited
                fcntl.fcntl(each, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._frames = Frames()
        self._unsent = bytearray(frame(opening))
        self._silence_max = silence_seconds
        self._silent = 0.0
        self.in_flight: deque[int] = deque()
        self.answered = 0

    @property
    def pid(self) -> int:
        """The system's number of it."""
        return self._child.pid

    def opened(self, seconds: float) -> Ready:
        """Wait until it has loaded. Raises ProcessLost."""
        until = time.monotonic() + seconds
        while (first := self._next()) is None:
            if not self._move(until - time.monotonic()):
                raise ProcessLost("it did not become ready in time")
        if not isinstance(first, Ready):
            raise ProcessLost("it began with something else")
        return first

    def send(self, tasks: Sequence[Task]) -> None:
        """Give it messages, without waiting. Raises ProcessLost."""
        for task in tasks:
            self._unsent += frame(task)
            self.in_flight.append(task.message_id)
        self._write()

    def receive(self, seconds: float) -> Answer | None:
        """The answer to the first message in flight; None when ``seconds`` were not enough.

        Raises ProcessLost when it ended, or left its readers waiting without a byte for
        longer than it may, in all calls since the last byte.
        """
        until = time.monotonic() + seconds
        while (answer := self._next()) is None:
            left = until - time.monotonic()
            if left <= 0:
                return None
            started = time.monotonic()
            if self._move(min(left, self._silence_max - self._silent)):
                self._silent = 0.0
            else:
                self._silent += time.monotonic() - started
                if self._silent >= self._silence_max:
                    raise ProcessLost("it gave no answer in time")
        if not isinstance(answer, Answer) or answer.message_id != self.in_flight[0]:
            raise ProcessLost("it answered something else")
        self.in_flight.popleft()
        self.answered += 1
        return answer

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._child.poll() is None

    def kill(self) -> int:
        """End it now; its exit status (negative: the signal)."""
        self._child.kill()
        return self._wait()

    def close(self) -> None:
        """Let it end by itself; kill it when it does not. Idempotent."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._wait()

    def _wait(self) -> int:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        status = self._child.wait()
        self._child.stdin.close()
        self._child.stdout.close()
        return status

    def _next(self) -> object | None:
        try:
            value: object | None = self._frames.next()
        except BrokenFrame as error:
            raise ProcessLost(str(error)) from None
        return value

    def _move(self, seconds: float) -> bool:
        """Write and read what can be, waiting for it no longer than so; whether anything came."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        if self._unsent:
            poll.register(self._in, select.POLLOUT)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready = dict(poll.poll(left * 1000))
            if self._in in ready:
                self._write()
                if not self._unsent:
                    poll.unregister(self._in)
            if self._out in ready:
                return self._read()
        return False

    def _read(self) -> bool:
        try:
            data = os.read(self._out, PIPE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ProcessLost(type(error).__name__) from None
        if not data:
            raise ProcessLost("it ended")
        self._frames.feed(data)
        return True

    def _write(self) -> None:
        while self._unsent:
            try:
                written = os.write(self._in, memoryview(self._unsent)[:PIPE_BYTES].tobytes())
            except BlockingIOError:
                return
            except OSError:
                # Its answers to what it had read may still be there: receive() tells the end.
                self._unsent.clear()
                return
            del self._unsent[:written]


class MappingProcesses:
    """At most ``count`` processes, each lent to one drain at a time. Safe between threads.

    ``content`` is what the gateway itself has loaded (``mapping_wire.content_digest``):
    a process that has loaded anything else is refused, and no other is started, until the
    gateway is. ``observe`` is given the seconds that each message took.
    """

    def __init__(
        self,
        opening: Opening,
        content: str,
        *,
        count: int = 1,
        observe: Callable[[float], None] = lambda _: None,
        command: Sequence[str] = COMMAND,
        silence_seconds: float = SILENCE_SECONDS_MAX,
        backoff_seconds: Sequence[float] = BACKOFF_SECONDS,
    ) -> None:
        self.observe = observe
        self._opening = opening
        self._content = content
        self._count = count
        self._command = tuple(command)
        self._silence = silence_seconds
        self._backoff = tuple(backoff_seconds)
        self._changed = threading.Condition()
        self._idle: list[MappingProcess] = []
        self._lent: set[MappingProcess] = set()
        self._starting: threading.Thread | None = None
        self._lost_in_a_row = 0
        self._not_before = 0.0
        self._closed = False

    def borrow(self, backlog: int) -> MappingProcess | None:
        """A process that is ready, or None. A backlog that is worth it starts one."""
        with self._changed:
            process = self._take()
            if process is None and backlog >= BACKLOG_MIN:
                self._start()
            return process

    def borrow_within(self, seconds: float) -> MappingProcess | None:
        """The same, waiting for one to become ready; None when there will be none in time."""
        until = time.monotonic() + seconds
        with self._changed:
            while (process := self._take()) is None:
                now = time.monotonic()
                self._start()
                possible = self._starting or self._lent or self._not_before < until
                if now >= until or self._closed or self._count == 0 or not possible:
                    return None
                pause = until - now
                if self._starting is None and self._not_before > now:
                    pause = min(pause, self._not_before - now)
                self._changed.wait(pause)
            return process

    def give_back(self, process: MappingProcess) -> None:
        """Let others have it. What it still has to answer they step over."""
        with self._changed:
            self._lent.discard(process)
            if not self._closed:
                self._idle.append(process)
                self._changed.notify_all()
                return
        process.close()

    @property
    def starting(self) -> bool:
        """Whether one is about to become ready."""
        return self._starting is not None

    def lose(self, process: MappingProcess, reason: str, *, message_id: int | None) -> None:
        """Make an end of one that cannot be used any more; ``message_id`` is what it had."""
        status = process.kill()
        log.warning(
            "a mapping process was lost",
            pid=process.pid,
            reason=reason,
            status=status,
            message_id=message_id,
        )
        with self._changed:
            self._lent.discard(process)
            # One that had done much was lost by what it met at last, not by what it is.
            self._note_loss(1 if process.answered >= BACKLOG_MIN else self._lost_in_a_row + 1)

    def close(self) -> None:
        """End them all; start no more. Idempotent."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            starting = self._starting
            self._changed.notify_all()
        for process in idle:
            process.close()
        if starting is not None:
            starting.join()

    def _take(self) -> MappingProcess | None:
        while self._idle:
            process = self._idle.pop()
            if process.alive():
                self._lent.add(process)
                return process
            # Nothing of this lane was with it, so nobody is to blame.
            log.warning("a mapping process ended", pid=process.pid, status=process.kill())
            self._note_loss(self._lost_in_a_row + 1)
        return None

    def _note_loss(self, in_a_row: int) -> None:
        self._lost_in_a_row = in_a_row
        pause = self._backoff[min(in_a_row, len(self._backoff)) - 1]
        self._not_before = time.monotonic() + pause
        self._changed.notify_all()

    def _start(self) -> None:
        """Start one in the background, when there may be one more now."""
        there = len(self._idle) + len(self._lent)
        if self._closed or self._starting is not None or there >= self._count:
            return
        if time.monotonic() >= self._not_before:
            self._starting = threading.Thread(
                target=self._started, name="ecluse-mapping-start", daemon=True
            )
            self._starting.start()

    def _started(self) -> None:
        began = time.monotonic()
        process, reason, refused = None, "", False
        try:
            process = MappingProcess(self._command, self._opening, silence_seconds=self._silence)
            refused = process.opened(READY_SECONDS_MAX).content != self._content
        except ProcessLost as lost:
            reason = str(lost)
        except Exception as error:  # noqa: BLE001  the drains do the work without it
            fault = internal(error)
            reason = f"{fault.detail} at {fault.location}"
        if process is not None and (reason or refused):
            process.kill()
        self._settle_start(process, reason, refused=refused, seconds=time.monotonic() - began)

    def _settle_start(
        self, process: MappingProcess | None, reason: str, *, refused: bool, seconds: float
    ) -> None:
        with self._changed:
            self._starting = None
            if refused:
                self._count = 0
                log.warning(
                    "the mappings on disk are no longer those that the gateway has loaded: it maps "
                    "in its own threads; restart it to use them and its mapping processes"
                )
            elif reason or process is None:
                log.warning("a mapping process did not start", reason=reason)
                self._note_loss(self._lost_in_a_row + 1)
            elif not self._closed:
                log.info("a mapping process is ready", pid=process.pid, seconds=round(seconds, 2))
                self._idle.append(process)
                process = None
            self._changed.notify_all()
        if process is not None and not (reason or refused):
            process.close()
