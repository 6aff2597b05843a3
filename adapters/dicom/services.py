"""What an association is for: each request by its command and SOP class."""

from __future__ import annotations

import logging

from adapters.dicom import commitment, procedure_step
from adapters.dicom import worklist as worklist_service
from adapters.dicom.caller import Caller
from adapters.dicom.command import (
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    EVENT_TYPE,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_EVENT_REPORT_RQ,
    N_SET_RQ,
    Command,
    Status,
    response,
)
from adapters.dicom.holdings import Holdings
from adapters.dicom.ledger import LedgerUnavailable, StudyLedger
from adapters.dicom.negotiation import AcceptedContext
from adapters.dicom.query import FIND, GET, MOVE, PATIENT_ROOT, STUDY_ROOT, QueryProvider
from adapters.dicom.retrieve import RetrieveProvider
from adapters.dicom.settings import DicomSourceSettings
from adapters.dicom.storage import NOT_AUTHORIZED, SUCCESS, Storage
from adapters.dicom.syntaxes import UNCOMPRESSED, accepted_syntaxes
from adapters.dicom.worklist import Worklist, WorklistProvider
from gateway.ports import Clock

log = logging.getLogger("ecluse.dicom")

UNRECOGNIZED_OPERATION = 0x0211
PROCESSING_FAILURE = 0x0110
"""PS3.7 annex C.5."""

DATA_SET_BYTES_MAX = 4 << 20
"""A data set that comes with anything but C-STORE: 20,000 references take as much."""

PLAIN = UNCOMPRESSED[:3]

QUERY_CLASSES = tuple(
    root + operation for root in (PATIENT_ROOT, STUDY_ROOT) for operation in (FIND, MOVE, GET)
)
"""Query and retrieve, Patient Root and Study Root (PS3.4 C.6)."""


class Services:
    """The services of one source. Thread-safe.

    Without a ``ledger`` there is storage and verification only; without ``holdings`` neither
    query nor retrieve, without a ``worklist`` none.
    """

    def __init__(
        self,
        settings: DicomSourceSettings,
        storage: Storage,
        clock: Clock,
        ledger: StudyLedger | None = None,
        *,
        holdings: Holdings | None = None,
        worklist: Worklist | None = None,
    ) -> None:
        self.storage = storage
        self.data_set_bytes_max = DATA_SET_BYTES_MAX
        self._settings = settings
        self._clock = clock
        self._ledger = ledger
        self._query: QueryProvider | None = None
        self._retrieve: RetrieveProvider | None = None
        if holdings is not None and settings.query != "off":
            self._query = QueryProvider(settings, holdings)
            self._retrieve = RetrieveProvider(settings, holdings)
        self._worklist: WorklistProvider | None = None
        if worklist is not None and settings.worklist != "off":
            self._worklist = WorklistProvider(settings, worklist)
        self._commits = ledger is not None and settings.commitment != "off"

    def syntaxes(self) -> dict[str, tuple[str, ...]]:
        """The SOP classes that are taken, each with its transfer syntaxes."""
        settings = self._settings
        found = accepted_syntaxes(
            settings.sop_classes, settings.transfer_syntaxes, settings.transfer_syntaxes_by_class
        )
        if self._ledger is not None:
            found[procedure_step.SOP_CLASS] = PLAIN
            # With commitment off results of what we asked ourselves are taken all the same.
            found[commitment.SOP_CLASS] = PLAIN
        if self._query is not None:
            found |= dict.fromkeys(QUERY_CLASSES, PLAIN)
        if self._worklist is not None:
            found[worklist_service.SOP_CLASS] = PLAIN
        return found

    def provided_by_peers(self) -> frozenset[str]:
        """The SOP classes of which a caller may be the SCP: it takes objects by C-GET, and tells
        what it has committed."""
        told = {commitment.SOP_CLASS} if self._ledger is not None else set()
        if self._retrieve is None:
            return frozenset(told)
        settings = self._settings
        return frozenset(
            {
                *told,
                *accepted_syntaxes(settings.sop_classes, (), settings.transfer_syntaxes_by_class),
            }
        )

    def for_peers(self) -> frozenset[str]:
        """The SOP classes that only callers have whom ``peers`` names."""
        found = QUERY_CLASSES if self._settings.query == "peers" else ()
        listed = (worklist_service.SOP_CLASS,) if self._settings.worklist == "peers" else ()
        return frozenset((*found, *listed))

    def only_provided(self) -> frozenset[str]:
        """The SOP classes that are taken only where the caller is their SCP."""
        return frozenset() if self._commits else frozenset({commitment.SOP_CLASS})

    def serve(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> None:
        """Answer a request other than C-STORE. Raises CommandError, OSError."""
        if request.field == C_ECHO_RQ:
            caller.answer(context, response(request, Status(SUCCESS)))
            return
        if self._asked(caller, request, context, data_set):
            return
        values: dict[int, int | str] = {}
        try:
            status, uid = self._served(caller, request, context, data_set)
        except LedgerUnavailable:
            log.warning("%s: the journal cannot be asked", self._settings.name)
            status, uid = Status(PROCESSING_FAILURE, "nothing could be kept"), ""
        if uid:
            values = {AFFECTED_CLASS: context.abstract_syntax, AFFECTED_INSTANCE: uid}
        caller.answer(context, response(request, status, values))

    def _asked(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> bool:
        """Answer a query or a retrieval; false for any other request."""
        kind, query, retrieve = context.abstract_syntax, self._query, self._retrieve
        if kind == worklist_service.SOP_CLASS and self._worklist is not None:
            if request.field == C_FIND_RQ:
                self._worklist.serve(caller, request, context, data_set)
                return True
            return False
        if kind not in QUERY_CLASSES or query is None or retrieve is None:
            return False
        if request.field == C_FIND_RQ and kind.endswith(FIND):
            query.serve(caller, request, context, data_set)
        elif request.field == C_MOVE_RQ and kind.endswith(MOVE):
            retrieve.move(caller, request, context, data_set)
        elif request.field == C_GET_RQ and kind.endswith(GET):
            retrieve.get(caller, request, context, data_set)
        else:
            return False
        return True

    def _served(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> tuple[Status, str]:
        """The status, and the UID of the instance when the response must name it."""
        kind, ledger = context.abstract_syntax, self._ledger
        if ledger is not None and kind == procedure_step.SOP_CLASS:
            if request.field in (N_CREATE_RQ, N_SET_RQ):
                return procedure_step.serve(ledger, request, data_set, context.transfer_syntax)
        elif ledger is not None and kind == commitment.SOP_CLASS:
            asking = commitment.Asking(
                data_set, context.transfer_syntax, caller.calling, self._settings.ae_title
            )
            if request.field == N_EVENT_REPORT_RQ:
                return commitment.told(ledger, request.number(EVENT_TYPE), asking), ""
            if request.field != N_ACTION_RQ or not self._commits:
                return Status(UNRECOGNIZED_OPERATION), ""
            peers = self._settings.peers
            if not any(peer.ae_title == caller.calling and peer.connect for peer in peers):
                # What can never be told must not be promised.
                return Status(NOT_AUTHORIZED, "no address is known for this AE title"), ""
            return commitment.asked(ledger, request, asking, self._clock), ""
        return Status(UNRECOGNIZED_OPERATION), ""
