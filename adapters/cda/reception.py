"""What both ways in do with the bytes of a document: read its header, say what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

from adapters.cda.document import Limits, read_document
from adapters.cda.header import Header, read_header
from adapters.cda.prolog import NotReadable
from adapters.cda.settings import CdaSourceSettings
from adapters.cda.validation.findings import Group, Level
from adapters.cda.validation.validator import Validator
from adapters.doors.reception import Arrived, Contents, Verdict
from adapters.doors.reception import Reception as FileReception
from gateway.model import Cause, CauseCode, Format, Payload, Received
from gateway.ports import Intake

REASONS_MAX = 20
"""Groups of findings that a sender is told; the console has them all."""


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
        CauseCode.PROFILE_VIOLATED: "le document n'est pas conforme",
        CauseCode.CONTROL_ID_REUSED: "un autre document a déjà été reçu sous cet identifiant",
    }

    def __init__(
        self,
        settings: CdaSourceSettings,
        intake: Intake,
        validator: Validator | None = None,
    ) -> None:
        super().__init__(settings, intake, bytes_max=settings.document_bytes_max)
        self.limits = Limits(
            bytes_max=settings.document_bytes_max,
            depth_max=settings.depth_max,
            elements_max=settings.elements_max,
        )
        self.validator = validator
        self.check = settings.check if validator is not None else "report"
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
        judged, refusal = await self._judged(arrived)
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
            refusal=refusal,
            control_id_unique=True,
            attributes={**arrived.attributes, **outcome.attributes, **judged},
        )
        return Contents((received,))

    async def _judged(self, arrived: Arrived) -> tuple[Mapping[str, str], Cause | None]:
        """What a report adds to the message, and the cause where the source refuses for it."""
        if self.validator is None or self.check == "report":
            return {}, None
        report = await asyncio.to_thread(
            self.validator.check, arrived.payload, encoding=arrived.encoding, limits=self.limits
        )
        said = {"check_errors": str(report.errors), "check_warnings": str(report.warnings)}
        if self.check == "flag" or report.passed:
            return said, None
        first = report.groups()[0].first
        plural = "" if report.errors == 1 else "s"
        # The rule's own sentence may repeat a value of the document.
        return said, Cause(
            code=CauseCode.PROFILE_VIOLATED,
            detail=f"{report.errors} error{plural}; the first is of rule {first.rule} "
            f"({first.origin})",
            location=first.xpath or "/ClinicalDocument",
        )

    def explain(self, contents: Contents, outcome: Verdict) -> Sequence[str]:
        """The findings for which a document was refused, in French, errors first."""
        if self.validator is None or outcome.cause is None:
            return ()
        if outcome.cause.code is not CauseCode.PROFILE_VIOLATED:
            return ()
        report = self.validator.kept(contents.received[0].payload.sha256)
        if report is None:
            return ()
        groups = [each for each in report.groups() if each.first.level is Level.ERROR]
        lines = [_line(each) for each in groups[:REASONS_MAX]]
        more = len(groups) - len(lines)
        return (*lines, f"… et {more} autres motifs.") if more > 0 else lines

    def _read(self, payload: Payload, encoding: str) -> Header | Cause:
        try:
            return read_header(read_document(payload, encoding=encoding, limits=self.limits))
        except NotReadable as error:
            return Cause(code=error.code, detail=str(error), location=error.location)


def _line(group: Group) -> str:
    """One reason: what, how often, where."""
    first, count = group.first, len(group.findings)
    times = f" ({count} fois)" if count > 1 else ""
    place = f" [ligne {first.line}]" if first.line else ""
    return f"{first.shown}{times}{place}"
