"""Which mappings were checked before, so that they need not be again.

Compiling every mapping of an installation takes seconds; reading its files does not. A
mapping that compiled without an error is noted by a digest of all that went into it (its
files, those that it uses, its tables, the site's changes) and of the program that checked
it. Whoever loads the same again, the gateway after a restart, a mapping process, a
deployment that changes another file, a command for one message, compiles it only when a
message asks for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

KEPT_MAX = 4_096
"""Mappings that are remembered; the oldest is forgotten first."""

_DIGEST_LENGTH = 64


class CheckedMappings:
    """A small file of digests, one a line. A file that cannot be read or written only costs
    the time of a check; one that holds anything else is taken for empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self) -> frozenset[str]:
        """The digests of :func:`digest_of` that were noted."""
        return frozenset(self._read())

    def add(self, digests: Iterable[str]) -> None:
        """Note mappings that were checked and have no error."""
        new = list(dict.fromkeys(digests))
        if not new:
            return
        kept = [each for each in self._read() if each not in set(new)]
        text = "".join(f"{each}\n" for each in [*kept, *new][-KEPT_MAX:])
        # Without the file, say on a system that can only be read, the next load checks again.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with NamedTemporaryFile("w", dir=self._path.parent, delete=False) as written:
                written.write(text)
            Path(written.name).replace(self._path)

    def _read(self) -> list[str]:
        try:
            with self._path.open("rb") as stream:
                lines = stream.read(KEPT_MAX * (_DIGEST_LENGTH + 1)).decode().split()
        except (OSError, UnicodeDecodeError):
            return []
        return [line for line in lines if len(line) == _DIGEST_LENGTH]


def digest_of(mapping: str) -> str:
    """SHA-256 (hex) of a mapping's own digest, and of the program that checks it."""
    return hashlib.sha256(f"{_program()}\0{mapping}".encode()).hexdigest()


@cache
def _program() -> str:
    """The code and the definitions that check a mapping, as the disk has them."""
    root = Path(__file__).resolve().parents[2]
    seen = []
    for folder in ("gateway/mapping", "adapters"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".so", ".json"}:
                status = path.stat()
                seen.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()
