"""What an archive holds: the documents that its metadata name, each as it was announced."""

from __future__ import annotations

import hashlib
import posixpath
import re
from dataclasses import dataclass

from adapters.ebrim.faults import hostile, metadata, mismatch
from adapters.ebrim.submission import DocumentEntry, SubmissionSet
from adapters.xdm.archive import Archive
from adapters.xdm.faults import no_archive
from adapters.xdm.metadata import read_metadata

_METADATA = re.compile(r"((?:[^/]+/)?IHE_XDM/[^/]+/)METADATA\.XML\Z", re.IGNORECASE)
"""At the top of the archive; within one folder when the writer has packed the folder."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document, whose bytes are those that the metadata announce. ``name`` is its file's."""

    name: str
    data: bytes
    entry: DocumentEntry
    submission: SubmissionSet


def documents_of(archive: Archive) -> list[Document]:
    """The documents of all submission sets, in the order of the metadata. Raises Refused."""
    folders = {match[1]: name for name in archive.names if (match := _METADATA.match(name))}
    if not folders:
        raise no_archive("the archive holds no IHE_XDM/…/METADATA.XML")
    found: list[Document] = []
    for folder, name in sorted(folders.items()):
        submission = read_metadata(archive.read(name), name)
        mine = [_document(archive, folder, entry, submission) for entry in submission.entries]
        _check_no_more(archive, folder, name, {each.name for each in mine})
        found += mine
    names = [each.name for each in found]
    if len(set(names)) != len(names):
        raise mismatch(
            "two submission sets name one document", "", "XDSRepositoryDuplicateUniqueIdInMessage"
        )
    return found


def _document(
    archive: Archive, folder: str, entry: DocumentEntry, submission: SubmissionSet
) -> Document:
    name = posixpath.normpath(folder + entry.uri)
    if "\\" in entry.uri or ":" in entry.uri or not name.startswith(folder):
        raise hostile("the URI of a document entry leaves the folder of its metadata", folder)
    by_case = {each.casefold(): each for each in archive.names}
    real = by_case.get(name.casefold())
    if real is None:
        raise metadata(
            "a document entry names a file that is not in the archive", name, "XDSMissingDocument"
        )
    data = archive.read(real)
    if len(data) != entry.size:
        raise mismatch("the size of a document is not that in its entry", real)
    # SHA-1 because the standard says so; it tells damage, and keeps nobody out.
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != entry.sha1:
        raise mismatch("the hash of a document is not that in its entry", real)
    return Document(real, data, entry, submission)


def _check_no_more(archive: Archive, folder: str, metadata_name: str, named: set[str]) -> None:
    """A document without an entry would be lost without a word."""
    for name in archive.names:
        if name.startswith(folder) and name != metadata_name and name not in named:
            raise metadata(
                "a file beside METADATA.XML has no document entry",
                name,
                "XDSMissingDocumentMetadata",
            )
