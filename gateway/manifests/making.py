"""Makes the manifests that are due, and hands them in as messages of the source ``manifest``.

A manifest goes the way of every message: journal, mapping, identification, permission,
destinations. What is made follows from the record's study, patient and reports and from the
journal's instances alone, so that looking twice makes the same bytes, which intake knows. Before
bytes are handed in they are kept and their version is reserved: whoever finds that reservation
hands in the same bytes again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from adapters.dicom.dataset import Instance
from adapters.dicom.manifest import KEY_OBJECTS, Manifest
from adapters.dicom.manifest_writing import content_digest, write_manifest, write_withdrawal
from adapters.dicom.selection import FAULTS, read_file
from adapters.dicom.study_contents import read_study
from gateway.failure import internal
from gateway.journal import gatherings, manifests, messages, patients
from gateway.journal.journal import Journal, JournalUnavailable
from gateway.journal.manifests import ManifestAccount
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.manifest_settings import MANIFEST_SOURCE, ManifestSettings
from gateway.manifests.composing import Exam, Gone, Wanting, compose
from gateway.manifests.elements import items, text
from gateway.model import Disposition, Format, Payload, Receipt, Received
from gateway.ports import Intake, IntakeUnavailable, Unreadable
from gateway.stepping import Stepping
from record.store import Record

EVERY_SECONDS = 1.0
LEASE = timedelta(minutes=15)
"""How long a study is one maker's: more than the instances of the largest take to read."""
LATER = timedelta(seconds=10)
COMMIT_SECONDS = 60.0
DOCUMENTS_MAX = 2_000
"""Documents and reports of one patient that are looked at, the newest."""

_TAKEN = frozenset(
    {
        MessageState.GATHERED, MessageState.ROUTED, MessageState.DELIVERED, MessageState.RECEIVED,
    }
)  # fmt: skip
"""States of an instance that is in the record's study, or is being read for it again."""

_NOT_THERE = "the study is not in the record any more"

log = structlog.get_logger("ecluse.manifests")


