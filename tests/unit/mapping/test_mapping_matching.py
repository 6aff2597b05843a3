"""Which mapping takes a message."""

from __future__ import annotations

from pathlib import Path

from gateway.mapping import Library
from gateway.model import Format
from tests.unit.mapping.pretend import PretendLanguage, PretendScope, write

ENTRY = "entries:\n  - {resource: Patient, id: {key: [KEY], authority: worldwide}, set: {name: {set: {text: A}}}}\n"


def mapping(name: str, match: str) -> str:
    return f"mapping: {name}\nversion: '1'\nsource: {{format: hl7v2, match: {match}}}\n{ENTRY}"


def test_the_mapping_with_the_most_paths_wins(tmp_path: Path) -> None:
    write(tmp_path, {
        "any.yaml": mapping("any", "{TYPE: ['*']}"),
        "one.yaml": mapping("one", "{TYPE: [x], A: [a, b]}"),
        "two.yaml": mapping("two", "{TYPE: [x], A: [c]}"),
        "three.yaml": mapping("three", "{TYPE: [x], A: [a], B: ['*']}"),
        "library.yaml": "mapping: library\nversion: '1'\nsource: {format: hl7v2}\n",
    })  # fmt: skip
    library = Library.load([tmp_path], {Format.HL7V2: PretendLanguage()})

    def name(**message: str) -> str | None:
        program = library.match(PretendScope(message, "", None), Format.HL7V2)
        return program.name if program is not None else None

    assert name(TYPE="x", A="b") == "one"
    assert name(TYPE="x", A="c") == "two"
    assert name(TYPE="x", A="a") == "one"
    assert name(TYPE="x", A="a", B="anything") == "three"
    assert name(TYPE="x", A="z") == "any"
    assert name(TYPE=" x ", A="a") == "one", "blanks around a type do not count"
    assert name(A="a") is None
    assert library.match(PretendScope({"TYPE": "x"}, "", None), Format.CDA) is None
    assert [f.severity for f in library.findings] == []
