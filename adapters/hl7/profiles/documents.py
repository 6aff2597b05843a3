"""The rules of the CI-SIS that need the documents themselves: are they what the message says?"""

from __future__ import annotations

import base64
import binascii

from adapters.hl7.profiles.coherence import action_of
from adapters.hl7.profiles.errors import INS_ABSENT, INS_DIFFERENT, INS_INCOMPLETE, WRONG_VERSION
from adapters.hl7.profiles.transmission import (
    Action,
    Refusal,
    Request,
    Transmitted,
    incoherent,
    missing,
)
from gateway.documents import DocumentHeader, DocumentHeaders
from gateway.model import CauseCode, Identifier
from gateway.ports import Unreadable

INS_SYSTEMS = frozenset(f"urn:oid:1.2.250.1.213.1.4.{arc}" for arc in (8, 9, 10, 11))
"""Roots of the INS: NIR and NIA in production, NIR for tests and demonstrations."""

_BLANKS = str.maketrans("", "", " \t\r\n")


def check(
    request: Request, subject: tuple[Identifier, ...], headers: DocumentHeaders | None
) -> None:
    """Raise Refusal for the first document that is not what the message says of it.

    The first document is a CDA; the second one of an ORU may be another form of it (a
    PDF), which is then only decoded. Without ``headers`` the documents are only decoded.
    """
    for number, document in enumerate(request.documents):
        data = _decoded(document)
        if headers is None:
            continue
        location = f"{document.place}-5"
        try:
            header = headers.header(data)
        except Unreadable as fault:
            code = getattr(fault, "code", CauseCode.UNREADABLE)
            detail = f"The document cannot be read: {fault}"
            raise Refusal("102", location, detail, code) from None
        if header is None:
            if number == 0:
                detail = "OBX-5 does not hold a CDA document"
                raise Refusal("102", location, detail, CauseCode.NOT_THE_FORMAT)
            continue
        _check_patient(request, subject, header, location)
        _check_ids(request, header, location)


def _decoded(document: Transmitted) -> bytes:
    location = f"{document.place}-5"
    if not document.data:
        raise missing(location, "OBX-5.5 holds no document")
    if document.encoding.lower() != "base64":
        detail = "A document is encoded in Base64 (OBX-5.4)"
        raise Refusal("102", location, detail, CauseCode.NOT_THE_FORMAT)
    # Without its padding it says the same: taken as it is, and flagged when it is mapped.
    bare = document.data.translate(_BLANKS).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("102", location, "OBX-5.5 is not Base64", CauseCode.NOT_THE_FORMAT) from None


def _check_patient(
    request: Request, subject: tuple[Identifier, ...], header: DocumentHeader, location: str
) -> None:
    """«Le PID-3 doit être identique aux identifiants de patient portés par le CDA»."""
    own = {(each.system, each.value) for each in subject if each.system in INS_SYSTEMS}
    other = {(each.system, each.value) for each in header.patient if each.system in INS_SYSTEMS}
    if not other and (own or request.wants("DESTDMP")):
        detail = "The document does not hold the patient's INS"
        raise missing(location, detail, INS_ABSENT)
    if (own and own.isdisjoint(other)) or (not own and request.wants("DESTDMP")):
        detail = "The INS in PID-3 is not the INS of the document"
        raise incoherent(INS_DIFFERENT, "PID-3", detail)
    if other and header.traits_missing:
        named = ", ".join(header.traits_missing)
        raise missing(location, f"The INS of the document lacks traits: {named}", INS_INCOMPLETE)
    for system in {each.system for each in subject} & {each.system for each in header.patient}:
        mine = {each.value for each in subject if each.system == system}
        if mine.isdisjoint(each.value for each in header.patient if each.system == system):
            detail = "PID-3 and the document give different identifiers of one authority"
            raise incoherent("199", "PID-3", detail)


def _check_ids(request: Request, header: DocumentHeader, location: str) -> None:
    written = request.transcription or {}
    own, parent = written.get(12, ""), written.get(13, "")
    if request.profile.strict and own and not _same(own, header.identifier):
        raise incoherent("199", "TXA-12", "TXA-12 is not the id of the document")
    if action_of(request) is not Action.REPLACE:
        return
    if not (parent or header.replaces):
        detail = "A replacement names no document that it replaces (relatedDocument RPLC)"
        raise missing(location, detail, WRONG_VERSION)
    if not (request.profile.strict and parent and header.replaces):
        return
    if not any(_same(parent, each) for each in header.replaces):
        detail = "TXA-13 is not the document that the CDA says it replaces"
        raise incoherent(WRONG_VERSION, "TXA-13", detail)


def _same(written: str, identifier: str) -> bool:
    """Whether TXA and a CDA mean one id: ``root^extension`` is also written as one OID."""
    return written.replace("^", ".") == identifier.replace("^", ".")
