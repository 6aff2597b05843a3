"""A copy of a gateway's state, made beside its work, and how it is put back.

A backup is a folder: the journal's database as it was at one instant, the files that it names,
and ``backup.json``, which is written last; a folder without it is no backup. The database is
copied first: every file that it names was durable before it was named, and no purge takes files
away while they are copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, create_engine, inspect
from sqlalchemy.engine import make_url

from gateway.journal.blobs import Blobs, sync_directory
from gateway.journal.journal import Journal
from gateway.release import version

MANIFEST = "backup.json"
FORMAT = 1
SQLITE_FILE = "journal.sqlite"
POSTGRESQL_FILE = "journal.dump"
BLOB_FOLDER = "blobs"
PURGE_SECONDS_MAX = 600.0
"""For so long a backup waits for a purge that is taking files away."""
_BLOCK = 1 << 20


class BackupFault(Exception):
    """Nothing was made, or nothing was put back. Says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself. ``at`` is the instant before which every message that was
    acknowledged is in it (ISO 8601); ``sha256`` is the journal file's."""

    at: str
    release: str
    kind: str
    journal: str
    sha256: str
    size: int
    files: int
    bytes: int
    format: int = FORMAT


def back_up(journal: Journal, url: str, folder: Path, previous: Path | None = None) -> Manifest:
    """Copy the state of a gateway, running or not, into a new folder.

    ``url`` is the journal's. Files that ``previous``, an older backup on the same file system,
    has are linked instead of copied: a file never changes. Raises BackupFault, OSError.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BackupFault(f"{folder} is not empty: a backup has a folder of its own")
    if previous is not None:
        read_manifest(previous)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    with _files_kept(journal.blobs):
        at = datetime.now(UTC)
        address = make_url(url)
        if journal.dialect == "sqlite":
            copied = folder / SQLITE_FILE
            _copy_sqlite(Path(address.database or ""), copied)
        else:
            copied = folder / POSTGRESQL_FILE
            _run(address, "pg_dump", "--format=custom", "--no-owner", f"--file={copied}")
        copied.chmod(0o600)
        _sync(copied)
        files, size = _copy_files(journal.blobs, folder / BLOB_FOLDER, previous)
    manifest = Manifest(
        at=at.isoformat(timespec="seconds"),
        release=version(),
        kind=journal.dialect,
        journal=copied.name,
        sha256=_digest(copied),
        size=copied.stat().st_size,
        files=files,
        bytes=size,
    )
    written = folder / MANIFEST
    written.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    _sync(written)
    sync_directory(folder)
    return manifest


def restore(folder: Path, url: str, blob_folder: Path) -> Manifest:
    """Put a backup where no gateway's state is yet. Raises BackupFault, OSError.

    ``url`` is that of a journal of the backup's kind: an SQLite file that is not there, or a
    PostgreSQL database without tables. The files go first, so that an interrupted restore
    leaves no journal that names what is not there; it may be repeated.
    """
    manifest = read_manifest(folder)
    address = make_url(url)
    if address.get_backend_name() != manifest.kind:
        raise BackupFault(f"the backup is of {manifest.kind}, journal.url is another database's")
    kept = folder / manifest.journal
    if _digest(kept) != manifest.sha256:
        raise BackupFault(f"{kept} is not what was written: its digest is another one")
    target = Path(address.database or "")
    if manifest.kind == "sqlite":
        # A log of another database beside it would be taken for its own.
        for there in (target, *(target.with_name(target.name + end) for end in ("-wal", "-shm"))):
            if there.exists():
                raise BackupFault(f"{there} is there already: a backup is restored beside nothing")
    elif _tables(address):
        raise BackupFault("the database has tables already: restore into an empty one")
    _put_files_back(folder / BLOB_FOLDER, blob_folder)
    if manifest.kind == "sqlite":
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        shutil.copyfile(kept, partial)
        partial.chmod(0o600)
        _sync(partial)
        partial.rename(target)
        sync_directory(target.parent)
    else:
        _run(
            address,
            "pg_restore",
            "--exit-on-error",
            "--no-owner",
            "--single-transaction",
            str(kept),
        )
    return manifest


def _put_files_back(kept: Path, target: Path) -> None:
    blobs = Blobs(target)
    staged = target / "incoming" / "restored"
    for digest in Blobs(kept, read_only=True).stored():
        staged.unlink(missing_ok=True)
        _copy_file(kept / digest[:2] / digest, staged, digest)
        blobs.adopt(staged, digest)


def read_manifest(folder: Path) -> Manifest:
    """What a backup says of itself. Raises BackupFault when it is none, or not whole."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if found.get("format") != FORMAT:
            raise BackupFault(f"{folder}: a backup of format {found.get('format')}, not {FORMAT}")
        return Manifest(**found)
    except FileNotFoundError:
        raise BackupFault(f"{folder} holds no {MANIFEST}: it is no backup, or not whole") from None
    except (ValueError, TypeError):
        raise BackupFault(f"{folder / MANIFEST} cannot be read") from None


