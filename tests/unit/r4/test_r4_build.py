"""The tool that makes the R4 table, on definitions small enough to read."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FHIR = 'xmlns="http://hl7.org/fhir"'
URL = "http://hl7.org/fhir/StructureDefinition/"


@pytest.fixture(scope="module")
def tool(repository: Path) -> ModuleType:
    path = repository / "tools" / "build_r4_definitions.py"
    spec = importlib.util.spec_from_file_location("build_r4_definitions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def element(path: str, types: str, low: int = 0, high: str = "1", more: str = "") -> str:
    kinds = "".join(f'<type><code value="{name}"/></type>' for name in types.split())
    base = path if "." not in more else ""
    return (
        f'<element><path value="{path}"/><min value="{low}"/><max value="{high}"/>'
        f'<base><path value="{base or path}"/></base>{kinds}{more}</element>'
    )


def structure(name: str, base: str, elements: str, kind: str = "complex-type", **words: str) -> str:
    version = words.get("version", "4.0.1")
    return (
        f'<entry><resource><StructureDefinition {FHIR}><name value="{name}"/>'
        f'<fhirVersion value="{version}"/><kind value="{kind}"/><abstract value="false"/>'
        f'<baseDefinition value="{URL}{base}"/><derivation value="specialization"/>'
        f"<snapshot>{elements}</snapshot></StructureDefinition></resource></entry>"
    )


SET = (
    f'<entry><resource><ValueSet {FHIR}><url value="urn:set"/><compose>'
    '<include><system value="urn:a"/></include>'
    '<include><system value="urn:b"/><concept><code value="x"/></concept></include>'
    '<exclude><system value="urn:a"/><concept><code value="2"/></concept></exclude>'
    "</compose></ValueSet></resource></entry>"
    f'<entry><resource><CodeSystem {FHIR}><url value="urn:a"/><content value="complete"/>'
    '<concept><code value="1"/><concept><code value="1.1"/></concept></concept>'
    '<concept><code value="2"/></concept></CodeSystem></resource></entry>'
    f'<entry><resource><ValueSet {FHIR}><url value="urn:open"/><compose>'
    '<include><system value="urn:elsewhere"/></include></compose></ValueSet></resource></entry>'
)


def binding(url: str) -> str:
    strength = '<strength value="required"/>'
    return f'<binding>{strength}<valueSet value="{url}|4.0.1"/></binding>'


def jar(folder: Path, types: str, sets: str = SET) -> Path:
    path = folder / "definitions.jar"
    contents = {
        "profile/profiles-types.xml": types,
        "profile/profiles-resources.xml": "",
        "valueset/valuesets.xml": sets,
        "valueset/v2-tables.xml": "",
        "valueset/v3-codesystems.xml": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(f"org/hl7/fhir/r4/model/{name}", f"<Bundle {FHIR}>{text}</Bundle>")
    return path


def roots() -> str:
    return structure("Element", "Element", element("Element.id", "string")) + structure(
        "Resource", "Resource", element("Resource.id", "string"), kind="resource"
    )


def test_the_table(tool: ModuleType, tmp_path: Path) -> None:
    reference = (
        '<type><code value="Reference"/>'
        f'<targetProfile value="{URL}A"/><targetProfile value="{URL}B"/></type>'
    )
    simple = f'<type><code value="Quantity"/><profile value="{URL}SimpleQuantity"/></type>'
    mine = (
        '<element><path value="Thing.id"/><min value="0"/><max value="1"/>'
        '<base><path value="Resource.id"/></base><type><code value="string"/></type></element>'
        + element("Thing.code", "code", 1, more=binding("urn:set"))
        + element("Thing.open", "code", more=binding("urn:open"))
        + element("Thing.part", "Element", 0, "*")
        + element("Thing.part.id", "string")
        + element("Thing.part.who", "", more=reference)
        + element("Thing.value[x]", "string dateTime")
        + element("Thing.low", "", more=simple)
        + element("Thing.again", "", more='<contentReference value="#Thing.part"/>')
    )
    table: dict[str, Any] = tool.build(
        jar(tmp_path, roots() + structure("Thing", "Resource", mine, "resource"))
    )
    assert table["fhirVersion"] == "4.0.1"
    assert table["types"]["Resource"]["elements"]["id"]["types"] == ["id"]
    thing = table["types"]["Thing"]
    assert (thing["kind"], thing["base"]) == ("resource", "Resource")
    assert thing["elements"] == {
        "code": {"types": ["code"], "min": 1, "max": 1, "binding": "urn:set"},
        "open": {"types": ["code"], "min": 0, "max": 1, "binding": "urn:open"},
        "part": {"types": ["Element"], "min": 0, "max": None},
        "part.who": {"types": ["Reference"], "min": 0, "max": 1, "targets": ["A", "B"]},
        "value[x]": {"types": ["string", "dateTime"], "min": 0, "max": 1},
        "low": {"types": ["Quantity"], "min": 0, "max": 1, "simple": True},
        "again": {"types": ["#Thing.part"], "min": 0, "max": 1},
    }
    assert table["valueSets"] == {"urn:set": {"urn:a": ["1", "1.1"], "urn:b": ["x"]}}
    assert table["unenumerated"] == ["urn:open"]
    text = "\n".join(tool.lines(table))
    assert json.loads(text) == table
    assert text == "\n".join(tool.lines(tool.build(tmp_path / "definitions.jar")))


def test_other_versions_of_fhir_are_refused(tool: ModuleType, tmp_path: Path) -> None:
    later = structure("Thing", "Element", element("Thing.x", "string"), version="4.3.0")
    with pytest.raises(SystemExit, match=r"Thing is not of FHIR 4\.0\.1"):
        tool.build(jar(tmp_path, roots() + later))
