"""Retrieve as SCP: C-MOVE and C-GET of what is held (PS3.4 annex C.4.2, C.4.3).

Objects go as they are kept. One that its receiver does not take so is decompressed where that
loses nothing. Objects are moved to peers of the configuration only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from adapters.dicom.caller import Caller
from adapters.dicom.command import (
    C_MOVE_RQ,
    COMPLETED,
    FAILED,
    MOVE_DESTINATION,
    REMAINING,
    WARNING,
    Command,
    Status,
    response,
)
from adapters.dicom.elements import encoding_of
from adapters.dicom.find_service import CANCELLED, PENDING
from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.holdings import (
    PAGE_MAX,
    HeldInstance,
    Holdings,
    HoldingsUnavailable,
    QueryLevel,
    UnknownKey,
)
from adapters.dicom.identifier import Asked, NoIdentifier, read_asked
from adapters.dicom.negotiation import AcceptedContext
from adapters.dicom.part10 import FileMeta, NotPart10, read_file_meta
from adapters.dicom.query import level_of
from adapters.dicom.references import element
from adapters.dicom.rewriting import CannotRewrite, Rewriter
from adapters.dicom.sender import ACCEPTED, Originator, Outgoing
from adapters.dicom.settings import DicomPeerSettings, DicomSourceSettings
from adapters.dicom.storing import PLAIN, NotAssociated, StoreLine

log = logging.getLogger("ecluse.dicom")

FAILED_LIST = 0x00080058
MATCHES_UNKNOWN, SUBOPERATIONS_FAILED, DESTINATION_UNKNOWN = 0xA701, 0xA702, 0xA801
MISMATCH, UNABLE, SOME_FAILED = 0xA900, 0xC000, 0xB000
"""Statuses of C-MOVE and C-GET (PS3.4 tables C.4-2 and C.4-3)."""

INSTANCES_MAX = 20_000
"""Objects of one request; the counters of the protocol end at 65,535."""
UIDS_MAX = 500
TELL_SECONDS = 1.0
"""At most once in this time a caller is told how far it is."""
CONTEXTS_AT_ONCE = 40
"""Classes and syntaxes that are asked for at once, each with the plain syntaxes beside it."""

_UNIQUE = {
    QueryLevel.STUDY: "StudyInstanceUID",
    QueryLevel.SERIES: "SeriesInstanceUID",
    QueryLevel.IMAGE: "SOPInstanceUID",
}


class TooMany(Exception):
    """More objects than one request may have."""


@dataclass(slots=True)
class Account:
    """The sub-operations of one request."""

    remaining: int
    completed: int = 0
    warned: int = 0
    failed: list[str] = field(default_factory=list)

    def note(self, uid: str, status: int | None) -> None:
        """One sub-operation ended; None: it never had an answer."""
        self.remaining -= 1
        if status == 0:
            self.completed += 1
        elif status in ACCEPTED:
            self.warned += 1
        else:
            self.failed.append(uid)

    def counts(self, *, remaining: bool) -> dict[int, int | str]:
        """The counters of a response (PS3.7 9.1.4.1)."""
        found: dict[int, int | str] = {
            COMPLETED: self.completed, FAILED: len(self.failed), WARNING: self.warned,
        }  # fmt: skip
        return {REMAINING: self.remaining, **found} if remaining else found

    def final(self) -> Status:
        """The status of all of it (PS3.4 C.4.2.1.5)."""
        if not self.failed and not self.warned:
            return Status(0)
        if self.failed and not self.completed and not self.warned:
            return Status(SUBOPERATIONS_FAILED, "none of the objects could be sent")
        return Status(SOME_FAILED)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A request, who made it, and in which context."""

    caller: Caller
    request: Command
    context: AcceptedContext

    def tell(
        self, status: Status, values: dict[int, int | str] | None = None, body: bytes = b""
    ) -> None:
        """Send a response. Raises OSError."""
        if status.code != PENDING:
            kind = "move" if self.request.field == C_MOVE_RQ else "get"
            self.caller.count(f"{kind}-{status.code:04x}")
        word = response(self.request, status, values, has_data_set=bool(body))
        self.caller.answer(self.context, word, body)


def _ending(asking: _Asking) -> Status | None:
    """Why the rest is not sent; None when it is."""
    if asking.caller.cancelled(asking.request.message_id):
        return Status(CANCELLED)
    return Status(SUBOPERATIONS_FAILED, "the source stops") if asking.caller.stopping else None


Send = Callable[[HeldInstance], int | None]
"""Sends one object; its status, None when there is none."""


