"""Media that are put in a watched folder: CDs with a DICOMDIR of DCMTK's, folders, files."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.dicom.folder import DicomFolderSource
from adapters.dicom.folder_settings import DicomFolderSourceSettings
from adapters.dicom.part10 import read_file_meta
from gateway.gate import PermissionGate
from gateway.intake import JournalIntake
from gateway.journal import gatherings, messages, tables
from gateway.journal.journal import Journal
from gateway.journal.values import Message
from gateway.journal.writer import GroupWriter
from gateway.ports import IntakeUnavailable
from gateway.sources import SystemClock
from gateway.studies import SourceStudies
from tests.eventually import eventually
from tests.integration.dicom.objects import data_set_of
from tests.integration.dicom.test_media import medium

__all__ = ["medium"]


class Intake(JournalIntake):
    """The real one, which a test may take away."""

    away = False

    def submit(self, received: Any) -> Any:
        if self.away:
            raise IntakeUnavailable("test")
        return super().submit(received)


@dataclass
class Drop:
    """A watched folder before a real journal."""

    journal: Journal
    intake: Intake
    source: DicomFolderSource
    loop: asyncio.AbstractEventLoop
    folder: Path

    def put(self, medium: Path, name: str) -> Path:
        """A finished medium, renamed into ``incoming/`` as a writer does it."""
        part = self.folder / "incoming" / f"{name}.part"
        if medium.is_dir():
            shutil.copytree(medium, part, symlinks=True)
        else:
            shutil.copy(medium, part)
        return part.rename(self.folder / "incoming" / name)

    def ended(self, name: str, place: str = "accepted") -> Path:
        """Wait until a medium is where it ends."""
        target = self.folder / place / name
        eventually(target.exists, timeout=60)
        return target

    def kept(self, state: str = "gathering") -> list[Message]:
        with self.journal.read() as connection:
            rows = connection.execute(
                tables.message.select()
                .where(tables.message.c.state == state)
                .order_by(tables.message.c.id)
            )
            found = [messages.get(connection, row.id) for row in rows]
        return [each for each in found if each is not None]

    def due(self) -> bool:
        """Whether the study would be taken now."""
        (study,) = {each.group_key for each in self.kept()}
        with self.journal.read() as connection:
            found = gatherings.get(connection, "cds", study)
        return bool(found and found.due_at and found.due_at <= self.journal.now())


@contextlib.contextmanager
def watching(folder: Path, **more: Any) -> Iterator[Drop]:
    journal = Journal(f"sqlite:///{folder / 'journal.db'}", blob_directory=folder / "blobs")
    journal.migrate()
    writer = GroupWriter(journal)
    writer.start()
    settings = DicomFolderSourceSettings(
        **{
            "name": "cds", "path": folder / "drop", "poll_seconds": 0.02, "settle_seconds": 0,
            "free_bytes_min": 0, "quiet_seconds": 600, **more,
        }
    )  # fmt: skip
    quiet = {"cds": timedelta(seconds=settings.quiet_seconds)}
    intake = Intake(writer, PermissionGate(), quiet=quiet)
    ledger = SourceStudies(journal, "cds", quiet, {})
    source = DicomFolderSource(settings, intake, SystemClock(), folder / "spool", ledger)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(source.start(), loop).result(timeout=30)
        yield Drop(journal, intake, source, loop, folder / "drop")
    finally:
        asyncio.run_coroutine_threadsafe(source.stop(), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
        writer.stop()
        journal.close()


def data_sets(drop: Drop, folder: Path) -> set[bytes]:
    found = set()
    for each in drop.kept():
        path = folder / "kept.dcm"
        path.write_bytes(messages.payload(drop.journal, each).read())
        found.add(data_set_of(path))
    return found


def test_a_disc_is_stored_whole_and_its_study_goes_on_at_once(medium: Path, tmp_path: Path) -> None:
    expected = {data_set_of(medium / "IMAGES" / f"CT{number}") for number in (1, 2, 3)}
    with watching(tmp_path) as drop:
        drop.put(medium, "disc")
        done = drop.ended("disc")
        assert (done / "IMAGES" / "CT1").exists()
        assert not (done.parent / "disc.reason.txt").exists()
        assert data_sets(drop, tmp_path) == expected
        assert drop.due()
        assert dict(drop.source.statistics()) == {"store-0000": 3, "medium-accepted": 1}
        # The same disc again is a duplicate, and stands beside the first.
        drop.put(medium, "disc")
        drop.ended("disc-2")
        assert len(drop.kept()) == 3
    assert not [each for each in (tmp_path / "spool").rglob("*") if each.is_file()]


def test_what_a_disc_lacks_is_told_and_its_study_waits(medium: Path, tmp_path: Path) -> None:
    (medium / "IMAGES" / "CT2").unlink()
    whole = (medium / "IMAGES" / "CT3").read_bytes()
    with (medium / "IMAGES" / "CT3").open("rb") as stream:
        offset = read_file_meta(stream, len(whole)).data_set_offset
    (medium / "IMAGES" / "CT3").write_bytes(whole[: offset + 200])
    with watching(tmp_path) as drop:
        drop.put(medium, "disc")
        drop.ended("disc")
        told = (drop.folder / "accepted" / "disc.reason.txt").read_text()
        assert "2 of 3 objects were not taken." in told
        assert "IMAGES/CT3: 0xC0" in told
        assert "IMAGES/CT2: named by the DICOMDIR, not there" in told
        assert len(drop.kept()) == 1
        assert len(drop.kept("refused")) == 1  # the evidence
        assert not drop.due()


def test_folders_without_a_directory_and_single_files(medium: Path, tmp_path: Path) -> None:
    (medium / "DICOMDIR").unlink()
    outside = tmp_path / "outside.dcm"
    shutil.move(medium / "IMAGES" / "CT3", outside)
    (medium / "IMAGES" / "CT3").symlink_to(outside)
    with watching(tmp_path) as drop:
        (drop.folder / "incoming" / "still empty").mkdir()
        (drop.folder / "incoming" / "link").symlink_to(medium)
        drop.put(medium, "folder")
        drop.ended("folder")
        # A link leads out of the medium; the README is nobody's object.
        assert len(drop.kept()) == 2
        assert not drop.due()
        drop.put(outside, "one.dcm")
        drop.ended("one.dcm")
        assert len(drop.kept()) == 3
        drop.put(medium / "README.TXT", "letter.txt")
        drop.ended("letter.txt", "refused")
        assert "no DICOM file" in (drop.folder / "refused" / "letter.txt.reason.txt").read_text()
        assert len(drop.kept("refused")) == 1
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "DICOMDIR").write_bytes(b"none")
        drop.put(tmp_path / "bad", "bad")
        drop.ended("bad", "refused")
        assert "cannot be read" in (drop.folder / "refused" / "bad.reason.txt").read_text()
        left = drop.source.left()
        assert left == {
            "still empty": "is empty", "link": "a symbolic link is not followed",
        }  # fmt: skip


def test_what_cannot_be_kept_stays_until_it_can(medium: Path, tmp_path: Path) -> None:
    with watching(tmp_path) as drop:
        drop.intake.away = True
        waiting = drop.put(medium, "disc")
        eventually(lambda: drop.source.left() == {"disc": "could not be kept yet"}, timeout=60)
        assert waiting.exists()
        drop.intake.away = False
        drop.ended("disc")
        assert len(drop.kept()) == 3


def test_one_that_is_written_slowly_is_waited_for(medium: Path, tmp_path: Path) -> None:
    with watching(tmp_path, settle_seconds=3600) as drop:
        drop.put(medium, "disc")
        eventually(lambda: "disc" in drop.source._seen, timeout=60)
        found, _ = drop.source.drop.look()
        before = found[0].signature
        (drop.folder / "incoming" / "disc" / "IMAGES" / "CT4").write_bytes(b"more")
        found, _ = drop.source.drop.look()
        assert found[0].signature != before
        assert not drop.kept()


@pytest.mark.parametrize("other", ["elsewhere", "drop"])
def test_other_settings_hold_for_the_next_medium(medium: Path, tmp_path: Path, other: str) -> None:
    with watching(tmp_path) as drop:
        changed = drop.source.settings.model_copy(
            update={"path": tmp_path / other, "sop_classes": ["1.2.840.10008.5.1.4.1.1.4"]}
        )
        asyncio.run_coroutine_threadsafe(drop.source.reconfigure(changed), drop.loop).result(
            timeout=30
        )
        drop.folder = tmp_path / other
        drop.put(medium, "disc")
        drop.ended("disc", "refused")
        told = (drop.folder / "refused" / "disc.reason.txt").read_text()
        assert "IMAGES/CT1: SOP class 1.2.840.10008.5.1.4.1.1.2 is not taken" in told
        assert drop.source.address() == str(tmp_path / other / "incoming")
