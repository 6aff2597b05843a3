"""HPRIM as a source language: paths checked at load, values, scopes, the shipped mappings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from adapters.hprim.grammar import SANTE_VERSIONS
from adapters.hprim.identity import subject_of
from adapters.hprim.language import HprimLanguage, HprimReader, read_message
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, MappingContext, packaged_mappings, run_twins
from gateway.model import Format, Payload
from gateway.ports import (
    FlaggedReading,
    PathError,
    Reader,
    Scope,
    SourceLanguage,
    Unreadable,
    ValueState,
    WholeSource,
)
from tests.unit.hprim import samples

LANGUAGE = HprimLanguage()
MEDECIN = ("3.0",)


def root_of(data: bytes) -> Scope:
    return HprimReader().read([Payload.from_bytes(data)])


def texts(scope: Scope, path: str, versions: Sequence[str] = SANTE_VERSIONS) -> list[str]:
    within = LANGUAGE.root(versions)
    return [v.text for v in LANGUAGE.path(path, versions=versions, within=within).read(scope)]


def walk(scope: Scope, spec: dict[str, str], versions: Sequence[str] = SANTE_VERSIONS) -> list[Any]:
    within = LANGUAGE.root(versions)
    return list(LANGUAGE.scope(spec, versions=versions, within=within).walk(scope))


def test_it_is_what_the_engine_asks_for() -> None:
    language: SourceLanguage = LANGUAGE
    reader: Reader = HprimReader()
    assert language.format is reader.format is Format.HPRIM
    root = root_of(samples.sante())
    assert isinstance(root, WholeSource)
    assert isinstance(root, FlaggedReading)
    assert root.source_bytes() == samples.sante()


def test_paths_read_from_where_they_are() -> None:
    root = root_of(samples.sante(samples.patient()))
    assert texts(root, "P-5.2") == ["MARIE"]
    assert texts(root, "P-5") == ["ESSAI"]
    assert texts(root, "OBX(*)-3.1") == ["HB", "CL"]
    assert texts(root, "OBX(2)-5") == ["rien à signaler"]
    (order,) = walk(root, {"segment": "OBR"})
    first, second = walk(order, {"segment": "OBX"})
    assert order.path == "OBR(1)"
    assert texts(first, "OBX-3.2") == ["Hémoglobine"]
    assert texts(first, "P-6") == ["NAISSANCE"]
    assert texts(first, "H-4.1") == ["LABO"]
    assert texts(first, "C(*)-3") == ["contrôlé"]
    assert texts(second, "C(*)-3") == [""]
    assert texts(order, "C(*)-3") == [""]


def test_values_and_their_states() -> None:
    root = root_of(samples.sante(['P|1|7|||A~B|||||""|1~T^2~T', "OBR|1", "OBX|1|ST|X||a~b"]))
    within = LANGUAGE.root(SANTE_VERSIONS)

    def value(path: str) -> Any:
        return LANGUAGE.path(path, versions=SANTE_VERSIONS, within=within).read(root)[0]

    assert value("P-6").state is ValueState.EMPTY
    assert value("P-10").state is ValueState.NULL
    assert value("P-10.3").state is ValueState.NULL
    assert value("P-30").state is ValueState.ABSENT
    assert value("OBX-5").text == "a~b"  # a text has no components
    assert value("OBX-5").raw() == b"a~b"
    assert value("P-5").part("2").text == "B"
    assert value("P-5.2").path == "P-5.2"
    assert value("P-11(2)").path == "P-11(2)"
    found = walk(root, {"path": "P-11(*)"})
    here = LANGUAGE.path("$.2", versions=SANTE_VERSIONS, within=LANGUAGE.scope(
        {"path": "P-11(*)"}, versions=SANTE_VERSIONS, within=within).kind)  # fmt: skip
    assert [here.read(each)[0].text for each in found] == ["T", "T"]


def test_lines_and_what_stands_in_them() -> None:
    root = root_of(samples.medecin())
    assert texts(root, "ENT-7.1", MEDECIN) == ["1979-03-28"]
    assert texts(root, "ENT-7", MEDECIN) == ["28/03/1979"]
    assert texts(root, "ADR-4", MEDECIN) == ["BAILLEUL ESSAI"]
    (result,) = walk(root, {"segment": "RES"}, MEDECIN)
    assert texts(result, "RES-4", MEDECIN) == ["13.3"]
    assert texts(result, "ENT-11.2", MEDECIN) == ["Institut d'essai"]


@pytest.mark.parametrize(
    ("path", "versions", "suggestion"),
    [
        ("OBZ-3", SANTE_VERSIONS, "OBX"),
        ("OBX-17", SANTE_VERSIONS, ""),
        ("obx.5", SANTE_VERSIONS, "OBX-5"),
        ("OBX", SANTE_VERSIONS, "OBX-1"),
        ("P-6.2", SANTE_VERSIONS, ""),
        ("$.1", SANTE_VERSIONS, ""),
        ("P-5", MEDECIN, ""),
        ("RES-14", MEDECIN, ""),
        ("P-5", ("H1.0",), "H2.1"),
        ("P-5", ("H2.1", "3.0"), ""),
    ],
)
def test_wrong_paths_are_errors_at_load(
    path: str, versions: tuple[str, ...], suggestion: str
) -> None:
    with pytest.raises(PathError) as wrong:
        LANGUAGE.path(path, versions=versions, within=LANGUAGE.root(SANTE_VERSIONS))
    assert wrong.value.suggestion == suggestion


@pytest.mark.parametrize(
    "spec", [{"group": "X"}, {"segment": "P-5"}, {"path": "P"}, {"path": "P-5.1"}, {}]
)
def test_wrong_scopes_are_errors_at_load(spec: dict[str, str]) -> None:
    with pytest.raises(PathError):
        LANGUAGE.scope(spec, versions=SANTE_VERSIONS, within=LANGUAGE.root(SANTE_VERSIONS))


def test_facts_name_what_chooses_the_mapping() -> None:
    assert LANGUAGE.facts(root_of(samples.sante())) == {
        "version": "H2.4", "kind": "ORU", "control_id": "ESSAI.HPR", "sender": "LABO",
        "receiver": "CHUX", "character_set": "windows-1252",
    }  # fmt: skip
    assert LANGUAGE.facts(root_of(samples.medecin()))["kind"] == "LAB"
    assert LANGUAGE.facts(root_of(samples.medecin("text")))["kind"] == "COURRIER"


@pytest.mark.parametrize("data", [b"", b"\x00", b"MSH|^~\\&|", b"<a/>", b"\x81" * 20])
def test_what_is_no_hprim_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        root_of(data)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load([packaged_mappings()], {Format.HPRIM: LANGUAGE}, checked=checked_mappings())


def test_the_twins_of_the_shipped_mappings_pass(library: Library) -> None:
    results = [
        result
        for result in run_twins(library, {Format.HPRIM: HprimReader()})
        if "/hprim/" in result.file
    ]
    assert len(results) >= 9
    assert [(result.name, result.differences) for result in results if result.differences] == []


@pytest.mark.parametrize(
    "data",
    [
        samples.sante(["P|1|398|B7|||||||279037599999937~INS-NIR", "OBR|1||~A"]),
        samples.sante(["P|1||B7", "OBR|1||~A"]),
        samples.medecin(),
    ],
)
def test_the_door_sees_the_identifiers_that_the_mapping_gives(
    library: Library, data: bytes
) -> None:
    authorities = {"": "1.2.250.1.999.7", "INS-NIR": "1.2.250.1.213.1.4.10"}
    root = root_of(data)
    program = library.match(root, Format.HPRIM)
    assert program is not None
    mapped = program.run(root, MappingContext(source="labo", authorities=authorities))
    (patient,) = [e.resource for e in mapped.entries if e.resource["resourceType"] == "Patient"]
    stated = {(each["system"], each["value"]) for each in patient["identifier"]}
    seen = subject_of(read_message(data, "windows-1252"), authorities)
    assert {(each.system, each.value) for each in seen} == stated
