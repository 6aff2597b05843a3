"""One C-STORE from its first byte to its status (PS3.4 annex B).

Success is said only after intake has committed. Everything that was fully
received and is refused for what it is, is kept as evidence.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from adapters.dicom.command import COMMENT_CHARACTERS_MAX, Status
from adapters.dicom.identification import Authorities, Identification, identify, is_uid
from adapters.dicom.ledger import LedgerUnavailable, StudyLedger
from adapters.dicom.part10 import file_head
from adapters.dicom.spool import SpoolFile, SpoolFolder
from gateway.model import Cause, CauseCode, Disposition, Format, Payload, Receipt, Received
from gateway.ports import Clock, Intake, IntakeUnavailable, KeepsBytes

log = logging.getLogger("ecluse.dicom")

SUCCESS = 0x0000
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
IDENTIFIER_MISSING = 0xC001
OTHER_STUDY = 0xC002
"""Statuses of PS3.4 table B.2-1, PS3.7 annex C and PS3.18 table I.2-2; 0xC001 and 0xC002 are our
own in the Cxxx range."""

FREE_SPACE_EVERY_BYTES = 64 << 20
"""How often the free space is looked at while one object comes in."""

_NOTHING_KEPT = Status(OUT_OF_RESOURCES, "nothing could be kept")
_PERMISSION = frozenset({CauseCode.FEEDING_OPPOSED, CauseCode.RECORD_CLOSED})


class Endless(Exception):
    """The sender goes on far beyond the limit: the association is to be aborted."""


class StorageSettings(Protocol):
    """What storage asks of its source's settings, whichever the protocol."""

    @property
    def name(self) -> str: ...
    @property
    def quiet_seconds(self) -> float: ...
    @property
    def object_bytes_max(self) -> int: ...
    @property
    def free_bytes_min(self) -> int: ...
    @property
    def commit_timeout_seconds(self) -> float: ...
    @property
    def authorities(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What the C-STORE request and its association say, or a Store transaction of its part.

    ``study`` is the study to which the object must belong; empty: to any. ``service`` names
    another service than C-STORE.
    """

    sop_class: str
    sop_instance: str
    abstract_syntax: str
    transfer_syntax: str
    calling_aet: str
    called_aet: str
    peer: str
    study: str = ""
    service: str = ""


@dataclass(slots=True)
class Incoming:
    """One object coming in. ``refusal`` is set when its bytes are not being kept."""

    request: Request
    object_bytes_max: int
    file: SpoolFile | None = None
    head_bytes: int = 0
    received: int = 0
    refusal: Status | None = None
    unchecked: int = 0
    study: str = ""
    """The study to which it seems to belong: that of the one before it on its association."""
    series: str = ""
    """The series to which it belongs, once it is kept."""
    told_at: float = 0.0

    def discard(self) -> None:
        """Forget the object. Safe at any time, from any thread, more than once."""
        file, self.file = self.file, None
        if file is not None:
            file.discard()


class Storage:
    """Takes objects for one source. Thread-safe; each object belongs to one association."""

    def __init__(
        self,
        settings: StorageSettings,
        intake: Intake,
        clock: Clock,
        folder: SpoolFolder,
        ledger: StudyLedger | None = None,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._keeps = intake if isinstance(intake, KeepsBytes) else None
        self._clock = clock
        self._folder = folder
        self._ledger = ledger
        self._tell_every = settings.quiet_seconds / 3
        self._authorities = Authorities(settings.authorities, settings.authorities.get("", ""))

    def begin(self, request: Request, study: str = "") -> Incoming:
        """Open a file for an object. Never raises: an object that cannot be kept has a refusal.

        ``study`` is that of the object before it: while this one takes long to arrive, that
        study is not quiet.
        """
        incoming = Incoming(request, self._settings.object_bytes_max, study=study)
        incoming.told_at = time.monotonic()
        try:
            if self._folder.free_bytes() < self._settings.free_bytes_min:
                self._refuse(incoming, "the disk is nearly full")
                return incoming
            incoming.file = self._folder.new()
            head = file_head(request.sop_class, request.sop_instance, request.transfer_syntax)
            incoming.file.write(head)
            incoming.head_bytes = len(head)
        except OSError as error:
            self._refuse(incoming, "the disk takes nothing", error)
        return incoming

    def take(self, incoming: Incoming, data: memoryview) -> None:
        """Append a fragment. Raises Endless when far more comes than is ever kept."""
        incoming.received += len(data)
        if incoming.study and time.monotonic() - incoming.told_at > self._tell_every:
            self._arriving(incoming)
        if incoming.refusal is not None:
            if incoming.received > 2 * incoming.object_bytes_max:
                raise Endless
            return
        if incoming.received > incoming.object_bytes_max:
            self._refuse(incoming, "larger than this system takes")
            return
        incoming.unchecked += len(data)
        try:
            if incoming.unchecked >= FREE_SPACE_EVERY_BYTES:
                incoming.unchecked = 0
                if self._folder.free_bytes() < self._settings.free_bytes_min:
                    self._refuse(incoming, "the disk is nearly full")
                    return
            if incoming.file is not None:
                incoming.file.write(data)
        except OSError as error:
            self._refuse(incoming, "the disk takes nothing", error)

    def _arriving(self, incoming: Incoming) -> None:
        incoming.told_at = time.monotonic()
        if self._ledger is None:
            return
        try:
            self._ledger.arriving(incoming.study)
        except LedgerUnavailable:
            log.warning("%s: a study that still arrives cannot be put off", self._settings.name)

    def _arrived(self, study: str, instance: str) -> None:
        """The instance is kept: was it the last that its study waited for?"""
        if self._ledger is None:
            return
        try:
            self._ledger.arrived(study, instance)
        except LedgerUnavailable:
            # It is kept all the same; the study goes on when its time is over.
            log.warning("%s: a study's evidence cannot be looked at", self._settings.name)

    def complete(self, incoming: Incoming) -> Status:
        """Commit a whole object and give its status. Blocks until the journal has it."""
        if incoming.refusal is not None:
            return incoming.refusal
        try:
            return self._complete(incoming)
        except OSError as error:
            self._refuse(incoming, "the disk takes nothing", error)
            return Status(OUT_OF_RESOURCES, "the disk takes nothing")
        finally:
            incoming.discard()

    def _complete(self, incoming: Incoming) -> Status:
        file = incoming.file
        if file is None:
            return Status(OUT_OF_RESOURCES)
        file.flush()  # and read it meanwhile
        with file.open() as stream:
            identification = identify(
                stream,
                incoming.head_bytes,
                file.size,
                incoming.request.transfer_syntax,
                self._authorities,
            )
        status, refusal = _verdict(incoming.request, identification)
        payload = file.finish()
        if self._keeps is not None:
            try:
                payload = self._keeps.keep(payload, flushed=True)
            except IntakeUnavailable:
                return _NOTHING_KEPT
        # From here on the file is intake's; whatever it leaves behind goes with the receipt.
        incoming.file = None
        answer = self._submit(
            self._received(incoming.request, identification, refusal, payload), file
        )
        if answer is None:
            return _NOTHING_KEPT
        if answer.disposition is not Disposition.REFUSED:
            incoming.study, incoming.series = identification.study, identification.series
            self._arrived(identification.study, incoming.request.sop_instance)
            return Status(SUCCESS)
        if refusal is not None:
            return status
        return _refused(answer.cause)

    def keep_refused(self, data: bytes, cause: Cause, peer: str, service: str) -> None:
        """Keep the beginning of what is no object at all, as evidence."""
        received = Received(
            source=self._settings.name,
            format=Format.DICOM,
            payload=Payload.from_bytes(data),
            received_at=self._clock.now(),
            peer=peer,
            refusal=cause,
            attributes={"service": service},
        )
        try:
            self._intake.submit(received).result(timeout=self._settings.commit_timeout_seconds)
        except (IntakeUnavailable, TimeoutError):
            # It is refused all the same, and its sender knows.
            log.warning("%s: what was refused could not be kept", self._settings.name)

    def _submit(self, received: Received, file: SpoolFile) -> Receipt | None:
        """Intake's receipt; None when nothing was kept, or nobody can say yet that it was."""
        try:
            receipt = self._intake.submit(received)
        except BaseException:
            file.discard()
            raise
        if received.payload.path == file.path:
            receipt.add_done_callback(lambda _: file.discard())
        try:
            return receipt.result(timeout=self._settings.commit_timeout_seconds)
        except IntakeUnavailable:
            return None
        except TimeoutError:
            # The object may still be kept; sent again it will be a duplicate.
            log.warning("%s: the journal did not answer in time", self._settings.name)
            return None

    def _received(
        self,
        request: Request,
        found: Identification,
        refusal: Cause | None,
        payload: Payload,
    ) -> Received:
        attributes = {
            "transfer_syntax": request.transfer_syntax,
            "calling_aet": request.calling_aet,
            "called_aet": request.called_aet,
        }
        if request.service:
            attributes = {
                "transfer_syntax": request.transfer_syntax, "service": request.service,
            }  # fmt: skip
        if found.irregular:
            attributes["irregular"] = found.irregular
        return Received(
            source=self._settings.name,
            format=Format.DICOM,
            payload=payload,
            received_at=self._clock.now(),
            peer=request.peer,
            control_id=request.sop_instance,
            kind=request.sop_class,
            group="" if refusal is not None else found.study,
            subject=found.subject,
            refusal=refusal,
            attributes=attributes,
        )

    def _refuse(self, incoming: Incoming, why: str, error: OSError | None = None) -> None:
        incoming.refusal = Status(OUT_OF_RESOURCES, why)
        incoming.discard()
        reason = f" ({error.strerror})" if error is not None else ""
        log.warning("%s: an object was refused: %s%s", self._settings.name, why, reason)


def _verdict(request: Request, found: Identification) -> tuple[Status, Cause | None]:
    """The status for what the object is, and the refusal under which it is kept."""
    if request.sop_class != request.abstract_syntax:
        return _refusal(
            SOP_CLASS_NOT_SUPPORTED,
            CauseCode.UNSUPPORTED_TYPE,
            "the request's SOP class is not that of its presentation context",
        )
    if not is_uid(request.sop_instance):
        return _refusal(
            CANNOT_UNDERSTAND,
            CauseCode.UNREADABLE,
            "the request's SOP Instance UID is no UID",
            "AffectedSOPInstanceUID",
        )
    if found.fault is not None:
        missing = found.fault.code is CauseCode.REQUIRED_FIELD_MISSING
        return _refusal(
            IDENTIFIER_MISSING if missing else CANNOT_UNDERSTAND,
            found.fault.code,
            found.fault.detail,
            found.fault.location,
        )
    for name, asked, said in (
        ("SOPClassUID", request.sop_class, found.sop_class),
        ("SOPInstanceUID", request.sop_instance, found.sop_instance),
    ):
        if asked != said:
            return _refusal(
                DOES_NOT_MATCH,
                CauseCode.CONTENT_MISMATCH,
                f"{name} of the data set is not that of the request",
                name,
            )
    if request.study and found.study != request.study:
        return _refusal(
            OTHER_STUDY,
            CauseCode.CONTENT_MISMATCH,
            "the data set belongs to another study than the request says",
            "StudyInstanceUID",
        )
    return Status(SUCCESS), None


def _refusal(
    status: int, code: CauseCode, detail: str, location: str = ""
) -> tuple[Status, Cause | None]:
    cause = Cause(code=code, detail=detail, location=location, protocol_code=f"0x{status:04X}")
    return Status(status, detail[:COMMENT_CHARACTERS_MAX]), cause


def _refused(cause: Cause | None) -> Status:
    """Intake's own refusal in DICOM's words."""
    if cause is not None and cause.code in _PERMISSION:
        return Status(NOT_AUTHORIZED, "the patient's record does not take it")
    return Status(CANNOT_UNDERSTAND, cause.detail[:COMMENT_CHARACTERS_MAX] if cause else "")
