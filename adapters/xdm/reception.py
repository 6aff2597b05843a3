"""From an archive to its documents, each handed over as if it had come alone.

An archive is taken as a whole or refused as a whole, and is then kept as evidence. A document
that is no CDA (the XAdES signature of a submission set, a PDF) is kept, and goes no further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from adapters.doors.reception import Arrived, Contents
from adapters.doors.reception import Reception as FileReception
from adapters.ebrim.agreeing import check_agreement
from adapters.ebrim.faults import Refused
from adapters.xdm.archive import Archive, ArchiveLimits
from adapters.xdm.contents import Document, documents_of
from adapters.xdm.faults import no_archive
from adapters.xdm.settings import XdmSourceSettings
from gateway.documents import DocumentHeader, DocumentHeaders
from gateway.model import Cause, CauseCode, Format, Payload, Received
from gateway.ports import Intake, Unreadable

_IDENTIFIER_MAX = 255


class XdmReception(FileReception):
    """One source's way from an archive to receipts, with its limits."""

    format = Format.CDA
    phrases: ClassVar[Mapping[CauseCode, str]] = {
        CauseCode.NOT_THE_FORMAT: "ce fichier n'est pas une archive XDM (IHE_XDM.ZIP)",
        CauseCode.CONTENT_MISMATCH: "les métadonnées (METADATA.XML) ne correspondent pas aux "
        "documents de l'archive",
        CauseCode.REQUIRED_FIELD_MISSING: "une métadonnée ou un document annoncé manque",
        CauseCode.HOSTILE_CONTENT: "cette archive n'est pas admise (chiffrée, trop grande une "
        "fois décompressée, ou anormale)",
        CauseCode.UNREADABLE: "l'archive est endommagée",
        CauseCode.UNSUPPORTED_TYPE: "ce document n'est pas un CDA R2 ; il est conservé, et ne va "
        "pas plus loin",
    }

    def __init__(
        self,
        settings: XdmSourceSettings,
        intake: Intake,
        documents: DocumentHeaders,
    ) -> None:
        super().__init__(settings, intake, bytes_max=settings.archive_bytes_max)
        self.documents = documents
        self._limits = ArchiveLimits(
            files_max=settings.files_max,
            file_bytes_max=settings.document_bytes_max,
            unpacked_bytes_max=settings.unpacked_bytes_max,
            ratio_max=settings.ratio_max,
        )
        self._reading = asyncio.Semaphore(settings.reads_max)

    async def open(self, arrived: Arrived) -> Contents:
        """Unpack and check the archive in a thread, at most ``reads_max`` at a time."""
        if arrived.fault is not None:
            return Contents((self.refused(arrived, arrived.fault),))
        async with self._reading:
            return await asyncio.to_thread(self._open, arrived)

    def _open(self, arrived: Arrived) -> Contents:
        try:
            with arrived.payload.open() as stream:
                archive = Archive.open(stream, self._limits)
                try:
                    found = documents_of(archive)
                finally:
                    archive.close()
            received = [
                self._received(arrived, each, number, len(found))
                for number, each in enumerate(found, 1)
            ]
            if not any(each.refusal is None for each in received):
                raise no_archive("no document of the archive is a CDA R2")
        except Refused as refused:
            return Contents((self.refused(arrived, refused.cause),))
        return Contents(tuple(received))

    def _received(self, arrived: Arrived, document: Document, number: int, total: int) -> Received:
        """One document. Raises Refused where it is not what its entry says."""
        attributes = {
            **arrived.attributes,
            "submission_set": document.submission.unique_id[:_IDENTIFIER_MAX],
            "archive_file": document.name,
        }
        if total > 1:
            attributes["file_message"] = f"{number} of {total}"
        alone = Arrived(
            payload=Payload.from_bytes(document.data),
            received_at=arrived.received_at,
            peer=arrived.peer,
            attributes=attributes,
        )
        header = self._header(document)
        if header is None:
            cause = Cause(
                code=CauseCode.UNSUPPORTED_TYPE,
                detail=f"a document of type {document.entry.media_type[:80]} is no CDA R2: kept, "
                "and goes no further",
                location=document.name,
            )
            return self.refused(alone, cause)
        check_agreement(document.entry, header.identifier, header.patient, document.name)
        return Received(
            source=self.name,
            format=Format.CDA,
            payload=alone.payload,
            received_at=arrived.received_at,
            peer=arrived.peer,
            control_id=header.identifier,
            kind=header.kind,
            subject=header.patient,
            control_id_unique=True,
            attributes={**attributes, **header.attributes},
        )

    def _header(self, document: Document) -> DocumentHeader | None:
        try:
            return self.documents.header(document.data)
        except Unreadable as fault:
            code = getattr(fault, "code", CauseCode.UNREADABLE)
            place = f"{document.name} {fault.location}".strip()
            raise Refused(code, str(fault), place, "InvalidDocumentContent") from None
