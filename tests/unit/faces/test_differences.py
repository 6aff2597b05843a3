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
    assert found == [("PID", "PID|a", "PID|b"), ("OBX", "", "OBX|2")]
    assert changed_segments(before, before) == ()
