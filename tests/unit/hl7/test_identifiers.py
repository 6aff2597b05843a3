"""CX to identifiers: which authority, and none invented."""

from __future__ import annotations

import pytest

from adapters.hl7.delimiters import DEFAULT
from adapters.hl7.identifiers import PatientIdentifiers, authority_system
from gateway.model import Identifier


@pytest.mark.parametrize(
    ("namespace", "universal", "expected"),
    [
        ("INS", "1.2.250.1.213.1.4.8", "urn:oid:1.2.250.1.213.1.4.8"),
        ("", "1.2.250.1.213.1.4.8", "urn:oid:1.2.250.1.213.1.4.8"),
        ("HOSP", "", "urn:oid:1.2.3.4"),
        ("OTHER", "", "urn:ecluse:authority:OTHER"),
        ("A B/C", "", "urn:ecluse:authority:A%20B%2FC"),
        ("1.2.250.1", "", "urn:oid:1.2.250.1"),
        ("X", "hospital.example", "urn:ecluse:authority:X"),
        ("", "hospital.example", "urn:ecluse:authority:hospital.example"),
        (
            "",
            "3F2504E0-4F89-11D3-9A0C-0305E82C3301",
            "urn:uuid:3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        ),
        ("", "https://example.org/ids", "https://example.org/ids"),
        ("HOSP", "1.02.3", "urn:oid:1.2.3.4"),
        ("", "", ""),
    ],
)
def test_systems(namespace: str, universal: str, expected: str) -> None:
    assert authority_system(namespace, universal, {"HOSP": "1.2.3.4"}) == expected


def test_identifiers_of_a_field() -> None:
    field = '123^^^HOSP^PI~^^^HOSP^PI~""^^^HOSP^PI~456~789^^^A\\T\\B&&^AN~0^^^""^X~ 5 ^^^HOSP'
    found = PatientIdentifiers({"HOSP": "1.2.3.4"}).read(field, DEFAULT, "ascii")
    assert found == (
        Identifier(system="urn:oid:1.2.3.4", value="123", type="PI"),
        Identifier(system="urn:ecluse:authority:A%26B", value="789", type="AN"),
        Identifier(system="urn:oid:1.2.3.4", value="5", type=""),
    )
