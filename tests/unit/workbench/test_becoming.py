"""What became of the values of a message: for each a true answer."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from gateway.formats import inventories
from gateway.mapping import packaged_mappings
from gateway.mapping.serialise import dumps
from gateway.model import Cause, Format, Mapped, Payload
from gateway.workbench.becoming import Became, what_became
from gateway.workbench.elements import NoTarget, canonical, parse, value_at
from gateway.workbench.examining import Examined, examine
from gateway.workbench.files import Message, messages_of_files
from gateway.workbench.retention import Fate
from tests.unit.workbench.bench import CONTEXT, ORU, bench, examined

MESSAGES = {Format.HL7V2: 6, Format.CDA: 1}
BYTES_MAX = 40_000
"""Larger ones are left out: the test is to be quick."""

CHANGED = 3
"""Lost values of each message that are changed, to see that nothing else does."""

RULE = re.compile(r"(?P<file>[\w./-]+\.yaml):\d+:\d+")


def became(path: str, message: str = ORU) -> list[Became]:
    return list(what_became(examined(message), inventories(), path))


def test_a_value_says_every_element_that_it_went_to() -> None:
    [birth] = became("PID-7")
    assert (birth.path, birth.fate) == ("PID-7", Fate.MAPPED)
    [use] = birth.uses
    assert use.target.startswith("Patient/")
    assert use.target.endswith("#birthDate")
    assert use.rule.startswith("hl7/patient.yaml:")
    assert any(use.target.endswith("#id") for each in became("PID-3") for use in each.uses)


def test_what_chooses_the_mapping_is_left_out_or_lost_says_so() -> None:
    [kind] = became("MSH-9.1")
    assert any("the choice of the mapping hl7.oru_r01" in use.target for use in kind.uses)
    [left_out] = became("MSH-10")
    assert (left_out.fate, bool(left_out.reason)) == (Fate.IGNORED, True)
    own = ORU.replace("PID|1|", "ZZZ|own\rPID|1|")
    [lost] = became("ZZZ-1", own)
    assert (lost.fate, lost.uses, lost.reason, lost.read) == (Fate.LOST, (), "", ())


def test_a_place_is_given_with_or_without_its_number() -> None:
    assert {each.path for each in became("OBX(2)-5")} == {"OBX(2)-5"}
    assert {"OBX(1)-5", "OBX(2)-5"} <= {each.path for each in became("OBX-5")}
    assert became("PID-99") == []
    assert len(became("*")) > 20


def test_what_is_no_path_is_said() -> None:
    folder = packaged_mappings()
    given = (folder / "cda" / "document.test.yaml").read_text()
    text = given[given.index("<ClinicalDocument") :].partition("</ClinicalDocument>")[0]
    document = f"{text}</ClinicalDocument>"
    found = examine(bench(), Format.CDA, [Payload.from_bytes(document.encode())], CONTEXT)
    assert isinstance(found, Examined)
    with pytest.raises(NoTarget, match="has no child"):
        list(what_became(found, inventories(), "ClinicalDocument/titel"))
    assert list(what_became(found, inventories(), "ClinicalDocument"))


def chosen(shared: Path, chance: random.Random) -> list[tuple[Message, Examined]]:
    """Some messages of the corpora by chance that a mapping takes."""
    found: list[tuple[Message, Examined]] = []
    for form, wanted in MESSAGES.items():
        folder = shared / "corpora" / form.value
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        chance.shuffle(files)
        taken = 0
        for path in files:
            if path.stat().st_size > BYTES_MAX:
                continue
            message = next(messages_of_files([path], form), None)
            if not isinstance(message, Message):
                continue
            result = examine(bench(), form, message.payloads, CONTEXT)
            if isinstance(result, Examined):
                found.append((message, result))
                taken += 1
            if taken == wanted:
                break
    return found


def test_every_value_of_messages_by_chance_gets_a_true_answer(shared: Path) -> None:
    seed = int(os.environ.get("ECLUSE_SEED", random.randrange(10**6)))
    print(f"seed {seed}; ECLUSE_SEED={seed} does the same again")
    chance = random.Random(seed)
    by_content = fields_chosen_by_content()
    messages = chosen(shared, chance)
    assert len(messages) == sum(MESSAGES.values())
    for message, result in messages:
        said = list(what_became(result, inventories()))
        counted = [
            (part.source, leaf.path)
            for part in result.parts
            for leaf in inventories()[part.format].leaves(part.root)
        ]
        assert [(each.document, each.path) for each in said] == counted
        for each in said:
            hold_to_be_true(each, result)
        lost = [e for e in said if e.fate is Fate.LOST and not (e.read or e.asked or e.document)]
        lost = [e for e in lost if field_of(e.path) not in by_content]
        if message.payloads[0].read().startswith(b"MSH|^~\\&|"):
            for each in chance.sample(lost, min(CHANGED, len(lost))):
                hold_to_be_without_effect(each, message)


def field_of(path: str) -> str:
    """``PID-11`` of ``PID(1)-11(2).7``."""
    return re.sub(r"\(\d+\)", "", path).partition(".")[0]


def fields_chosen_by_content() -> set[str]:
    """Fields of which a path chooses repetitions: ``PID-11(7=H)`` looks at all their parts."""
    texts = [path.read_text() for path in (packaged_mappings() / "hl7").glob("*.yaml")]
    return {name for text in texts for name in re.findall(r"\b([A-Z]\w\w-\d+)\([^)]*[a-z=]", text)}


def hold_to_be_true(each: Became, result: Examined) -> None:
    """The elements are there, the rules stand where it says, the reason is one that is written."""
    if each.fate is Fate.IGNORED:
        assert each.reason in {rule.reason for p in result.parts for rule in p.program.ignored}
    assert bool(each.uses) == (each.fate is Fate.MAPPED)
    entries = {entry.reference: entry.resource for entry in result.mapped.entries}
    for use in each.uses:
        rule = RULE.fullmatch(use.rule)
        if rule is None:  # what chose the mapping, and a document that was handed over
            assert use.rule in ("match", "hand_over"), use
            continue
        assert (packaged_mappings() / rule["file"]).is_file(), use
        reference, _, path = use.target.partition("#")
        if reference in entries and path:
            steps = canonical(parse(path))
            first = value_at(entries[reference], steps[:1])
            assert first is not None, (each, use)


def hold_to_be_without_effect(each: Became, message: Message) -> None:
    """A lost value that nothing looked at may say anything: the entries stay what they are."""
    text = message.payloads[0].read().decode("latin-1")
    lines = re.split("\r\n|\n|\r", text)
    number = next(n for n, line in enumerate(lines) if _is_at(lines, n, each.path))
    before, after = (
        _mapped("\r".join((*lines[:number], line, *lines[number + 1 :])))
        for line in (lines[number], _changed(lines[number], each.path))
    )
    assert _facts(before) == _facts(after), (message.name, each.path)


def _is_at(lines: list[str], number: int, path: str) -> bool:
    name, _, which = path.partition("-")[0].partition("(")
    same = [n for n, line in enumerate(lines) if line.split("|")[0] == name]
    return number in same and same.index(number) + 1 == int(which.rstrip(")") or 1)


def _changed(line: str, path: str) -> str:
    """The segment with another text at a path of it."""
    place = re.fullmatch(r"[^-]+-(\d+)(?:\((\d+)\))?(?:\.(\d+))?(?:\.(\d+))?", path)
    assert place, path
    field, repetition, component, sub = (int(each or 1) for each in place.groups())
    field -= line.startswith(("MSH", "FHS", "BHS"))

    def within(text: str, places: list[tuple[str, int]]) -> str:
        if not places:
            return f"{text}7"
        separator, number = places[0]
        parts = text.split(separator)
        parts[number] = within(parts[number], places[1:])
        return separator.join(parts)

    return within(line, [("|", field), ("~", repetition - 1), ("^", component - 1), ("&", sub - 1)])


def _mapped(text: str) -> Mapped | None:
    payload = Payload.from_bytes(text.encode("latin-1"))
    result = examine(bench(), Format.HL7V2, [payload], CONTEXT, trace=False)
    return None if isinstance(result, Cause) else result.mapped


def _facts(mapped: Mapped | None) -> bytes | None:
    return dumps([entry.resource for entry in mapped.entries]) if mapped is not None else None
