"""What intake wants to know of a document before it is mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lxml import etree

from adapters.cda.document import Document
from adapters.cda.prolog import NotReadable
from adapters.cda.structure import V3, system_of
from gateway.model import CauseCode, Identifier

INS_ROOTS = frozenset(f"1.2.250.1.213.1.4.{arc}" for arc in (8, 9, 10, 11))
CHARACTERS_MAX = 255
SUBJECT_IDENTIFIERS_MAX = 50


@dataclass(frozen=True, slots=True)
class Header:
    """``control_id`` is ``root`` or ``root^extension``; ``kind`` the document type code."""

    control_id: str
    kind: str
    subject: tuple[Identifier, ...]
    attributes: Mapping[str, str]


def read_header(document: Document) -> Header:
    """Document id, type code, the patient's identifiers, set id and version number.

    Raises NotReadable when one of them is longer than 255 characters.
    """
    root = document.root
    attributes = {
        "set_id": _identifier_text(root, "setId"),
        "version_number": _attribute(root, "versionNumber", "value"),
        "form": document.form,
    }
    return Header(
        control_id=_identifier_text(root, "id"),
        kind=_attribute(root, "code", "code"),
        subject=_subject(root),
        attributes={key: value for key, value in attributes.items() if value},
    )


def _subject(root: etree._Element) -> tuple[Identifier, ...]:
    found = []
    for own in root.iterfind(f"{{{V3}}}recordTarget/{{{V3}}}patientRole/{{{V3}}}id"):
        issuer = (own.get("root") or "").strip()
        value = (own.get("extension") or "").strip()
        if not issuer:
            continue
        if len(issuer) > CHARACTERS_MAX or len(value) > CHARACTERS_MAX:
            raise _too_long("recordTarget/patientRole/id")
        if value:
            kind = "INS" if issuer in INS_ROOTS else ""
            found.append(Identifier(system=system_of(issuer), value=value, type=kind))
        else:
            # HL7 v3 II: without an extension the root itself is the whole identifier.
            found.append(Identifier(system="urn:ietf:rfc:3986", value=system_of(issuer)))
    return tuple(found[:SUBJECT_IDENTIFIERS_MAX])


def _attribute(root: etree._Element, name: str, attribute: str) -> str:
    element = root.find(f"{{{V3}}}{name}")
    value = "" if element is None else (element.get(attribute) or "").strip()
    if len(value) > CHARACTERS_MAX:
        raise _too_long(name)
    return value


def _identifier_text(root: etree._Element, name: str) -> str:
    issuer = _attribute(root, name, "root")
    extension = _attribute(root, name, "extension")
    text = f"{issuer}^{extension}" if issuer and extension else issuer
    if len(text) > CHARACTERS_MAX:
        raise _too_long(name)
    return text


def _too_long(name: str) -> NotReadable:
    return NotReadable(
        f"a value is longer than {CHARACTERS_MAX} characters",
        f"/ClinicalDocument/{name}",
        CauseCode.UNREADABLE,
    )
