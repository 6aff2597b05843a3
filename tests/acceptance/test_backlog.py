"""A backlog of deliveries that is there at a start, and kill -9 while it is worked off.

``make chaos CHAOS="--backlog 100000"`` does the like with messages that nobody has read yet.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from gateway.journal import deliveries, messages
from gateway.journal.append import append
from gateway.journal.arrival import prepare
from gateway.journal.entries import entries_bytes
from gateway.journal.journal import Journal
from gateway.journal.states import MessageState
from gateway.journal.values import Move, NewDelivery
from gateway.model import Entry, Format, Mapped, Payload, Received, Stage
from gateway.opening import open_journal
from gateway.serialise import loads
from gateway.settings import load_settings
from tests.acceptance.gateway_process import GatewayProcess
from tests.chaos.memory import MEMORY_MAX_MIB, peak_mib
from tests.eventually import eventually

PATIENTS = 400
EACH = 5
"""Messages of each patient, one after the other in his lane."""
COUNT = PATIENTS * EACH
FILLING = "x" * 32_000
"""What is in memory of all of it at once would be seen: the entries have 64 MB of text."""
KILLED_AFTER = COUNT // 4
"""Deliveries."""


def _fill(journal: Journal) -> None:
    """Messages that were read and routed: what stages 1 to 5 leave behind, in bulk."""
    now = datetime.now(UTC)
    arrivals = []
    for number in range(COUNT):
        body = b"MSH|%d" % number
        received = Received(
            source="lab",
            format=Format.HL7V2,
            payload=Payload.from_bytes(body),
            received_at=now,
            control_id=f"C{number}",
            kind="ORU^R01",
        )
        arrivals.append(
            prepare(
                received,
                state=MessageState.RECEIVED,
                lane="in:lab",
                cause=None,
                group_due_at=None,
                body=body,
            )
        )
    with journal.write() as connection:
        ids = [each.message_id for each in append(connection, arrivals, now)]
        results, moves, new = [], [], []
        for place, message_id in enumerate(ids):
            patient = f"p{place % PATIENTS}"
            entry = Entry(resource=_observation(patient, place // PATIENTS))
            mapped = Mapped(mapping="toy", version="1", digest="d" * 64, entries=(entry,))
            results.append((message_id, mapped, entries_bytes(mapped.entries)))
            moves.append(
                Move(
                    message_id=message_id,
                    to=MessageState.ROUTED,
                    event="routed",
                    stage=Stage.ROUTE,
                    patient_id=patient,
                )
            )
            new.append(
                NewDelivery(
                    message_id=message_id,
                    lane=deliveries.lane_of(patient, "record"),
                    patient_id=patient,
                    destination="record",
                    sequence=message_id,
                    idempotency_key=f"record:{message_id}",
                    source="lab",
                )
            )
        messages.store_all(connection, journal.blobs, results)
        messages.move_all(connection, moves)
        deliveries.insert(connection, new)


def _observation(patient: str, value: int) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "id": f"of-{patient}",
        "status": "final",
        "subject": {"reference": f"Patient/{patient}"},
        "valueInteger": value,
        "note": [{"text": FILLING}],
    }


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_a_backlog_of_deliveries_is_worked_off_once_whoever_is_killed(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway", extra={"worker": {"lease_seconds": 5}})
    gateway.write_configuration()
    settings = load_settings(gateway.configuration)
    journal = open_journal(settings, read_only=False)
    _fill(journal)
    journal.close()
    journal = open_journal(settings, read_only=True)

    def done() -> int:
        with journal.read() as connection:
            states = deliveries.counts(connection)
        return sum(count for (_, state), count in states.items() if state.value == "delivered")

    try:
        gateway.start()
        eventually(lambda: done() >= KILLED_AFTER, timeout=120, every=0.01)
        gateway.kill()
        before = done()
        gateway.start()
        assert gateway.process is not None
        eventually(gateway.settled, timeout=120, every=0.1)
        peak = peak_mib(gateway.process.pid)
        gateway.stop()
        assert before < COUNT, "nothing was left when the gateway was killed"
        assert done() == COUNT
        assert peak < MEMORY_MAX_MIB
        _assert_once_and_in_order(journal)
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill()
        journal.close()


def _assert_once_and_in_order(journal: Journal) -> None:
    """Each message made one version, and one attempt at it ended well."""
    values: dict[int, list[int]] = defaultdict(list)
    with journal.read() as connection:
        found = connection.execute(
            text(
                "SELECT v.entry_key, v.resource FROM record_entry_version AS v JOIN record_entry"
                " AS e ON e.key = v.entry_key WHERE e.type = 'Observation' ORDER BY v.version"
            )
        )
        for key, resource in found:
            values[key].append(loads(resource)["valueInteger"])
        newest = connection.execute(
            text(
                "SELECT count(*) FROM record_entry WHERE type = 'Observation' AND version = :each"
            ),
            {"each": EACH},
        ).scalar_one()
        ended = connection.execute(
            text("SELECT count(*) FROM attempt WHERE outcome = 'delivered'")
        ).scalar_one()
    assert len(values) == newest == PATIENTS
    assert all(each == list(range(EACH)) for each in values.values())
    assert ended == COUNT
