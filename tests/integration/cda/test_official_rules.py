"""The official rules over the official documents: what they say, and what they miss."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from adapters.cda.validation import pack as pack_module
from adapters.cda.validation.findings import Level, Report
from adapters.cda.validation.pack import Pack
from adapters.cda.validation.validator import Validator
from gateway.model import Payload

HEADER = "ASIP-STRUCT-MIN-StrucMin"
WHOLE = "BIO-CR-BIO_2024.01_CRP_non_LOINC.xml"


@pytest.fixture(scope="module")
def official(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    """Schema and header for all, and the volet of laboratory reports; the large profiles of
    sections and entries judge one document below."""
    pack = replace(Pack.open(shared / "corpora" / "cisis"), structured=())
    made = Validator(pack, compiled=tmp_path_factory.mktemp("compiled"))
    with patch.object(pack_module, "_VOLETS", {"55": "BIO-CR-BIO"}):
        yield made
    made.close()


def judge(validator: Validator, path: Path, *changes: tuple[str, str]) -> Report:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        text, count = re.subn(old, new, text, count=1, flags=re.DOTALL)
        assert count == 1, old
    return validator.check(Payload.from_bytes(text.encode()))


def errors(report: Report) -> set[tuple[str, str]]:
    return {(e.origin, e.rule) for e in report.findings if e.level is Level.ERROR}


@pytest.mark.timeout(600)  # compiles the header's rules, on whatever machine
def test_all_documents_are_schema_valid_and_all_but_one_pass_the_header(
    official: Validator, shared: Path
) -> None:
    documents = sorted((shared / "corpora" / "cda").glob("*.xml"))
    assert len(documents) == 36
    failing: dict[str, set[str]] = {}
    for path in documents:
        report = official.check(Payload.from_file(path))
        assert {"XSD", HEADER, "Écluse"} <= set(report.origins), path.name
        for origin, _ in errors(report):
            failing.setdefault(origin, set()).add(path.stem)
    assert "XSD" not in failing
    assert failing.pop(HEADER) == {"eDISP-MED_2024.01"}
    # Their own schematron: the two of 2021 are judged by that of 2024, which says so.
    assert failing.pop("CI-SIS_BIO-CR-BIO_2024.01") == {"BIO-CR-BIO_2021.01_Auto-Presentable"}
    # Numbers that the publisher invented without their key, and a time without a zone.
    assert failing == {
        "Écluse": {"CSE-CS8_2025.01", "CSE-MDE_2023.01", "SDM-MR_2024.01_nouveau-ne",
                   "DOC_NON_STRUCTURE_CDA-R2-N1"}
    }  # fmt: skip


@pytest.mark.timeout(600)
def test_the_whole_set_of_a_laboratory_report_with_what_the_pack_lacks(shared: Path) -> None:
    pack = Pack.open(shared / "corpora" / "cisis")
    with_all = Validator(pack)
    try:
        report = with_all.check(Payload.from_file(shared / "corpora" / "cda" / WHOLE))
    finally:
        with_all.close()
    assert report.errors == 0
    assert list(report.origins) == [
        "Écluse", "XSD", HEADER, "IHE", "CI-SIS_ModelesDeContenusCDA", "CI-SIS_Modeles_ANS",
        "CI-SIS_BIO-CR-BIO_2024.01",
    ]  # fmt: skip
    assert any("E_directiveAnticipee_int.sch is not in the pack" in e for e in report.problems)
    assert any("JDV_ClinicalStatusCodes_CISIS.xml is not in the pack" in e for e in report.problems)


CAUGHT: dict[str, tuple[tuple[str, str], ...]] = {
    "no setId": (("<setId[^>]*>", ""),),
    "no birth name": (('qualifier="BR">PAT-TROIS', ">PAT-TROIS"),),
    "no place of birth": (("<county>51215</county>", ""),),
    "unknown type": (('<code code="11502-2"', '<code code="99999-9"'),),
    "bad confidentiality": (("(<confidentialityCode[^>]*code=).N.", r'\1"Z"'),),
    "no legal authenticator": (("<legalAuthenticator.*</legalAuthenticator>", ""),),
    "extra element": (("<setId", '<copyTime value="20240101"/><setId'),),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_the_official_rules_catch_what_the_facts_say(
    official: Validator, shared: Path, name: str
) -> None:
    report = judge(official, shared / "corpora" / "cda" / WHOLE, *CAUGHT[name])
    origins = {each.origin for each in report.findings if each.level is not Level.INFO}
    assert origins & {HEADER, "XSD", "CI-SIS_BIO-CR-BIO_2024.01"}
    found = next(each for each in report.findings if each.origin in (HEADER, "XSD"))
    assert found.xpath.startswith("/ClinicalDocument")
    assert found.line > 0


MISSED: dict[str, tuple[str, str, str]] = {
    "wrong key": ("INS-CLE", "279035121518989", "279035121518988"),
    "time without a zone": (
        "HEURE-FUSEAU", '<effectiveTime value="([0-9]{14})[+][0-9]{4}"', r'<effectiveTime value="\1"',
    ),
    "id with an extension": (
        "ID-EXTENSION", '<id root="1.2.250.1.213.1.1.1.55.2024.2.1"', r'\g<0> extension="1"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSED)
def test_what_they_miss_is_caught_by_our_own(official: Validator, shared: Path, name: str) -> None:
    rule, old, new = MISSED[name]
    report = judge(official, shared / "corpora" / "cda" / WHOLE, (old, new))
    assert errors(report) == {("Écluse", rule)}
