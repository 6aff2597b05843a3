"""The documents of a request, each with the entry that describes it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from adapters.doors.spool import Spool
from adapters.ebrim.faults import Refused, metadata, mismatch
from adapters.ebrim.submission import DocumentEntry, SubmissionSet
from adapters.xds.answers import XDS
from adapters.xds.faults import SoapFault, hostile, too_large
from adapters.xds.mtom import part_named
from adapters.xds.soap import packed_only_once
from gateway.model import CauseCode, Payload

_HASHED_BYTES = 1 << 20
_LOOKED_AT = 256
_BLANKS = b"\xef\xbb\xbf \t\r\n"


@dataclass(frozen=True, slots=True)
class Provided:
    """One document of a submission: its entry and its bytes."""

    entry: DocumentEntry
    payload: Payload


def payloads_of(
    request: etree._Element,
    parts: Mapping[str, Spool],
    inline: list[Payload],
    *,
    bytes_max: int,
) -> dict[str, Payload]:
    """The bytes of each Document by its id (MTOM, or Base64 in the envelope: those are added to
    ``inline``). Raises Refused, SoapFault."""
    found: dict[str, Payload] = {}
    used: set[str] = set()
    for element in request.iterfind(f"{{{XDS}}}Document"):
        name = (element.get("id") or "").strip()
        if not name or name in found:
            raise metadata("a Document has no id, or one that another has", "Document")
        href = packed_only_once(element)
        if href is None:
            payload = _inline(element.text or "", bytes_max)
            inline.append(payload)
        else:
            part = part_named(href)
            if part not in parts:
                raise SoapFault("an xop:Include points to a part that is not there",
                                cause=CauseCode.REQUIRED_FIELD_MISSING)  # fmt: skip
            if part in used:
                raise hostile("two xop:Include point to one part")
            used.add(part)
            payload = parts[part].payload()
        if payload.size == 0:
            raise metadata("a Document is empty", name, "XDSMissingDocument")
        found[name] = payload
    if len(used) != len(parts):
        raise metadata(
            "a part of the request is the document of no entry", "Body",
            "XDSMissingDocumentMetadata",
        )  # fmt: skip
    return found


def _inline(text: str, bytes_max: int) -> Payload:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(
            CauseCode.UNREADABLE, "a Document is no Base64", "Document", "XDSRepositoryError"
        ) from None
    if len(data) > bytes_max:
        raise too_large("a document", bytes_max)
    return Payload.from_bytes(data)


def paired(found: SubmissionSet, payloads: Mapping[str, Payload]) -> Iterator[Provided]:
    """Each entry with its document, in the order of the entries. Raises Refused."""
    left = dict(payloads)
    for entry in found.entries:
        payload = left.pop(entry.id, None)
        if payload is None:
            raise metadata(
                "a document entry has no Document", entry.id, "XDSMissingDocument", entry.unique_id
            )
        yield Provided(entry, payload)
    if left:
        raise metadata(
            "a Document has no document entry", next(iter(left)), "XDSMissingDocumentMetadata"
        )


def check_bytes(document: Provided) -> None:
    """ITI TF-2 section 3.41.4.1.3: what is said of size and hash must be so."""
    entry = document.entry
    if entry.size is not None and entry.size != document.payload.size:
        raise mismatch("the size of a document is not that in its entry", entry.id)
    if entry.sha1 and sha1_of(document.payload) != entry.sha1:
        raise mismatch("the hash of a document is not that in its entry", entry.id)


def sha1_of(payload: Payload) -> str:
    """Lower-case hexadecimal; the standard's choice, and no seal. Constant memory."""
    digest = hashlib.sha1(usedforsecurity=False)
    with payload.open() as stream:
        while block := stream.read(_HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def may_be_xml(payload: Payload) -> bool:
    """Whether a document may be a CDA, by its beginning."""
    with payload.open() as stream:
        beginning = stream.read(_LOOKED_AT).lstrip(_BLANKS)
    return not beginning or beginning.startswith(b"<") or b"\0" in beginning
