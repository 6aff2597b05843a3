"""One Store transaction (PS3.18 section 10.5): from its first block to what is said of each part.

Everything here blocks, and is called from threads: the body's blocks from one thread at a time,
while the parts that are whole wait for their commit in others, several at once.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from io import BytesIO

from adapters.dicom.ledger import LedgerUnavailable, StudyLedger
from adapters.dicom.part10 import META_BYTES_MAX, FileMeta, NotPart10, read_file_meta
from adapters.dicom.storage import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    Endless,
    Incoming,
    Request,
    Storage,
)
from adapters.dicom.web.multipart import PartBegins, PartData, PartReader, media_type
from gateway.model import Cause, CauseCode

log = logging.getLogger("ecluse.dicom")

SYNTAX_NOT_SUPPORTED = 0xC122
TOO_LARGE = 0xA701
TOO_MANY = 0xA702
"""PS3.18 table I.2-2; the last two are our own in the A7xx range."""
SERVICE = "STOW-RS"
COMMITS_AT_ONCE = 8
"""Parts of one request that wait for their commit at one time."""
_HEAD_BYTES = META_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one part. UIDs are empty when the part did not say them."""

    sop_class: str
    sop_instance: str
    status: int
    study: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a source takes, and its limits."""

    sop_classes: frozenset[str]
    transfer_syntaxes: frozenset[str]
    object_bytes_max: int
    instances_max: int
    request_is_study: bool


class Transaction:
    """One request. ``study`` is that of its address, if any. Its methods belong to one thread
    at a time; :meth:`close` may be called from any."""

    def __init__(
        self,
        storage: Storage,
        accepted: Accepted,
        commits: Executor,
        *,
        boundary: str | None,
        study: str,
        peer: str,
    ) -> None:
        """``boundary`` None: the body is one instance, without parts. Raises MalformedBody."""
        self.results: list[Stored | Future[Stored]] = []
        self.too_large = False
        self._storage, self._accepted, self._commits = storage, accepted, commits
        self._study, self._peer = study, peer
        self._reader = PartReader(boundary) if boundary is not None else None
        self._turns = threading.BoundedSemaphore(COMMITS_AT_ONCE)
        self._part: _Part | None = _Part(self) if boundary is None else None
        self._last_study = study
        self._broken = False

    def feed(self, block: bytes) -> None:
        """Take a block of the body. Raises MalformedBody."""
        if self._reader is None:
            assert self._part is not None
            self._part.take(memoryview(block))
            return
        for event in self._reader.feed(block):
            match event:
                case PartBegins(headers):
                    self._part = _Part(self, headers.get("content-type", ""))
                case PartData(data):
                    if self._part is not None:
                        self._part.take(data)
                case _:
                    self._end_part()

    def finish(self, *, cut: bool = False) -> list[Stored]:
        """The body is at its end: what became of each part, in their order. Waits for the
        commits. A part that is cut off counts as one that cannot be understood. ``cut``: there
        would have been more, so that one instance without parts is not whole, whatever it
        looks like."""
        if self._reader is None and cut:
            self._broken = True
            self.results.append(Stored("", "", CANNOT_UNDERSTAND))
        elif self._reader is None:
            self._end_part()
        elif not self._reader.whole:
            self._broken = True
            if self._reader.inside or self._part is not None:
                self.results.append(Stored("", "", CANNOT_UNDERSTAND))
        self.close()
        found = [each.result() if isinstance(each, Future) else each for each in self.results]
        self.results = list(found)
        return found

    def close(self) -> None:
        """Forget the part that has not ended. Idempotent."""
        part, self._part = self._part, None
        if part is not None:
            part.discard()

    def tell(self, ledger: StudyLedger, name: str) -> None:
        """Say of which studies this request brought everything. To be called after
        :meth:`finish`."""
        found = [each for each in self.results if isinstance(each, Stored)]
        whole = not self._broken and all(each.status == SUCCESS for each in found)
        if not self._accepted.request_is_study or not whole:
            return
        studies: dict[str, list[str]] = {}
        for each in found:
            studies.setdefault(each.study, []).append(each.sop_instance)
        reference = str(uuid.uuid4())
        for study, instances in studies.items():
            # Those that send one instance at a time have not said that it is all.
            if study and len(instances) > 1:
                try:
                    ledger.sent_together(study, f"{reference}:{study}", instances)
                except LedgerUnavailable:
                    # It goes on when it has been quiet for long enough.
                    log.warning("%s: a study's evidence cannot be kept", name)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.end()

    # --- what parts ask ---------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether there are as many instances as one request may have."""
        return len(self.results) >= self._accepted.instances_max

    def begin(self, meta: FileMeta) -> Incoming:
        """Open an object."""
        return self._storage.begin(
            Request(
                sop_class=meta.sop_class, sop_instance=meta.sop_instance,
                abstract_syntax=meta.sop_class, transfer_syntax=meta.transfer_syntax,
                calling_aet="", called_aet="", peer=self._peer, study=self._study,
                service=SERVICE,
            ),
            self._last_study,
        )  # fmt: skip

    def refused_at_once(self, meta: FileMeta) -> int:
        """The status of an object that is not taken for what it says of itself, else 0."""
        if self.full:
            return TOO_MANY
        if meta.sop_class not in self._accepted.sop_classes:
            return SOP_CLASS_NOT_SUPPORTED
        if meta.transfer_syntax not in self._accepted.transfer_syntaxes:
            return SYNTAX_NOT_SUPPORTED
        return 0

    def not_an_object(self, head: bytes, detail: str) -> None:
        """A part is no DICOM file: its beginning is kept as evidence."""
        cause = Cause(
            code=CauseCode.NOT_THE_FORMAT, detail=detail, protocol_code=f"0x{CANNOT_UNDERSTAND:04X}"
        )
        refused = Stored("", "", CANNOT_UNDERSTAND)
        if self.full:
            self.results.append(refused)
            return

        def keep() -> Stored:
            self._storage.keep_refused(head, cause, self._peer, SERVICE)
            return refused

        self.results.append(self._later(keep))

    def complete(self, incoming: Incoming) -> None:
        """A whole object: commit it, beside the others."""
        request = incoming.request
        large = incoming.received > self._accepted.object_bytes_max

        def commit() -> Stored:
            status = self._storage.complete(incoming)
            if status.code == SUCCESS:
                self._last_study = incoming.study
            code = TOO_LARGE if large and status.code == OUT_OF_RESOURCES else status.code
            return Stored(
                request.sop_class, request.sop_instance, code, incoming.study, incoming.series
            )

        self.too_large |= large
        self.results.append(self._later(commit))

    def _later(self, what: Callable[[], Stored]) -> Future[Stored]:
        self._turns.acquire()
        try:
            done = self._commits.submit(what)
        except BaseException:
            self._turns.release()
            raise
        done.add_done_callback(lambda _: self._turns.release())
        return done


