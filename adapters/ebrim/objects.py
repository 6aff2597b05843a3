"""What a submission says of its objects, as a registry keeps it and gives it back.

ITI TF-3 section 4.2: slots, names, classifications and external identifiers are returned as they
were submitted, also those that the standard does not know (4.2.3.1.6). What is the registry's own
is set by it: entryUUID, logicalID, version, availabilityStatus, and the ids within an object.
Nothing else of a stranger's element is copied.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lxml import etree

from adapters.ebrim.faults import hostile
from adapters.ebrim.names import (
    APPROVED,
    DOCUMENT_AUTHOR,
    DOCUMENT_CODES,
    FOLDER_CODES,
    REGISTRY_OBJECT,
    RIM,
    SET_AUTHOR,
    SET_CONTENT_TYPE,
    SET_SOURCE,
)

OBJECT_BYTES_MAX = 256 << 10
TIMES = ("creationTime", "serviceStartTime", "serviceStopTime")
REFERENCE_SLOT = "urn:ihe:iti:xds:2013:referenceIdList"

_RIM = f"{{{RIM}}}"
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
Naming = Callable[[str], str]
"""From an id of the submission to the entryUUID; what it does not know stays as it is."""


def kept(
    element: etree._Element,
    identifier: str,
    naming: Naming,
    *,
    slots: Mapping[str, str] | None = None,
    node: str = "",
) -> etree._Element:
    """A copy of a submitted object under its entryUUID. ``slots`` take the place of submitted
    ones of their names; ``node`` classifies a package as submission set or folder.

    Raises Refused for one of more than ``OBJECT_BYTES_MAX`` bytes.
    """
    copy = etree.Element(element.tag, nsmap={"rim": RIM})
    kind = etree.QName(element).localname
    for name, value in (
        ("id", identifier), ("lid", identifier),
        ("objectType", element.get("objectType") if kind == "ExtrinsicObject"
         else f"{REGISTRY_OBJECT}{kind}"),
        ("status", APPROVED), ("mimeType", element.get("mimeType")),
        ("associationType", element.get("associationType")),
        ("sourceObject", naming(element.get("sourceObject") or "")),
        ("targetObject", naming(element.get("targetObject") or "")),
    ):  # fmt: skip
        if value:
            copy.set(name, value.strip())
    own = slots or {}
    _copy_slots(element, copy, without=own)
    for name, value in own.items():
        add_slot(copy, name, [value])
    _copy_names(element, copy)
    etree.SubElement(copy, f"{_RIM}VersionInfo").set("versionName", "1")
    number = 0
    for each in element.iterfind(f"{_RIM}Classification"):
        if not each.get("classificationNode"):
            number += 1
            _copy_classification(each, copy, identifier, f"classification {number}")
    if node:
        found = etree.SubElement(copy, f"{_RIM}Classification")
        found.set("id", made_id(identifier, node))
        found.set("classifiedObject", identifier)
        found.set("classificationNode", node)
        found.set("objectType", f"{REGISTRY_OBJECT}Classification")
    for number, each in enumerate(element.iterfind(f"{_RIM}ExternalIdentifier"), 1):
        found = etree.SubElement(copy, f"{_RIM}ExternalIdentifier")
        found.set("id", made_id(identifier, f"identifier {number}"))
        found.set("registryObject", identifier)
        found.set("identificationScheme", each.get("identificationScheme") or "")
        found.set("value", each.get("value") or "")
        found.set("objectType", f"{REGISTRY_OBJECT}ExternalIdentifier")
        _copy_names(each, found)
    return copy


def written(element: etree._Element) -> str:
    """An object as text. Raises Refused for one that is too large."""
    text = etree.tostring(element, encoding="unicode")
    if len(text) > OBJECT_BYTES_MAX:
        raise hostile(f"an object of the metadata is larger than {OBJECT_BYTES_MAX} characters")
    return text


def made_id(base: str, name: str) -> str:
    """A UUID that depends on these two alone."""
    return f"urn:uuid:{uuid.uuid5(uuid.UUID(base.removeprefix('urn:uuid:')), name)}"


def add_slot(element: etree._Element, name: str, values: Sequence[str]) -> None:
    """Add a slot with those of the values that say something; none without any."""
    said = [each for each in values if each]
    if not said:
        return
    slot = etree.SubElement(element, f"{_RIM}Slot")
    slot.set("name", name)
    listed = etree.SubElement(slot, f"{_RIM}ValueList")
    for each in said:
        etree.SubElement(listed, f"{_RIM}Value").text = each


def add_name(element: etree._Element, name: str, text: str) -> None:
    """Add a Name or Description, empty without a text."""
    holder = etree.SubElement(element, f"{_RIM}{name}")
    if text:
        etree.SubElement(holder, f"{_RIM}LocalizedString").set("value", text)


# --- what searches look at -----------------------------------------------------------


def document_facts(element: etree._Element) -> dict[str, Any]:
    """Times, codes (with scheme and name), references and authors of a document entry."""
    return {
        "media_type": element.get("mimeType") or "",
        "times": {name: text for name in TIMES for text in values_of(element, name)[:1] if text},
        "codes": {
            name: found
            for name, scheme in DOCUMENT_CODES.items()
            if (found := list(_codes(element, scheme)))
        },
        "references": values_of(element, REFERENCE_SLOT),
        "people": _people(element, DOCUMENT_AUTHOR),
    }


def set_facts(element: etree._Element) -> dict[str, Any]:
    """Time, source, content types and authors of a submission set."""
    sources = [
        each.get("value") or ""
        for each in element.iterfind(f"{_RIM}ExternalIdentifier")
        if each.get("identificationScheme") == SET_SOURCE
    ]
    return {
        "time": "".join(values_of(element, "submissionTime")[:1]),
        "source": "".join(sources[:1]),
        "codes": list(_codes(element, SET_CONTENT_TYPE)),
        "people": _people(element, SET_AUTHOR),
    }


def folder_facts(element: etree._Element) -> dict[str, Any]:
    """The codeList of a folder."""
    return {"codes": list(_codes(element, FOLDER_CODES))}


def values_of(element: etree._Element, name: str) -> list[str]:
    """All values of a slot."""
    return [
        (value.text or "").strip()
        for slot in element.iterfind(f"{_RIM}Slot")
        if slot.get("name") == name
        for value in slot.iterfind(f"{_RIM}ValueList/{_RIM}Value")
    ]


def _codes(element: etree._Element, scheme: str) -> Iterator[list[str]]:
    for each in element.iterfind(f"{_RIM}Classification"):
        if each.get("classificationScheme") == scheme:
            name = each.find(f"{_RIM}Name/{_RIM}LocalizedString")
            code = (each.get("nodeRepresentation") or "").strip()
            shown = (name.get("value") or "") if name is not None else ""
            yield [code, "".join(values_of(each, "codingScheme")[:1]), shown or code]


def _people(element: etree._Element, scheme: str) -> list[str]:
    return [
        person
        for each in element.iterfind(f"{_RIM}Classification")
        if each.get("classificationScheme") == scheme
        for person in values_of(each, "authorPerson")
    ]


# --- copying -------------------------------------------------------------------------


def _copy_slots(
    element: etree._Element, copy: etree._Element, *, without: Mapping[str, str]
) -> None:
    for slot in element.iterfind(f"{_RIM}Slot"):
        name = slot.get("name") or ""
        if name and name not in without:
            values = slot.iterfind(f"{_RIM}ValueList/{_RIM}Value")
            add_slot(copy, name, [each.text or "" for each in values])


def _copy_names(element: etree._Element, copy: etree._Element) -> None:
    for name in ("Name", "Description"):
        said = element.find(f"{_RIM}{name}")
        holder = etree.SubElement(copy, f"{_RIM}{name}")
        for each in said.iterfind(f"{_RIM}LocalizedString") if said is not None else ():
            text = etree.SubElement(holder, f"{_RIM}LocalizedString")
            text.set("value", each.get("value") or "")
            if each.get(_XML_LANG):
                text.set(_XML_LANG, each.get(_XML_LANG) or "")


def _copy_classification(
    element: etree._Element, copy: etree._Element, identifier: str, name: str
) -> None:
    found = etree.SubElement(copy, f"{_RIM}Classification")
    found.set("id", made_id(identifier, name))
    found.set("classificationScheme", element.get("classificationScheme") or "")
    found.set("classifiedObject", identifier)
    found.set("nodeRepresentation", element.get("nodeRepresentation") or "")
    found.set("objectType", f"{REGISTRY_OBJECT}Classification")
    _copy_slots(element, found, without={})
    _copy_names(element, found)
