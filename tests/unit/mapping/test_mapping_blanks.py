"""Forms: what is kept of a value, and when one is not taken for another."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.hl7.language import Hl7Language, Hl7Reader
from gateway.mapping import Library, MappingContext
from gateway.mapping.blanks import Blank, WatchedValue
from gateway.mapping.memory import TRANSIENT_MAX
from gateway.model import Format, Mapped, Payload
from gateway.ports import ValueState

RULES = """
mapping: test.forms
version: 1.0.0
source: {format: hl7v2, versions: ["2.5"], match: {MSH-9.1: [ADT]}}
defaults: {invalid: flag, unknown: flag}
types:
  Number:
    type: Identifier
    set:
      system: {from: $.4.2, as: UniversalUri}
      value: {from: $.1, missing: drop}
      assigner: {set: {display: $.4.1}, when: "$.4.2 exists"}
  Named:
    type: HumanName
    set:
      text: {all: [$.5, $.2, $.1], join: " "}
      family: $.1.1
      given: [$.2, $.3]
      prefix: {each: $.5, when: "$.7 = L", from: $}
entries:
  - resource: Patient
    id: {key: [MSH-10], authority: worldwide}
    set:
      identifier: {from: PID-3(*), as: Number}
      name: {from: PID-5(*), as: Named}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("forms")
    (folder / "forms.yaml").write_text(RULES)
    return Library.load([folder], {Format.HL7V2: Hl7Language()})


def mapped(library: Library, numbers: str, names: str, source: str = "lab") -> Mapped:
    message = f"MSH|^~\\&|A|B|C|D|20240101||ADT^A01|1|P|2.5\rPID|1||{numbers}||{names}\r"
    root = Hl7Reader().read([Payload.from_bytes(message.encode())])
    program = library.match(root, Format.HL7V2)
    assert program is not None
    return program.run(root, MappingContext(source=source))


def patient(library: Library, numbers: str, names: str = "X", source: str = "lab") -> Any:
    found = dict(mapped(library, numbers, names, source).entries[0].resource)
    del found["resourceType"], found["id"]
    return found


NUMBERS = [
    "1^^^CHU&1.2.3&ISO", "2^^^CHU&1.2.3&ISO", " 3 ^^^CHU&1.2.3&ISO", "4\\F\\5^^^CHU&1.2.3&ISO",
    "6&7^^^CHU&1.2.3&ISO", "8", "9^^^CHU", "10^^^CHU&1.2.4&ISO~11^^^CHU&1.2.4&ISO", '12^^^""',
    "  ^^^CHU&1.2.3&ISO~13^^^CHU&1.2.3&ISO", "14\t^^^CHU&1.2.3&ISO", "15^^^CHU&1.2.3&ISO^PI",
]  # fmt: skip
NAMES = [
    "A^B^C^^DR^^L",
    "D^E^F^^DR^^L",
    "G^H^^^DR^^L",
    "I&J^K^^^^^L",
    "M\\T\\N^O^P^^MR^^D",
    "Q^^^^DR",
    '""',
]


def test_the_order_in_which_values_come_changes_nothing(library: Library) -> None:
    pairs = [(number, name) for number in NUMBERS for name in NAMES]
    alone = {
        pair: patient(library, *pair, source=f"alone {place}") for place, pair in enumerate(pairs)
    }
    for turn in (pairs, pairs[::-1], pairs):
        for pair in turn:
            assert patient(library, *pair) == alone[pair]


def test_a_form_is_filled_with_the_text_as_it_is(library: Library) -> None:
    first = patient(library, "1^^^CHU&1.2.3&ISO", "A^B^^^DR^^L", source="fill")
    again = patient(library, " 2^^^CHU&1.2.3&ISO", "É\u00a0D^C^^^MR^^L", source="fill")
    assert first["identifier"] == [
        {"system": "urn:oid:1.2.3", "value": "1", "assigner": {"display": "CHU"}}
    ]
    assert again["identifier"][0]["value"] == " 2"
    assert again["name"][0]["text"] == "MR C É\u00a0D"
    assert first["name"][0]["text"] == "DR B A"


def test_what_raises_a_flag_raises_it_each_time(library: Library) -> None:
    for number in ("1", "2", "3"):
        made = mapped(library, f'{number}^^^CHU&1.2.3&ISO^""', 'A^""', source="flags")
        assert [(flag.code, flag.source) for flag in made.flags] == [("deleted", "PID-5.2")]


def test_no_form_holds_the_texts_of_its_blanks(library: Library) -> None:
    for number in range(TRANSIENT_MAX):
        mapped(library, f"SECRET{number}^^^CHU&1.2.3&ISO", "A", source="kept")
    (program,) = library.programs
    memories = [
        memory
        for key, memory in program._memories.items()
        if isinstance(key, tuple) and "kept" in key
    ]
    kept = [memo.known for memory in memories for memo in memory if "SECRET0" in repr(memo.known)]
    forms = [each for known in kept for each in known.values() if "SECRET" in repr(each)]
    assert memories
    assert not [form for form in forms if type(form).__name__ == "_Form"]


class _Part:
    state, text, path, datatype = ValueState.PRESENT, "x", "PID-3.1", "ST"

    def part(self, _path: str) -> _Part:
        return self

    def parts(self, _path: str) -> list[_Part]:
        return [self]

    def raw(self) -> bytes:
        return b"x"


def test_a_watched_value_notes_what_is_read() -> None:
    from gateway.mapping.blanks import Watch

    watch = Watch(["x", None])
    value = WatchedValue(_Part(), watch, 0)
    assert value.state is ValueState.PRESENT
    assert value.part("2.1").state is ValueState.PRESENT
    assert watch.read == set()
    assert value.blank(["1"], "") is not None
    assert value.blank(["2"], "") is None  # not written plainly
    assert value.blank(["1", "2"], " ") is None
    assert value.part("1").part("1").text == "x"
    assert [part.text for part in value.parts("3")] == ["x"]
    assert watch.read == {1, 3}
    assert value.masked(frozenset()) is None
    value.part("1").raw()
    assert 0 in watch.read


def test_a_blank_takes_only_what_is_taken_as_it_is() -> None:
    assert Blank((1,), "").filled([" a "]) == " a "
    assert Blank((1, 2), "-").filled(["a", "b"]) == "a-b"
    for text in ("", "  ", "a\tb", None):
        assert Blank((1,), "").filled([text]) is None
