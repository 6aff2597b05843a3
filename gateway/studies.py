"""The studies of the DICOM sources: what they are said to hold, and when they are complete.

Evidence (performed procedure steps, commitment requests) is kept in the journal. What is still
missing of it is remembered here, so that an arriving instance costs a look into a dictionary;
the last one that was missing makes its study due at once.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from adapters.dicom.ledger import CommitmentRequest, Held, LedgerUnavailable, PerformedStep
from gateway.intake import QUIET_DEFAULT
from gateway.journal import asked_commitments, commitments, studies, worklist
from gateway.journal.commitments import Commitment
from gateway.journal.faults import JournalFault, JournalUnavailable
from gateway.journal.journal import Journal
from gateway.journal.studies import Evidence

COMMITMENTS_MAX = 1_000
"""Requests of one source whose answer may be waiting at one time."""
LATER_AT_FIRST = timedelta(seconds=5)
LATER_AT_MOST = timedelta(minutes=15)
COUNTED_AT_ONCE = 20
COMMITMENT_AGE_MAX = timedelta(days=2)
"""How long the answer to a commitment request is tried to be told."""

_STATES = {
    "IN PROGRESS": studies.OPEN,
    "COMPLETED": studies.COMPLETE,
    "DISCONTINUED": studies.DISCONTINUED,
}
_STATUSES = {state: status for status, state in _STATES.items()}


class SourceStudies:
    """Implements :class:`adapters.dicom.ledger.StudyLedger` for one source.

    ``quiet`` and ``patience`` say for each source how long a study must be quiet, and how long
    instances are waited for that were announced.
    """

    def __init__(
        self,
        journal: Journal,
        source: str,
        quiet: Mapping[str, timedelta],
        patience: Mapping[str, timedelta],
    ) -> None:
        self._journal = journal
        self._source = source
        self._quiet = quiet
        self._patience = patience
        self._lock = threading.Lock()
        self._missing: dict[str, set[str]] | None = None
        # Instances that a study had when it was counted last; of the quiet ones only.
        self._asked: dict[str, int] = {}

    # --- performed procedure steps --------------------------------------------------

    def create_step(self, step: PerformedStep) -> bool:
        """See the protocol."""
        with _asked(), self._journal.write() as connection:
            if studies.get(connection, self._source, step.uid) is not None:
                return False
            now = self._journal.now()
            studies.put(connection, self._evidence(step, now, now))
            worklist.performed(
                connection, step.uid, step.status, study=step.study, steps=step.scheduled
            )
        return True

    def step(self, uid: str) -> PerformedStep | None:
        """See the protocol."""
        with _asked(), self._journal.read() as connection:
            found = studies.get(connection, self._source, uid)
        if found is None or found.kind != studies.STEP:
            return None
        return PerformedStep(
            uid=uid, study=found.study, status=_STATUSES[found.state],
            instances=found.expected, body=found.body,
        )  # fmt: skip

    def change_step(self, step: PerformedStep) -> None:
        """See the protocol."""
        with _asked(), self._journal.write() as connection:
            known = studies.get(connection, self._source, step.uid)
            now = self._journal.now()
            created = known.created_at if known is not None else now
            studies.put(connection, self._evidence(step, created, now))
            worklist.performed(connection, step.uid, step.status)
        self._look(step.study, step.instances)

    def _evidence(self, step: PerformedStep, created: datetime, now: datetime) -> Evidence:
        return Evidence(
            source=self._source, reference=step.uid, study=step.study, kind=studies.STEP,
            state=_STATES[step.status], expected=step.instances, body=step.body,
            created_at=created, changed_at=now, until=now + self._waits(),
        )  # fmt: skip

    def _waits(self) -> timedelta:
        return self._patience.get(self._source, timedelta(hours=1))

    # --- commitment -----------------------------------------------------------------

    def ask_commitment(self, request: CommitmentRequest) -> bool:
        """See the protocol. The instances that it names are evidence of what a study has."""
        named = [uid for _, uid in request.instances]
        with _asked(), self._journal.write() as connection:
            now = self._journal.now()
            if commitments.waiting(connection, self._source) >= COMMITMENTS_MAX:
                raise LedgerUnavailable("too many commitment requests wait for their answer")
            kept = commitments.ask(connection, self._commitment(request), now)
            if not kept:
                return False
            of = {study for _, study, _ in studies.held(connection, self._source, named).values()}
            # Only of one study it is known whose the missing ones are.
            study = of.pop() if len(of) == 1 else ""
            if study:
                studies.put(connection, Evidence(
                    source=self._source, reference=request.transaction_uid, study=study,
                    kind=studies.COMMITMENT, state=studies.COMPLETE, expected=tuple(named),
                    body=b"", created_at=now, changed_at=now, until=now + self._waits(),
                ))  # fmt: skip
        if study:
            self._look(study, named)
        return True

    def due_commitments(self) -> Sequence[CommitmentRequest]:
        """See the protocol."""
        with _asked(), self._journal.read() as connection:
            due = commitments.due(connection, self._source, self._journal.now())
        return [
            CommitmentRequest(
                transaction_uid=each.transaction_uid, peer=each.peer, own_title=each.own_title,
                instances=each.instances, attempts=each.attempts, created_at=each.created_at,
            )
            for each in due
        ]  # fmt: skip

    def commitment_told(self, request: CommitmentRequest) -> None:
        """See the protocol."""
        self._settle(request, commitments.REPORTED, request.attempts + 1, None)

    def commitment_later(self, request: CommitmentRequest, *, attempted: bool) -> None:
        """See the protocol. Tried with growing pauses, and given up after two days."""
        now = self._journal.now()
        attempts = request.attempts + attempted
        if now - request.created_at > COMMITMENT_AGE_MAX:
            self._settle(request, commitments.GIVEN_UP, attempts, None)
            return
        pause = min(LATER_AT_FIRST * 2 ** min(attempts, 10), LATER_AT_MOST)
        pause = pause if attempted else LATER_AT_FIRST
        self._settle(request, commitments.WAITING, attempts, now + pause)

    def _settle(
        self, request: CommitmentRequest, state: str, attempts: int, due_at: datetime | None
    ) -> None:
        with _asked(), self._journal.write() as connection:
            commitments.settle(
                connection, self._commitment(request), state=state, attempts=attempts,
                due_at=due_at, now=self._journal.now(),
            )  # fmt: skip

    def commitment_answered(
        self,
        transaction_uid: str,
        peer: str,
        failed: Sequence[tuple[str, str, str]],
        *,
        committed: Collection[str] | None,
    ) -> bool:
        """See the protocol."""
        with _asked(), self._journal.write() as connection:
            return asked_commitments.answer(
                connection, transaction_uid, peer, failed, self._journal.now(),
                committed=committed,
            )  # fmt: skip

    def _commitment(self, request: CommitmentRequest) -> Commitment:
        return Commitment(
            source=self._source, transaction_uid=request.transaction_uid, peer=request.peer,
            own_title=request.own_title, instances=request.instances,
            attempts=request.attempts, created_at=request.created_at,
        )  # fmt: skip

    # --- instances ------------------------------------------------------------------

    def held(self, instances: Sequence[str]) -> Mapping[str, Held]:
        """See the protocol."""
        with _asked(), self._journal.read() as connection:
            found = studies.held(connection, self._source, instances)
            kept = studies.with_bytes(connection, self._source, list(found))
        return {
            uid: Held(kind, delivered, uid in kept) for uid, (kind, _, delivered) in found.items()
        }

    def uncounted(self) -> Sequence[str]:
        """See the protocol."""
        half = self._quiet.get(self._source, QUIET_DEFAULT) / 2
        with _asked(), self._journal.read() as connection:
            before = self._journal.now() - half
            quiet = dict(studies.quiet_since(connection, self._source, before))
        self._asked = {study: had for study, had in self._asked.items() if study in quiet}
        # Those that were asked for and wait keep no other from being asked for.
        found = [study for study, has in quiet.items() if self._asked.get(study) != has]
        found = found[:COUNTED_AT_ONCE]
        self._asked |= {study: quiet[study] for study in found}
        return found

    def counted(self, study: str, instances: Sequence[str]) -> None:
        """See the protocol."""
        if not instances:
            return
        with _asked(), self._journal.write() as connection:
            now = self._journal.now()
            studies.put(connection, Evidence(
                source=self._source, reference=f"{studies.COUNT}:{study}", study=study,
                kind=studies.COUNT, state=studies.COMPLETE, expected=tuple(instances), body=b"",
                created_at=now, changed_at=now, until=now + self._waits(),
            ))  # fmt: skip
        self._look(study, instances)

    def sent_together(self, study: str, reference: str, instances: Sequence[str]) -> None:
        """See the protocol."""
        with _asked(), self._journal.write() as connection:
            now = self._journal.now()
            studies.put(connection, Evidence(
                source=self._source, reference=reference, study=study, kind=studies.REQUEST,
                state=studies.COMPLETE, expected=tuple(instances), body=b"",
                created_at=now, changed_at=now, until=now + self._waits(),
            ))  # fmt: skip
        self._look(study, instances)

    def arrived(self, study: str, instance: str) -> None:
        """See the protocol."""
        with self._lock:
            known = self._known()
            missing = known.get(study)
            if missing is None:
                return
            missing.discard(instance)
            if missing:
                return
            del known[study]
        self._fulfil(study)

    def arriving(self, study: str) -> None:
        """See the protocol."""
        with _asked(), self._journal.write() as connection:
            due_at = self._journal.now() + self._quiet.get(self._source, QUIET_DEFAULT)
            studies.put_off(connection, self._source, study, due_at)

    def _known(self) -> dict[str, set[str]]:
        """What is missing of each study with evidence, from the journal at first."""
        if self._missing is None:
            missing: dict[str, set[str]] = {}
            going_on: set[str] = set()
            with _asked(), self._journal.read() as connection:
                for each in studies.unfulfilled(connection, self._source):
                    missing.setdefault(each.study, set()).update(each.expected)
                    if each.state == studies.OPEN:
                        going_on.add(each.study)
                for expected in missing.values():
                    expected -= set(studies.held(connection, self._source, sorted(expected)))
            # One of which nothing is missing is complete by what comes next, or by now.
            self._missing = {
                study: uids for study, uids in missing.items() if uids or study not in going_on
            }
        return self._missing

    def _look(self, study: str, expected: Sequence[str]) -> None:
        """New evidence: note what is missing of it, and whether that is nothing."""
        with self._lock:
            # Noted before the journal is asked: what arrives meanwhile is struck off here.
            missing = self._known().setdefault(study, set())
            missing.update(expected)
        with _asked(), self._journal.read() as connection:
            there = set(studies.held(connection, self._source, expected))
        with self._lock:
            missing -= there
            if missing:
                return
            self._known().pop(study, None)
        self._fulfil(study)

    def _fulfil(self, study: str) -> None:
        """Nothing is missing: unless a step is still in progress the study is complete."""
        with _asked(), self._journal.write() as connection:
            waiting = studies.unfulfilled(connection, self._source, study)
            if any(each.state == studies.OPEN for each in waiting):
                return
            # A step without instances says that it ended, not what it made.
            due = any(each.expected for each in waiting)
            studies.fulfil(connection, self._source, study, self._journal.now(), due=due)


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except (JournalUnavailable, JournalFault) as error:
        raise LedgerUnavailable(str(error)) from None
