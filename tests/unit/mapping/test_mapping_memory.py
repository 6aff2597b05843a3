"""What rules remember changes nothing but the time they take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.mapping.embedding import combined, overlaid
from gateway.mapping.memory import NOTHING, TRIAL, Memo, learn
from gateway.mapping.serialise import dumps
from gateway.model import Embedded, Entry, Format, Mapped
from gateway.subjects import rewrite
from gateway.written import write
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


EMBEDDED = Embedded(
    format=Format.CDA, data=b"", source="OBX(1)-5", overlay={"status": "entered-in-error"}
)


def mapped(entries: Sequence[Entry]) -> Mapped:
    return Mapped(
        mapping="m", version="1", digest="d", entries=tuple(entries), embedded=(EMBEDDED,)
    )


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
        assert [dumps(e.resource, sort_keys=True) for e in found.entries] == [
            dumps(e.resource, sort_keys=True) for e in expected.entries
        ]
        assert sorted(map(repr, found.flags)) == sorted(map(repr, expected.flags))
    assert codes(expected), "the messages must raise flags, which are never remembered away"


def test_what_is_remembered_is_shared_and_stays_as_it_was(tmp_path: Path) -> None:
    program = load(tmp_path, BODY, contents=True)
    expected = [dumps([e.resource for e in run(program, message(n)).entries]) for n in range(6)]
    for _ in range(2):
        entries = [run(program, message(n)).entries for n in range(6)]
        for made in entries:
            renamed = rewrite(made, {entry.reference: "Observation/other" for entry in made})
            overlaid(renamed[0].resource, {"code": {"text": "x"}, "note": [{"text": "y"}]})
            combined(mapped(made), EMBEDDED, mapped(renamed))
            write(renamed)
        assert [dumps([e.resource for e in made]) for made in entries] == expected
    codes_of = [entry.resource["code"] for made in entries for entry in made]
    assert len({id(code) for code in codes_of}) < len(codes_of), "nothing was remembered"


def test_a_rule_whose_contents_never_come_again_stops_remembering() -> None:
    memo = Memo()
    for number in range(TRIAL):
        assert not memo.idle
        learn(memo, number, str(number), 100, flagged=False)
    assert memo.idle
    assert not memo.known
    busy = Memo()
    for number in range(TRIAL):
        busy.hits += 1
        learn(busy, number, str(number), 100, flagged=False)
    assert not busy.idle
    assert len(busy.known) <= 100


def test_what_raised_a_flag_is_not_remembered() -> None:
    memo = Memo()
    learn(memo, "a", "x", 100, flagged=True)
    assert not memo.known
    learn(memo, "b", None, 100, flagged=False)
    assert memo.known["b"] is NOTHING
