"""The judging process, from the outside: started when first needed, bounded, replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import orjson

from adapters.cda.document import Limits
from adapters.cda.validation.engine import MEMORY_BYTES_MAX
from adapters.cda.validation.findings import Finding, Level
from adapters.cda.validation.pack import NotASchematron, Pack
from gateway.model import Payload

START_SECONDS_MAX = 120.0
"""Loading the XML schema and compiling a schematron: seconds on a busy machine."""
_BLOCK_BYTES = 1 << 20


class Ended(Exception):
    """The process is gone, or was ended because it took too long (``late``)."""

    def __init__(self, *, late: bool) -> None:
        super().__init__("the judging process ended")
        self.late = late


class JudgingProcess:
    """One process for one pack. Not for two threads at once.

    It inherits neither the environment nor standard error: the first could name secrets,
    and what a crashing library prints could hold data of a patient.
    """

    def __init__(self, pack: Pack | None, cache: Path | None) -> None:
        self.pack = pack
        self.cache = cache
        self.problems: list[str] = []
        self._loaded: set[str] = set()
        self._problems_of: dict[str, tuple[str, ...]] = {}
        self._unusable: set[str] = set()
        self._titles: dict[str, str] = {}
        self._late = False
        root = Path(__file__).resolve().parents[3]
        kept = {"PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH"}
        environment = {name: value for name, value in os.environ.items() if name in kept}
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, sys.path)])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "adapters.cda.validation.engine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, cwd=root,
        )  # fmt: skip
        if pack is not None and pack.schema is not None:
            said = self._ask({"do": "schema", "path": str(pack.schema)}, START_SECONDS_MAX)
            if "problem" in said:
                self.problems.append(f"{pack.schema.name}: {said['problem']}")
        seal = {"memory_bytes_max": MEMORY_BYTES_MAX, "schematrons": pack is not None}
        self._ask({"do": "seal", **seal}, START_SECONDS_MAX)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def read(self, payload: Payload, encoding: str, limits: Limits, seconds: float
             ) -> dict[str, Any]:  # fmt: skip
        """Hand over a document. Raises Ended."""
        request = {
            "do": "read", "encoding": encoding, "size": payload.size,
            "limits": {
                "bytes_max": limits.bytes_max, "depth_max": limits.depth_max,
                "elements_max": limits.elements_max,
            },
        }  # fmt: skip
        said = self._ask(request, seconds, payload)
        self._loaded = set(said.get("loaded", self._loaded))
        return said

    def judge(self, names: list[str], seconds: float) -> dict[str, Any]:
        """Judge the document by schematrons of the pack, loading those that are not.

        Raises Ended.
        """
        usable = [name for name in names if self._load(name)]
        said = self._ask({"do": "judge", "names": usable}, seconds)
        said["problems"] += [each for name in names for each in self._problems_of.get(name, ())]
        said["titles"] = [self._titles[name] for name in usable]
        return said

    def _load(self, name: str) -> bool:
        if name in self._unusable:
            return False
        if name in self._loaded:
            return True
        assert self.pack is not None
        try:
            ready = self.pack.ready(name, self.cache)
            documents = {
                known: path.read_text(encoding="utf-8") for known, path in ready.value_sets.items()
            }
        except (OSError, UnicodeDecodeError, NotASchematron) as error:
            self._unusable.add(name)
            self._problems_of[name] = (f"{name}: {type(error).__name__}",)
            return False
        content = orjson.dumps(
            {
                "title": ready.name, "stylesheet": ready.stylesheet, "documents": documents,
                "rules": [(rule.name, rule.level) for rule in ready.rules],
            }
        )  # fmt: skip
        self._titles[name] = ready.name
        self._problems_of[name] = ready.problems
        said = self._ask(
            {"do": "rules", "name": name}, START_SECONDS_MAX, Payload.from_bytes(content)
        )
        if "problem" in said:
            self._unusable.add(name)
            self._problems_of[name] = (*ready.problems, f"{ready.name}: {said['problem']}")
            return False
        self._loaded.add(name)
        return True

    def _ask(self, request: dict[str, Any], seconds: float, content: Payload | None = None
             ) -> dict[str, Any]:  # fmt: skip
        watch = threading.Timer(seconds, self._end_late)
        watch.daemon = True
        watch.start()
        try:
            size = content.size if content is not None else 0
            requests = self._pipe(self._process.stdin)
            requests.write(orjson.dumps({**request, "size": size}) + b"\n")
            if content is not None:
                with content.open() as stream:
                    while block := stream.read(_BLOCK_BYTES):
                        requests.write(block)
            requests.flush()
            line = self._pipe(self._process.stdout).readline()
        except (BrokenPipeError, ValueError, OSError):
            line = b""
        finally:
            watch.cancel()
        if not line.endswith(b"\n"):
            self.close()
            raise Ended(late=self._late)
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def _end_late(self) -> None:
        self._late = True
        self._process.kill()

    def close(self) -> None:
        """End it. Idempotent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was still to be written has nobody to read it


def findings_of(said: list[dict[str, Any]]) -> list[Finding]:
    """Findings as the process gives them."""
    return [Finding(**{**each, "level": Level(each["level"])}) for each in said]
