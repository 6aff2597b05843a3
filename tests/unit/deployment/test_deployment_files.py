"""Sets of mapping files: what they hold, packed and back, and what is no set."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deployment.changes import changes
from gateway.deployment.files import FileSet, MappingFolders, NotASet

NAMES = st.from_regex(r"\A[a-z]{1,8}(/[a-z]{1,8}){0,2}\.yaml\Z")
ROOTS = st.sampled_from(["base/", "folder-1/", "sites/chu/"])
FILES = st.dictionaries(st.tuples(ROOTS, NAMES).map("".join), st.binary(max_size=200), max_size=8)


@given(FILES)
def test_what_is_packed_comes_back(files: dict[str, bytes]) -> None:
    one = FileSet(files, "chu", 1)
    back = FileSet.unpack(one.pack())
    assert (back.files, back.site, back.folders) == (files, "chu", 1)
    assert back.digest == one.digest
    assert FileSet(dict(reversed(files.items())), "chu", 1).pack() == one.pack()


@given(st.binary(max_size=300), st.integers(0, 400))
def test_damaged_bytes_are_no_set(noise: bytes, cut: int) -> None:
    whole = FileSet({"base/a.yaml": b"mapping: a" * 20}).pack()
    for broken in (noise, whole[: min(cut, len(whole) - 1)], whole + b"x" * (cut + 1)):
        try:
            found = FileSet.unpack(broken)
        except NotASet:
            continue
        assert found.files == {"base/a.yaml": b"mapping: a" * 20}, "only what trails is let go"


@pytest.mark.parametrize(
    "path",
    ["../a.yaml", "base/../../a.yaml", "/base/a.yaml", "base//a.yaml", "base", "folder-2/a.yaml",
     "sites/other/a.yaml", "base/a\\b.yaml", "base/./a.yaml", "base/" + "x" * 500, "elsewhere/a"],
)  # fmt: skip
def test_a_path_never_leads_out(path: str) -> None:
    head = {"site": "chu", "folders": 1, "files": [[path, 1]]}
    packed = b"ecluse mappings 1\n" + zlib.compress(json.dumps(head).encode() + b"\nx")
    with pytest.raises(NotASet):
        FileSet.unpack(packed)


@pytest.mark.parametrize("site", ["../out", "/etc", "..", ".hidden", "a/b", "a\\b", "a\0b"])
def test_a_packed_site_never_leads_out(tmp_path: Path, site: str) -> None:
    packed = FileSet({"base/a.yaml": b"x"}, site).pack()
    with pytest.raises(NotASet):
        FileSet.unpack(packed).extract(tmp_path / "versions")
    assert list(tmp_path.iterdir()) == []


def test_a_packed_set_makes_no_thousands_of_folders() -> None:
    with pytest.raises(NotASet):
        FileSet.unpack(FileSet({"base/a.yaml": b"x"}, folders=100_000_000).pack())


def test_a_bomb_is_refused_before_it_is_large() -> None:
    head = json.dumps({"site": "", "folders": 0, "files": [["base/a", 1 << 30]]}).encode()
    bomb = b"ecluse mappings 1\n" + zlib.compress(head + b"\n" + b"\0" * (80 << 20))
    assert len(bomb) < 1 << 20
    with pytest.raises(NotASet):
        FileSet.unpack(bomb)


def test_the_files_of_folders(tmp_path: Path) -> None:
    base, more, sites = tmp_path / "base", tmp_path / "more", tmp_path / "sites"
    for path, text in {
        base / "hl7" / "adt.yaml": "mapping: hl7.adt",
        base / "hl7" / "adt.test.yaml": "- {name: a, given_file: [m.hl7, ../../more/x.yaml]}",
        base / "hl7" / "m.hl7": "MSH|",
        base / "hl7" / "README.md": "not read",
        base / "sites" / "chu" / "old.yaml": "of another folder of sites",
        more / "x.yaml": "mapping: x",
        sites / "chu" / "adt.yaml": "extends: hl7.adt",
        sites / "other" / "adt.yaml": "extends: hl7.adt",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = FileSet.read(MappingFolders((base, more), sites, "chu"))
    assert set(found.files) == {
        "base/hl7/adt.yaml", "base/hl7/adt.test.yaml", "base/hl7/m.hl7",
        "base/sites/chu/old.yaml", "folder-1/x.yaml", "sites/chu/adt.yaml",
    }  # fmt: skip
    assert found.places["sites/chu/adt.yaml"] == sites / "chu" / "adt.yaml"
    assert found.site_root == "sites/chu/"
    changed = found.with_files(
        {"sites/chu/adt.yaml": None, "sites/chu/new.yaml": b"", "folder-1/x.yaml": b"y"}
    )
    assert changes(found, changed).shape() == {
        "added": ["sites/chu/new.yaml"], "changed": ["folder-1/x.yaml"],
        "removed": ["sites/chu/adt.yaml"],
    }  # fmt: skip
    assert not changes(found, found.with_files({}))


@pytest.mark.parametrize("site", ["missing", "../base", ".hidden", "a/b"])
def test_a_site_is_one_folder(tmp_path: Path, site: str) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(NotASet):
        FileSet.read(MappingFolders((tmp_path / "base",), tmp_path, site))


def test_what_was_tampered_with_is_written_anew(tmp_path: Path) -> None:
    files = FileSet({"base/a.yaml": b"one", "sites/chu/b.yaml": b"two"}, "chu", 0)
    root = files.extract(tmp_path)
    assert files.folders_below(root).folders == (root / "base",)
    assert files.extract(tmp_path) == root
    (root / "base" / "a.yaml").write_bytes(b"other")
    (root / "base" / "more.yaml").write_bytes(b"more")
    assert files.extract(tmp_path) == root
    assert (root / "base" / "a.yaml").read_bytes() == b"one"
    assert not (root / "base" / "more.yaml").exists()
    assert [each.name for each in tmp_path.iterdir()] == [files.digest]
