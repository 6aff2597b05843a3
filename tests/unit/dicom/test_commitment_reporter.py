"""The thread that tells commitments outlives a fault of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from adapters.dicom.commitment import Reporter
from adapters.dicom.ledger import CommitmentRequest, Held
from adapters.dicom.settings import DicomSourceSettings
from tests.eventually import eventually
from tests.integration.dicom.running import FixedClock


def request(uid: str) -> CommitmentRequest:
    return CommitmentRequest(
        transaction_uid=uid, peer="NOBODY", own_title="ECLUSE", instances=(("1.2", f"{uid}.1"),),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip


@dataclass
class FaultyLedger:
    """Fails, not as a journal does, when the first request's instances are looked up."""

    due: list[CommitmentRequest] = field(default_factory=lambda: [request("1.1"), request("1.2")])
    later: list[str] = field(default_factory=list)

    def due_commitments(self) -> Sequence[CommitmentRequest]:
        return list(self.due)

    def held(self, instances: Sequence[str]) -> Mapping[str, Held]:
        if instances == ["1.1.1"]:
            raise ImportError("half a library")
        return {}

    def commitment_later(self, asked: CommitmentRequest, *, attempted: bool) -> None:
        assert attempted
        self.due.remove(asked)
        self.later.append(asked.transaction_uid)


def test_a_fault_costs_one_attempt_of_one_request() -> None:
    ledger, counted = FaultyLedger(), list[str]()
    settings = DicomSourceSettings(name="ct")
    reporter = Reporter(lambda: settings, ledger, FixedClock(), counted.append)  # type: ignore[arg-type]
    reporter.start()
    try:
        eventually(lambda: ledger.later == ["1.1", "1.2"], timeout=30)
    finally:
        reporter.stop()
    assert counted == ["faults", "commitment-attempts-failed"]
