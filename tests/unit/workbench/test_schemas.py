"""The JSON Schema of the files holds for all that are shipped, and for nothing wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.mapping import packaged_mappings
from gateway.workbench.schemas import Kind, schema_of

jsonschema = pytest.importorskip("jsonschema", reason="the jsonschema library is not installed")


def validator(kind: Kind) -> Any:
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def kind_of(path: Path, document: Any) -> Kind:
    if path.name.endswith(".test.yaml"):
        return Kind.TWINS
    if "extends" in document:
        return Kind.SITE
    return Kind.TABLE if "table" in document else Kind.MAPPING


def read(text: str) -> Any:
    return yaml.load(text, Loader=yaml.BaseLoader)


def test_every_shipped_file_is_valid() -> None:
    validators = {kind: validator(kind) for kind in Kind}
    files = sorted(packaged_mappings().rglob("*.yaml"))
    assert files
    for path in files:
        document = read(path.read_text(encoding="utf-8"))
        errors = list(validators[kind_of(path, document)].iter_errors(document))
        assert not errors, (path, [error.message[:200] for error in errors[:3]])


SITE = """\
extends: hl7.oru_r01
override: {"DiagnosticReport.result.code.translate.table": chu/loinc}
append: {"DiagnosticReport.result.interpretation.table": {"++": HH}}
remove: [DiagnosticReport.conclusion]
"""
MAPPING = """\
mapping: x
version: 1
source: {format: hl7v2}
entries: [{resource: Patient, id: {key: [PID-3.1], authority: worldwide}, set: {birthDate: PID-7}}]
"""


@pytest.mark.parametrize(
    ("kind", "text", "right"),
    [
        (Kind.SITE, SITE, True),
        (Kind.SITE, "override: {}", False),
        (Kind.MAPPING, MAPPING, True),
        (Kind.MAPPING, MAPPING.replace("birthDate", "birthdate"), False),
        (Kind.MAPPING, MAPPING.replace("birthDate", "_birthDate"), True),
        (Kind.MAPPING, MAPPING.replace("birthDate", "deceasedBoolean"), True),
        (Kind.MAPPING, MAPPING.replace("Patient", "Patiant"), False),
        (Kind.MAPPING, MAPPING.replace("hl7v2", "hl7"), False),
        (Kind.MAPPING, MAPPING.replace("PID-7}", "{from: PID-7, whenn: x}}"), False),
        (Kind.MAPPING, MAPPING.replace("PID-7}", "{from: PID-7, invalid: sometimes}}"), False),
        (Kind.TABLE, "{table: a, version: 1, source: s, licence: l, rows: {A: b}}", True),
        (
            Kind.TABLE,
            "{table: a, version: 1, source: s, licence: l, rows: {A: {display: x}}}",
            False,
        ),
        (Kind.TWINS, "[{name: x, given: y, expect: {Patient: {count: 1}}}]", True),
        (Kind.TWINS, "[{name: x, given: y, expected: {}}]", False),
    ],
)
def test_what_an_editor_marks(kind: Kind, text: str, right: bool) -> None:
    assert validator(kind).is_valid(read(text)) is right
