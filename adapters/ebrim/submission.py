"""A submission: the submission set, its document entries and what relates them.

ebRIM 3.0 as ITI TF-3 section 4.2 uses it, in a ``lcm:SubmitObjectsRequest`` or a bare
``rim:RegistryObjectList``. What is read here is what any transaction must be able to say; what a
transaction demands on top (ITI TF-3 table 4.3.1-3) is its own to check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from adapters.ebrim.faults import hostile, metadata, mismatch
from adapters.ebrim.names import (
    DOCUMENT_CODES,
    DOCUMENT_ID,
    DOCUMENT_PATIENT,
    FOLDER_CODES,
    FOLDER_ID,
    FOLDER_NODE,
    FOLDER_PATIENT,
    RIM,
    SET_CONTENT_TYPE,
    SET_ID,
    SET_PATIENT,
    SET_SOURCE,
)

ENTRIES_MAX = 500
ASSOCIATIONS_MAX = 2_000
VALUE_CHARACTERS_MAX = 1024
_RIM = f"{{{RIM}}}"
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

    @property
    def text(self) -> str:
        """As metadata write it."""
        return f"{self.value}^^^&{self.root}&ISO"


@dataclass(frozen=True, slots=True)
class Code:
    """A code with its coding scheme."""

    code: str
    scheme: str


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """What the metadata say of one document. ``id`` is its UUID or a name within the submission;
    ``sha1`` (lower-case hexadecimal) and ``uri`` are empty, ``size`` is None where not said;
    ``values`` are its slots of one value, ``codes`` its coded attributes by their names."""

    id: str
    uri: str
    unique_id: str
    patient: PatientId
    media_type: str
    object_type: str
    sha1: str
    size: int | None
    values: Mapping[str, str]
    codes: Mapping[str, tuple[Code, ...]]


@dataclass(frozen=True, slots=True)
class Association:
    """``source`` and ``target`` are ids of the submission, or UUIDs of what is registered;
    ``id`` may be empty."""

    type: str
    source: str
    target: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that a submission makes. ``codes`` is its codeList."""

    id: str
    unique_id: str
    patient: PatientId
    codes: tuple[Code, ...]


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """One submission."""

    id: str
    unique_id: str
    patient: PatientId
    source_id: str
    content_types: tuple[Code, ...]
    values: Mapping[str, str]
    entries: tuple[DocumentEntry, ...]
    associations: tuple[Association, ...] = ()
    folders: tuple[Folder, ...] = ()


def read_submission(root: etree._Element, location: str) -> SubmissionSet:
    """Read a submission out of the element that holds it; ``location`` names it for people.

    Raises Refused for what is not complete or says two things.
    """
    packages = [each for each in root.iter(f"{_RIM}RegistryPackage") if _external(each, SET_ID)]
    if len(packages) != 1:
        raise metadata("the metadata do not hold exactly one submission set", location)
    package = packages[0]
    objects = list(root.iter(f"{_RIM}ExtrinsicObject"))
    if len(objects) > ENTRIES_MAX:
        raise hostile(f"the metadata hold more than {ENTRIES_MAX} document entries", location)
    associations = list(root.iter(f"{_RIM}Association"))
    if len(associations) > ASSOCIATIONS_MAX:
        raise hostile(f"the metadata hold more than {ASSOCIATIONS_MAX} associations", location)
    found = SubmissionSet(
        id=bounded(package.get("id") or ""),
        unique_id=_external(package, SET_ID),
        patient=PatientId.parse(_external(package, SET_PATIENT), location),
        source_id=_external(package, SET_SOURCE),
        content_types=_coded(package, SET_CONTENT_TYPE),
        values=_slots(package),
        entries=tuple(_entry(each, location) for each in objects),
        associations=tuple(_association(each, location) for each in associations),
        folders=tuple(_folders(root, location)),
    )
    _check_together(found, location)
    return found


def bounded(text: str) -> str:
    """A value of a stranger's in one line, without blanks around it, cut at 1,024 characters."""
    cut = text.strip()[:VALUE_CHARACTERS_MAX]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else " " for c in cut)


def folder_ids(root: etree._Element) -> frozenset[str]:
    """The ids of the packages that are folders (ITI TF-3 section 4.2.1.3.1: the classification
    stands in the package or beside it)."""
    found = set()
    for node in root.iter(f"{_RIM}Classification"):
        if node.get("classificationNode") == FOLDER_NODE:
            found.add(bounded(node.get("classifiedObject") or ""))
            holder = node.getparent()
            if holder is not None and holder.tag == f"{_RIM}RegistryPackage":
                found.add(bounded(holder.get("id") or ""))
    return frozenset(found)


