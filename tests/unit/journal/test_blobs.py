"""Content-addressed files: durable before they are named, and nothing half-kept."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from gateway.journal.blobs import Blobs
from gateway.journal.faults import JournalUnavailable


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files(blobs: Blobs) -> list[Path]:
    return [path for path in blobs.directory.rglob("*") if path.is_file()]


def test_bytes_come_back(blobs: Blobs) -> None:
    data = os.urandom(200_000)
    name = blobs.put(data)
    assert name == hashlib.sha256(data).hexdigest()
    payload = blobs.payload(name)
    assert (payload.sha256, payload.size, payload.read()) == (name, len(data), data)
    assert list(blobs.stored()) == [name]
    assert payload.path is not None
    assert payload.path.stat().st_mode & 0o077 == 0


def test_the_same_bytes_are_stored_once(blobs: Blobs) -> None:
    assert blobs.put(b"same") == blobs.put(b"same")
    assert len(files(blobs)) == 1


def test_a_spooled_file_is_moved(blobs: Blobs, tmp_path: Path) -> None:
    spooled = tmp_path / "spool.dcm"
    spooled.write_bytes(b"DICM" * 1000)
    name = hashlib.sha256(b"DICM" * 1000).hexdigest()
    blobs.adopt(spooled, name)
    assert not spooled.exists()
    assert blobs.payload(name).read() == b"DICM" * 1000
    again = tmp_path / "again.dcm"
    again.write_bytes(b"DICM" * 1000)
    blobs.adopt(again, name)
    assert not again.exists()
    assert len(files(blobs)) == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_file_of_another_file_system_is_copied(blobs: Blobs) -> None:
    spooled = Path("/dev/shm") / f"ecluse-test-{os.getpid()}"
    data = os.urandom(3 << 20)
    try:
        spooled.write_bytes(data)
        if spooled.stat().st_dev == blobs.directory.stat().st_dev:
            pytest.skip("/dev/shm is on the same file system")
        with pytest.raises(ValueError, match="digest"):
            blobs.adopt(spooled, "0" * 64)
        assert files(blobs) == []
        blobs.adopt(spooled, hashlib.sha256(data).hexdigest())
        assert not spooled.exists()
    finally:
        spooled.unlink(missing_ok=True)
    assert blobs.payload(hashlib.sha256(data).hexdigest()).read() == data


@pytest.mark.parametrize("name", ["", "x" * 64, "../../etc/passwd", "A" * 64, "0" * 63])
def test_only_digests_are_names(blobs: Blobs, name: str, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        blobs.payload(name)
    with pytest.raises(ValueError, match="SHA-256"):
        blobs.adopt(tmp_path / "any", name)


def test_an_absent_digest_is_a_key_error(blobs: Blobs) -> None:
    with pytest.raises(KeyError):
        blobs.payload("0" * 64)


def test_a_disk_that_takes_nothing_leaves_nothing_and_recovers(
    blobs: Blobs, tmp_path: Path
) -> None:
    """A file where the folder should be: every write fails as on a lost disk."""
    away = tmp_path / "away"
    blobs.directory.rename(away)
    blobs.directory.write_bytes(b"")
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"spooled")
    with pytest.raises(JournalUnavailable):
        blobs.put(b"bytes")
    with pytest.raises(JournalUnavailable):
        blobs.adopt(spooled, hashlib.sha256(b"spooled").hexdigest())
    assert spooled.read_bytes() == b"spooled"
    blobs.directory.unlink()
    away.rename(blobs.directory)
    assert files(blobs) == []
    blobs.adopt(spooled, hashlib.sha256(b"spooled").hexdigest())
    assert blobs.payload(blobs.put(b"bytes")).read() == b"bytes"


def test_bytes_and_name_are_synced_before_the_method_returns(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the calls is the promise: file, then rename, then folder."""
    calls: list[str] = []
    real_sync, real_rename = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("sync folder" if folder else "sync file")
        real_sync(descriptor)

    def rename(file: str, place: str) -> None:
        if Path(place).parent.exists():  # without its folder it fails, and is done again
            calls.append("rename")
        real_rename(file, place)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    blobs.put(b"bytes")
    # The second folder is the one in which the first was made.
    assert calls == ["sync file", "rename", "sync folder", "sync folder"]
    calls.clear()
    blobs.put(b"bytes")
    assert calls == ["sync folder"]
    calls.clear()
    Blobs(blobs.directory).put(b"bytes")
    assert calls[-2:] == ["sync folder", "sync folder"]


def test_a_flushed_file_is_only_named(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are on the disk by its giver; its name is not."""
    spooled = tmp_path / "spooled"
    spooled.write_bytes(b"spooled")
    synced: list[bool] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    name = hashlib.sha256(b"spooled").hexdigest()
    blobs.adopt(spooled, name, flushed=True)
    assert synced == [True, True]
    assert blobs.payload(name).read() == b"spooled"


def test_a_file_that_was_cut_is_written_again(blobs: Blobs) -> None:
    name = blobs.put(b"whole bytes")
    path = blobs.payload(name).path
    assert path is not None
    path.write_bytes(b"who")
    blobs.put(b"whole bytes")
    assert blobs.payload(name).read() == b"whole bytes"


def test_many_threads_put_the_same_bytes(blobs: Blobs) -> None:
    data = os.urandom(100_000)
    threads = [threading.Thread(target=blobs.put, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(files(blobs)) == 1
    assert blobs.payload(hashlib.sha256(data).hexdigest()).read() == data


def test_what_a_crash_left_is_cleared_when_it_is_old(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    old, young = blobs.directory / "incoming/old", blobs.directory / "incoming/young"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (1, 1))
    Blobs(tmp_path / "blobs")
    assert not old.exists()
    assert young.exists()