@contextmanager
def _files_kept(blobs: Blobs) -> Iterator[None]:
    until = time.monotonic() + PURGE_SECONDS_MAX
    while True:
        with blobs.held(exclusive=False) as ours:
            if ours:
                yield
                return
        if time.monotonic() > until:
            raise BackupFault("a purge has been taking files away for long; try again later")
        time.sleep(0.5)


def _copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's own online backup (https://sqlite.org/backup.html), all pages in one step: a
    reader in write-ahead mode, so that the gateway goes on writing meanwhile."""
    address = f"file:{quote(str(source))}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer, pages=-1)
    with closing(sqlite3.connect(target)) as copied:
        (said,) = copied.execute("PRAGMA quick_check(1)").fetchone()
        # One file, without a log beside it.
        copied.execute("PRAGMA journal_mode=DELETE")
    if said != "ok":
        raise BackupFault("the copy of the journal is damaged: look at the disk, and at ecluse "
                          "verify --content")  # fmt: skip


def _copy_files(blobs: Blobs, folder: Path, previous: Path | None) -> tuple[int, int]:
    folder.mkdir(mode=0o700, exist_ok=True)
    files = size = 0
    for digest in blobs.stored():
        place = folder / digest[:2] / digest
        place.parent.mkdir(mode=0o700, exist_ok=True)
        older = previous / BLOB_FOLDER / digest[:2] / digest if previous is not None else None
        source = blobs.directory / digest[:2] / digest
        if older is not None and older.is_file() and older.stat().st_size == source.stat().st_size:
            os.link(older, place)
        else:
            _copy_file(source, place, digest)
        files, size = files + 1, size + place.stat().st_size
    for each in folder.iterdir():
        sync_directory(each)
    sync_directory(folder)
    return files, size


def _copy_file(source: Path, target: Path, digest: str) -> None:
    found = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        target.chmod(0o600)
        while block := reader.read(_BLOCK):
            found.update(block)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    if found.hexdigest() != digest:
        raise BackupFault(f"{source} is not what its name says: take it from an older backup")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _tables(address: URL) -> list[str]:
    engine = create_engine(address, hide_parameters=True)
    try:
        return inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _run(address: URL, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on a database; the password goes by the environment."""
    known = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=_major)
    binary = str(known[-1]) if known else shutil.which(program)
    if binary is None:
        raise BackupFault(f"{program} is not installed: PostgreSQL's client programs are needed")
    shown = address.set(drivername="postgresql", password=None).render_as_string()
    environment = {**os.environ, "PGPASSWORD": str(address.password or "")}
    if not address.password:
        del environment["PGPASSWORD"]
    done = subprocess.run(  # noqa: S603  the program and its arguments are ours
        [binary, f"--dbname={shown}", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[:1]
        raise BackupFault(f"{program} ended with {done.returncode}: {''.join(said)[:200]}")


def _major(path: Path) -> int:
    return int(path.parts[-3]) if path.parts[-3].isdigit() else 0
