"""The watched folder: the rename protocol, refusals, collisions, crashes in the middle."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.cda.folder import CdaFolderSource
from adapters.cda.settings import CdaFolderSourceSettings
from adapters.doors.dropfolder import DropFolder
from gateway.model import Cause, CauseCode
from gateway.ports import Source
from tests.eventually import eventually
from tests.integration.cda.recording import FixedClock, RecordingIntake
from tests.integration.doors import running
from tests.integration.doors.running import Watched
from tests.unit.cda.samples import encoded


@dataclass
class Fed(Watched):
    """A running folder source and what it feeds."""

    intake: RecordingIntake


@contextlib.contextmanager
def watching(
    folder: Path, intake: RecordingIntake | None = None, **settings: object
) -> Iterator[Fed]:
    options: dict[str, object] = {"poll_seconds": 0.01, "settle_seconds": 0.02, **settings}
    kept = intake or RecordingIntake()

    def make() -> CdaFolderSource:
        made = CdaFolderSourceSettings(name="drop", path=folder, **options)  # type: ignore[arg-type]
        return CdaFolderSource(made, kept, FixedClock())

    with running.watching(make) as watched:
        try:
            yield Fed(watched.source, watched.folder, watched.looks, kept)
        finally:
            kept.committing.set()


def test_every_document_of_the_corpus_is_taken_and_moved(shared: Path, tmp_path: Path) -> None:
    paths = sorted((shared / "corpora" / "cda").glob("*.xml"))
    with watching(tmp_path / "drop") as watched:
        assert isinstance(watched.source, Source)
        assert watched.source.address() == str(watched.incoming)
        for path in paths:
            watched.put(path.name, path.read_bytes())
        eventually(lambda: len(watched.names("accepted")) == 36, timeout=30)
        assert watched.names("incoming") == []
        assert watched.names("refused") == []
        assert sorted(watched.intake.accepted()) == sorted(path.read_bytes() for path in paths)
        for path in paths:
            assert (watched.folder / "accepted" / path.name).read_bytes() == path.read_bytes()
        received, _ = watched.intake.last()
        assert received.attributes["file_name"].endswith(".xml")
        assert received.control_id
        assert received.subject


def test_work_in_progress_and_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_bytes(encoded())
    with watching(tmp_path / "drop") as watched:
        for name in ("a.xml.part", "b.tmp", "C.XML.PART", ".hidden.xml"):
            (watched.incoming / name).write_bytes(encoded())
        (watched.incoming / "link.xml").symlink_to(secret)
        (watched.incoming / "folder.xml").mkdir()
        os.mkfifo(watched.incoming / "pipe.xml")
        watched.after_looks(6)
        assert watched.intake.kept == []
        assert len(watched.names("incoming")) == 7
        assert watched.source.left() == {
            "link.xml": "a symbolic link is not followed",
            "pipe.xml": "not a regular file",
        }
        (watched.incoming / "a.xml.part").rename(watched.incoming / "a.xml")
        eventually(lambda: watched.names("accepted") == ["a.xml"])
    assert secret.exists()


def test_a_refused_file_has_its_reason_beside_it_in_two_languages(tmp_path: Path) -> None:
    with watching(tmp_path / "drop") as watched:
        watched.put("letter.xml", b"<html/>")
        eventually((watched.folder / "refused/letter.xml.reason.txt").exists)
        eventually(lambda: watched.names("incoming") == [])
        assert watched.names("refused") == ["letter.xml", "letter.xml.reason.txt"]
        assert (watched.folder / "refused" / "letter.xml").read_bytes() == b"<html/>"
        reason = (watched.folder / "refused" / "letter.xml.reason.txt").read_text("utf-8")
        french, english = reason.splitlines()
        assert french.startswith("Refusé : ce fichier n'est pas un document CDA R2")
        assert english.startswith("Refused: the root element is html")
        assert "Message no. 1" in english
        received, data = watched.intake.last()
        assert data == b"<html/>"
        assert received.refusal is not None
        assert received.refusal.code is CauseCode.NOT_THE_FORMAT
        # The next file goes through.
        watched.put("next.xml", encoded())
        eventually(lambda: watched.names("accepted") == ["next.xml"])


def test_a_closed_record_refuses_with_its_reason(tmp_path: Path) -> None:
    intake = RecordingIntake(permission=Cause(code=CauseCode.FEEDING_OPPOSED))
    with watching(tmp_path / "drop", intake) as watched:
        watched.put("x.xml", encoded())
        eventually(lambda: "x.xml.reason.txt" in watched.names("refused"))
        reason = (watched.folder / "refused" / "x.xml.reason.txt").read_text("utf-8")
        assert "le patient s'oppose" in reason
        assert "the patient opposes" in reason


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    with watching(tmp_path / "drop") as watched:
        for number in range(3):
            watched.put("same.xml", encoded(root=f"1.2.{number + 1}"))
            eventually(lambda: watched.names("incoming") == [])
        assert watched.names("accepted") == ["same-2.xml", "same-3.xml", "same.xml"]
        for number in range(2):
            watched.put("bad.xml", f"<bad{number}/>".encode())
            eventually(lambda: watched.names("incoming") == [])
        assert watched.names("refused") == [
            "bad-2.xml",
            "bad-2.xml.reason.txt",
            "bad.xml",
            "bad.xml.reason.txt",
        ]
        assert (watched.folder / "refused" / "bad-2.xml").read_bytes() == b"<bad1/>"


def test_a_growing_file_is_read_when_it_stands_still(tmp_path: Path) -> None:
    data = encoded()
    with watching(tmp_path / "drop", settle_seconds=0.3) as watched:
        with (watched.incoming / "slow.xml").open("wb") as stream:
            for start in range(0, len(data), len(data) // 5):
                stream.write(data[start : start + len(data) // 5])
                stream.flush()
                watched.after_looks(3)
        eventually(lambda: watched.names("accepted") == ["slow.xml"])
        assert watched.intake.accepted() == [data]


def test_a_file_beyond_the_limit_is_refused_with_its_beginning_kept(tmp_path: Path) -> None:
    with watching(tmp_path / "drop", document_bytes_max=2048) as watched:
        watched.put("large.xml", b"z" * 5000)
        eventually(lambda: "large.xml" in watched.names("refused"))
        received, data = watched.intake.last()
        assert received.refusal is not None
        assert received.refusal.code is CauseCode.FRAME_OVERSIZED
        assert data == b"z" * 5000
        assert (watched.folder / "refused" / "large.xml").stat().st_size == 5000


def test_what_cannot_be_kept_stays_and_goes_later(tmp_path: Path) -> None:
    intake = RecordingIntake(available=False)
    with watching(tmp_path / "drop", intake) as watched:
        watched.put("x.xml", encoded())
        eventually(lambda: watched.source.left() == {"x.xml": "could not be kept yet"})
        assert watched.names("incoming") == ["x.xml"]
        assert watched.names("accepted") == []
        intake.available = True
        eventually(lambda: watched.names("accepted") == ["x.xml"])
        # What is left is told after the look that moved the file.
        eventually(lambda: watched.source.left() == {})
        assert intake.accepted() == [encoded()]


def test_a_crash_between_commit_and_move_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = RecordingIntake()

    def power_cut(self: DropFolder, name: str, beside: object) -> Path:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(DropFolder, "accept", power_cut)
        with watching(tmp_path / "drop", intake) as watched:
            watched.put("x.xml", encoded())
            eventually(lambda: "x.xml" in watched.source.left())
            assert watched.names("incoming") == ["x.xml"]
    assert intake.accepted() == [encoded()]
    with watching(tmp_path / "drop", intake) as watched:
        eventually(lambda: watched.names("incoming") == [])
        assert watched.names("accepted") == ["x.xml"]
        assert intake.accepted() == [encoded()]
        assert len(intake.kept) == 1


def test_a_crash_in_the_middle_of_the_move_leaves_one_file(tmp_path: Path) -> None:
    intake = RecordingIntake()
    with watching(tmp_path / "drop", intake) as watched:
        watched.put("x.xml", encoded())
        eventually(lambda: watched.names("accepted") == ["x.xml"])
    # The link was made and the old name not yet removed.
    os.link(tmp_path / "drop/accepted/x.xml", tmp_path / "drop/incoming/x.xml")
    with watching(tmp_path / "drop", intake) as watched:
        eventually(lambda: watched.names("incoming") == [])
        assert watched.names("accepted") == ["x.xml"]
        assert len(intake.kept) == 1


def test_the_folder_is_watched_by_one_process_only(tmp_path: Path) -> None:
    with watching(tmp_path / "drop"):
        with pytest.raises(OSError), watching(tmp_path / "drop"):
            pass
    with watching(tmp_path / "drop") as watched:
        watched.after_looks(1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_reported_and_left(tmp_path: Path) -> None:
    with watching(tmp_path / "drop") as watched:
        watched.put("closed.xml", encoded())
        (watched.incoming / "closed.xml").chmod(0)
        eventually(lambda: "closed.xml" in watched.source.left())


def test_an_unreadable_file_is_reported_without_its_name_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = DropFolder.read

    def failing(self: DropFolder, found: object, bytes_max: int) -> bytes | None:
        if found.name == "DUPONT.xml":  # type: ignore[attr-defined]
            raise PermissionError(13, "Permission denied")
        return read(self, found, bytes_max)  # type: ignore[arg-type]

    monkeypatch.setattr(DropFolder, "read", failing)
    with caplog.at_level(logging.WARNING), watching(tmp_path / "drop") as watched:
        watched.put("DUPONT.xml", encoded())
        watched.put("other.xml", encoded(root="1.2.8"))
        eventually(lambda: watched.names("accepted") == ["other.xml"])
        eventually(
            lambda: watched.source.left() == {"DUPONT.xml": "cannot be read (Permission denied)"}
        )
        assert watched.names("incoming") == ["DUPONT.xml"]
        watched.after_looks(5)
    assert "DUPONT" not in caplog.text
    assert caplog.text.count("Permission denied") == 1


def test_an_unexpected_fault_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look = DropFolder.look
    faults = iter([ValueError("DUPONT"), OSError("gone")])

    def failing(self: DropFolder) -> object:
        for fault in faults:
            raise fault
        return look(self)

    monkeypatch.setattr(DropFolder, "look", failing)
    with caplog.at_level(logging.WARNING), watching(tmp_path / "drop") as watched:
        watched.put("x.xml", encoded())
        eventually(lambda: watched.names("accepted") == ["x.xml"])
    assert "ValueError" in caplog.text
    assert "DUPONT" not in caplog.text


def test_many_files_in_few_looks(tmp_path: Path) -> None:
    with watching(tmp_path / "drop", files_per_look_max=7) as watched:
        for number in range(60):
            watched.put(f"{number:03}.xml", encoded(root=f"1.2.3.{number}"))
        eventually(lambda: len(watched.names("accepted")) == 60)
        # In the order in which they came.
        order = [received.control_id for received, _ in watched.intake.kept]
        assert order == [f"1.2.3.{number}" for number in range(60)]
