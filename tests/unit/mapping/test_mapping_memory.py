"""What rules remember changes nothing but the time they take."""

from __future__ import annotations

from pathlib import Path

from gateway.mapping.memory import TRIAL, Memo, fresh, learn, packed, unpacked
from gateway.mapping.serialise import DecimalText, dumps
from tests.unit.mapping.pretend import codes, load, run

BODY = """\
defaults: {invalid: flag, unknown: flag}
types:
  CodeableConcept: {set: {coding: [{set: {code: $.1, display: $.2}}], text: $.3}}
  Unit: {type: Quantity, set: {unit: $.1}}
entries:
  - resource: Observation
    each: {group: G}
    id: {key: [KEY, C], authority: [OWNER]}
    set:
      status: {const: final, reason: x}
      code: {from: C, missing: {absent: unknown}}
      effectiveDateTime: {first: [DATE, E]}
      value:
        switch: TYPE
        cases:
          N: {from: A, as: Quantity, unit: B, invalid: {text: A}}
          T: {from: A, as: string, join: "\\n"}
          else: {flag: no-type}
      interpretation: {from: F, table: colours, unknown: keep-and-flag}
      note: [{when: "D = yes", set: {text: {from: D, missing: drop}}}]
"""


def message(number: int) -> dict:
    group = [
        {
            "KEY": str(number), "C": f"c{position % 3}^n{position % 3}", "TYPE": "NTX"[position % 3],
            "A": "1.10" if position % 2 else f"{number}.50", "B": "g^gram", "F": "RGB"[position % 3],
            "D": "yes" if position % 4 else "no", "DATE": "" if position % 5 else "2024",
        }
        for position in range(12)
    ]  # fmt: skip
    return {"OWNER": "LAB", "E": "20240306101500", "G": group}


def test_the_entries_and_flags_are_those_without_a_memory(tmp_path: Path) -> None:
    plain = load(tmp_path / "plain", BODY)
    looking = load(tmp_path / "looking", BODY, contents=True)
    for number in range(60):
        expected, found = run(plain, message(number)), run(looking, message(number))
        assert dumps([e.resource for e in found.entries]) == dumps(
            [e.resource for e in expected.entries]
        )
        assert found.flags == expected.flags
    assert codes(expected), "the messages must raise flags, which are never remembered away"


def test_a_changed_resource_does_not_change_the_next_one(tmp_path: Path) -> None:
    program = load(tmp_path, BODY, contents=True)
    first = run(program, message(1)).entries
    expected = dumps([entry.resource for entry in first])
    for entry in first:
        for value in entry.resource.values():
            if isinstance(value, dict):
                value.clear()
            elif isinstance(value, list):
                value[0].clear()
    assert dumps([entry.resource for entry in run(program, message(1)).entries]) == expected


def test_values_come_back_as_they_were_and_are_new() -> None:
    for value in (
        "x",
        {"a": [{"b": "c"}], "d": True},
        ["x"],
        3,
        None,
        {"value": DecimalText("1.10")},
    ):
        kept = packed(value)
        assert unpacked(kept) == value
        if isinstance(value, dict | list):
            assert unpacked(kept) is not unpacked(kept)
    assert isinstance(unpacked(packed({"value": DecimalText("1.10")}))["value"], DecimalText)
    nested = {"a": {"b": [1]}}
    copy = fresh(nested)
    copy["a"]["b"].append(2)
    assert nested == {"a": {"b": [1]}}


def test_a_rule_whose_contents_never_come_again_stops_remembering() -> None:
    memo = Memo()
    for number in range(TRIAL):
        assert not memo.idle
        learn(memo, memo.known, number, (str(number), False))
    assert memo.idle
    assert not memo.known
    busy = Memo()
    for number in range(TRIAL):
        busy.hits += 1
        learn(busy, busy.known, number, (str(number), False))
    assert not busy.idle


def test_what_raised_a_flag_is_not_remembered() -> None:
    memo = Memo()
    learn(memo, memo.known, "a", ("x", True))
    assert not memo.known
