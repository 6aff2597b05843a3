"""The DICOM JSON model as the Native DICOM Model in XML (PS3.19 annex A.1)."""

from __future__ import annotations

from typing import Any

from lxml import etree

from adapters.dicom.dictionary import keyword_of
from adapters.dicom.json_model import Attributes
from adapters.dicom.values import PERSON_COMPONENTS

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_SPACES: Any = {None: NAMESPACE}
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"


def native_xml(attributes: Attributes) -> bytes:
    """One data set as an XML document."""
    root = etree.Element(f"{{{NAMESPACE}}}NativeDicomModel", nsmap=_SPACES)
    root.set(_SPACE, "preserve")
    _fill(root, attributes)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _fill(parent: Any, attributes: Attributes) -> None:
    for tag, attribute in attributes.items():
        element = _child(parent, "DicomAttribute", tag=tag, vr=str(attribute["vr"]))
        if keyword := keyword_of(int(tag, 16)):
            element.set("keyword", keyword)
        if "BulkDataURI" in attribute:
            _child(element, "BulkData", uri=str(attribute["BulkDataURI"]))
        elif "InlineBinary" in attribute:
            _child(element, "InlineBinary").text = str(attribute["InlineBinary"])
        for number, value in enumerate(attribute.get("Value", ()), 1):
            if attribute["vr"] == "SQ":
                _fill(_child(element, "Item", number=str(number)), value)
            elif isinstance(value, dict):
                _person(_child(element, "PersonName", number=str(number)), value)
            elif value is not None:
                text = _xml_text(str(value))
                _child(element, "Value", number=str(number)).text = text


def _child(parent: Any, name: str, **attributes: str) -> Any:
    return etree.SubElement(parent, f"{{{NAMESPACE}}}{name}", attributes)


def _person(element: Any, groups: dict[str, str]) -> None:
    for name, group in groups.items():
        made = _child(element, name)
        for part, text in zip(PERSON_COMPONENTS, group.split("^"), strict=False):
            if text:
                _child(made, part).text = _xml_text(text)


def _xml_text(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold (section 2.2)."""
    return "".join(c for c in text if (c >= " " and c not in "\ufffe\uffff") or c in "\t\n\r")
