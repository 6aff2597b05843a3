"""CDA documents without what could name a person.

What stays is listed, everything else is masked: the structure, codes with their systems, units,
numbers, the years of dates, template identifiers. All text goes, in the header as in the body;
identifiers become pseudonyms, so that what points to the same thing still does.
"""

from __future__ import annotations

import re

from adapters.cda.document import read_document
from gateway.masking import NotDeidentifiable, masked, pseudonym, year_only
from gateway.model import Format, Payload
from gateway.ports import Unreadable

_V3 = "{urn:hl7-org:v3}"
_OID = re.compile(r"\d+(\.\d+)+", re.ASCII)
_XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_KEPT = frozenset(
    {
        "code", "codeSystem", "codeSystemName", "codeSystemVersion", "classCode", "moodCode",
        "typeCode", "determinerCode", "contextControlCode", "contextConductionInd", "nullFlavor",
        "unit", "use", "qualifier", "mediaType", "representation", "inversionInd", "negationInd",
        "independentInd", "operator", "institutionSpecified", "partType", _XSI_TYPE,
    }
)  # fmt: skip
_NUMERIC_PARENTS = frozenset({"value", "low", "high", "center", "width", "doseQuantity",
                              "rateQuantity", "period", "numerator", "denominator",
                              "quantity", "repeatNumber", "sequenceNumber", "priorityNumber",
                              "versionNumber"})  # fmt: skip
_TEMPLATES = frozenset({"templateId", "typeId", "realmCode"})


class CdaDeidentifier:
    """See the module."""

    format = Format.CDA
    suffix = "xml"

    def deidentify(self, data: bytes, *, encoding: str, salt: bytes) -> bytes:
        """The document masked, in UTF-8, without what stood around the ClinicalDocument."""
        from lxml import etree

        try:
            root = read_document(Payload.from_bytes(data), encoding=encoding).root
        except (Unreadable, OSError):
            raise NotDeidentifiable("it cannot be read as CDA") from None
        for element in root.iter():
            if not isinstance(element.tag, str):
                continue
            name = element.tag.rpartition("}")[2]
            if element.text and element.text.strip():
                element.text = masked(element.text) if len(element.text) < 10_000 else "xxx"
            if element.tail and element.tail.strip():
                element.tail = masked(element.tail)
            extended = "extension" in element.attrib
            for attribute, value in element.attrib.items():
                said = _attribute(name, str(attribute), str(value), salt, has_extension=extended)
                element.set(attribute, said)
        return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _attribute(
    element: str, attribute: str, value: str, salt: bytes, *, has_extension: bool
) -> str:
    if attribute in _KEPT or element in _TEMPLATES:
        return value
    if attribute == "displayName":
        return masked(value)
    if attribute == "root":
        # With an extension an OID names an authority; alone, as a UUID does, the thing itself.
        names_authority = has_extension and _OID.fullmatch(value)
        return value if names_authority else pseudonym(value, salt)
    if attribute in {"extension", "ID", "IDREF"}:
        return pseudonym(value, salt)
    if attribute == "value":
        if element in _NUMERIC_PARENTS and _is_number(value):
            return value
        return year_only(value) if value[:4].isdigit() else masked(value)
    if value.startswith("#"):
        return "#" + pseudonym(value[1:], salt)
    return masked(value)


def _is_number(text: str) -> bool:
    # A date is a number, too: eight digits or more are taken for one.
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 8
