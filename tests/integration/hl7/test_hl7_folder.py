"""HL7 v2 from a watched folder: batches, acknowledgements beside the file, half-written files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.doors.dropfolder import DropFolder
from adapters.hl7.batch import read_file
from adapters.hl7.folder import Hl7FolderSource
from adapters.hl7.framing import frame
from adapters.hl7.settings import Hl7FolderSourceSettings
from gateway.model import CauseCode
from gateway.ports import Source
from tests.eventually import eventually
from tests.integration.doors.running import Watched, watching
from tests.integration.hl7.fake_intake import FakeIntake, RealClock
from tests.integration.hl7.test_hl7_http import message

FHS = b"FHS|^~\\&|LAB|X|ECLUSE|Y|20240101||||F7\r"
BHS = b"BHS|^~\\&|LAB|X|ECLUSE|Y|20240101||||B7\r"


@pytest.fixture
def intake() -> Iterator[FakeIntake]:
    made = FakeIntake()
    yield made
    made.close()


@contextlib.contextmanager
def folder(tmp_path: Path, intake: FakeIntake, **settings: object) -> Iterator[Watched]:
    options: dict[str, object] = {"poll_seconds": 0.01, "settle_seconds": 0.02, **settings}

    def make() -> Hl7FolderSource:
        made = Hl7FolderSourceSettings(name="drop", path=tmp_path / "drop", **options)  # type: ignore[arg-type]
        return Hl7FolderSource(made, intake, RealClock())

    with watching(make) as watched:
        assert isinstance(watched.source, Source)
        yield watched


def test_a_batch_is_taken_message_by_message(tmp_path: Path, intake: FakeIntake) -> None:
    bodies = [message(f"B{n}").encode() for n in range(3)]
    with folder(tmp_path, intake) as watched:
        watched.put("day.hl7", FHS + BHS + b"".join(bodies) + b"BTS|3\rFTS|1\r")
        watched.until_gone()
        assert watched.names("accepted") == ["day.hl7", "day.hl7.ack"]
        assert watched.names("refused") == []
        assert [each.payload.read() for each in intake.kept] == bodies
        attributes = intake.kept[1].attributes
        assert (attributes["file_name"], attributes["file_message"]) == ("day.hl7", "2 of 3")
        file = read_file(
            watched.read("accepted", "day.hl7.ack"), message_bytes_max=9999, messages_max=99
        )
        assert file.header is not None
        assert file.header.whole(12) == "F7"
        assert [b"MSA|AA|B%d\r" % n in each for n, each in enumerate(file.messages)] == [True] * 3


def test_some_refused_some_taken(tmp_path: Path, intake: FakeIntake) -> None:
    with folder(tmp_path, intake) as watched:
        watched.put("mixed.hl7", (message("G1") + message("G2", kind="ZZZ")).encode())
        watched.until_gone()
        assert watched.names("accepted") == ["mixed.hl7", "mixed.hl7.ack", "mixed.hl7.reason.txt"]
        answer = watched.read("accepted", "mixed.hl7.ack")
        assert b"MSA|AA|G1" in answer
        assert b"MSA|AR|G2" in answer
        reason = watched.read("accepted", "mixed.hl7.reason.txt").decode()
        assert "(1 message(s) sur 2" in reason
        assert "(1 of 2 messages; the first:)" in reason


def test_nothing_taken_is_refused_with_its_reason_and_answer(
    tmp_path: Path, intake: FakeIntake
) -> None:
    with folder(tmp_path, intake) as watched:
        watched.put("bad.hl7", message("X1", kind="ZZZ").encode())
        watched.put("text.hl7", b"no HL7 at all")
        watched.put("empty.hl7", b"")
        watched.put("count.hl7", BHS + message("X2").encode() + b"BTS|9\r")
        watched.put("junk.hl7", b"OBX|1\r" + message("X3").encode())
        watched.until_gone()
        assert watched.names("accepted") == []
        assert len(watched.names("refused")) == 15
        assert b"MSA|AR|X1" in watched.read("refused", "bad.hl7.ack")
        reason = watched.read("refused", "count.hl7.reason.txt").decode()
        assert "BTS-1 says 9, and there is 1 message; place: BTS-1" in reason
        assert "le nombre de messages n'est pas celui qui est annoncé" in reason
        assert all(each.refusal is not None for each in intake.kept)


def test_a_count_may_be_noted_instead(tmp_path: Path, intake: FakeIntake) -> None:
    with folder(tmp_path, intake, batch_counts="note") as watched:
        watched.put("count.hl7", BHS + message("X2").encode() + b"BTS|9\r")
        watched.until_gone()
        assert watched.names("accepted") == ["count.hl7", "count.hl7.ack"]
        assert intake.kept[0].attributes["batch_count"] == "BTS-1 says 9, and there is 1 message"


def test_an_empty_batch_is_a_batch(tmp_path: Path, intake: FakeIntake) -> None:
    with folder(tmp_path, intake) as watched:
        watched.put("none.hl7", FHS + b"FTS|0\r")
        watched.until_gone()
        assert watched.names("accepted") == ["none.hl7", "none.hl7.ack"]
        assert intake.kept == []
        assert watched.read("accepted", "none.hl7.ack").endswith(b"\rFTS|0\r")


def test_a_file_of_mllp_blocks(tmp_path: Path, intake: FakeIntake) -> None:
    bodies = [message(f"F{n}").encode() for n in range(2)]
    with folder(tmp_path, intake) as watched:
        watched.put("blocks.hl7", b"".join(map(frame, bodies)))
        watched.put("cut.hl7", frame(bodies[0])[:-20])
        watched.until_gone()
        assert watched.names("refused") == ["cut.hl7", "cut.hl7.ack", "cut.hl7.reason.txt"]
        accepted = [each for each in intake.kept if each.refusal is None]
        assert [each.payload.read() for each in accepted] == bodies


def test_a_half_written_file_is_not_read_until_it_stands_still(
    tmp_path: Path, intake: FakeIntake
) -> None:
    data = BHS + message("W1").encode() + message("W2").encode() + b"BTS|2\r"
    with folder(tmp_path, intake, settle_seconds=0.3) as watched:
        with (watched.incoming / "slow.hl7").open("wb") as stream:
            for start in range(0, len(data), 60):
                stream.write(data[start : start + 60])
                stream.flush()
                watched.after_looks(2)
        watched.until_gone()
        assert [each.control_id for each in intake.kept] == ["W1", "W2"]
        assert watched.names("accepted") == ["slow.hl7", "slow.hl7.ack"]


def test_too_large_is_refused_with_its_beginning_kept(tmp_path: Path, intake: FakeIntake) -> None:
    with folder(tmp_path, intake, file_bytes_max=2048) as watched:
        watched.put("large.hl7", message("L1").encode() + b"NTE|1||" + b"x" * 5000)
        watched.until_gone()
        assert watched.names("refused") == ["large.hl7", "large.hl7.ack", "large.hl7.reason.txt"]
        refusal = intake.kept[0].refusal
        assert refusal is not None
        assert refusal.code is CauseCode.FRAME_OVERSIZED


def test_a_crash_between_commit_and_move_doubles_nothing(
    tmp_path: Path, intake: FakeIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: DropFolder, name: str, beside: object) -> Path:
        raise PermissionError(13, "Permission denied")

    body = message("P1").encode()
    with monkeypatch.context() as patched:
        patched.setattr(DropFolder, "accept", denied)
        with folder(tmp_path, intake) as watched:
            watched.put("x.hl7", body)
            eventually(lambda: "x.hl7" in watched.source.left())
            assert watched.source.left() == {
                "x.hl7": "is kept and could not be moved (Permission denied)"
            }
            first = intake.kept[0].answer
    with folder(tmp_path, intake) as watched:
        watched.until_gone()
        # The answer that the first commit holds, not a second one.
        assert watched.read("accepted", "x.hl7.ack") == first


def test_what_cannot_be_kept_goes_later_and_whole(tmp_path: Path, intake: FakeIntake) -> None:
    intake.unavailable = True
    bodies = [message(f"K{n}").encode() for n in range(300)]
    with folder(tmp_path, intake) as watched:
        watched.put("later.hl7", b"".join(bodies))
        eventually(lambda: watched.source.left() == {"later.hl7": "could not be kept yet"})
        assert watched.names("incoming") == ["later.hl7"]
        intake.unavailable = False
        watched.until_gone()
        assert [each.payload.read() for each in intake.kept] == bodies
        assert watched.read("accepted", "later.hl7.ack").count(b"MSA|AA|") == 300


def test_a_file_that_breaks_our_reading_does_not_hold_up_the_others(
    tmp_path: Path, intake: FakeIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(content: bytes, **limits: int) -> object:
        if b"BAD" in content:
            raise RuntimeError("PATIENT^SECRET")
        return read_file(content, **limits)

    monkeypatch.setattr("adapters.hl7.files.read_file", broken)
    with folder(tmp_path, intake) as watched:
        watched.put("a.hl7", message("BAD").encode())
        watched.put("b.hl7", message("GOOD").encode())
        eventually(lambda: watched.names("accepted") == ["b.hl7", "b.hl7.ack"])
        eventually(
            lambda: watched.source.left() == {"a.hl7": "cannot be taken apart (RuntimeError)"}
        )


def test_an_intake_that_breaks_keeps_the_file(
    tmp_path: Path, intake: FakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake.broken = True
    with folder(tmp_path, intake) as watched:
        watched.put("a.hl7", message("A1").encode())
        eventually(lambda: watched.source.left() == {"a.hl7": "could not be kept yet"})
        intake.broken = False
        watched.until_gone()
        assert watched.names("accepted") == ["a.hl7", "a.hl7.ack"]
    assert "SECRET" not in caplog.text
