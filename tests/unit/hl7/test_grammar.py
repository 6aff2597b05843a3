"""What hl7apy's definitions are to us."""

from __future__ import annotations

import pytest

from adapters.hl7.grammar import (
    VERSIONS,
    component_definitions,
    field_definition,
    grammar,
    known_types,
    nearest_version,
    version_order,
)
from adapters.hl7.structure_events import structure_candidates


def test_versions_in_order() -> None:
    assert VERSIONS[0] == "2.1"
    assert VERSIONS[-1] == "2.8.2"
    assert list(VERSIONS) == sorted(VERSIONS, key=version_order)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.5", "2.5"), ("2.9", "2.8.2"), ("2.5.9", "2.5.1"), ("1.0", "2.1"), ("x", "2.5")],
)
def test_nearest_version(version: str, expected: str) -> None:
    assert nearest_version(version) == expected


def test_unknown_version() -> None:
    with pytest.raises(KeyError):
        grammar("2.9")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_definition_loads(version: str) -> None:
    known = grammar(version)
    assert {"MSH", "PID", "OBX", "OBR"} <= known.segments
    for segment in known.segments:
        fields = known.fields(segment)
        assert fields is not None
        assert all(number == field.number for number, field in fields.items())
    for name in known.structures:
        structure = known.structure(name)
        assert structure is not None
        assert structure.contains
    for datatype in ("CX", "CE", "XPN", "HD"):
        assert all(part.number for part in known.components(datatype))
    oru = known.structure("ORU_R01")
    assert oru is not None
    assert {"PATIENT_RESULT"} <= {item.name for item in oru.items}
    assert known.structure("NO_SUCH") is None
    assert known.fields("QQQ") is None


def test_fields_and_components() -> None:
    field = field_definition("2.5", "PID", 3)
    assert field is not None
    assert (field.datatype, field.repeats) == ("CX", True)
    assert field_definition("2.5", "PID", 99) is None
    assert field_definition("2.5", "ZZZ", 1) is None
    adopted = field_definition("2.5", "PRT", 5)
    assert adopted is not None
    assert adopted.datatype == "XCN"
    assert [part.datatype for part in component_definitions("2.5", "HD")] == ["IS", "ST", "ID"]
    assert component_definitions("2.5", "ST") == ()


@pytest.mark.parametrize(
    ("version", "known", "unknown"),
    [
        ("2.1", ["ADT^A01", "ORU^R01"], ["OML^O21"]),
        ("2.3", ["ADT^A31", "MDM^T02", "SIU^S12"], ["OML^O21"]),
        ("2.5", ["OML^O21", "MDM^T10", "ADT^A47"], ["ZAM^Z01", "QQQ^A01", "ADT^Z99"]),
        # Withdrawn types stay known: receivers remain compatible.
        ("2.8.2", ["ORM^O01", "ADT^A18", "ORU^R01"], ["ADT^Q99"]),
    ],
)
def test_known_types(version: str, known: list[str], unknown: list[str]) -> None:
    types, events = known_types(version)

    def is_known(kind: str) -> bool:
        message_type, event = kind.split("^")
        return message_type in types and event in events

    assert [kind for kind in known if not is_known(kind)] == []
    assert [kind for kind in unknown if is_known(kind)] == []
    assert not {"", "Varies", "Znn"} & events


def test_structures_of_events() -> None:
    assert structure_candidates("ADT", "A31") == ("ADT_A31", "ADT_A05", "ADT_A01")
    assert structure_candidates("ACK", "") == ("ACK",)
