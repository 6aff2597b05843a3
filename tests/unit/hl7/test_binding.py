"""Segments to groups: in order, out of order, unknown; what paths find from where."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7.binding import FOLLOWERS, Binding, Node, bind
from adapters.hl7.grammar import grammar
from gateway.ports import Scope
from tests.unit.hl7.reading import each, root, texts

NAMES = [*sorted(FOLLOWERS), "PID", "PV1", "ORC", "OBR", "OBX", "SPM", "TXA", "ZZZ", "IN1", "XXX"]
HEADER = "MSH|^~\\&|LAB|X|ECLUSE|X|20240101||ORU^R01^ORU_R01|1|P|{}\n"


def report(body: str, version: str = "2.5") -> Scope:
    return root(HEADER.format(version) + body)


def shape(node: Node, names: list[str]) -> list[object]:
    """A binding as nested lists: segments by name, groups as (name, …)."""
    parts: list[tuple[int, object]] = [(index, names[index]) for index in node.segments]
    for child in node.children:
        inner = shape(child, names)
        first = min(indexes(child))
        parts.append((first, (child.definition.name, *inner)))
    return [part for _, part in sorted(parts, key=lambda pair: pair[0])]


def indexes(node: Node) -> list[int]:
    return node.segments + [i for child in node.children for i in indexes(child)]


def bound(names: str, structure: str = "ORU_R01", version: str = "2.5") -> list[object]:
    listed = names.split()
    return shape(bind(grammar(version).structure(structure), listed).root, listed)


def test_a_report_in_order() -> None:
    assert bound("MSH PID NTE PV1 ORC OBR NTE OBX NTE OBX SPM OBR OBX DSC") == [
        "MSH",
        (
            "PATIENT_RESULT",
            ("PATIENT", "PID", "NTE", ("VISIT", "PV1")),
            (
                "ORDER_OBSERVATION",
                "ORC",
                "OBR",
                "NTE",
                ("OBSERVATION", "OBX", "NTE"),
                ("OBSERVATION", "OBX"),
                ("SPECIMEN", "SPM"),
            ),
            ("ORDER_OBSERVATION", "OBR", ("OBSERVATION", "OBX")),
        ),
        "DSC",
    ]


def test_several_patients() -> None:
    assert bound("MSH PID OBR OBX PID OBR OBX") == [
        "MSH",
        (
            "PATIENT_RESULT",
            ("PATIENT", "PID"),
            ("ORDER_OBSERVATION", "OBR", ("OBSERVATION", "OBX")),
        ),
        (
            "PATIENT_RESULT",
            ("PATIENT", "PID"),
            ("ORDER_OBSERVATION", "OBR", ("OBSERVATION", "OBX")),
        ),
    ]


def test_an_observation_after_the_specimen_belongs_to_its_order() -> None:
    for version in ("2.3", "2.5", "2.6", "2.8.2"):
        scope = report("PID|1\nOBR|1|A\nSPM|1\nOBX|1|NM|X\nOBR|2|B\nOBX|1|NM|Y", version)
        orders, kind = each(scope, group="ORDER_OBSERVATION")
        assert [texts(order, "OBX(*)-3.1", kind) for order in orders] == [["X"], ["Y"]]
        assert [texts(order, "SPM-1", kind) for order in orders] == [["1"], [""]]


def test_notes_belong_to_the_segment_before_them() -> None:
    scope = report(
        "PID|1\nNTE|1||patient\nOBR|1|A\nNTE|1||order\nNTE|2||order too\n"
        "OBX|1|NM|X\nNTE|1||result\nSPM|1\nOBX|2|NM|Y\nNTE|1||specimen result\nOBX|3|NM|Z"
    )
    [order], kind = each(scope, group="ORDER_OBSERVATION")
    assert texts(order, "NTE(*)-3", kind) == ["order", "order too"]
    observations, inner = each(order, kind, segment="OBX")
    assert [texts(o, "NTE(*)-3", inner) for o in observations] == [
        ["result"],
        ["specimen result"],
        [],
    ]
    [patient], within = each(scope, segment="PID")
    assert texts(patient, "NTE-3", within) == ["patient"]


def test_the_nearest_enclosing_group_wins() -> None:
    scope = report("PID|1||P1\nORC|RE|C1\nOBR|1|A\nOBX|1\nORC|RE|C2\nOBR|2|B\nOBX|1")
    orders, kind = each(scope, group="ORDER_OBSERVATION")
    for order, (placer, control) in zip(orders, [("A", "C1"), ("B", "C2")], strict=True):
        observations, inner = each(order, kind, group="OBSERVATION")
        for observation in observations:
            assert texts(observation, "OBR-2", inner) == [placer]
            assert texts(observation, "ORC-2", inner) == [control]
            assert texts(observation, "PID-3", inner) == ["P1"]
    # Absent in this order is absent, even if another order has it.
    scope = report("PID|1\nOBR|1|A\nOBX|1\nORC|RE|C2\nOBR|2|B")
    first, second = each(scope, group="ORDER_OBSERVATION")[0]
    assert (texts(first, "ORC-2"), texts(second, "ORC-2")) == ([""], ["C2"])
    assert (texts(first, "OBX-1"), texts(second, "OBX-1")) == (["1"], [""])


def test_z_segments_stay_with_what_they_follow() -> None:
    scope = report("PID|1\nZPI|p\nOBR|1|A\nZOR|a\nOBX|1\nZOB|x\nOBX|2\nOBR|2|B\nOBX|1\nZEN|end")
    orders, kind = each(scope, group="ORDER_OBSERVATION")
    assert [texts(order, "ZOR-1", kind) for order in orders] == [["a"], [""]]
    observations, inner = each(orders[0], kind, segment="OBX")
    assert [texts(o, "ZOB-1", inner) for o in observations] == [["x"], [""]]
    assert texts(observations[0], "ZPI-1", inner) == ["p"]
    assert texts(scope, "ZEN-1") == ["end"]
    both, repeated = each(scope, segment="ZOB")
    assert [texts(z, "OBR-2", repeated) for z in both] == [["A"]]


def test_segments_where_the_structure_does_not_have_them() -> None:
    assert bound("MSH PID OBR OBX PV1 OBX") == [
        "MSH",
        (
            "PATIENT_RESULT",
            ("PATIENT", "PID", ("VISIT", "PV1")),
            ("ORDER_OBSERVATION", "OBR", ("OBSERVATION", "OBX"), ("OBSERVATION", "OBX")),
        ),
    ]
    # An observation without an order gets one of its own: it is neither lost nor
    # given to the order that follows.
    assert bound("MSH PID OBX OBR OBX") == [
        "MSH",
        (
            "PATIENT_RESULT",
            ("PATIENT", "PID"),
            ("ORDER_OBSERVATION", ("OBSERVATION", "OBX")),
            ("ORDER_OBSERVATION", "OBR", ("OBSERVATION", "OBX")),
        ),
    ]
    assert bound("MSH EVN PID PV1 IN1 IN2 OBX ZFA AL1", "ADT_A01") == [
        "MSH",
        "EVN",
        "PID",
        "PV1",
        ("INSURANCE", "IN1", "IN2"),
        "OBX",
        "ZFA",
        "AL1",
    ]


def test_a_merge_binds_each_patient_to_its_mrg() -> None:
    assert bound("MSH EVN PID PD1 MRG PID MRG PV1", "ADT_A39") == [
        "MSH",
        "EVN",
        ("PATIENT", "PID", "PD1", "MRG"),
        ("PATIENT", "PID", "MRG", "PV1"),
    ]


@pytest.mark.parametrize("structure", ["ORU_R01", "OML_O21", "ADT_A01", "MDM_T02", "PPR_PC1"])
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(NAMES),
        max_size=40,
    )
)
def test_every_segment_is_bound_once_in_any_order(structure: str, names: list[str]) -> None:
    binding = Binding(grammar("2.5").structure(structure), ["MSH", *names])
    assert sorted(indexes(binding.root)) == list(range(len(names) + 1))
    for index, node in enumerate(binding.node):
        assert index in node.segments
        assert binding.owner[index] <= index


def test_without_a_structure_all_is_one_group() -> None:
    scope = root("MSH|^~\\&|||||||ZAM^Z01|1|P|2.5\nPID|1\nOBX|1\nNTE|1||n\nOBX|2")
    first, second = each(scope, segment="OBX")[0]
    assert texts(first, "NTE-3") == ["n"]
    assert texts(second, "NTE(*)-3") == []
    assert texts(second, "PID-1") == ["1"]
    assert each(scope, group="ORDER_OBSERVATION")[0] == []


def test_the_structure_when_msh_9_3_is_missing_or_wrong() -> None:
    for kind, expected in [
        ("ADT^A08", "ADT_A01"),
        ("ADT^A31^ADT_A31", "ADT_A05"),
        ("ADT^A40", "ADT_A39"),
        ("MDM^T10^MDM_T10", "MDM_T02"),
        ("ADT^Z99^ADT_Z99", "ADT_A01"),
        ("ORU^R01^ADT_A01", "ORU_R01"),
        ("ZZZ^Z01", ""),
    ]:
        message = root(f"MSH|^~\\&|||||||{kind}|1|P|2.5")
        assert grammar("2.5").structure_name(*message.structure) == expected  # type: ignore[attr-defined]
    old = root("MSH|^~\\&|||||||ADT^A31|1|P|2.3")
    assert grammar("2.3").structure_name(*old.structure) == "ADT_A01"  # type: ignore[attr-defined]


def test_large_messages_take_linear_time() -> None:
    def seconds(orders: int) -> float:
        scope = report("PID|1||P\n" + "OBR|1|A\nOBX|1\nNTE|1||n\nPV1|1\nZZZ|1\n" * orders)
        start = time.process_time()
        walked, kind = each(scope, group="ORDER_OBSERVATION")
        for order in walked:
            assert texts(order, "PID-3", kind) == ["P"]
            for observation in each(order, kind, segment="OBX")[0]:
                assert texts(observation, "NTE-3") == ["n"]
                assert texts(observation, "PID-3") == ["P"]
                assert observation.path
        return time.process_time() - start

    seconds(10)
    small, large = (min(seconds(number) for _ in range(3)) for number in (250, 2000))
    assert large < small * 8 * 3