def _folders(root: etree._Element, location: str) -> Iterator[Folder]:
    ids = folder_ids(root)
    for package in root.iter(f"{_RIM}RegistryPackage"):
        name = bounded(package.get("id") or "")
        if name not in ids or _external(package, SET_ID):
            continue
        unique_id = _external(package, FOLDER_ID)
        if not name or not unique_id:
            raise metadata("a folder has no id or no uniqueId", location)
        yield Folder(
            id=name,
            unique_id=unique_id,
            patient=PatientId.parse(_external(package, FOLDER_PATIENT), location),
            codes=_coded(package, FOLDER_CODES),
        )


def _external(element: etree._Element, scheme: str) -> str:
    for each in element.iterfind(f"{_RIM}ExternalIdentifier"):
        if each.get("identificationScheme") == scheme:
            return bounded(each.get("value") or "")
    return ""


def _slots(element: etree._Element) -> dict[str, str]:
    """Each slot's value; one of several lines (``1|…``, ``2|…``) is put together."""
    found = {}
    for slot in element.iterfind(f"{_RIM}Slot"):
        values = [each.text or "" for each in slot.iterfind(f"{_RIM}ValueList/{_RIM}Value")]
        if len(values) > 1 and all(re.match(r"[0-9]+\|", each) for each in values):
            numbered = sorted(values, key=lambda each: int(each.partition("|")[0][:9]))
            found[slot.get("name") or ""] = bounded(
                "".join(each.partition("|")[2] for each in numbered)
            )
        elif values:
            found[slot.get("name") or ""] = bounded(values[0])
    return found


def _coded(element: etree._Element, scheme: str) -> tuple[Code, ...]:
    """The codes of one attribute (ITI TF-3 section 4.2.3.1.2)."""
    return tuple(
        Code(bounded(each.get("nodeRepresentation") or ""), _slots(each).get("codingScheme", ""))
        for each in element.iterfind(f"{_RIM}Classification")
        if each.get("classificationScheme") == scheme
    )


def _entry(element: etree._Element, location: str) -> DocumentEntry:
    values = _slots(element)
    found = {
        "uniqueId": _external(element, DOCUMENT_ID),
        "patientId": _external(element, DOCUMENT_PATIENT),
        "mimeType": bounded(element.get("mimeType") or ""),
        "id": bounded(element.get("id") or ""),
    }
    for name, value in found.items():
        if not value:
            raise metadata(f"a document entry has no {name}", location)
    sha1, size = values.get("hash", ""), values.get("size", "")
    if sha1 and not _HASH.match(sha1):
        raise metadata("the hash of a document entry is not SHA-1 (40 hex digits)", location)
    if size and not (size.isascii() and size.isdecimal() and len(size) < 12):
        raise metadata("the size of a document entry is no number", location)
    return DocumentEntry(
        id=found["id"],
        uri=values.get("URI", ""),
        unique_id=found["uniqueId"],
        patient=PatientId.parse(found["patientId"], location),
        media_type=found["mimeType"].lower(),
        object_type=bounded(element.get("objectType") or ""),
        sha1=sha1.lower(),
        size=int(size) if size else None,
        values=values,
        codes={name: _coded(element, scheme) for name, scheme in DOCUMENT_CODES.items()},
    )


def _association(element: etree._Element, location: str) -> Association:
    found = {
        name: bounded(element.get(name) or "")
        for name in ("associationType", "sourceObject", "targetObject")
    }
    for name, value in found.items():
        if not value:
            raise metadata(f"an association has no {name}", location)
    return Association(
        found["associationType"], found["sourceObject"], found["targetObject"],
        bounded(element.get("id") or ""),
    )  # fmt: skip


def _check_together(found: SubmissionSet, location: str) -> None:
    """One patient for all, each id once (ITI TF-3 table 4.2.4.1-2)."""
    made: tuple[DocumentEntry | Folder, ...] = (*found.entries, *found.folders)
    if any(each.patient != found.patient for each in made):
        raise mismatch(
            "a document entry or folder and the submission set name different patients",
            location,
            "XDSPatientIdDoesNotMatch",
        )
    for name, values in _identities(found):
        twice = next((each for each in values if values.count(each) > 1), "")
        if twice:
            raise mismatch(
                f"two objects of the submission have one {name}",
                location,
                "XDSRepositoryDuplicateUniqueIdInMessage",
                twice,
            )


def _identities(found: SubmissionSet) -> Iterator[tuple[str, list[str]]]:
    made: tuple[DocumentEntry | Folder, ...] = (*found.entries, *found.folders)
    yield "uniqueId", [found.unique_id, *(each.unique_id for each in made)]
    yield "id", [each.id for each in made]
    yield "URI", [entry.uri for entry in found.entries if entry.uri]
