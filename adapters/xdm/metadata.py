"""METADATA.XML: the submission set and the document entries of one folder of an archive.

ebRIM 3.0 as ITI TF-3 section 4.2 uses it: a ``lcm:SubmitObjectsRequest``, or only its
``rim:RegistryObjectList``. In XDM an entry must have its file's name (``URI``), ``hash`` (SHA-1)
and ``size`` (ITI TF-3 table 4.3.1-3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from adapters.xdm.faults import hostile, metadata, mismatch

METADATA_BYTES_MAX = 8 << 20
ENTRIES_MAX = 500
DEPTH_MAX = 30
VALUE_CHARACTERS_MAX = 1024

_RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
DOCUMENT_PATIENT = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
DOCUMENT_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
SET_ID = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
SET_PATIENT = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
_HASH = re.compile(r"[0-9a-fA-F]{40}\Z")


@dataclass(frozen=True, slots=True)
class PatientId:
    """A CX of ebRIM: ``value^^^&root&ISO``, with the type that the INS has behind it."""

    value: str
    root: str

    @classmethod
    def parse(cls, text: str, location: str) -> PatientId:
        """Raises Refused."""
        parts = text.split("^")
        issuer = parts[3].split("&") if len(parts) > 3 else []
        if not parts[0] or len(issuer) < 2 or not issuer[1]:
            raise metadata("a patientId is not like value^^^&root&ISO", location)
        return cls(parts[0], issuer[1])


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """What the metadata say of one document. ``sha1`` is lower-case hexadecimal."""

    uri: str
    unique_id: str
    patient: PatientId
    media_type: str
    sha1: str
    size: int


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """One METADATA.XML."""

    unique_id: str
    patient: PatientId
    entries: tuple[DocumentEntry, ...]


def read_metadata(data: bytes, location: str) -> SubmissionSet:
    """Read and check one METADATA.XML, whose name in the archive is ``location``.

    Raises Refused for what is not well-formed, not safe, or not complete.
    """
    root = _parsed(data, location)
    packages = [each for each in root.iter(f"{_RIM}RegistryPackage") if _external(each, SET_ID)]
    if len(packages) != 1:
        raise metadata("METADATA.XML does not hold exactly one submission set", location)
    package = packages[0]
    objects = list(root.iter(f"{_RIM}ExtrinsicObject"))
    if not objects:
        raise metadata("METADATA.XML holds no document entry", location)
    if len(objects) > ENTRIES_MAX:
        raise hostile(f"METADATA.XML holds more than {ENTRIES_MAX} document entries", location)
    found = SubmissionSet(
        unique_id=_external(package, SET_ID),
        patient=PatientId.parse(_external(package, SET_PATIENT), location),
        entries=tuple(_entry(each, location) for each in objects),
    )
    _check_together(found, location)
    return found


def _parsed(data: bytes, location: str) -> etree._Element:
    if len(data) > METADATA_BYTES_MAX:
        raise hostile(f"METADATA.XML is larger than {METADATA_BYTES_MAX} bytes", location)
    if b"\0" in data or b"<!" in re.sub(rb"<!--.*?-->|<!\[CDATA\[", b"", data, flags=re.DOTALL):
        # Two bytes a character would hide a declaration from this look.
        raise hostile("METADATA.XML has a document type declaration, or is not UTF-8", location)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise metadata(
            f"METADATA.XML is not well-formed XML (line {error.lineno})", location
        ) from None
    level = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        level += 1 if event == "start" else -1
        if level > DEPTH_MAX:
            raise hostile(f"METADATA.XML is nested deeper than {DEPTH_MAX}", location)
    return root


def _external(element: etree._Element, scheme: str) -> str:
    for each in element.iterfind(f"{_RIM}ExternalIdentifier"):
        if each.get("identificationScheme") == scheme:
            return _bounded(each.get("value") or "")
    return ""


def _slot(element: etree._Element, name: str) -> str:
    """A slot's value; one of several lines (``1|…``, ``2|…``) is put together."""
    for slot in element.iterfind(f"{_RIM}Slot"):
        if slot.get("name") == name:
            values = [each.text or "" for each in slot.iterfind(f"{_RIM}ValueList/{_RIM}Value")]
            if len(values) > 1 and all(re.match(r"[0-9]+\|", each) for each in values):
                numbered = sorted(values, key=lambda each: int(each.partition("|")[0][:9]))
                return _bounded("".join(each.partition("|")[2] for each in numbered))
            return _bounded(values[0]) if values else ""
    return ""


def _bounded(text: str) -> str:
    return text.strip()[:VALUE_CHARACTERS_MAX]


def _entry(element: etree._Element, location: str) -> DocumentEntry:
    found = {name: _slot(element, name) for name in ("URI", "hash", "size")}
    found["uniqueId"] = _external(element, DOCUMENT_ID)
    found["patientId"] = _external(element, DOCUMENT_PATIENT)
    found["mimeType"] = _bounded(element.get("mimeType") or "")
    for name, value in found.items():
        if not value:
            raise metadata(f"a document entry has no {name}", location)
    if not _HASH.match(found["hash"]):
        raise metadata("the hash of a document entry is not SHA-1 (40 hex digits)", location)
    if not (found["size"].isascii() and found["size"].isdecimal() and len(found["size"]) < 12):
        raise metadata("the size of a document entry is no number", location)
    return DocumentEntry(
        uri=found["URI"],
        unique_id=found["uniqueId"],
        patient=PatientId.parse(found["patientId"], location),
        media_type=found["mimeType"].lower(),
        sha1=found["hash"].lower(),
        size=int(found["size"]),
    )


def _check_together(found: SubmissionSet, location: str) -> None:
    """One patient for all (ITI TF-3 4.2.4.1: XDSPatientIdDoesNotMatch), each id once."""
    if any(entry.patient != found.patient for entry in found.entries):
        raise mismatch(
            "a document entry and the submission set name different patients",
            location,
            "XDSPatientIdDoesNotMatch",
        )
    for name, values in _identities(found):
        if len(set(values)) != len(values):
            raise mismatch(
                f"two document entries have one {name}", location, "XDSDuplicateUniqueIdInMessage"
            )


def _identities(found: SubmissionSet) -> Iterator[tuple[str, list[str]]]:
    yield "uniqueId", [entry.unique_id for entry in found.entries]
    yield "URI", [entry.uri for entry in found.entries]
