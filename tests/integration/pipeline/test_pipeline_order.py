"""From the door to the record, in order."""

from __future__ import annotations

from gateway.journal.patients import patient_id
from gateway.journal.states import MessageState
from gateway.model import Disposition, Identifier
from tests.integration.pipeline.rig import Rig, local, national, recorded


def pid(number: int) -> str:
    system, value, _ = national(number)
    return patient_id(Identifier(system=system, value=value))


def test_an_accepted_message_reaches_the_record(rig: Rig) -> None:
    receipt = rig.send({"patient": [national(1), local(1)], "facts": ["glucose"]})
    assert receipt.disposition is Disposition.ACCEPTED
    assert receipt.answer == b"AA 1"
    rig.settle()
    assert recorded(rig.journal) == [(pid(1), "glucose", receipt.message_id)]
    assert rig.state(receipt) is MessageState.DELIVERED
    assert rig.message(receipt).patient_id == pid(1)
    assert rig.events(receipt) == ["received", "routed", "attempt", "delivered"]


def test_every_lane_keeps_its_order(rig: Rig) -> None:
    for n in range(300):
        rig.submit({"patient": [national(n % 7)], "facts": [f"f{n}"]})
    rig.send({"patient": [national(7)], "facts": ["last"]})
    rig.settle()
    by_patient: dict[str, list[int]] = {}
    for patient, _, sequence in recorded(rig.journal):
        by_patient.setdefault(patient, []).append(sequence)
    assert len(by_patient) == 8
    assert all(order == sorted(order) for order in by_patient.values())
    assert sorted(rig.facts()) == sorted([f"f{n}" for n in range(300)] + ["last"])