class RetrieveProvider:
    """Answers C-MOVE and C-GET. Thread-safe."""

    def __init__(self, settings: DicomSourceSettings, holdings: Holdings) -> None:
        self._settings = settings
        self._holdings = holdings
        self._rewriter = Rewriter((), settings.rewritten_bytes_max)

    def move(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> None:
        """Answer a C-MOVE. Raises CommandError, OSError."""
        asking = _Asking(caller, request, context)
        title = request.text(MOVE_DESTINATION)
        peer = next((p for p in self._settings.peers if p.ae_title == title and p.connect), None)
        if peer is None:
            said = "the move destination is no peer with an address"
            asking.tell(Status(DESTINATION_UNKNOWN, said))
            return
        found = self._instances(asking, data_set)
        if found is None:
            return
        line = StoreLine(self._as_destination(peer))
        originator = Originator(caller.calling, request.message_id)
        seconds = self._settings.retrieve_timeout_seconds
        sending = _Sending(self._holdings, self._rewriter, seconds)
        try:
            self._run(asking, found, _Moving(line, sending, originator, found))
        finally:
            line.close()

    def get(
        self, caller: Caller, request: Command, context: AcceptedContext, data_set: bytes
    ) -> None:
        """Answer a C-GET. Raises CommandError, OSError."""
        asking = _Asking(caller, request, context)
        found = self._instances(asking, data_set)
        if found is not None:
            self._run(asking, found, lambda each: self._get_one(caller, each))

    def _as_destination(self, peer: DicomPeerSettings) -> StorageSettings:
        return StorageSettings(
            type="dicom", connect=peer.connect, ae_title=peer.ae_title,
            own_title=self._settings.ae_title, tls=peer.tls, keep_seconds=0.0,
            timeout_seconds=self._settings.retrieve_timeout_seconds,
        )  # fmt: skip

    # --- which objects ----------------------------------------------------------------

    def _instances(self, asking: _Asking, data_set: bytes) -> list[HeldInstance] | None:
        """The objects that are asked for; None when the request was answered with a refusal."""
        try:
            asked = read_asked(data_set, asking.context.transfer_syntax)
            level = level_of(asking.context.abstract_syntax, asked.level)
            return self._wanted(level, asked)
        except (NoIdentifier, UnknownKey):
            status = Status(MISMATCH, "a level and its unique keys are needed")
        except TooMany:
            status = Status(MATCHES_UNKNOWN, f"more than {INSTANCES_MAX} objects")
        except HoldingsUnavailable:
            log.warning("%s: the journal cannot be asked", self._settings.name)
            status = Status(MATCHES_UNKNOWN, "the index cannot be asked now")
        asking.tell(status)
        return None

    def _wanted(self, level: QueryLevel, asked: Asked) -> list[HeldInstance]:
        patient = asked.keys.get("PatientID", "")
        if level is QueryLevel.PATIENT:
            if not patient or any(each in patient for each in "*?\\"):
                raise NoIdentifier("the level PATIENT needs one PatientID")
            studies = self._studies({"PatientID": patient})
            return self._collected({"study": each} for each in studies)
        uids = _uids(asked.keys.get(_UNIQUE[level], ""))
        if not uids:
            raise NoIdentifier("the unique key of the level is needed")
        above = {
            "study": _uids(asked.keys.get("StudyInstanceUID", "")),
            "series": _uids(asked.keys.get("SeriesInstanceUID", "")),
        }
        if patient:
            # In the Patient Root model a study is one of that patient.
            keys = {"PatientID": patient}
            if above["study"]:
                keys["StudyInstanceUID"] = "\\".join(above["study"])
            above["study"] = self._studies(keys)
            uids = [each for each in above["study"] if level is QueryLevel.STUDY] or uids
            if not above["study"]:
                return []
        if level is QueryLevel.STUDY:
            return self._collected({"study": each} for each in (above["study"] or uids))
        named = {} if level is QueryLevel.SERIES else _one(above, "series")
        name = "series" if level is QueryLevel.SERIES else "instance"
        within = _one(above, "study")
        return [
            each
            for each in self._collected({**within, **named, name: uid} for uid in uids)
            if not above["study"] or each.study in above["study"]
        ]

    def _studies(self, keys: dict[str, str]) -> list[str]:
        found: list[str] = []
        while True:
            some = self._holdings.find(QueryLevel.STUDY, keys, limit=PAGE_MAX, offset=len(found))
            found += [each.study for each in some]
            if len(found) > INSTANCES_MAX:
                raise TooMany
            if len(some) < PAGE_MAX:
                return found

    def _collected(self, asked: Iterator[dict[str, str]]) -> list[HeldInstance]:
        found: dict[str, HeldInstance] = {}
        for keys in asked:
            offset = 0
            while True:
                some = self._holdings.instances(**keys, limit=PAGE_MAX, offset=offset)
                found |= {each.sop_instance: each for each in some}
                if len(found) > INSTANCES_MAX:
                    raise TooMany
                if len(some) < PAGE_MAX:
                    break
                offset += len(some)
        return list(found.values())

    # --- sending ----------------------------------------------------------------------

    def _run(self, asking: _Asking, found: list[HeldInstance], send: Send) -> None:
        """The sub-operations, one after the other, with a word on them from time to time."""
        account, told = Account(len(found)), float("-inf")
        for each in found:
            ending = _ending(asking)
            if ending is not None:
                self._end(asking, account, ending, remaining=True)
                return
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                asking.tell(Status(PENDING), account.counts(remaining=True))
            account.note(each.sop_instance, send(each))
        self._end(asking, account, account.final(), remaining=False)

    def _end(self, asking: _Asking, account: Account, status: Status, *, remaining: bool) -> None:
        body = b""
        if account.failed:
            encoding = encoding_of(asking.context.transfer_syntax)
            body = element(encoding, FAILED_LIST, "UI", _listed(account.failed))
        asking.tell(status, account.counts(remaining=remaining), body)

    def _get_one(self, caller: Caller, instance: HeldInstance) -> int | None:
        contexts = caller.storing(instance.sop_class)
        if not contexts:
            return None
        try:
            outgoing = outgoing_of(self._holdings, instance)
            stored = outgoing.meta.transfer_syntax
            context = next((each for each in contexts if each.transfer_syntax == stored), None)
            if context is None:
                context = next((each for each in contexts if each.transfer_syntax in PLAIN), None)
                if context is None:
                    return None
                outgoing = self._rewriter.decompressed(outgoing, context.transfer_syntax)
        except (KeyError, OSError, NotPart10, CannotRewrite, HoldingsUnavailable):
            # It counts as failed, and is named in the list of those.
            return None
        return caller.store(context, outgoing)


@dataclass(frozen=True, slots=True)
class _Sending:
    """What is sent from, and how long one object may take."""

    holdings: Holdings
    rewriter: Rewriter
    seconds: float


class _Moving:
    """The sub-operations of one C-MOVE: one association, or another when it ends."""

    def __init__(
        self,
        line: StoreLine,
        sending: _Sending,
        originator: Originator,
        found: list[HeldInstance],
    ) -> None:
        self._line = line
        self._sending = sending
        self._originator = originator
        self._contexts = frozenset((each.sop_class, each.transfer_syntax) for each in found)
        self._lost = False

    def __call__(self, instance: HeldInstance) -> int | None:
        """Send one object; its status."""
        if self._lost:
            return None
        try:
            outgoing = outgoing_of(self._sending.holdings, instance)
            wanted = frozenset({(instance.sop_class, outgoing.meta.transfer_syntax)})
            few = self._contexts if len(self._contexts) <= CONTEXTS_AT_ONCE else frozenset()
            self._line.stand(wanted | few, self._sending.seconds)
            context = self._line.context(instance.sop_class, outgoing.meta.transfer_syntax)
            for plain in PLAIN:
                if context is None:
                    context = self._line.context(instance.sop_class, plain)
                    if context is not None:
                        outgoing = self._sending.rewriter.decompressed(outgoing, plain)
            if context is None:
                return None
            sent = self._line.store(outgoing, context, self._sending.seconds, self._originator)
        except NotAssociated as error:
            # The others would fail for the same reason, each after a timeout.
            log.warning("a move destination: %s", error)
            self._lost = True
            return None
        except (KeyError, OSError, NotPart10, CannotRewrite, HoldingsUnavailable):
            return None
        return sent.status


def outgoing_of(holdings: Holdings, instance: HeldInstance) -> Outgoing:
    """An object as it is kept. Raises KeyError, NotPart10, HoldingsUnavailable."""
    payload = holdings.payload(instance)
    with payload.open() as stream:
        meta = read_file_meta(stream, payload.size)
    return Outgoing(
        payload.path or Path(),
        FileMeta(
            instance.sop_class, instance.sop_instance, meta.transfer_syntax, meta.data_set_offset
        ),
        payload.data,
    )


def _uids(text: str) -> list[str]:
    found = [each.strip(" \0") for each in text.split("\\") if each.strip(" \0")]
    if len(found) > UIDS_MAX or any(set(each) - set("0123456789.") for each in found):
        raise NoIdentifier("a list of UIDs is expected, without wildcards")
    return found


def _one(above: dict[str, list[str]], name: str) -> dict[str, str]:
    return {name: above[name][0]} if len(above[name]) == 1 else {}


def _listed(uids: list[str]) -> str:
    """As many of the UIDs as fit into one element of explicit VR (PS3.5 7.1.2)."""
    kept: list[str] = []
    length = 0
    for uid in uids:
        length += len(uid) + 1
        if length > 0xFFFE:
            break
        kept.append(uid)
    return "\\".join(kept)
