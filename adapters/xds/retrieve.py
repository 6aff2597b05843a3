"""Retrieve Document Set (ITI-43): the exact bytes of documents, each a part of the answer.

ITI TF-2 section 3.43.4: the answer is MTOM; a document that cannot be given is an error of the
answer, and the others come all the same (PartialSuccess).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lxml import etree

from adapters.xds.answers import XDS, Fetched, Problem
from adapters.xds.entries import registered
from adapters.xds.identifiers import identifiers_of, same_document
from adapters.xds.mtom import closing, part_head, root_part
from adapters.xds.writing import Describing
from gateway.documents import DocumentRegistry, RegistryUnavailable
from gateway.model import Payload

REQUESTS_MAX = 500
_BLOCK = 1 << 16
_MEDIA = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What was found: the documents with their bytes, and what was not."""

    documents: Sequence[Fetched]
    payloads: Sequence[Payload]
    problems: Sequence[Problem]


def retrieve(
    request: etree._Element, documents: DocumentRegistry, describing: Describing
) -> Retrieved:
    """Look up what a ``RetrieveDocumentSetRequest`` asks for. Blocks; raises nothing of its own."""
    asked = request.findall(f"{{{XDS}}}DocumentRequest")
    if not asked:
        return _nothing("XDSRepositoryError", "the request asks for no document")
    if len(asked) > REQUESTS_MAX:
        return _nothing("XDSRepositoryError", f"at most {REQUESTS_MAX} documents at a time")
    found: list[tuple[Fetched, Payload]] = []
    problems: list[Problem] = []
    for number, each in enumerate(asked, 1):
        try:
            one = _one(each, number, documents, describing)
        except RegistryUnavailable:
            return _nothing("XDSRepositoryBusy", "the record does not answer: ask again")
        if isinstance(one, Problem):
            problems.append(one)
        else:
            found.append(one)
    return Retrieved([each for each, _ in found], [each for _, each in found], problems)


def _nothing(code: str, said: str) -> Retrieved:
    return Retrieved((), (), (Problem(code, said, "RetrieveDocumentSetRequest"),))


def _one(
    request: etree._Element, number: int, documents: DocumentRegistry, describing: Describing
) -> tuple[Fetched, Payload] | Problem:
    said = {
        name: (request.findtext(f"{{{XDS}}}{name}") or "").strip()
        for name in ("HomeCommunityId", "RepositoryUniqueId", "DocumentUniqueId")
    }
    place = f"DocumentRequest {number}"
    home = said["HomeCommunityId"].removeprefix("urn:oid:")
    if home and home != describing.home:
        return Problem("XDSUnknownCommunity", said["HomeCommunityId"], place)
    if said["RepositoryUniqueId"].removeprefix("urn:oid:") != describing.repository:
        return Problem("XDSUnknownRepositoryId", said["RepositoryUniqueId"], place)
    wanted = said["DocumentUniqueId"]
    candidates = identifiers_of(wanted) if wanted else ()
    for document in documents.by_identifier(candidates) if candidates else ():
        one = registered(document, describing.schemes)
        if one is None or not same_document(wanted, one.unique_id):
            continue
        payload = documents.content(one.sha256)
        if payload is None:
            return Problem("XDSRepositoryError", "the bytes of the document cannot be had", place)
        fetched = Fetched(
            repository=describing.repository,
            unique_id=wanted,
            media_type=one.facts.media_type,
            part=f"document{number}@ecluse",
            home=said["HomeCommunityId"],
        )
        return fetched, payload
    return Problem("XDSDocumentUniqueIdError", wanted, place)


@dataclass(frozen=True, slots=True)
class Package:
    """An answer in MTOM: its size, and its bytes block by block."""

    boundary: str
    action: str
    envelope: bytes
    documents: Sequence[Fetched] = ()
    payloads: Sequence[Payload] = ()

    def size(self) -> int:
        """In bytes."""
        return sum(len(each) if isinstance(each, bytes) else each.size for each in self._pieces())

    def blocks(self) -> Iterator[bytes]:
        """The bytes, of which no more than 64 KiB are in memory."""
        for piece in self._pieces():
            if isinstance(piece, bytes):
                yield piece
                continue
            with piece.open() as stream:
                while block := stream.read(_BLOCK):
                    yield block

    def _pieces(self) -> Iterator[bytes | Payload]:
        yield root_part(self.boundary, self.action, self.envelope)
        for document, payload in zip(self.documents, self.payloads, strict=True):
            media = document.media_type
            safe = media.isascii() and media.isprintable()
            yield part_head(self.boundary, document.part, media if safe else _MEDIA)
            yield payload
        yield closing(self.boundary)
