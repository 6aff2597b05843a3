"""Storage commitment asked for objects that were sent on, over the journal.

Implements :class:`adapters.dicom.committing.Commitments`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from adapters.dicom.committing import ROUNDS_MAX, AskedCommitment, CommitmentState, transaction_uid
from gateway.journal import asked_commitments as rows
from gateway.journal.journal import Journal
from gateway.study_rounds import asked

_STATES = {
    rows.WAITING: CommitmentState.WAITING,
    rows.COMMITTED: CommitmentState.COMMITTED,
    rows.FAILED: CommitmentState.FAILED,
    rows.PASSED: CommitmentState.PASSED,
}


class JournalCommitments:
    """See the module."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def last(self, key: str) -> AskedCommitment | None:
        """See the protocol."""
        found: AskedCommitment | None = None
        with asked(), self._journal.read() as connection:
            for number in range(ROUNDS_MAX):
                row = rows.get(connection, transaction_uid(key, number))
                if row is None:
                    break
                found = AskedCommitment(
                    number=number,
                    state=_STATES[row.state],
                    age=self._journal.now() - row.asked_at,
                    count=len(row.instances),
                    failures=tuple(each[2] for each in row.instances if len(each) > 2),
                )
        return found

    def ask(
        self, key: str, number: int, peer: str, own_title: str, instances: Sequence[tuple[str, str]]
    ) -> None:
        """See the protocol."""
        with asked(), self._journal.write() as connection:
            rows.put(
                connection, transaction_uid(key, number), peer=peer, own_title=own_title,
                instances=instances, at=self._journal.now(),
            )  # fmt: skip

    def passed(self, key: str, number: int) -> None:
        """See the protocol."""
        with asked(), self._journal.write() as connection:
            rows.passed(connection, transaction_uid(key, number), self._journal.now())

    def commitment_answered(
        self,
        transaction_uid: str,
        peer: str,
        failed: Sequence[tuple[str, str, str]],
        *,
        committed: Collection[str] | None,
    ) -> bool:
        """See the protocol."""
        with asked(), self._journal.write() as connection:
            return rows.answer(
                connection, transaction_uid, peer, failed, self._journal.now(),
                committed=committed,
            )  # fmt: skip

    def forget(self, key: str) -> None:
        """See the protocol."""
        with asked(), self._journal.write() as connection:
            rows.forget(connection, [transaction_uid(key, n) for n in range(ROUNDS_MAX)])
