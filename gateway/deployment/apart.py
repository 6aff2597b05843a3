"""A check in a process of its own, bounded in time and memory; its result is the same."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import structlog

from gateway.deployment.checking import Checked, Progress, named_in_set
from gateway.deployment.files import FileSet, MappingFolders
from gateway.deployment.loading import checked_mappings, load_folders
from gateway.mapping import Finding, MappingError, TwinResult

SECONDS_MAX = 300.0
"""By the clock on the wall. All that ships takes some six seconds of a core."""

MEMORY_BYTES_MAX = 2 << 30
"""Of address space; what ships takes about an eighth of it."""

REMEMBERED_MAX = 4
"""Sets of which it is remembered what was found."""

LINE_BYTES_MAX = 16 << 20
"""Of what the process says at once: a thousand findings and the results of the tests."""

COMMAND = (sys.executable, "-P", "-m", "gateway.deployment.check_process")

log = structlog.get_logger("ecluse.mapping")


class CheckEnded(Exception):
    """The process ended without a result, or was ended. Says why."""


class Apart:
    """Checks sets of files. Safe between threads; as many processes as checks at one time.

    What was found of the last few sets is remembered: a deployment that follows its dry run
    starts no process.

    ``command`` is what is started.
    """

    def __init__(
        self,
        *,
        seconds: float = SECONDS_MAX,
        memory: int = MEMORY_BYTES_MAX,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self._seconds = seconds
        self._memory = memory
        self._command = command
        self._found: OrderedDict[tuple[str, bool], tuple[dict[str, Any], list[str]]] = OrderedDict()
        self._turn = threading.Lock()

    def check(self, files: FileSet, progress: Progress, *, tests: bool) -> Checked:
        """Load a set and, with ``tests``, run its tests. A check that takes too much, or dies,
        is an error of the set."""
        with tempfile.TemporaryDirectory(prefix="ecluse-mappings-") as parent:
            try:
                root = files.extract(Path(parent))
            except OSError as error:
                said = f"the files cannot be written: {error.strerror}"
                return Checked(findings=(Finding("", 1, 1, "unreadable", said),))
            folders = files.folders_below(root)
            try:
                found, noted = self._remembered(files, folders, progress, tests=tests)
            except CheckEnded as ended:
                log.warning("a check of mappings ended without a result", reason=str(ended))
                return Checked(findings=(Finding("", 1, 1, "check-ended", str(ended)),))
            return named_in_set(_with_library(found, folders, noted), root)

    def _remembered(
        self, files: FileSet, folders: MappingFolders, progress: Progress, *, tests: bool
    ) -> tuple[dict[str, Any], list[str]]:
        key = (files.digest, tests)
        with self._turn:
            found = self._found.get(key)
        if found is not None:
            return found
        said, noted = self._ask(folders, progress, tests=tests)
        named = _by_name(said, folders.folders[0].parent)
        with self._turn:
            self._found[key] = named, noted
            while len(self._found) > REMEMBERED_MAX:
                self._found.popitem(last=False)
        return named, noted

    def _ask(
        self, folders: MappingFolders, progress: Progress, *, tests: bool
    ) -> tuple[dict[str, Any], list[str]]:
        asked = {
            "folders": [str(each) for each in folders.folders],
            "sites": str(folders.sites) if folders.sites is not None else "",
            "site": folders.site,
            "tests": tests,
            "memory": self._memory,
        }
        with _started(self._command, self._seconds) as (child, late):
            assert child.stdin is not None
            assert child.stdout is not None
            _give(child.stdin, json.dumps(asked).encode())
            for said in _lines(child.stdout):
                if "step" in said:
                    progress(str(said["step"]), int(said["done"]), int(said["of"]))
                elif "findings" in said:
                    return said, [str(each) for each in said["checked"]]
            child.wait()
            if late():
                raise CheckEnded(f"the check took more than {self._seconds:.0f} s and was ended")
            raise CheckEnded(
                f"the check ended by itself (exit status {child.returncode}); it may use "
                f"{self._memory >> 20} MiB of memory"
            )


@contextmanager
def _started(
    command: tuple[str, ...], seconds: float
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], bool]]]:
    """The process, which is ended after so many seconds and in any case at the end."""
    child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # The same code as ours, however this gateway was started.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path)},
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        with child:
            yield child, late.is_set
            child.kill()
    finally:
        timer.cancel()
        if child.poll() is None:
            child.kill()
            child.wait()


def _give(stream: IO[bytes], data: bytes) -> None:
    """What is asked. A process that has ended already says so by its exit status."""
    with contextlib.suppress(BrokenPipeError):
        stream.write(data)
        stream.close()


def _lines(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """What the process says. Raises CheckEnded for what is no line of it."""
    while line := stream.readline(LINE_BYTES_MAX):
        try:
            said = json.loads(line)
        except ValueError:
            raise CheckEnded("the check said what cannot be read") from None
        if not isinstance(said, dict):
            raise CheckEnded("the check said what cannot be read")
        yield said


def _by_name(said: dict[str, Any], root: Path) -> dict[str, Any]:
    """What was said, with files named by their paths in the set."""
    prefix = f"{root}/"
    return {
        **said,
        **{
            what: [{**each, "file": each["file"].removeprefix(prefix)} for each in said[what]]
            for what in ("findings", "tests")
        },
    }


def _with_library(found: dict[str, Any], folders: MappingFolders, noted: list[str]) -> Checked:
    """The result, with the library loaded here: nothing of it has to be checked again."""
    findings = tuple(Finding(**each) for each in found["findings"])
    tests = tuple(
        TwinResult(**{**each, "differences": tuple(each["differences"])}) for each in found["tests"]
    )
    if not found["loaded"]:
        return Checked(findings=findings, tests=tests)
    checked = checked_mappings()
    checked.add(noted)
    try:
        library = load_folders(folders, checked)
    except MappingError as error:  # the files changed in between
        return Checked(findings=error.findings)
    return Checked(findings=findings, tests=tests, library=library)