class _Part:
    """One part: its beginning until the file meta information is whole, then an object."""

    def __init__(self, transaction: Transaction, content_type: str = "") -> None:
        self._of = transaction
        self._head = bytearray()
        self._incoming: Incoming | None = None
        self._foreign = bool(content_type) and media_type(content_type).name != "application/dicom"
        self._settled = False

    def take(self, data: memoryview) -> None:
        if self._incoming is not None:
            try:
                self._of._storage.take(self._incoming, data)
            except Endless:
                # It is refused by now; the rest of the body is read for the other parts.
                return
        elif len(self._head) < _HEAD_BYTES:
            self._head += data
            if len(self._head) >= _HEAD_BYTES and not self._foreign:
                self._open()

    def _open(self) -> None:
        """Read the file meta information, and begin the object with what is there of it."""
        if self._settled:
            return
        head = bytes(self._head)
        try:
            meta = read_file_meta(BytesIO(head), len(head))
        except NotPart10 as error:
            self._settled = True
            self._of.not_an_object(head, str(error))
            return
        status = self._of.refused_at_once(meta)
        if status:
            self._settled = True
            self._of.results.append(Stored(meta.sop_class, meta.sop_instance, status))
            return
        self._incoming = self._of.begin(meta)
        self._head.clear()
        self._of._storage.take(self._incoming, memoryview(head)[meta.data_set_offset :])

    def end(self) -> None:
        """The part is whole."""
        if self._foreign:
            self._of.not_an_object(bytes(self._head), "the part's type is not application/dicom")
            return
        if self._incoming is None:
            self._open()
        if self._incoming is not None:
            self._of.complete(self._incoming)

    def discard(self) -> None:
        """Forget it."""
        if self._incoming is not None:
            self._incoming.discard()
