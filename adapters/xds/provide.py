"""Provide and Register Document Set-b (ITI-41): from a request to documents that are kept.

ITI TF-2 section 3.41.4.1.3. A submission is taken as a whole or refused as a whole: everything is
looked at before anything is handed over. A document that is no CDA (the XAdES signature of a
submission set, a PDF) is kept and goes no further, and the answer says so in a warning.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from lxml import etree

from adapters.doors.reception import Arrived, Reception
from adapters.doors.spool import Spool
from adapters.ebrim.agreeing import check_agreement
from adapters.ebrim.faults import Refused, metadata, mismatch
from adapters.ebrim.names import (
    HAS_MEMBER,
    LCM,
    REPLACES,
    REPLACING,
    TRANSFORMS_AND_REPLACES,
)
from adapters.ebrim.submission import DocumentEntry, SubmissionSet, read_submission
from adapters.xds.answers import Problem
from adapters.xds.catalogue import Catalogue, Memory
from adapters.xds.checking import check_submission, relations_of, unknown_patient
from adapters.xds.identifiers import (
    control_ids_of,
    patient_of,
    same_document,
)
from adapters.xds.parts import Provided, check_bytes, may_be_xml, paired, payloads_of, sha1_of
from adapters.xds.registering import Plan, Registering
from adapters.xds.settings import XdsSourceSettings
from adapters.xds.writing import Describing
from gateway.documents import DocumentHeaders, DocumentRegistry, RegistryUnavailable
from gateway.model import (
    Cause,
    CauseCode,
    Disposition,
    Payload,
    Receipt,
    Received,
    RegistryObject,
)

_IDENTIFIER_MAX = 255


@dataclass(slots=True)
class Submission:
    """A submission that was understood. ``known``: it was registered before, and adds nothing.
    ``replaced`` are the uniqueIds of the documents that its associations point to, by entryUUID;
    ``objects`` is what it registers."""

    set: SubmissionSet
    documents: list[Provided]
    request: etree._Element
    known: bool = False
    plan: Plan | None = None
    replaced: Mapping[str, str] = field(default_factory=dict)
    objects: Sequence[RegistryObject] = ()

    def digest(self) -> str:
        """Of what makes it the same submission: its patient, source and documents."""
        said = [self.set.patient.text, self.set.source_id]
        said += sorted(f"{each.entry.unique_id} {each.payload.sha256}" for each in self.documents)
        said += sorted(f"folder {each.unique_id}" for each in self.set.folders)
        mine = {entry.id for entry in self.set.entries} | {self.set.id}
        said += sorted(
            f"member {each.source} {each.target}"
            for each in self.set.associations
            if each.type == HAS_MEMBER and not {each.source, each.target} <= mine
        )
        return hashlib.sha256("\n".join(said).encode()).hexdigest()


def taken_set(found: SubmissionSet) -> Refused:
    """ITI TF-3 table 4.2.4.1-2: a uniqueId that another submission set has."""
    return mismatch(
        "another submission set is registered with this uniqueId",
        "SubmissionSet",
        "XDSDuplicateUniqueIdInRegistry",
        found.unique_id,
    )


@dataclass(frozen=True, slots=True)
class From:
    """How a request came."""

    received_at: datetime
    peer: str
    message_id: str


class Providing:
    """Understands submissions for one endpoint, and says what became of them."""

    def __init__(
        self,
        settings: XdsSourceSettings,
        documents: DocumentRegistry,
        describing: Describing,
        headers: DocumentHeaders,
        memory: Memory,
    ) -> None:
        self._settings = settings
        self._headers = headers
        self._documents = documents
        catalogue = Catalogue(documents, describing, memory)
        self._registering = Registering(documents, catalogue, settings.repository_unique_id)

    def understood(
        self, request: etree._Element, parts: Mapping[str, Spool], inline: list[Payload]
    ) -> Submission:
        """Read and check everything but the documents' own content. Blocks.

        ``inline`` gets the payloads of documents that stand in the envelope. Raises Refused,
        SoapFault, ``gateway.documents.RegistryUnavailable``.
        """
        holders = request.findall(f"{{{LCM}}}SubmitObjectsRequest")
        if len(holders) != 1:
            raise metadata("the request does not hold exactly one SubmitObjectsRequest", "Body")
        found = read_submission(holders[0], "SubmitObjectsRequest")
        payloads = payloads_of(request, parts, inline, bytes_max=self._settings.document_bytes_max)
        if not (found.entries or found.folders or found.associations):
            raise metadata("the submission set holds nothing", "SubmitObjectsRequest")
        check_submission(found, self._settings)
        submission = Submission(found, list(paired(found, payloads)), holders[0])
        for each in submission.documents:
            check_bytes(each)
        with self._documents.at_one_time():
            self._compared(submission)
        return submission

    def _compared(self, submission: Submission) -> None:
        """Hold a submission against what is known and registered. Raises Refused."""
        found = submission.set
        patient = patient_of(found.patient)
        if self._settings.unknown_patients == "refuse" and not self._documents.knows(patient):
            raise unknown_patient("the patient is not known here", found)
        registered = self._documents.submission(found.unique_id)
        submission.known = registered == submission.digest()
        if registered is not None and not submission.known:
            raise taken_set(found)
        self._check_registered(submission)
        if not submission.known:
            submission.plan = plan = self._registering.plan(found)
            self._registering.check_new(found, plan)
            submission.replaced = {
                each.target: plan.targets[plan.named(each.target)].unique_id
                for each in relations_of(found)
                if plan.named(each.target) in plan.targets
            }

    def _check_registered(self, submission: Submission) -> None:
        """A uniqueId comes again with the same bytes only (ITI TF-3 table 4.2.4.1-2)."""
        names = {each.entry.unique_id: each for each in submission.documents}
        ids = [one for name in names for one in control_ids_of(name)]
        registered = self._documents.known(self._settings.name, ids)
        for name, document in names.items():
            known = {
                digest
                for one, digests in registered.items()
                if same_document(name, one)
                for digest in digests
            }
            if known and document.payload.sha256 not in known:
                raise mismatch(
                    "another document is registered with this uniqueId",
                    document.entry.id, "XDSNonIdenticalHash", name,
                )  # fmt: skip

    # --- the documents' own content --------------------------------------------------

    async def judged(
        self, submission: Submission, reception: Reception, origin: From
    ) -> list[Received]:
        """What goes to the journal: each document as the reception of CDA has it, in the order
        of the metadata. Raises Refused when one is a broken CDA, or not what its entry says."""
        total = len(submission.documents)
        received = [
            await self._judge(submission, each, reception, origin, f"{number} of {total}")
            for number, each in enumerate(submission.documents, 1)
        ]
        if received and not any(each.refusal is None for each in received):
            raise Refused(
                CauseCode.UNSUPPORTED_TYPE, "no document of the submission is a CDA R2",
                "SubmissionSet", "XDSRepositoryError",
            )  # fmt: skip
        submission.objects = await asyncio.to_thread(self._objects, submission, received)
        return received

    def _objects(
        self, submission: Submission, received: Sequence[Received]
    ) -> Sequence[RegistryObject]:
        """What is to be registered: not the entries of what is no CDA."""
        if submission.plan is None:
            return ()
        contents, without = {}, set()
        for document, one in zip(submission.documents, received, strict=True):
            if one.refusal is not None:
                without.add(document.entry.id)
                continue
            sha1 = document.entry.sha1 or sha1_of(document.payload)
            contents[document.entry.id] = (sha1, document.payload.size)
        return self._registering.objects(
            submission.request, submission.set, submission.plan, contents, without=without
        )

    async def _judge(
        self,
        submission: Submission,
        document: Provided,
        reception: Reception,
        origin: From,
        place: str,
    ) -> Received:
        entry = document.entry
        attributes = attributes_of(submission, entry, origin)
        if not place.endswith(" of 1"):
            attributes["file_message"] = place
        arrived = Arrived(
            payload=document.payload,
            received_at=origin.received_at,
            peer=origin.peer,
            attributes=attributes,
        )
        received = None
        if may_be_xml(document.payload):
            [received] = (await reception.open(arrived)).received
        if received is None or (
            received.refusal is not None and received.refusal.code is CauseCode.NOT_THE_FORMAT
        ):
            detail = f"a document of type {entry.media_type[:80]} is no CDA R2: kept, and goes no "
            cause = Cause(
                code=CauseCode.UNSUPPORTED_TYPE, detail=f"{detail}further", location=entry.id[:80]
            )
            return reception.refused(arrived, cause)
        if received.refusal is not None:
            raise Refused(
                received.refusal.code, received.refusal.detail,
                f"{entry.id} {received.refusal.location}".strip(), "InvalidDocumentContent",
            )  # fmt: skip
        check_agreement(entry, received.control_id, received.subject, entry.id)
        # Two documents are held apart before they are handed over, and in the journal again.
        return replace(received, control_id_unique=True)

    def noted(self, submission: Submission) -> list[Problem]:
        """Register the submission set and all that is said in it, once its documents are kept.
        Blocks."""
        if submission.known:
            return []
        digest = submission.digest()
        try:
            stands = self._documents.note_submission(
                submission.set.unique_id, source=self._settings.name, digest=digest,
                objects=submission.objects,
            )  # fmt: skip
        except RegistryUnavailable:
            said = "the submission set cannot be registered at the moment: send it again"
            return [Problem("XDSRegistryNotAvailable", said)]
        return [] if stands == digest else [problem_of(taken_set(submission.set))]

    def unsaid(self, submission: Submission) -> list[Problem]:
        """The replacements that the documents themselves do not say. Blocks.

        The record goes by the documents: whatever road a document takes, it becomes the same
        entry. So a replacement that stands in the metadata alone deprecates a document in the
        registry, but not in the record, and that is said in a warning. Only for documents that
        were read without a fault.
        """
        problems = []
        for document in submission.documents:
            mine = [
                each
                for each in relations_of(submission.set)
                if each.type in REPLACING
                and each.source == document.entry.id
                and each.target in submission.replaced
            ]
            header = self._headers.header(document.payload.read()) if mine else None
            said = header.related if header is not None else ()
            for each in mine:
                code, warning = _REPLACING[each.type]
                target = submission.replaced[each.target]
                if not any(code == one and same_document(target, other) for one, other in said):
                    context = (
                        f"document {document.entry.unique_id} does not name {target} as the one "
                        f"that it replaces (relatedDocument, {code}): it is deprecated in the "
                        "registry, while the record goes by the document"
                    )
                    problems.append(Problem(warning, context, document.entry.id, warning=True))
        return problems


_REPLACING = {
    REPLACES: ("RPLC", "PartialReplaceContentNotProcessed"),
    TRANSFORMS_AND_REPLACES: ("RPLC", "PartialTransformReplaceNotProcessed"),
}


def attributes_of(
    submission: Submission, entry: DocumentEntry | None, origin: From
) -> dict[str, str]:
    """What a message says of the submission that it came in."""
    found = {"transaction": "ITI-41", "submission_set": submission.set.unique_id}
    if origin.message_id:
        found["soap_message"] = origin.message_id
    if entry is not None:
        found["document_entry"] = entry.id
        relations = [
            f"{each.type.rpartition(':')[2]} {submission.replaced.get(each.target, '')}".strip()
            for each in relations_of(submission.set)
            if each.source == entry.id
        ]
        if relations:
            found["relations"] = "; ".join(relations)
    return {name: value[:_IDENTIFIER_MAX] for name, value in found.items()}


def outcome(
    submission: Submission, received: Sequence[Received], receipts: Sequence[Receipt]
) -> list[Problem]:
    """The errors and warnings of the answer, once everything is committed."""
    problems = []
    for document, one, receipt in zip(submission.documents, received, receipts, strict=True):
        if one.refusal is not None:
            problems.append(
                Problem(
                    "XDSExtraMetadataNotSaved",
                    f"document {document.entry.unique_id} is no CDA: it is kept, but not "
                    "registered, and no query finds it",
                    document.entry.id,
                    warning=True,
                )
            )
        elif receipt.disposition is Disposition.REFUSED:
            cause = receipt.cause or Cause(code=CauseCode.INTERNAL)
            reused = cause.code is CauseCode.CONTROL_ID_REUSED
            problems.append(
                Problem(
                    "XDSNonIdenticalHash" if reused else "XDSRepositoryError",
                    cause.detail or str(cause.code),
                    document.entry.id,
                )
            )
    return problems


def problem_of(refused: Refused) -> Problem:
    """A refusal as an error of the answer, with the sender's own value in it."""
    shown = f": {refused.value}" if refused.value else ""
    return Problem(
        refused.cause.protocol_code or "XDSRepositoryError",
        f"{refused.detail}{shown}",
        refused.cause.location,
    )
