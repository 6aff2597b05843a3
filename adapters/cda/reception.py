"""What both ways in do with the bytes of a document: read its header, say what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from adapters.cda.document import Limits, read_document
from adapters.cda.header import Header, read_header
from adapters.cda.prolog import NotReadable
from adapters.cda.settings import CdaFolderSourceSettings, CdaHttpSourceSettings
from adapters.doors.reception import Arrived, Contents
from adapters.doors.reception import Reception as FileReception
from gateway.model import Cause, CauseCode, Format, Payload, Received
from gateway.ports import Intake


class Reception(FileReception):
    """One source's way from bytes to a receipt, with its limits. Belongs to one event loop."""

    format = Format.CDA
    phrases: ClassVar[Mapping[CauseCode, str]] = {
        CauseCode.NOT_THE_FORMAT: "ce fichier n'est pas un document CDA R2",
        CauseCode.REQUIRED_FIELD_MISSING: "une donnée obligatoire du document manque",
        CauseCode.UNSUPPORTED_VERSION: "ce document n'est pas en CDA version 2 (R2)",
        CauseCode.CHARACTER_SET: "le jeu de caractères n'est pas celui qui est annoncé, "
        "ou n'est pas accepté (UTF-8 attendu)",
        CauseCode.UNREADABLE: "le fichier XML est mal formé ou incomplet",
    }

    def __init__(
        self, settings: CdaHttpSourceSettings | CdaFolderSourceSettings, intake: Intake
    ) -> None:
        super().__init__(settings, intake, bytes_max=settings.document_bytes_max)
        self.limits = Limits(
            bytes_max=settings.document_bytes_max,
            depth_max=settings.depth_max,
            elements_max=settings.elements_max,
        )
        self._reading = asyncio.Semaphore(settings.reads_max)

    async def open(self, arrived: Arrived) -> Contents:
        """Read the document and say what it is; a file is one document.

        The reading is done in a thread, at most ``reads_max`` at a time.
        """
        if arrived.fault is not None:
            return Contents((self.refused(arrived, arrived.fault),))
        async with self._reading:
            outcome = await asyncio.to_thread(self._read, arrived.payload, arrived.encoding)
        if isinstance(outcome, Cause):
            return Contents((self.refused(arrived, outcome),))
        received = Received(
            source=self.name,
            format=Format.CDA,
            payload=arrived.payload,
            received_at=arrived.received_at,
            peer=arrived.peer,
            control_id=outcome.control_id,
            kind=outcome.kind,
            encoding=arrived.encoding,
            subject=outcome.subject,
            attributes={**arrived.attributes, **outcome.attributes},
        )
        return Contents((received,))

    def _read(self, payload: Payload, encoding: str) -> Header | Cause:
        try:
            return read_header(read_document(payload, encoding=encoding, limits=self.limits))
        except NotReadable as error:
            return Cause(code=error.code, detail=str(error), location=error.location)
