"""Storage commitment push model, as SCP (PS3.4 annex J).

A request is kept before it is answered. Its result goes to the sender's own address on an
association that we open, in the role of the SCP, and is tried again until it was taken.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from adapters.dicom.command import ACTION_TYPE, Command, Status
from adapters.dicom.dataset import Level
from adapters.dicom.elements import encoding_of
from adapters.dicom.finder import FindRefused, find
from adapters.dicom.identification import is_uid
from adapters.dicom.ledger import (
    CommitmentRequest,
    CommitmentResults,
    Held,
    LedgerUnavailable,
    StudyLedger,
)
from adapters.dicom.loading import load_pynetdicom
from adapters.dicom.references import (
    FAULTS,
    INSTANCES_MAX,
    REFERENCED_CLASS,
    REFERENCED_INSTANCE,
    element,
    read_level,
    reference,
    references,
    sequence,
)
from adapters.dicom.settings import DicomPeerSettings, DicomSourceSettings
from gateway.ports import Clock

log = logging.getLogger("ecluse.dicom")

SOP_CLASS = "1.2.840.10008.1.20.1"
SOP_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known instance (PS3.4 J.3.5)."""

TRANSACTION_UID, REFERENCED, FAILED = 0x00081195, 0x00081199, 0x00081198
FAILURE_REASON = 0x00081197
REQUEST_ACTION = 1
ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event types of PS3.4 table J.3-3."""

NO_SUCH_INSTANCE, CLASS_CONFLICT, RESOURCE_LIMITATION = 0x0112, 0x0119, 0x0213
"""Failure reasons (PS3.3 C.14.1.1)."""

PROCESSING_FAILURE, INVALID_VALUE = 0x0110, 0x0115
NO_SUCH_EVENT, NO_SUCH_ACTION = 0x0113, 0x0123
DUPLICATE_TRANSACTION = 0x0131
NOT_AUTHORIZED = 0x0124

EVERY_SECONDS = 1.0
"""How often requests are looked for whose answer is due."""


@dataclass(frozen=True, slots=True)
class Asking:
    """An N-ACTION or N-EVENT-REPORT: its data set and the syntax of it, who asks, and by which
    title of ours."""

    data_set: bytes
    transfer_syntax: str
    peer: str
    own_title: str


def asked(ledger: StudyLedger, request: Command, asking: Asking, clock: Clock) -> Status:
    """Keep what an N-ACTION asks for; its status.

    Success means that the request is kept, nothing more (PS3.4 J.3.2.4). Raises
    LedgerUnavailable.
    """
    if request.number(ACTION_TYPE) != REQUEST_ACTION:
        return Status(NO_SUCH_ACTION)
    if request.sop_instance != SOP_INSTANCE:
        return Status(NO_SUCH_INSTANCE)
    try:
        level = read_level(asking.data_set, asking.transfer_syntax)
        uid, instances = level.text(TRANSACTION_UID), references(level.items(REFERENCED))
    except FAULTS:
        return Status(PROCESSING_FAILURE, "the data set cannot be read")
    if not is_uid(uid) or not instances or len(instances) > INSTANCES_MAX:
        return Status(INVALID_VALUE, "no Transaction UID, or no instances, or too many")
    if not all(is_uid(each) for pair in instances for each in pair):
        return Status(INVALID_VALUE, "a reference holds what is no UID")
    kept = ledger.ask_commitment(
        CommitmentRequest(
            transaction_uid=uid,
            peer=asking.peer,
            own_title=asking.own_title,
            instances=tuple(dict.fromkeys(instances)),
            created_at=clock.now(),
        )
    )
    return Status(0) if kept else Status(DUPLICATE_TRANSACTION, "the Transaction UID is known")


def told(ledger: CommitmentResults, kind: int, asking: Asking) -> Status:
    """Note the result of a request that we made (N-EVENT-REPORT of an event type ``kind``); the
    status of the answer.

    Of what the peer says neither that it is committed nor that it is not, nothing is taken for
    committed, but for an event without any failure that lists no instance at all. Raises what
    ``ledger`` raises.
    """
    if kind not in {ALL_COMMITTED, FAILURES_EXIST}:
        return Status(NO_SUCH_EVENT)
    try:
        level = read_level(asking.data_set, asking.transfer_syntax)
        uid = level.text(TRANSACTION_UID)
        good = [instance for _, instance in references(level.items(REFERENCED))]
        failed = [
            (item.text(REFERENCED_CLASS), item.text(REFERENCED_INSTANCE), _reason(item))
            for item in level.items(FAILED)
        ]
    except FAULTS:
        return Status(PROCESSING_FAILURE, "the data set cannot be read")
    everything = kind == ALL_COMMITTED and not good and not failed
    if len(failed) > INSTANCES_MAX or not ledger.commitment_answered(
        uid, asking.peer, failed, committed=None if everything else good
    ):
        return Status(PROCESSING_FAILURE, "no such request was made")
    return Status(0)


def _reason(item: Level) -> str:
    raw = item.raw(FAILURE_REASON) or b""
    two = raw[:2] if not item.encoding.little else raw[1::-1]
    return f"0x{int.from_bytes(two, 'big'):04X}"


def result(
    request: CommitmentRequest, held: Mapping[str, Held], *, delivered: bool, patient: bool
) -> tuple[list[tuple[str, str]], list[tuple[str, str, int]]] | None:
    """What is committed, and what not with its failure reason; None: it is too early to say.

    With ``delivered`` only what every destination has is committed, else what is kept here.
    ``patient``: what is not there yet may still come.
    """
    good: list[tuple[str, str]] = []
    bad: list[tuple[str, str, int]] = []
    for sop_class, uid in request.instances:
        found = held.get(uid)
        if found is None or not (delivered or found.kept):
            bad.append((sop_class, uid, NO_SUCH_INSTANCE))
        elif found.sop_class != sop_class:
            bad.append((sop_class, uid, CLASS_CONFLICT))
        elif delivered and not found.delivered:
            if patient:
                return None
            bad.append((sop_class, uid, RESOURCE_LIMITATION))
        else:
            good.append((sop_class, uid))
    return good, bad


def event_report(
    request: CommitmentRequest,
    good: Sequence[tuple[str, str]],
    bad: Sequence[tuple[str, str, int]],
    transfer_syntax: str,
) -> tuple[int, bytes]:
    """Event type and data set of the N-EVENT-REPORT: every instance is listed (J.3.3)."""
    encoding = encoding_of(transfer_syntax)
    body = element(encoding, TRANSACTION_UID, "UI", request.transaction_uid)
    if bad:
        items = [reference(encoding, *each) for each in bad]
        body += sequence(encoding, FAILED, items)
    if good:
        items = [reference(encoding, *each) for each in good]
        body += sequence(encoding, REFERENCED, items)
    return (FAILURES_EXIST if bad else ALL_COMMITTED), body


class Reporter:
    """The thread that tells senders what is committed, and asks them what a study has. One
    for each source."""

    def __init__(
        self,
        settings: Callable[[], DicomSourceSettings],
        ledger: StudyLedger,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._count = count
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dicom-commitment", daemon=True)
        self._complained = False

    def start(self) -> None:
        """Begin to look for requests."""
        self._thread.start()

    def stop(self) -> None:
        """End after the report in hand. Blocks; idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_SECONDS):
            try:
                for request in self._ledger.due_commitments():
                    if self._stopped.is_set():
                        return
                    self._answered(request)
                self._count_studies()
                self._complained = False
            except LedgerUnavailable:
                # It is tried again; the journal's own state is told elsewhere.
                if not self._complained:
                    log.warning("%s: commitments wait for the journal", self._settings().name)
                self._complained = True

    def _answered(self, request: CommitmentRequest) -> None:
        """Answer a request. A fault of ours costs this attempt only, and not the requests after it.

        Raises LedgerUnavailable.
        """
        try:
            self._answer(request)
        except LedgerUnavailable:
            raise
        except Exception:  # noqa: BLE001  the thread tells all senders, for as long as we run
            fault = type(sys.exception()).__name__
            name = self._settings().name
            log.error("%s: telling a commitment failed (%s)", name, fault)  # noqa: TRY400
            self._count("faults")
            self._ledger.commitment_later(request, attempted=True)

    def _count_studies(self) -> None:
        """Ask the source which instances a study has that has become quiet."""
        settings = self._settings()
        peer = next((p for p in settings.peers if p.ae_title == settings.count_at), None)
        if peer is None:
            return
        for study in self._ledger.uncounted():
            if self._stopped.is_set():
                return
            found: list[str] = []
            try:
                keys = {"StudyInstanceUID": study}
                for each in find(peer, settings.ae_title, "IMAGE", keys):
                    if each.get("StudyInstanceUID", study) == study:
                        found.append(each.get("SOPInstanceUID", ""))
            except Exception as error:  # noqa: BLE001  whatever a peer answers, the thread goes on
                # The study goes on by its quiet time; it is asked again after what comes next.
                # Of a refusal the status alone: its comment may name the patient.
                why = error.status if isinstance(error, FindRefused) else type(error).__name__
                self._count("counts-failed")
                log.warning("%s: a study cannot be counted: %s", settings.name, why)
                continue
            self._count("counts")
            self._ledger.counted(study, [uid for uid in found if is_uid(uid)])

    def _answer(self, request: CommitmentRequest) -> None:
        settings = self._settings()
        held = self._ledger.held([uid for _, uid in request.instances])
        waited = self._clock.now() - request.created_at
        patience = timedelta(seconds=settings.commitment_wait_seconds)
        found = result(
            request, held, delivered=settings.commitment == "delivered", patient=waited < patience
        )
        if found is None:
            self._ledger.commitment_later(request, attempted=False)
            return
        peer = next((p for p in settings.peers if p.ae_title == request.peer and p.connect), None)
        if peer is not None and self._tell(peer, request, *found):
            self._count("commitments-failed" if found[1] else "commitments-told")
            self._ledger.commitment_told(request)
            return
        self._count("commitment-attempts-failed")
        self._ledger.commitment_later(request, attempted=True)

    def _tell(
        self,
        peer: DicomPeerSettings,
        request: CommitmentRequest,
        good: Sequence[tuple[str, str]],
        bad: Sequence[tuple[str, str, int]],
    ) -> bool:
        """One association, in which we are the SCP of the commitment; whether it was taken."""
        load_pynetdicom()
        from pydicom.uid import UID

        from adapters.dicom.outgoing import associate

        try:
            with associate(peer, request.own_title, [SOP_CLASS], provides=True) as association:
                context = next(iter(association.accepted_contexts))
                syntax = UID(context.transfer_syntax[0])
                kind, body = event_report(request, good, bad, str(syntax))
                status = _report(association, context.context_id, kind, body)
        except ConnectionError as error:
            log.warning("%s: a commitment cannot be told: %s", self._settings().name, error)
            return False
        return status == 0


def _report(association: Any, context_id: int, kind: int, body: bytes) -> int:
    """Send the N-EVENT-REPORT with a data set that is encoded already; the answer's status."""
    from io import BytesIO

    load_pynetdicom()
    from pynetdicom.dimse_primitives import N_EVENT_REPORT

    from adapters.dicom.outgoing import answers_are_ours

    primitive = N_EVENT_REPORT()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = SOP_CLASS
    primitive.AffectedSOPInstanceUID = SOP_INSTANCE
    primitive.EventTypeID = kind
    primitive.EventInformation = BytesIO(body)
    with answers_are_ours(association):
        association.dimse.send_msg(primitive, context_id)
        _, answer = association.dimse.get_msg(block=True)
    status = getattr(answer, "Status", None)
    if status is None:
        raise ConnectionError("no answer to N-EVENT-REPORT")
    return int(status)
