"""Names, moves, spools, reasons and problems: the small parts of the two ways in."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.cda.http import CdaHttpSource
from adapters.cda.settings import CdaFolderSourceSettings, CdaHttpSourceSettings
from adapters.doors.dropfolder import REASON_SUFFIX, DropFolder
from adapters.doors.problem import problem, status_of
from adapters.doors.reason import reason_text
from adapters.doors.spool import BodyTooLarge, Spool
from gateway.model import Cause, CauseCode


@pytest.fixture
def drop(tmp_path: Path) -> DropFolder:
    folder = DropFolder(tmp_path / "drop")
    folder.open()
    return folder


def test_names_too_long_for_a_reason_are_shortened(drop: DropFolder) -> None:
    for name in ("é" * 125 + ".xml", "x" * 251, "y." + "z" * 240):
        (drop.incoming / name).write_bytes(b"1")
        moved = drop.refuse(name, {REASON_SUFFIX: b"why"})
        assert moved.read_bytes() == b"1"
        assert moved.with_name(moved.name + ".reason.txt").read_text() == "why"
        assert not (drop.incoming / name).exists()
        moved.name.encode("utf-8")


def test_names_that_are_not_utf_8_are_moved_too(drop: DropFolder) -> None:
    name = os.fsdecode(b"caf\xe9.xml")
    (drop.incoming / name).write_bytes(b"1")
    (found,), _ = drop.look()
    assert drop.read(found, 10) == b"1"
    assert drop.accept(name).read_bytes() == b"1"


def test_a_dangling_link_in_the_way_is_not_followed(drop: DropFolder, tmp_path: Path) -> None:
    (drop.accepted / "x.xml").symlink_to(tmp_path / "elsewhere")
    (drop.incoming / "x.xml").write_bytes(b"1")
    assert drop.accept("x.xml").name == "x-2.xml"
    assert not (tmp_path / "elsewhere").exists()


def test_a_reason_whose_document_was_taken_away_is_not_reused(drop: DropFolder) -> None:
    (drop.refused / "x.xml.reason.txt").write_text("old")
    (drop.incoming / "x.xml").write_bytes(b"1")
    assert drop.refuse("x.xml", {REASON_SUFFIX: b"new"}).name == "x-2.xml"
    assert (drop.refused / "x.xml.reason.txt").read_text() == "old"


def test_a_file_system_without_hard_links_serves_too(
    drop: DropFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object, **options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    for number in (1, 2):
        (drop.incoming / "x.xml").write_bytes(f"{number}".encode())
        drop.refuse("x.xml", {REASON_SUFFIX: b"why %d" % number})
    assert (drop.refused / "x.xml").read_bytes() == b"1"
    assert (drop.refused / "x-2.xml").read_bytes() == b"2"
    assert (drop.refused / "x-2.xml.reason.txt").read_text() == "why 2"
    assert list(drop.incoming.iterdir()) == []


def test_a_file_that_changed_since_it_was_seen_is_not_read(drop: DropFolder) -> None:
    path = drop.incoming / "x.xml"
    path.write_bytes(b"1")
    (found,), _ = drop.look()
    path.write_bytes(b"12")
    assert drop.read(found, 10) is None
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(OSError):
        drop.read(found, 10)


def test_oldest_first(drop: DropFolder) -> None:
    for age, name in enumerate(("c", "b", "a")):
        (drop.incoming / name).write_bytes(b"1")
        os.utime(drop.incoming / name, ns=(0, 1_000_000 * age))
    found, _ = drop.look()
    assert [file.name for file in found] == ["c", "b", "a"]


def test_a_spool_keeps_order_hash_and_limit(tmp_path: Path) -> None:
    for size in (0, 10, 11, 1000):
        spool = Spool(tmp_path, memory_bytes_max=10, bytes_max=1000)
        data = os.urandom(size)
        for start in range(0, size, 7):
            spool.write(data[start : start + 7])
        payload = spool.payload()
        assert payload.read() == data
        assert payload.size == size
        assert payload.sha256 == hashlib.sha256(data).hexdigest()
        assert (payload.path is not None) == (size > 10)
        if payload.path is not None:
            assert payload.path.stat().st_mode & 0o777 == 0o600
        spool.discard()
        spool.discard()
        assert list(tmp_path.iterdir()) == []
    spool = Spool(tmp_path, memory_bytes_max=10, bytes_max=1000)
    spool.write(b"x" * 1000)
    with pytest.raises(BodyTooLarge):
        spool.write(b"x")
    assert spool.beginning(5) == b"xxxxx"
    spool.discard()


@pytest.mark.parametrize("code", list(CauseCode))
def test_every_cause_has_a_status_and_a_reason(code: CauseCode) -> None:
    cause = Cause(code=code, detail="", location="line 3, column 4")
    assert 400 <= status_of(cause) < 500
    french, english = reason_text(cause, 12).splitlines()
    assert "endroit : ligne 3, colonne 4" in french
    assert "place: line 3, column 4" in english
    assert "12" in french
    assert "12" in english


def test_problem_details_follow_rfc_9457() -> None:
    answer = problem(
        422,
        Cause(code=CauseCode.NOT_THE_FORMAT, detail="d", location="/*"),
        titles=CdaHttpSource.titles,
    )
    assert answer.media_type == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:ecluse:cause:not-the-format",
        "title": "The XML is not a CDA R2 document",
        "status": 422,
        "detail": "d",
        "cause": "not-the-format",
        "location": "/*",
    }


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        CdaHttpSourceSettings.model_validate({"name": "x", "typo": 1})
    with pytest.raises(ValidationError):
        CdaHttpSourceSettings(name="Not A Name")
    with pytest.raises(ValidationError):
        CdaFolderSourceSettings.model_validate({"name": "x"})
    for model in (CdaHttpSourceSettings, CdaFolderSourceSettings):
        for name, field in model.model_fields.items():
            assert field.description or name == "type", name
