"""Processes of the command line that begin as a fork of one that has loaded all of it.

Loading the gateway's modules takes seconds of CPU, and the tests start a gateway or a command
some hundreds of times. So each process of the tests has one *nursery* beside it, which loads the
modules, does nothing else, and forks when it is asked to. What comes of it is a process of its own
like any other: its own session, files, signals, children and exit code; it may be killed. What
concerns the start itself is tested with ``python -m gateway.cli`` (``tests/acceptance/test_demo.py``,
``test_start_faults.py``).
"""

from __future__ import annotations

import array
import atexit
import contextlib
import faulthandler
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MODULES = frozenset({"gateway.cli", "tests.chaos.clock"})
"""What may be run so: it does the same whether the gateway's modules are loaded or not."""
REQUEST_BYTES_MAX = 1 << 18


class Forked:
    """A process of the nursery's, as ``subprocess.Popen`` has it."""

    def __init__(self, args: Sequence[str], pid: int, ended: socket.socket) -> None:
        self.args = list(args)
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            said = self._ended.recv(64)
            if not said:
                raise AssertionError("the nursery has ended")
            self.returncode = int(said)
            self._ended.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To the process, if it has not ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Nursery:
    """The process that forks, one for each process of the tests, started when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asking: socket.socket | None = None

    def fork(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str],
        stdout: int, stderr: int,
    ) -> Forked:  # fmt: skip
        request = json.dumps(
            {"module": module, "arguments": list(arguments), "environment": dict(environment),
             "folder": str(Path.cwd())}
        ).encode()  # fmt: skip
        assert len(request) < REQUEST_BYTES_MAX
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._lock:
            asking = self._started()
            handed = array.array("i", [stdout, stderr, theirs.fileno()])
            asking.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)])
        theirs.close()
        pid = int(ours.recv(64) or b"0")
        assert pid, "the nursery has ended"
        return Forked([module, *arguments], pid, ours)

    def _started(self) -> socket.socket:
        if self._asking is None or self._process is None or self._process.poll() is not None:
            self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip
            theirs.close()
            atexit.register(self._end, self._process, self._asking)
        return self._asking

    @staticmethod
    def _end(process: subprocess.Popen[bytes], asking: socket.socket) -> None:
        asking.close()
        process.wait(30)


_NURSERY = _Nursery()


def start(
    arguments: Sequence[str],
    *,
    stdout: IO[Any],
    stderr: IO[Any],
    environment: Mapping[str, str] | None = None,
    module: str = "gateway.cli",
) -> Forked:
    """``python -m MODULE ARGUMENTS`` in a session of its own, from the nursery."""
    assert module in MODULES
    return _NURSERY.fork(
        module, arguments, os.environ if environment is None else environment,
        stdout.fileno(), stderr.fileno(),
    )  # fmt: skip


# --- in the nursery ------------------------------------------------------------------------


def _load() -> None:
    """All that a gateway or a command may want; nothing that starts a thread."""

    import adapters.dicom.web.routes  # noqa: F401
    import gateway.api.app
    import gateway.api.application
    import gateway.api.configuration
    import gateway.api.dead_letters
    import gateway.api.desk
    import gateway.api.manifests
    import gateway.api.mappings
    import gateway.api.messages
    import gateway.api.purges
    import gateway.api.reprocessing
    import gateway.api.standing
    import gateway.cli
    import gateway.console.router
    import gateway.redis_broker
    import gateway.serving  # noqa: F401
    import record.fhir_api  # noqa: F401

    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()


def _serve(asking: socket.socket) -> None:
    _load()
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the tests end it
    told: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([asking, waking], [], [])
        if waking in ready:
            os.read(waking, 4096)
            _tell(told)
        if asking in ready:
            request, handed, _, _ = socket.recv_fds(asking, REQUEST_BYTES_MAX, 3)
            if not request:
                return
            stdout, stderr, ended = handed
            pid = os.fork()
            if pid == 0:
                for each in (asking, *told.values()):
                    each.close()
                for descriptor in (waking, woken, ended):
                    os.close(descriptor)
                _become(json.loads(request), stdout, stderr)
            os.close(stdout)
            os.close(stderr)
            told[pid] = socket.socket(fileno=ended)
            told[pid].sendall(str(pid).encode())


def _tell(told: dict[int, socket.socket]) -> None:
    """Say with which code each that has ended did so."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with told.pop(pid) as asked, contextlib.suppress(OSError):
            asked.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], stdout: int, stderr: int) -> None:
    """Run the module as ``python -m`` does; never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for handed in {stdout, stderr}:
            os.close(handed)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        if os.environ.get("PYTHONFAULTHANDLER"):
            faulthandler.enable()
        sys.argv = ["", *request["arguments"]]
        try:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
