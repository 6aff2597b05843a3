"""Storage commitment as SCU (PS3.4 annex J): is what was sent on kept there for good?

The request goes on an association of its own, which is released after its answer. The result comes
to any of our DICOM sources (J.3.3), and is noted where the next attempt finds it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from io import BytesIO
from typing import Any, Protocol

from adapters.dicom import storage_answers as answers
from adapters.dicom.commitment import (
    REFERENCED,
    REQUEST_ACTION,
    SOP_CLASS,
    SOP_INSTANCE,
    TRANSACTION_UID,
    Asking,
    told,
)
from adapters.dicom.elements import encoding_of
from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.ledger import CommitmentResults
from adapters.dicom.loading import load_pynetdicom
from adapters.dicom.outgoing import answers_are_ours, associate
from adapters.dicom.references import element, reference, sequence
from adapters.dicom.settings import DicomPeerSettings
from gateway.model import Again, Delivered, Outcome, Refused, Wait

ROUNDS_MAX = 64
"""How often one delivery may ask: more than a retry policy lets it try."""
AT_ONCE_SECONDS = 1.0
"""How long an attempt stays for the result, which many peers give at once."""
LOOK_SECONDS = 0.05
PAUSE_MAX = timedelta(seconds=30)
LATE = frozenset({"0x0110", "0x0112", "0x0213"})
"""Failure reasons that may pass (PS3.3 C.14.1.1): a processing failure, an instance that is not
there, resources."""


class CommitmentState(StrEnum):
    """What became of a request."""

    WAITING = "waiting"
    COMMITTED = "committed"
    FAILED = "failed"
    PASSED = "passed"
    """Nothing more is expected of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCommitment:
    """The last request of a delivery: which one it is, how long ago, of how many objects, and
    why some are not committed (``0x0112``)."""

    number: int
    state: CommitmentState
    age: timedelta
    count: int
    failures: tuple[str, ...] = ()


class Commitments(CommitmentResults, Protocol):
    """The requests that were made, by the key of their delivery. From any thread; every method
    raises ``forwarding.OriginalsUnavailable``."""

    def last(self, key: str) -> AskedCommitment | None:
        """The last request of a delivery."""
        ...

    def ask(
        self, key: str, number: int, peer: str, own_title: str, instances: Sequence[tuple[str, str]]
    ) -> None:
        """Keep a request before it is made."""
        ...

    def passed(self, key: str, number: int) -> None:
        """Nothing more is expected of a request."""
        ...

    def forget(self, key: str) -> None:
        """A delivery is at its end."""
        ...


