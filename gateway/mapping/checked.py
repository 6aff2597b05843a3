"""Which mappings were checked before, so that they need not be again.

Compiling every mapping of an installation takes seconds; reading its files does not. A
mapping of which nothing had to be said is noted by a digest of all that went into it (its
files, those that it uses, its tables, the site's changes) and of the program that checked
it. Whoever loads the same again, the gateway after a restart, a mapping process, a
deployment that changes another file, a command, compiles it only when a message asks for it.

What ships is checked when the wheel is built, and its notes are in the wheel: a fresh
machine starts with them. They are digests of the contents, of the files and of the program,
so that they count for nothing else than what was checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile

KEPT_MAX = 4_096
"""Mappings that are remembered; the oldest is forgotten first."""

SHIPPED = Path(__file__).with_name("checked.digests")
"""The notes of the wheel's build, of what ships; there is none in a working copy."""

_DIGEST_LENGTH = 64
_GRAMMARS = ("hl7apy", "pydicom")
"""Packages whose definitions say which paths are right."""


class CheckedMappings:
    """A small file of digests, one a line, beside the ``shipped`` one, which is only read.

    A file that cannot be read or written only costs the time of a check; one that holds
    anything else is taken for empty. Without a ``path`` what is added is remembered by this
    object alone. Safe between threads and processes: one of two additions at the same moment
    may be lost.
    """

    def __init__(self, path: Path | None, *, shipped: Path | None = SHIPPED) -> None:
        self._path = path
        self._shipped = shipped
        self._added: dict[str, None] = {}

    def known(self) -> frozenset[str]:
        """The digests of :func:`digest_of` that were noted."""
        return frozenset((*_read(self._path), *_read(self._shipped), *self._added))

    def added(self) -> tuple[str, ...]:
        """Those that were noted here, the newest last."""
        return tuple(self._added)

    def add(self, digests: Iterable[str]) -> None:
        """Note mappings that were checked and of which nothing had to be said."""
        new = list(dict.fromkeys(digests))
        self._added.update(dict.fromkeys(new))
        for oldest in list(self._added)[:-KEPT_MAX]:
            self._added.pop(oldest, None)
        if not new or self._path is None:
            return
        kept = [each for each in _read(self._path) if each not in set(new)]
        text = "".join(f"{each}\n" for each in [*kept, *new][-KEPT_MAX:])
        # Without the file, say on a system that can only be read, the next load checks again.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with NamedTemporaryFile("w", dir=self._path.parent, delete=False) as written:
                written.write(text)
            Path(written.name).replace(self._path)


def _read(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        with path.open("rb") as stream:
            lines = stream.read(KEPT_MAX * (_DIGEST_LENGTH + 1)).decode().split()
    except (OSError, UnicodeDecodeError):
        return []
    return [line for line in lines if len(line) == _DIGEST_LENGTH]


def digest_of(mapping: str) -> str:
    """SHA-256 (hex) of a mapping's own digest, and of the program that checks it."""
    return hashlib.sha256(f"{_program()}\0{mapping}".encode()).hexdigest()


@cache
def _program() -> str:
    """The sources and definitions that check a mapping, by their contents: the same on every
    machine."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for name in _GRAMMARS:
        try:
            digest.update(f"{name} {version(name)}\0".encode())
        except PackageNotFoundError:  # put on the path by hand
            digest.update(f"{name} unknown\0".encode())
    for folder in ("gateway/mapping", "adapters"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".json"}:
                data = path.read_bytes()
                name = path.relative_to(root).as_posix()
                digest.update(f"{name}\0{len(data)}\0".encode())
                digest.update(data)
    return digest.hexdigest()
