"""The conditions and attributes of HL7's v2-to-FHIR tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workbench.importing.attributes import AttributeUnreadable, Step, read_attribute
from gateway.workbench.importing.conditions import NotTranslated, translate


def same(path: str) -> str:
    return path


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('IF OBX-2 EQUALS "NM"', "OBX-2 = NM"),
        ('IF OBX-2="FT"', "OBX-2 = FT"),
        ('IF OBX-2 IN ("ST", "FT", "TX")', "OBX-2 in [ST, FT, TX]"),
        ('IF PRT-2 IS IN ("A", "S")', "PRT-2 in [A, S]"),
        ('IF OBR-11 NOT IN ("G","A")', "OBR-11 not in [G, A]"),
        ("IF ORC-3 NOT VALUED", "not ORC-3 exists"),
        ("IF PID-14.2 IS NOT VALUED", "not PID-14.2 exists"),
        ("IF XON.10 is valued", "XON.10 exists"),
        ("IF XCN.19 DOES NOT EXIST AND IF XCN.20 DOES NOT EXIST",
         "not XCN.19 exists and not XCN.20 exists"),
        ("IF TQ1-3.9 IS EMPTY", "not TQ1-3.9 exists"),
        ('IF PV1-2.1 NOT EQUALS "P"', "PV1-2.1 != P"),
        ('IF OBX-2 IS NOT "NA"', "OBX-2 != NA"),
        ('IF EVN-4 NOT "U"', "EVN-4 != U"),
        ("IF IN1-17 IS 'patient'", "IN1-17 = patient"),
        ("IF PID-33 AND PID-34 VALUED", "(PID-33 exists and PID-34 exists)"),
        ("If SN.3 OR SN.4 VALUED", "(SN.3 exists or SN.4 exists)"),
        ("IF PRT-9 VALUED OR IF PRT-14 VALUED", "PRT-9 exists or PRT-14 exists"),
        ("IF TQ1-7 VALUED AND TQ1-8 NOT VALUED", "TQ1-7 exists and not TQ1-8 exists"),
        ('IF EVN-5 NOT VALUED AND (MSH-22 IS VALUED OR MSH-4 IS VALUED)',
         "not EVN-5 exists and (MSH-22 exists or MSH-4 exists)"),
        ('IF OBX-2 EQUALS "SN" AND OBX-5.1  NOT EQUALS "<>" AND OBX-5.3 IN (":", "/")',
         "OBX-2 = SN and OBX-5.1 != '<>' and OBX-5.3 in [':', '/']"),
        ("IF OBX-33 COUNT>1", "OBX-33(2) exists"),
        ("IF OBX-33 COUNT=1", "(OBX-33 exists and not OBX-33(2) exists)"),
        ('IF OBX-5 LST.count LESS THAN OR EQUALS 1 OR OBX-2 IS "NA"',
         "not OBX-5(2) exists or OBX-2 = NA"),
        ("IF NOT VALUED", "not HD.3 exists"),
        ('IF NOT EQUAL TO "="', "HD.3 != '='"),
        ('IF IAM-15 VALUED AND NOT "SEL"', "IAM-15 exists and IAM-15 != SEL"),
    ],
)  # fmt: skip
def test_conditions_of_simple_shape(condition: str, expected: str) -> None:
    assert translate(condition, "HD.3", same) == expected


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("If severity was used equivalent to criticality", "no operator|expected|tests no field"),
        ("IF PID-7 LENGTH GREATER THAN 8", "LENGTH"),
        ('IF PRT-2 IS IN ("A", "S", "U", X")', "grammar|quotes"),
        ("IF XCN.19 NOT VALUED XCN.20 NOT VALUED", "no operator"),
        ("IF A12-1 VALUED AND B12-2 VALUED OR C12-3 VALUED", "which binds"),
        ('IF (OBX-2 EQUALS "SN"', "not closed"),
        ("IF OBX-33 COUNT>3", "1 only"),
        ("", "nothing"),
        ("c", "expected|tests no field"),
        ("x" * 2_000, "longer"),
    ],
)
def test_what_is_not_translated_says_why(condition: str, why: str) -> None:
    with pytest.raises(NotTranslated, match=why):
        translate(condition, "", same)


def test_a_field_that_no_version_has_is_worked_out() -> None:
    def known(path: str) -> bool:
        return not path.startswith("OBX-29")

    def worked_out(condition: str) -> str:
        return translate(condition, "", same, known)

    assert worked_out('IF OBX-2 IS "NM" AND OBX-29 NOT IN ("QST", "SCI")') == "OBX-2 = NM"
    assert worked_out("IF OBX-29 NOT VALUED") == ""
    assert worked_out('IF OBX-2 IS "NM" OR OBX-29 VALUED') == "OBX-2 = NM"
    with pytest.raises(NotTranslated, match="never hold"):
        worked_out('IF OBX-2 IS "NM" AND OBX-29 IN ("QST")')


@given(st.text(alphabet='IFAND ORNTVLUED"(),.-=<>0123456789OBX', max_size=60))
def test_no_condition_breaks_it(text: str) -> None:
    try:
        made = translate(text, "OBX-5", same)
    except NotTranslated:
        return
    assert made


def test_attributes() -> None:
    assert read_attribute("participant[1].individual(Practitioner)").steps == (
        Step("participant", "1"), Step("individual", "", "Practitioner"),
    )  # fmt: skip
    assert read_attribute("performer[2](PractitionerRole[1].organization(Organization))").steps == (
        Step("performer", "2", "PractitionerRole"), Step("organization", "", "Organization"),
    )  # fmt: skip
    assert read_attribute("[1].family").steps == (Step("family"),)
    assert read_attribute("$value").steps == ()
    assert read_attribute('status="finished"').value == "finished"


@pytest.mark.parametrize(
    "text", ["[2].name", "line[1-3]", "name.suffix[2}", "a(B.c", "a.", "a)", "a(b)", "1x"]
)
def test_attributes_that_cannot_be_read(text: str) -> None:
    with pytest.raises(AttributeUnreadable):
        read_attribute(text)


@given(st.text(alphabet='aBc[]().=$12" ', max_size=30))
def test_no_attribute_breaks_it(text: str) -> None:
    try:
        read_attribute(text)
    except AttributeUnreadable:
        return
