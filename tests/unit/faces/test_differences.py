"""What changed between two versions."""

from __future__ import annotations

from gateway.console.differences import changed_segments, differences


def test_only_what_differs_is_listed_and_the_records_own_part_is_not() -> None:
    before = {"meta": {"versionId": "1"}, "status": "final", "value": {"a": "6.10"}, "x": [1, 2]}
    after = {"meta": {"versionId": "2"}, "status": "corrected", "value": {"a": "5.20"}, "x": [1]}
    found = {each.path: (each.before, each.after) for each in differences(before, after)}
    assert found == {
        "status": ("final", "corrected"), "value.a": ("6.10", "5.20"), "x[1]": ("2", None),
    }  # fmt: skip


def test_equal_resources_have_no_differences() -> None:
    assert differences({"a": [True]}, {"a": [True]}) == ()


def test_segments_are_compared_in_order() -> None:
    before = ["MSH|1", "PID|a", "OBX|1"]
    after = ["MSH|1", "PID|b", "OBX|1", "OBX|2"]
    found = [(c.name, c.before, c.after) for c in changed_segments(before, after)]
    assert found == [("PID-1", "a", "b"), ("OBX", "", "OBX|2")]
    assert changed_segments(before, before) == ()


def test_only_the_fields_that_differ_are_named_as_the_standard_counts_them() -> None:
    before, after = ["MSH|^~\\&|A|B", "PID|1||42^^^X||N"], ["MSH|^~\\&|A|C|D", "PID|1||43^^^X||N"]
    found = [(c.name, c.before, c.after) for c in changed_segments(before, after)]
    assert found == [("MSH-4", "B", "C"), ("MSH-5", "", "D"), ("PID-3", "42^^^X", "43^^^X")]


def test_a_segment_that_became_another_is_shown_whole() -> None:
    (found,) = changed_segments(["PID|1"], ["PIX|1"])
    assert (found.name, found.before, found.after) == ("PIX", "PID|1", "PIX|1")
