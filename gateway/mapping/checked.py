"""Which sets of mapping files were checked before, so that they need not be again.

Compiling every mapping of an installation takes seconds; reading its files does not. A
set that compiled without an error is noted by a digest of its bytes and of the program
that checked it. Whoever loads the same set again, the gateway after a restart, a mapping
process, a command for one message, compiles only the mappings that are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from gateway.mapping.document import Document

KEPT_MAX = 64
"""Sets that are remembered; the oldest is forgotten first."""

_DIGEST_LENGTH = 64


class CheckedSets:
    """A small file of digests, one a line. A file that cannot be read or written only costs
    the time of a check; one that holds anything else is taken for empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __contains__(self, digest: str) -> bool:
        return digest in self._read()

    def add(self, digest: str) -> None:
        """Note a set that was checked and has no error."""
        known = [each for each in self._read() if each != digest]
        text = "".join(f"{each}\n" for each in [*known, digest][-KEPT_MAX:])
        # Without the file, say on a system that can only be read, the next load checks again.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with NamedTemporaryFile("w", dir=self._path.parent, delete=False) as new:
                new.write(text)
            Path(new.name).replace(self._path)

    def _read(self) -> list[str]:
        try:
            lines = self._path.read_bytes()[: KEPT_MAX * (_DIGEST_LENGTH + 1)].decode().split()
        except (OSError, UnicodeDecodeError):
            return []
        return [line for line in lines if len(line) == _DIGEST_LENGTH]


def digest_of(documents: Iterable[Document], site: str) -> str:
    """SHA-256 (hex) over the labels and bytes of all files, the site, and the program."""
    digest = hashlib.sha256(f"{_program()}\0{site}\0".encode())
    for document in sorted(documents, key=lambda each: (each.label, str(each.path))):
        digest.update(f"{document.label}\0{len(document.data)}\0".encode())
        digest.update(document.data)
    return digest.hexdigest()


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
