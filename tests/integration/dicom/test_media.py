"""Interchange media: what a DICOMDIR (made by DCMTK's dcmmkdir) names comes in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.dicom.media import NoMedium, medium_of
from gateway.cli.application import app
from gateway.demo.people import CAMILLE
from gateway.demo.study import ct_study
from tests.integration.dicom.objects import CT, EXPLICIT, data_set_of
from tests.integration.dicom.storing_peer import storing_peer
from tests.integration.dicom.test_storage_clients import dcmtk


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """A CD with three images in a folder, and something that is none."""
    root = tmp_path / "cd"
    images = root / "IMAGES"
    images.mkdir(parents=True)
    for number, image in enumerate(ct_study(CAMILLE, slices=3), 1):
        image.SpecificCharacterSet = "ISO_IR 100"
        image.save_as(images / f"CT{number}", enforce_file_format=True)
    (root / "README.TXT").write_text("The viewer is in another folder.")
    done = dcmtk(
        "dcmmkdir", "+r", "-Pgp", "--no-backup", "+I", "+id", str(root), "+D",
        str(root / "DICOMDIR"), "IMAGES",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root


def test_what_the_directory_names_comes_in(medium: Path) -> None:
    with storing_peer({CT: [EXPLICIT]}) as peer:
        where = f"PACS@127.0.0.1:{peer.port}"
        done = CliRunner().invoke(app, ["dicom", "import", where, str(medium)])
        assert done.exit_code == 0, done.output
        kept = {data_set_of(medium / "IMAGES" / f"CT{number}") for number in (1, 2, 3)}
        assert set(peer.kept.values()) == kept
        # A file system that gives lower case, and a disc with a hole.
        (medium / "IMAGES" / "CT2").unlink()
        (medium / "IMAGES").rename(medium / "images")
        (medium / "images" / "CT1").rename(medium / "images" / "ct1.;1")
        peer.forget()
        done = CliRunner().invoke(app, ["dicom", "import", where, str(medium / "DICOMDIR")])
        assert done.exit_code == 1
        assert "IMAGES/CT2" in done.stderr
        assert len(peer.kept) == 2


def test_a_directory_names_nothing_outside_its_medium(medium: Path, tmp_path: Path) -> None:
    shutil.copy(medium / "IMAGES" / "CT1", tmp_path / "CT1")
    directory = medium / "DICOMDIR"
    raw = directory.read_bytes()
    assert raw.count(b"IMAGES\\CT1") == 1
    directory.write_bytes(raw.replace(b"IMAGES\\CT1", b".\\..\\..\\CT1"[:9] + b"1"))
    assert any(".." in each for each in medium_of(medium).missing)
    (medium / "IMAGES" / "CT3").unlink()
    (medium / "IMAGES" / "CT3").symlink_to(tmp_path / "CT1")
    assert len(medium_of(medium).files) == 1


@pytest.mark.parametrize("written", [b"C\xc91", "CÉ1".encode(), "cé1;1".encode()])
def test_a_name_that_is_no_ascii_is_found_as_the_disc_or_its_reader_writes_it(
    medium: Path, written: bytes
) -> None:
    raw = (medium / "DICOMDIR").read_bytes()
    assert raw.count(b"IMAGES\\CT1") == 1
    (medium / "DICOMDIR").write_bytes(raw.replace(b"IMAGES\\CT1", b"IMAGES\\C\xc91"))
    (medium / "IMAGES" / "CT1").rename(medium / "IMAGES" / os.fsdecode(written))
    found = medium_of(medium)
    assert (len(found.files), found.missing) == (3, ())
    (medium / "IMAGES" / os.fsdecode(written)).unlink()
    assert medium_of(medium).missing == ("IMAGES/CÉ1",)


def test_a_folder_of_that_name_is_no_directory_and_no_file_is_left_out_in_silence(
    medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (medium / "DICOMDIR").unlink()
    (medium / "DICOMDIR").mkdir()
    assert len(medium_of(medium).files) == 4
    monkeypatch.setattr("adapters.dicom.media.FILES_MAX", 3)
    with pytest.raises(NoMedium, match="more than 3 files"):
        medium_of(medium)


def test_what_is_no_medium_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoMedium, match="no files"):
        medium_of(tmp_path)
    for content in (b"", b"no DICOM", bytes(128) + b"DICM" + b"\xff" * 40):
        (tmp_path / "DICOMDIR").write_bytes(content)
        with pytest.raises(NoMedium, match="cannot be read"):
            medium_of(tmp_path)
