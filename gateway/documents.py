"""What adapters and the record tell one another of documents, by way of the gateway.

The header of a CDA document that another protocol's message carries
(:class:`DocumentHeaders`), and the documents and other objects that the record holds, for
those who look for them by another protocol, as IHE XDS does (:class:`DocumentRegistry`).
Protocols and the values that they speak of; who implements them is another's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from gateway.model import (
    Identifier,
    Payload,
    RegistryKind,
    RegistryObject,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentHeader:
    """What the header of a CDA document says, for those who carry it in a message.

    ``identifier`` and ``replaces`` (the documents that it replaces) are ``root`` or
    ``root^extension``; ``related`` are its relations to others, as code (RPLC, APND, XFRM) and id;
    ``kind`` is the code of its type, ``attributes`` its set, version and form; ``traits_missing``
    names what a complete INS would need and the header does not have.
    No more than that may leave the document.
    """

    identifier: str
    patient: tuple[Identifier, ...] = ()
    replaces: tuple[str, ...] = ()
    related: tuple[tuple[str, str], ...] = ()
    traits_missing: tuple[str, ...] = ()
    kind: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


class DocumentHeaders(Protocol):
    """Reads the header of a document that another protocol's message carries."""

    def header(self, data: bytes) -> DocumentHeader | None:
        """The header, or None when the bytes are no CDA document at all.

        Raises Unreadable for a CDA that is broken or hostile.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDocument:
    """A document of the record, for those who look for documents by another protocol.

    ``resource`` is its DocumentReference with its version in ``meta``, ``patient`` the Patient
    (empty when the record has none), ``named`` the Practitioners and Organizations whom the
    document names as author or authenticator, by reference. All are FHIR R4 resources as they
    are now.
    """

    resource: Mapping[str, Any]
    patient: Mapping[str, Any]
    named: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class DocumentVersion(NamedTuple):
    """Which version of a DocumentReference is in force."""

    id: str
    version: int


class TooManyDocuments(Exception):
    """More documents, or other objects, than the caller wanted to have."""


class DocumentRegistry(Protocol):
    """What documents there are: reads the record, whatever way they came. Blocks; any thread.

    Raises OSError or ``gateway.documents.RegistryUnavailable`` when it cannot be read.
    """

    def at_one_time(self) -> AbstractContextManager[None]:
        """What is asked inside, by this thread, is answered of one state of record and registry,
        and in one transaction: a question by itself costs less than its transaction."""
        ...

    def of_patient(self, patient: Identifier, *, limit: int) -> Sequence[DocumentVersion]:
        """The documents of the one patient with this identifier, the last first.
        Raises TooManyDocuments."""
        ...

    def by_identifier(self, identifiers: Sequence[Identifier]) -> Sequence[SharedDocument]:
        """Those whose masterIdentifier is one of these."""
        ...

    def by_id(self, ids: Sequence[str]) -> Sequence[SharedDocument]:
        """Those with these ids of resources."""
        ...

    def content(self, sha256: str) -> Payload | None:
        """A document's exact bytes; None when no document has them."""
        ...

    def knows(self, patient: Identifier) -> bool:
        """Whether an identifier says by itself or by what is known who the patient is."""
        ...

    def known(self, source: str, control_ids: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """The SHA-256 of the documents with these ids, by id: of what this source handed over
        and was accepted, and of what the record has by whatever way."""
        ...

    def submission(self, unique_id: str) -> str | None:
        """The digest of what the submission set with this identifier holds; None without one."""
        ...

    def note_submission(
        self, unique_id: str, *, source: str, digest: str, objects: Sequence[RegistryObject]
    ) -> str:
        """Note that a submission set is registered with all that it holds, durably. The digest
        that stands: another's where another set of this identifier was noted first."""
        ...

    def objects(self, ids: Sequence[str]) -> Sequence[RegistryObject]:
        """What submissions registered under these ids."""
        ...

    def objects_named(
        self, kind: RegistryKind, unique_ids: Sequence[str]
    ) -> Sequence[RegistryObject]:
        """What submissions registered under these identifiers."""
        ...

    def object_ids(self, kind: RegistryKind, unique_ids: Sequence[str]) -> Mapping[str, str]:
        """Only the ids, by the identifier."""
        ...

    def objects_of(
        self, kind: RegistryKind, patient: Identifier, *, limit: int
    ) -> Sequence[RegistryObject]:
        """What submissions registered of the patient with this identifier, the last first.
        Raises TooManyDocuments."""
        ...

    def replaced(self, ids: Sequence[str], types: Sequence[str]) -> Sequence[tuple[str, str]]:
        """Source and target of the associations of these types whose target is one of these."""
        ...

    def associations(self, ids: Sequence[str], *, limit: int) -> Sequence[RegistryObject]:
        """The associations of which one end is one of these. Raises TooManyDocuments."""
        ...


class RegistryUnavailable(Exception):
    """The record or the journal cannot be read at the moment."""