def transaction_uid(key: str, number: int) -> str:
    """The Transaction UID of a delivery's request: the same for the same, so that its result is
    found whoever takes it."""
    digest = sha256(f"{key}\0{number}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15])}"


class Committing:
    """Asks the peer of a destination for commitment. Thread-safe."""

    def __init__(
        self,
        settings: StorageSettings,
        commitments: Commitments,
        *,
        at_once_seconds: float = AT_ONCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._at_once_seconds = at_once_seconds
        self._commitments = commitments

    def pending(self, key: str, begun: int) -> Outcome | None:
        """What the last request of a delivery came to; None when (again) everything is to be
        sent. ``begun`` is how many attempts there were."""
        asked = self._commitments.last(key)
        if asked is None or asked.state is CommitmentState.PASSED:
            return None
        if asked.state is CommitmentState.COMMITTED:
            self._commitments.forget(key)
            return Delivered(evidence=f"{asked.count} objects stored and committed")
        if asked.state is CommitmentState.WAITING:
            if asked.age < timedelta(seconds=self._settings.commitment_wait_seconds):
                cause = answers.unknown("everything was sent; its storage commitment is awaited")
                return Wait(cause=cause, after=_pause(begun), alone=True)
            self._commitments.passed(key, asked.number)
            return Again(cause=answers.unknown("everything was sent, and no commitment came"))
        self._commitments.passed(key, asked.number)
        lasting = [each for each in asked.failures if each not in LATE]
        said = f"{len(asked.failures)} objects were stored and are not committed"
        if lasting:
            return Refused(cause=answers.refused(said, lasting[0]))
        return Again(cause=answers.unknown(said, asked.failures[0] if asked.failures else ""))

    def ask(self, key: str, begun: int, instances: Sequence[tuple[str, str]]) -> Outcome:
        """Ask for objects that were sent, and stay a moment for the result."""
        settings = self._settings
        before = self._commitments.last(key)
        number = 0 if before is None else before.number + 1
        title = settings.ae_title or ""
        if number >= ROUNDS_MAX:
            return Refused(cause=answers.refused("too many requests for commitment"))
        # Kept first: the result may come before the answer.
        self._commitments.ask(key, number, title, settings.own_title, instances)
        peer = DicomPeerSettings(ae_title=title, connect=settings.connect, tls=settings.tls)
        try:
            with associate(
                peer, settings.own_title, [SOP_CLASS], provides=False,
                seconds=settings.timeout_seconds / 4, handlers=self._handlers(),
            ) as association:  # fmt: skip
                status = _request(association, transaction_uid(key, number), instances)
                if status == 0:
                    # Some tell it on the same association, others need that to end first.
                    self._rest(key, self._at_once_seconds / 2)
        except ConnectionError as error:
            self._commitments.passed(key, number)
            return Again(cause=answers.unavailable(f"its commitment cannot be asked for: {error}"))
        if status != 0:
            self._commitments.passed(key, number)
            said, code = "it refuses to commit what it has stored", f"0x{status:04X}"
            if status in {answers.PROCESSING_FAILURE, answers.RESOURCE_LIMITATION}:
                return Again(cause=answers.unavailable(said, code))
            return Refused(cause=answers.refused(said, code))
        self._rest(key, self._at_once_seconds / 2)
        outcome = self.pending(key, begun)
        assert outcome is not None, "a request was made"
        return outcome

    def _rest(self, key: str, seconds: float) -> None:
        """Wait for a result, which another thread notes."""
        resting = threading.Event()
        for _ in range(max(int(seconds / LOOK_SECONDS), 1)):
            found = self._commitments.last(key)
            if found is not None and found.state is not CommitmentState.WAITING:
                return
            resting.wait(LOOK_SECONDS)

    def _handlers(self) -> list[tuple[Any, Any]]:
        """Takes the result on the association of the request (PS3.4 J.3.3.1.2, note 1)."""
        load_pynetdicom()
        from pynetdicom import evt

        return [(evt.EVT_N_EVENT_REPORT, self._told)]

    def _told(self, event: Any) -> tuple[int, None]:
        """The status of the answer to an N-EVENT-REPORT."""
        raw = event.request.EventInformation
        body = raw.getvalue() if raw is not None else b""
        asking = Asking(
            body, str(event.context.transfer_syntax), self._settings.ae_title or "",
            self._settings.own_title,
        )  # fmt: skip
        return told(self._commitments, int(event.request.EventTypeID), asking).code, None


def _pause(begun: int) -> timedelta:
    return timedelta(seconds=min(0.5 * 2.0 ** min(begun, 10), PAUSE_MAX.total_seconds()))


def _request(association: Any, uid: str, instances: Sequence[tuple[str, str]]) -> int:
    """The N-ACTION; its status. Raises ConnectionError."""
    load_pynetdicom()
    from pydicom.uid import UID
    from pynetdicom.dimse_primitives import N_ACTION

    context = next(iter(association.accepted_contexts))
    encoding = encoding_of(str(UID(context.transfer_syntax[0])))
    body = element(encoding, TRANSACTION_UID, "UI", uid)
    body += sequence(encoding, REFERENCED, [reference(encoding, *each) for each in instances])
    primitive = N_ACTION()
    primitive.MessageID = 1
    primitive.RequestedSOPClassUID = SOP_CLASS
    primitive.RequestedSOPInstanceUID = SOP_INSTANCE
    primitive.ActionTypeID = REQUEST_ACTION
    primitive.ActionInformation = BytesIO(body)
    with answers_are_ours(association):
        association.dimse.send_msg(primitive, context.context_id)
        _, answer = association.dimse.get_msg(block=True)
    status = getattr(answer, "Status", None)
    if status is None:
        raise ConnectionError("no answer to N-ACTION")
    return int(status)
