"""Instances that gather into a study, round after round."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.journal.states import MessageState
from gateway.model import CauseCode, Disposition, Format
from gateway.route import DestinationRule
from gateway.study_rounds import StudyRounds
from tests.integration.pipeline.rig import HeldClock, Rig, national, recorded

WHO = {"patient": [national(1)]}


def instance(rig: Rig, fact: str, study: str = "1.2.3", **content: Any) -> Any:
    return rig.send(
        {**WHO, "facts": [fact], **content},
        source="ct",
        format=Format.DICOM,
        group=study,
        control_id=fact,
    )


def test_a_study_goes_as_a_whole_once_it_has_been_quiet(rig: Rig, clock: HeldClock) -> None:
    first = instance(rig, "i1")
    clock.forward(seconds=4)
    second = instance(rig, "i2")
    rig.settle()
    assert rig.state(first) is rig.state(second) is MessageState.GATHERING
    clock.forward(seconds=4)
    rig.settle()
    assert recorded(rig.journal) == []
    clock.forward(seconds=2)
    rig.settle()
    assert rig.facts() == ["i1", "i2"]
    assert rig.state(first) is MessageState.GATHERED
    assert rig.state(second) is MessageState.DELIVERED
    assert rig.message(first).carrier_id == second.message_id


def test_a_late_instance_makes_a_new_round_of_the_whole_study(rig: Rig, clock: HeldClock) -> None:
    instance(rig, "i1")
    clock.forward(seconds=6)
    rig.settle()
    instance(rig, "i2")
    clock.forward(seconds=6)
    rig.settle()
    assert rig.facts() == ["i1", "i1", "i2"]


def test_two_studies_do_not_wait_for_each_other(rig: Rig, clock: HeldClock) -> None:
    instance(rig, "a1", study="1.1")
    clock.forward(seconds=3)
    instance(rig, "b1", study="2.2")
    clock.forward(seconds=3)
    rig.settle()
    assert rig.facts() == ["a1"]
    clock.forward(seconds=3)
    rig.settle()
    assert rig.facts() == ["a1", "b1"]


def test_an_instance_of_an_opposing_patient_is_refused_at_the_door(
    rig: Rig, clock: HeldClock
) -> None:
    rig.send({**WHO, "feeding": "deny"})
    rig.settle()
    receipt = instance(rig, "i1")
    assert receipt.disposition is Disposition.REFUSED
    assert receipt.cause is not None
    assert receipt.cause.code is CauseCode.FEEDING_OPPOSED


def test_a_study_that_cannot_be_mapped_dies_as_one_message(rig: Rig, clock: HeldClock) -> None:
    first = instance(rig, "i1")
    second = instance(rig, "i2", broken=True)
    clock.forward(seconds=6)
    rig.settle()
    assert rig.state(first) is MessageState.GATHERED
    assert rig.state(second) is MessageState.DEAD


def test_what_is_sent_on_is_what_came_since_the_study_went_the_last_time(
    rig: Rig, clock: HeldClock
) -> None:
    rounds = StudyRounds(rig.journal)
    first = instance(rig, "i1")
    second = instance(rig, "i2")
    clock.forward(seconds=6)
    rig.settle()
    late = instance(rig, "i3")
    clock.forward(seconds=6)
    rig.settle()
    carriers = [second.message_id, late.message_id]
    found = [[each.number for each in rounds.instances(carrier)] for carrier in carriers]
    assert found == [[first.message_id, second.message_id], [late.message_id]]
    assert b"i1" in rounds.payload(first.message_id).read()
    with pytest.raises(KeyError):
        rounds.payload(late.message_id + 100)


def test_only_the_formats_of_a_destination_go_there() -> None:
    rule = DestinationRule(destination="pacs", formats=frozenset({Format.DICOM}))
    assert rule.takes("ct", Format.DICOM)
    assert not rule.takes("lab", Format.HL7V2)
