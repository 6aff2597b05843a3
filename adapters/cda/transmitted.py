"""The header of a CDA that a message of another protocol carries."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from adapters.cda.document import DEFAULT_LIMITS, Limits, read_document
from adapters.cda.header import INS_ROOTS, read_header
from adapters.cda.prolog import NotReadable
from adapters.cda.structure import V3
from gateway.documents import DocumentHeader
from gateway.model import CauseCode, Payload

REPLACED_MAX = 50
_OTHER_FORMATS = (b"%PDF-", b"{\\rtf", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"\x89PNG")


class CdaHeaders:
    """Implements :class:`gateway.documents.DocumentHeaders` with the hardened reader."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits

    def header(self, data: bytes) -> DocumentHeader | None:
        """The header of a CDA R2 document; None for what is none. Raises NotReadable."""
        if data.startswith(_OTHER_FORMATS):
            return None
        try:
            document = read_document(Payload.from_bytes(data), limits=self._limits)
            header = read_header(document)
        except NotReadable as fault:
            if fault.code is CauseCode.NOT_THE_FORMAT:
                return None
            raise
        related = tuple(_related(document.root))
        return DocumentHeader(
            identifier=header.control_id,
            patient=header.subject,
            replaces=tuple(other for code, other in related if code == "RPLC")[:REPLACED_MAX],
            related=related[:REPLACED_MAX],
            traits_missing=tuple(missing_traits(document.root)),
            kind=header.kind,
            attributes=header.attributes,
        )


def _named(path: str) -> str:
    return "/".join(f"{{{V3}}}{step}" for step in path.split("/"))


def _related(root: etree._Element) -> Iterator[tuple[str, str]]:
    for related in root.iterfind(_named("relatedDocument")):
        for own in related.iterfind(_named("parentDocument/id")):
            issuer, value = (own.get("root") or "").strip(), (own.get("extension") or "").strip()
            if issuer:
                code = related.get("typeCode") or ""
                yield code, f"{issuer}^{value}" if value else issuer


def missing_traits(root: etree._Element) -> Iterator[str]:
    """What the CI-SIS (Structuration minimale, recordTarget) demands beside an INS."""
    role = root.find(_named("recordTarget/patientRole"))
    if role is None or not any(own.get("root") in INS_ROOTS for own in role.iterfind(_named("id"))):
        return
    person = role.find(_named("patient"))
    if person is None:
        yield "patient"
        return
    families = person.findall(_named("name/family"))
    if not any("BR" in (each.get("qualifier") or "").split() and each.text for each in families):
        yield "name/family[@qualifier=BR]"
    if not any((each.text or "").strip() for each in person.iterfind(_named("name/given"))):
        yield "name/given"
    for name, attribute in (("administrativeGenderCode", "code"), ("birthTime", "value")):
        element = person.find(_named(name))
        if element is None or not (element.get(attribute) or "").strip():
            yield name
    if not (person.findtext(_named("birthplace/place/addr/county")) or "").strip():
        yield "birthplace/place/addr/county"
