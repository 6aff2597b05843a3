"""YAML as mappings read it: texts only, no duplicates, every node with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.mapping.document import DEPTH_MAX, FILE_BYTES_MAX, Many, Table, Text, read_document
from gateway.mapping.findings import Findings


def read(tmp_path: Path, text: str | bytes) -> tuple[Table | None, list[str]]:
    path = tmp_path / "m.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = Findings()
    document = read_document(path, "m.yaml", found)
    shown = [f"{each.line}:{each.column} {each.code}" for each in found.all()]
    return (document.root if document else None), shown


def test_scalars_stay_texts(tmp_path: Path) -> None:
    written = ["NO", "01", ".10", "1:30", "12_3", "2024-01-01", "on", "~", "1.10", "0x1F", "null"]
    root, found = read(tmp_path, "a: [" + ", ".join(written) + "]\nb: 'x'\n")
    assert not found
    assert root is not None
    values = root.items["a"]
    assert isinstance(values, Many)
    assert [item.text for item in values.items if isinstance(item, Text)] == written


def test_every_node_knows_its_place(tmp_path: Path) -> None:
    root, _ = read(tmp_path, "a:\n  - b: OBX-5(*)\n    c: {d: e}\n")
    assert root is not None
    listed = root.items["a"]
    assert isinstance(listed, Many)
    [inner] = listed.items
    assert isinstance(inner, Table)
    assert (inner.items["b"].place.line, inner.items["b"].place.column) == (2, 8)
    assert (inner.places["c"].line, inner.places["c"].column) == (3, 5)
    assert str(inner.items["b"].place) == "m.yaml:2:8"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ["3:1 duplicate-key"]),
        ("a: {x: 1, x: 2}\n", ["1:11 duplicate-key"]),
        ("a: &x 1\nb: *x\n", ["1:4 anchor", "2:4 alias"]),
        ("base: {k: 1}\na:\n  <<: {k: 2}\n", ["3:3 merge-key"]),
        ("a: !!int 3\n", ["1:4 tag"]),
        ("a: !ruby/object x\n", ["1:4 tag"]),
        ("a:\n\tb: 1\n", ["2:1 not-yaml"]),
        ("a: [1\n", ["2:1 not-yaml"]),
        ("- a\n", ["1:1 not-a-map"]),
        ("", ["1:1 empty"]),
        ("a: 1\n---\nb: 2\n", ["2:1 second-document"]),
        ("? [a]\n: 1\n", ["1:3 key"]),
        (b"a: 1\nb: \xff\n", ["2:1 not-utf-8"]),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    root, found = read(tmp_path, text)
    assert root is None
    assert found == expected


def test_both_places_of_a_duplicate_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("x: 1\n  \nx: 2\n")
    found = Findings()
    read_document(path, "m.yaml", found)
    assert "here and at 1:1" in str(found.all()[0])


def test_depth_and_size_are_limited(tmp_path: Path) -> None:
    deep = "[" * (DEPTH_MAX + 5) + "]" * (DEPTH_MAX + 5)
    assert read(tmp_path, f"a: {deep}\n")[1][0].endswith("too-large")
    assert read(tmp_path, b"a: " + b"x" * FILE_BYTES_MAX)[1] == ["1:1 too-large"]


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    found = Findings()
    assert read_document(tmp_path / "none.yaml", "none.yaml", found) is None
    assert found.all()[0].code == "unreadable"
