"""Objects on their way in: their bytes are on the disk when they are finished, whatever their size."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.dicom.spool import FLUSH_EVERY_BYTES, MEMORY_BYTES_MAX, SpoolFolder

PIECE = bytes(range(256)) * 512


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SpoolFolder]:
    opened = SpoolFolder(tmp_path, "scanner")
    yield opened
    opened.close()


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long the file was at each flush, when that had ended."""
    seen: list[int] = []
    real = os.fdatasync

    def flush(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        real(descriptor)
        seen.append(size)

    monkeypatch.setattr(os, "fdatasync", flush)
    return seen


def test_a_finished_object_is_on_the_disk(folder: SpoolFolder, flushes: list[int]) -> None:
    file = folder.new()
    file.write(PIECE)
    file.flush()
    payload = file.finish()
    assert flushes == [len(PIECE)]
    assert payload.sha256 == hashlib.sha256(PIECE).hexdigest()
    assert payload.path is not None
    assert payload.path.read_bytes() == PIECE


def test_what_comes_after_a_flush_is_flushed_as_well(
    folder: SpoolFolder, flushes: list[int]
) -> None:
    file = folder.new()
    file.write(PIECE)
    file.flush()
    file.write(PIECE)
    file.finish()
    assert flushes[-1] == 2 * len(PIECE)
    other = folder.new()
    other.write(PIECE)
    other.finish()
    assert flushes[-1] == len(PIECE), "nobody asked for it before"


def test_a_large_object_reaches_the_disk_while_it_comes_in(
    folder: SpoolFolder, flushes: list[int]
) -> None:
    file = folder.new()
    for _ in range(2 * FLUSH_EVERY_BYTES // len(PIECE) + 1):
        file.write(PIECE)
    payload = file.finish()
    assert flushes[0] < payload.size
    assert flushes[-1] == payload.size


def test_a_small_object_has_no_file(folder: SpoolFolder, flushes: list[int]) -> None:
    file = folder.new()
    file.write(b"x" * MEMORY_BYTES_MAX)
    file.flush()
    assert file.finish().data == b"x" * MEMORY_BYTES_MAX
    assert flushes == []
    assert folder.files() == []


def test_a_disk_that_fails_is_told_and_nothing_is_left(
    folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    file = folder.new()
    file.write(PIECE)
    file.flush()
    with pytest.raises(OSError, match="No space"):
        file.finish()
    file.discard()
    assert folder.files() == []


def test_a_discarded_object_waits_for_its_flush(
    folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor may be another file's as soon as it is closed."""
    begun, let, open_then = threading.Event(), threading.Event(), []

    def slow(descriptor: int) -> None:
        begun.set()
        assert let.wait(30)
        open_then.append(os.fstat(descriptor).st_nlink)

    monkeypatch.setattr(os, "fdatasync", slow)
    file = folder.new()
    file.write(PIECE)
    file.flush()
    assert begun.wait(30)
    discarding = threading.Thread(target=file.discard)
    discarding.start()
    let.set()
    discarding.join(30)
    assert not discarding.is_alive()
    assert open_then == [1]
    assert folder.files() == []
