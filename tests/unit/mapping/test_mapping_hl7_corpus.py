"""Every message of the corpora that a shipped HL7 v2 mapping takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.hl7.language import Hl7Language, Hl7Reader
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, MappingContext, MappingRejected, Program, packaged_mappings
from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps, loads
from gateway.model import Format, Mapped, Payload
from gateway.ports import Scope, Unreadable

CONTEXT = MappingContext(zone="Europe/Paris", source="corpus")
NOT_IN_THE_CORPUS = {"hl7.adt_link", "hl7.oru_r30", "hl7.ras"}
"""No publisher has a sample of these; their twins and the socket tests cover them."""
_START = re.compile(rb"(?:(?<=[\r\n\x0b])|^)(?=MSH[^A-Za-z0-9])")
_OBX = re.compile(r"OBX(?:\((\d+)\))?-")


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load(
        [packaged_mappings()], {Format.HL7V2: Hl7Language()}, checked=checked_mappings()
    )


def messages(shared: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((shared / "corpora" / "hl7v2").rglob("*")):
        if path.is_file() and path.name != "MANIFEST.tsv":
            parts = _START.split(path.read_bytes())
            for position, part in enumerate(part for part in parts if part.startswith(b"MSH")):
                yield f"{path.name}[{position}]", part


def taken(shared: Path, library: Library) -> Iterator[tuple[str, bytes, Scope, Program]]:
    reader = Hl7Reader()
    for name, data in messages(shared):
        try:
            root = reader.read([Payload.from_bytes(data)])
        except Unreadable:
            continue
        program = library.match(root, Format.HL7V2)
        if program is not None:
            yield name, data, root, program


@pytest.mark.timeout(300)
def test_every_message_maps_twice_alike_and_passes_the_r4_check(
    shared: Path, library: Library
) -> None:
    checker, count, kinds = Checker.load(), 0, set()
    for name, data, root, program in taken(shared, library):
        mapped = program.run(root, CONTEXT)
        resources = [entry.resource for entry in mapped.entries]
        problems = checker.check_entries(resources)
        assert not problems, f"{name}: {[str(problem) for problem in problems][:3]}"
        written = dumps(resources)
        assert dumps(loads(written)) == written, name
        again = program.run(Hl7Reader().read([Payload.from_bytes(data)]), CONTEXT)
        assert dumps([entry.resource for entry in again.entries]) == written, name
        assert again.flags == mapped.flags, name
        count += 1
        kinds.add(program.name)
    assert count > 1_200
    assert kinds == {program.name for program in library.programs} - NOT_IN_THE_CORPUS


def accounted(mapped: Mapped) -> set[int]:
    """The numbers of the OBX that an entry, a document handed over or a flag stands for."""
    places = [step.source for step in mapped.trace if "#id" not in step.target]
    places += [flag.source for flag in mapped.flags] + [part.source for part in mapped.embedded]
    return {int(number or 1) for place in places for number in _OBX.findall(place)} | {
        int(number) for place in places for number in re.findall(r"^OBX\((\d+)\)$", place)
    }


@pytest.mark.timeout(300)
def test_no_obx_is_lost_and_provenance_changes_nothing(shared: Path, library: Library) -> None:
    seen = 0
    for name, _, root, program in taken(shared, library):
        mapped = program.run(root, CONTEXT)
        traced = program.run(root, CONTEXT, trace=True)
        assert traced.entries == mapped.entries, name
        # What is remembered together is made together: only the order is another.
        assert sorted(map(repr, traced.flags)) == sorted(map(repr, mapped.flags)), name
        message = root.message  # type: ignore[attr-defined]
        present = set()
        for number, index in enumerate(message.positions("OBX"), 1):
            fields = message.fields(index)
            said = len(fields) > 5 and fields[5] not in ("", '""')
            if said and not (fields[2] == "ED" and fields[5].endswith("^")):  # a file without bytes
                present.add(number)
        lost = present - accounted(traced)
        assert not lost, f"{name} ({program.name}): OBX {sorted(lost)[:5]} of {len(present)}"
        seen += len(present)
    assert seen > 3_500


@pytest.mark.timeout(300)
def test_identifiers_do_not_depend_on_what_a_correction_changes(
    shared: Path, library: Library
) -> None:
    """The values, states, times and flags of every OBX changed: the same ids, in order."""
    reader, compared = Hl7Reader(), 0
    for name, data, root, program in taken(shared, library):
        if program.name != "hl7.oru_r01" or b"|ED|" in data or b"MSH|^~\\&|" not in data:
            continue
        corrected = corrected_copy(data)
        first = program.run(root, CONTEXT)
        before = first.entries
        try:
            after = program.run(reader.read([Payload.from_bytes(corrected)]), CONTEXT).entries
        except MappingRejected as refusal:
            pytest.fail(f"{name}: {refusal}")
        if codes_repeat(before) or any(flag.code == "weak-identity" for flag in first.flags):
            continue
        if not all(e.resource.get("identifier") for e in before if e.reference[:8] == "Patient/"):
            continue  # a patient without a number: what is told is known by its message
        assert lasting(after) == lasting(before), name
        compared += 1
    assert compared > 500


def lasting(entries: tuple) -> list[str]:
    """The references of entries; a visit without a number is known by its message."""
    return [
        entry.reference
        for entry in entries
        if entry.resource["resourceType"] != "Encounter" or entry.resource.get("identifier")
    ]


def codes_repeat(entries: tuple) -> bool:
    """Whether one order has the same code twice: their ids then count on by what is said."""
    seen = [
        (entry.resource["resourceType"], dumps(entry.resource["code"]))
        for entry in entries
        if "code" in entry.resource
    ]
    return len(set(seen)) < len(seen)


def corrected_copy(data: bytes) -> bytes:
    lines = re.split(rb"([\r\n]+)", data)
    for position, line in enumerate(lines):
        fields = line.split(b"|")
        if fields[0] == b"OBX" and len(fields) > 11:
            if fields[2].split(b"^")[0] in (b"NM", b"ST", b"TX"):
                fields[5] = b"42"
            fields[8], fields[11] = b"", b"C"
            if len(fields) > 14:
                fields[14] = b"20300101"
            lines[position] = b"|".join(fields)
        if fields[0] == b"MSH":
            fields[9] = b"ANOTHER"
            lines[position] = b"|".join(fields)
        if fields[0] == b"OBR" and len(fields) > 25:
            fields[22], fields[25] = b"20300101", b"C"
            lines[position] = b"|".join(fields)
    return b"".join(lines)