class Manifests:
    """Looks at studies that are due, in a thread of its own from :meth:`start` to :meth:`stop`.

    ``sources`` gives the names of the DICOM sources whose instances count.
    """

    def __init__(
        self,
        journal: Journal,
        record: Record,
        intake: Intake,
        settings: ManifestSettings,
        *,
        sources: Callable[[], Sequence[str]],
    ) -> None:
        self._journal = journal
        self._record = record
        self._intake = intake
        self._settings = settings
        self._sources = sources
        self._thread = Stepping(
            "ecluse-manifests", self.step, every_seconds=EVERY_SECONDS,
            failed="making a manifest failed",
        )  # fmt: skip

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the study in hand. Idempotent."""
        self._thread.stop()

    def wake(self) -> None:
        """Look now. From any thread."""
        self._thread.wake()

    def step(self) -> bool:
        """Look at the study that is due longest; whether there was one. Raises
        JournalUnavailable."""
        with self._journal.write() as connection:
            claimed = manifests.claim(connection, self._journal.now(), LEASE)
        if claimed is None:
            return False
        try:
            if claimed.pending:
                # What came since it was reserved is looked at next.
                self._hand_in(claimed, again_at=self._journal.now())
            else:
                self._look(claimed)
        except IntakeUnavailable:
            self._settle(claimed, again_at=self._journal.now() + LATER)
        except JournalUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one study's fault stops no other
            fault = internal(error)
            log.critical("a manifest cannot be made", error=fault.detail, at=fault.location)
            self._settle(
                claimed, state=manifests.STOPPED, cause=f"{fault.detail} at {fault.location}"
            )
        return True

    # --- one study ------------------------------------------------------------------

    def _look(self, claimed: ManifestAccount) -> None:
        study, gathered = self._gather(claimed)
        known: dict[str, Any] = {"study": study} if study else {}
        composed = gathered if isinstance(gathered, Wanting) else compose(gathered, self._settings)
        if isinstance(composed, Wanting):
            state = manifests.STOPPED if composed.stopped else manifests.WAITING
            self._settle(claimed, state=state, cause=composed.cause, **known)
        elif isinstance(composed, Gone):
            self._withdraw(claimed, composed, **known)
        else:
            self._make(claimed, composed, **known)

    def _gather(self, claimed: ManifestAccount) -> tuple[str, Exam | Wanting]:
        """The Study Instance UID, and what a manifest is made from."""
        identifier = claimed.reference.partition("/")[2]
        with self._journal.read() as connection:
            stored = self._record.read(connection, "ImagingStudy", identifier)
            if stored is None:
                return claimed.study, Wanting(_NOT_THERE)
            owner = self._record.survivor(connection, claimed.patient_id)
            person = self._record.read(connection, "Patient", owner)
            known = patients.identifiers(connection, owner)
            own = patients.own_identifiers(connection, owner)
            documents = deque(self._documents(connection, owner), DOCUMENTS_MAX)
            study, uids = _instances(stored.resource)
            members = self._members(connection, study) if study else []
        if not members:
            return study, Wanting("no instance of the study is at a DICOM source of this gateway")
        payloads = [messages.payload(self._journal, each) for each in members]
        try:
            contents = read_study(payloads, only=uids)
        except Unreadable as unreadable:
            return study, Wanting(str(unreadable), stopped=True)
        if contents.series and stored.resource.get("status") == "entered-in-error":
            return study, Wanting(_NOT_THERE)
        return study, Exam(
            contents=contents,
            patient=person.resource if person is not None else {},
            identifiers=known,
            documents=documents,
            own=own,
        )

    def _documents(self, connection: Connection, patient_id: str) -> Iterator[dict[str, Any]]:
        """Oldest first."""
        page = ""
        while True:
            found = self._record.everything(
                connection, patient_id, types=("DocumentReference", "DiagnosticReport"), page=page
            )
            yield from (each.resource for each in found.entries)
            page = found.next
            if not page:
                return

    def _members(self, connection: Connection, study: str) -> list[Message]:
        found = [
            each
            for source in self._sources()
            for each in gatherings.members(connection, source, study)
            if each.state in _TAKEN
        ]
        return sorted(found, key=lambda each: (each.sequence, each.id))

    # --- what comes of it -----------------------------------------------------------

    def _make(self, claimed: ManifestAccount, manifest: Manifest, **changed: Any) -> None:
        dialect, origin = self._settings.dialect, self._settings.origin()
        digest = content_digest(manifest, dialect, origin)
        if claimed.uid and claimed.digest == digest:
            self._settle(claimed, state=manifests.MADE, cause="", **changed)
            return
        numbered = replace(manifest, version=claimed.version + 1, predecessor=claimed.uid)
        written = write_manifest(numbered, dialect, origin)
        self._reserve(
            claimed, written.data, state=manifests.MADE, version=numbered.version,
            uid=written.uid, digest=digest, instances=manifest.instances, **changed,
        )  # fmt: skip

    def _withdraw(self, claimed: ManifestAccount, gone: Gone, **changed: Any) -> None:
        if not claimed.uid:
            self._settle(
                claimed, state=manifests.WAITING, cause="all instances are rejected", **changed
            )
            return
        numbered = replace(gone.manifest, version=claimed.version + 1, predecessor=claimed.uid)
        written = write_withdrawal(
            numbered, self._settings.dialect, self._settings.origin(), reason=gone.reason,
            before=self._replaced_by(claimed),
        )  # fmt: skip
        self._reserve(
            claimed, written.data, state=manifests.WITHDRAWN, version=numbered.version,
            uid="", digest="", instances=0, **changed,
        )  # fmt: skip

    def _replaced_by(self, claimed: ManifestAccount) -> str:
        """The SOP Instance UID of the version that the last one replaced; empty for none."""
        with self._journal.read() as connection:
            found = messages.get(connection, claimed.message_id or 0)
        if found is None:
            return ""
        try:
            said = read_file(messages.payload(self._journal, found))
        except (KeyError, *FAULTS):
            return ""
        return said.predecessor if said is not None and said.uid == claimed.uid else ""

    def _reserve(self, claimed: ManifestAccount, data: bytes, **changed: Any) -> None:
        pending = self._journal.blobs.put(data)
        values = {**changed, "pending": pending, "cause": "", "changed_at": self._journal.now()}
        with self._journal.write() as connection:
            manifests.reserve(connection, claimed, **values)
        self._hand_in(replace(claimed, **values))

    def _hand_in(self, claimed: ManifestAccount, *, again_at: datetime | None = None) -> None:
        """Give the reserved bytes to intake. What intake has already is the same message."""
        try:
            data = self._journal.blobs.payload(claimed.pending).read()
        except (KeyError, OSError):
            # Kept before they were reserved, so only a store that lost them comes here.
            self._settle(claimed, pending="", uid="", digest="", again_at=self._journal.now())
            return
        receipt = self._submit(claimed, data)
        changed: dict[str, Any] = {"pending": "", "message_id": receipt.message_id}
        if receipt.disposition is Disposition.REFUSED and receipt.cause is not None:
            # What was in force before stays so, and is what the next version replaces.
            before = read_file(Payload.from_bytes(data))
            changed |= {
                "state": manifests.STOPPED, "cause": f"refused: {receipt.cause.code}",
                "digest": "", "uid": before.predecessor if before is not None else "",
            }  # fmt: skip
        self._settle(claimed, again_at=again_at, **changed)

    def _submit(self, claimed: ManifestAccount, data: bytes) -> Receipt:
        payload = Payload.from_bytes(data)
        with self._journal.read() as connection:
            subject = patients.identifiers(connection, claimed.patient_id)
        received = Received(
            source=MANIFEST_SOURCE,
            format=Format.DICOM,
            payload=payload,
            received_at=self._journal.now(),
            control_id=Instance(payload).sop_instance,
            kind=KEY_OBJECTS,
            subject=subject,
            attributes={"study": claimed.study, "version": str(claimed.version)},
        )
        try:
            return self._intake.submit(received).result(timeout=COMMIT_SECONDS)
        except TimeoutError:
            # It may be kept all the same; the same bytes are handed in again.
            raise IntakeUnavailable("the commit takes too long") from None

    def _settle(
        self, claimed: ManifestAccount, *, again_at: datetime | None = None, **changed: Any
    ) -> None:
        with self._journal.write() as connection:
            manifests.settle(connection, claimed, self._journal.now(), again_at=again_at, **changed)


def _instances(study: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """The Study Instance UID of an ImagingStudy, and the UIDs of its instances."""
    own = next(
        (
            text(each, "value").removeprefix("urn:oid:")
            for each in items(study, "identifier")
            if text(each, "system") == "urn:dicom:uid"
        ),
        "",
    )
    uids = (
        text(each, "uid") for series in items(study, "series") for each in items(series, "instance")
    )
    return own, frozenset(uid.removeprefix("urn:oid:") for uid in uids if uid)
