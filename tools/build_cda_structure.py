"""Derive the table of CDA R2's elements and attributes from a folder of XML Schemas.

Usage::

    python tools/build_cda_structure.py XSD_FOLDER [--root CDA_extended.xsd] [--out FILE]

The mapping language checks CDA paths against this table when a mapping is
loaded. It holds facts only (which type an element has, which children and
attributes a type has, what repeats), none of the schemas' text. Run it again
when the ANS publishes a new ``infrastructure/cda`` folder and review the
difference: it is what a mapping may newly say, or no longer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

XS = "{http://www.w3.org/2001/XMLSchema}"
V3 = "urn:hl7-org:v3"
PREFIXES = {
    V3: "",
    "urn:hl7-org:sdtc": "sdtc",
    "urn:oid:1.3.6.1.4.1.19376.1.3.2": "lab",
    "urn:dicom-org:ps3-20": "ps3-20",
    "urn:ihe:pharm:medication": "pharm",
}
SHORTENED = ("POCD_MT000040.", "StrucDoc.")


@dataclass
class SchemaType:
    """One complex type as declared; ``children`` maps a name to (type, repeats)."""

    base: str = ""
    restricts: bool = False
    mixed: bool = False
    children: dict[str, tuple[str, bool]] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    prohibited: set[str] = field(default_factory=set)


@dataclass
class Namespace:
    """The named components that one target namespace declares."""

    prefix: str
    nodes: dict[str, etree._Element] = field(default_factory=dict)
    elements: dict[str, etree._Element] = field(default_factory=dict)
    groups: dict[str, etree._Element] = field(default_factory=dict)
    attribute_groups: dict[str, etree._Element] = field(default_factory=dict)


def said(node: etree._Element, attribute: str) -> str:
    """An attribute of a schema element; empty when it is not there."""
    return node.get(attribute) or ""


class Schemas:
    """All schemas reachable from one root, and the types built from them.

    The data types are included without a namespace by several schemas. In real
    documents their parts stand in ``urn:hl7-org:v3`` whoever includes them, so
    they are read once, as v3's.
    """

    def __init__(self, root: Path) -> None:
        self.namespaces = {uri: Namespace(prefix) for uri, prefix in PREFIXES.items()}
        self.types: dict[str, SchemaType] = {}
        self.digest = hashlib.sha256()
        self._read: set[Path] = set()
        self._load(root.resolve())
        for uri, space in self.namespaces.items():
            for name, node in space.nodes.items():
                if node.tag == f"{XS}complexType":
                    self._type(uri, name)

    def _load(self, path: Path) -> None:
        if path in self._read:
            return
        self._read.add(path)
        content = path.read_bytes()
        self.digest.update(content)
        tree = etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True))
        uri = said(tree, "targetNamespace") or V3
        if uri not in self.namespaces:
            return
        space = self.namespaces[uri]
        for node in tree:
            name = said(node, "name")
            if node.tag in (f"{XS}complexType", f"{XS}simpleType"):
                space.nodes.setdefault(name, node)
            elif node.tag == f"{XS}element":
                space.elements.setdefault(name, node)
            elif node.tag == f"{XS}group":
                space.groups.setdefault(name, node)
            elif node.tag == f"{XS}attributeGroup":
                space.attribute_groups.setdefault(name, node)
        for node in tree.iter(f"{XS}include", f"{XS}import"):
            location = said(node, "schemaLocation")
            if location:
                self._load((path.parent / location).resolve())

    def _qualified(self, uri: str, name: str) -> str:
        prefix = self.namespaces[uri].prefix
        for long in SHORTENED:
            if name.startswith(long):
                name = ("StrucDoc" if long == "StrucDoc." else "") + name.removeprefix(long)
        return f"{prefix}:{name}" if prefix else name

    def _resolve(self, node: etree._Element, uri: str, reference: str) -> tuple[str, str]:
        """The namespace and local name that a QName in ``node`` means."""
        prefix, _, local = reference.rpartition(":")
        space = node.nsmap.get(prefix or None, uri)
        if space not in self.namespaces or (
            local not in self.namespaces[space].nodes and local in self.namespaces[V3].nodes
        ):
            return V3, local
        return space, local

    def _type(self, uri: str, name: str, node: etree._Element | None = None) -> str:
        """Build the type (once) and return its name in the table; empty for a simple type."""
        key = self._qualified(uri, name)
        if key in self.types:
            return key
        if node is None:
            node = self.namespaces[uri].nodes.get(name)
        if node is None or node.tag != f"{XS}complexType":
            return ""
        built = self.types[key] = SchemaType(mixed=node.get("mixed") == "true")
        body = node
        derived = node.find(f"{XS}complexContent")
        if derived is None:
            derived = node.find(f"{XS}simpleContent")
        if derived is not None:
            built.mixed = built.mixed or derived.get("mixed") == "true"
            body = derived[-1]
            built.restricts = body.tag == f"{XS}restriction"
            built.base = self._type(*self._resolve(body, uri, said(body, "base")))
        self._attributes(uri, body, built)
        for child, owner, repeats in self._particles(uri, body, repeats=False):
            self._child(owner, key, built, child, repeats)
        return key

    def _attributes(self, uri: str, body: etree._Element, built: SchemaType) -> None:
        for attribute in body.findall(f"{XS}attribute"):
            name = said(attribute, "name")
            if not name:
                continue
            target = built.prohibited if attribute.get("use") == "prohibited" else built.attributes
            target.add(name)
        for group in body.findall(f"{XS}attributeGroup"):
            space = self._space_of(group, uri)
            local = said(group, "ref").rpartition(":")[2]
            self._attributes(space, self.namespaces[space].attribute_groups[local], built)

    def _space_of(self, node: etree._Element, uri: str) -> str:
        prefix = said(node, "ref").rpartition(":")[0]
        space = node.nsmap.get(prefix or None, uri)
        return space if space in self.namespaces else uri

    def _particles(
        self, uri: str, body: etree._Element, *, repeats: bool
    ) -> Iterator[tuple[etree._Element, str, bool]]:
        for node in body:
            many = repeats or node.get("maxOccurs", "1") not in ("0", "1")
            if node.tag == f"{XS}element":
                yield node, uri, many
            elif node.tag in (f"{XS}sequence", f"{XS}choice", f"{XS}all"):
                yield from self._particles(uri, node, repeats=many)
            elif node.tag == f"{XS}group":
                space = self._space_of(node, uri)
                local = said(node, "ref").rpartition(":")[2]
                group = self.namespaces[space].groups[local]
                yield from self._particles(space, group, repeats=many)

    def _child(
        self, uri: str, parent: str, built: SchemaType, node: etree._Element, repeats: bool
    ) -> None:
        declaration, space = node, uri
        if node.get("ref"):
            space = self._space_of(node, uri)
            declaration = self.namespaces[space].elements[said(node, "ref").rpartition(":")[2]]
        name = said(declaration, "name")
        # A data type's own parts are v3's wherever the type is included.
        prefix = self.namespaces[space].prefix
        child = f"{prefix}:{name}" if prefix else name
        if declaration.get("type"):
            kind = self._type(*self._resolve(declaration, space, said(declaration, "type")))
        else:
            anonymous = declaration.find(f"{XS}complexType")
            local = f"{parent.rpartition(':')[2]}.{name}"
            kind = "" if anonymous is None else self._type(space, local, anonymous)
        # The branches of a choice name the same child again; that is no repetition.
        known = built.children.get(child, (kind, False))
        built.children[child] = (kind, repeats or known[1])


def table(schemas: Schemas, folder: str) -> dict[str, object]:
    """The table as it is written: what a type adds to its base, in short strings.

    ``children`` holds ``"name": "Type"`` with ``*`` behind a type that repeats;
    a child without a type holds plain text. A type that restricts its base says
    its whole content anew, and ``without`` names the attributes it takes away.
    """
    types = {}
    for name, built in sorted(schemas.types.items()):
        row: dict[str, object] = {}
        if built.base:
            row["base"] = built.base
        if built.restricts:
            row["restricts"] = True
        if built.mixed:
            row["text"] = True
        if built.attributes:
            row["attributes"] = " ".join(sorted(built.attributes))
        if built.prohibited:
            row["without"] = " ".join(sorted(built.prohibited))
        if built.children:
            row["children"] = {
                child: kind + ("*" if repeats else "")
                for child, (kind, repeats) in sorted(built.children.items())
            }
        types[name] = row
    return {
        "origin": (
            f"Derived by tools/build_cda_structure.py from the XML Schemas of {folder} "
            f"(SHA-256 of the files read, in reading order: {schemas.digest.hexdigest()}). "
            "Facts only: element and attribute names, types, repetition."
        ),
        "namespaces": {prefix: uri for uri, prefix in PREFIXES.items()},
        "root": "ClinicalDocument",
        "types": types,
    }


def one_type_a_line(built: dict[str, object]) -> str:
    """JSON in which a change of one type is a change of one line."""
    types = built["types"]
    assert isinstance(types, dict)
    head = json.dumps(
        {k: v for k, v in built.items() if k != "types"}, ensure_ascii=False, indent=1
    )
    rows = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}"
        for name, row in types.items()
    )
    return f'{head[:-2]},\n "types": {{\n{rows}\n }}\n}}\n'


def main() -> None:
    """Write the table; the command line is in the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder that holds the root schema")
    parser.add_argument("--root", default="CDA_extended.xsd", help="the root schema's file name")
    parser.add_argument(
        "--origin",
        default="the ANS's CI-SIS (ansforge/TestContenuCDA-3-0, infrastructure/cda)",
        help="where the schemas come from, for the table's header",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent.parent / "adapters" / "cda" / "structure.json",
    )
    options = parser.parse_args()
    built = table(Schemas(options.folder / options.root), options.origin)
    options.out.write_text(one_type_a_line(built), encoding="utf-8")
    print(f"{options.out}: {len(built['types'])} types")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
