"""Units of UCUM, reference ranges and sampled numerics: as laboratories write them."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.deployment.loading import checked_mappings
from gateway.formats import languages, readers
from gateway.mapping import Library, MappingContext, packaged_mappings
from gateway.mapping.vocabulary import numbers, texts, times, ucum
from gateway.mapping.vocabulary.invalid import Invalid
from gateway.model import Format, Mapped, Payload

_RANGES = Path(__file__).with_name("reference_ranges.tsv")
_HERE = [
    tuple((*line.split("\t"), "", "", "")[:4])
    for line in _RANGES.read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


# --- UCUM -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit",
    ["m", "g/L", "mmol/L", "10*9/L", "10^9/L", "10*-3", "/100{WBCs}", "g/(8.h){shift}", "mm[Hg]",
     "[IU]/L", "m[IU]/mL", "u[IU]", "%", "%{Hb}", "/mm3", "{INR}", "Cel", "[degF]", "''",
     "mL/min/{1.73_m2}", "kg.m/s2", "4.[pi].10*-7.N/A2", "U{25Cel}/L", "[in_i'H2O]",
     "dyn.s/(cm.m2)", "cd", "Pa", "min", "1", "m3.kg-1.s-2", "dag", "mg/(24.h)", "B[10.nV]",
"cal_[15]", "[m/s2/Hz^(1/2)]"],
)  # fmt: skip
def test_units_of_ucum(unit: str) -> None:
    assert ucum.is_unit(unit)


@pytest.mark.parametrize(
    "unit",
    ["", " ", "g/L ", "mmHg", "mg/", "MG/DL", "µmol/L", "UI/L", "(m", "m)", "k%", "{a", "{é}",
     "g//L", "mL(8.h.kg)", "m(", "k[degF]", "10 9/L", "[1.73_m2]", "/", "m+", "m.", "((m)",
     "(" * 20 + "m" + ")" * 20, "m" * 101],
)  # fmt: skip
def test_what_is_no_unit_of_ucum(unit: str) -> None:
    assert not ucum.is_unit(unit)


@given(st.text(alphabet="mgLkdU[]{}()/.10*-+%'IHg ", max_size=20))
def test_no_text_breaks_the_validator(text: str) -> None:
    if ucum.is_unit(text):
        assert ucum.is_unit(f"({text})" if not text.startswith("/") else f"/({text[1:]})")
        assert not ucum.is_unit(f"{text}/")
        assert " " not in text


def test_every_unit_of_the_value_sets_is_ucum_or_known_to_be_none(shared: Path) -> None:
    """The units of the official documents are valid, all of them."""
    units: set[str] = set()
    for path in (shared / "corpora" / "cda").rglob("*.xml"):
        units |= set(re.findall(r'\bunit="([^"]+)"', path.read_text("utf-8", "replace")))
    assert len(units) > 20
    assert {unit for unit in units if not ucum.is_unit(unit)} == set()


@cache
def _spellings() -> dict[str, str]:
    path = packaged_mappings() / "terminology" / "ucum" / "laboratory.yaml"
    rows: dict[str, str] = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)["rows"]
    return rows


def test_every_code_of_the_table_of_spellings_is_ucum() -> None:
    assert {code for code in _spellings().values() if not ucum.is_unit(code)} == set()


@pytest.mark.parametrize(
    ("written", "code"),
    [("G/L", "10*9/L"), ("Giga/l", "10*9/L"), ("T/L", "10*12/L"), ("UI/L", "[IU]/L"),
     ("µmol/L", "umol/L"), ("μmol/l", "umol/L"), ("mm/heure", "mm/h"), ("mmHg", "mm[Hg]"),
     ("°C", "Cel"), ("g/24h", "g/(24.h)"), ("mL/min/1,73m²", "mL/min/{1.73_m2}"),
     ("mg/mmol créat", "mg/mmol{creat}"), ("M/mm3", "10*6/mm3"), ("UFC/mL", "[CFU]/mL"),
     ("MG/L", "mg/L")],
)  # fmt: skip
def test_spellings_of_the_field(written: str, code: str) -> None:
    assert _spellings()[written] == code


# --- reference ranges ------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "low", "high", "unit"), _HERE)
def test_reference_ranges(text: str, low: str, high: str, unit: str) -> None:
    if low == "text":
        with pytest.raises(Invalid):
            numbers.interval(text)
        return
    assert numbers.interval(text)[:3] == (low or None, high or None, unit)


def _shape(text: str) -> str:
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", " ".join(text.split())))


def test_every_shape_of_the_corpora_stands_in_the_table(shared: Path) -> None:
    known = {_shape(text) for text, *_ in _HERE}
    found: dict[str, str] = {}
    for path in (shared / "corpora" / "hl7v2").rglob("*"):
        if path.is_file():
            for line in re.split(r"[\r\n]+", path.read_bytes().decode("utf-8", "replace")):
                fields = line.lstrip("\x0b").split("|")
                if fields[0] == "OBX" and len(fields) > 7 and fields[7].strip('" '):
                    found[_shape(fields[7])] = fields[7]
    assert len(found) > 20
    assert {shape: text for shape, text in found.items() if shape not in known} == {}


# --- what goes in comes out -------------------------------------------------------------------

_TEXT = st.one_of(
    st.text(max_size=30), st.text(alphabet="0123456789.,-+<>= eE/à;[]mgLto", max_size=20)
)


def _digits(number: str) -> str:
    """The digits of a number without what reading may leave off: zeros before, the point."""
    return re.sub(r"[^0-9]", "", number).lstrip("0")


@given(_TEXT)
def test_numbers_are_made_of_the_digits_that_were_said(text: str) -> None:
    said = re.sub(r"[^0-9]", "", text)
    try:
        number, _ = numbers.decimal(text)
    except Invalid:
        pass
    else:
        assert _digits(number) in said
    try:
        _, amount, unit, _ = numbers.quantity(text)
    except Invalid:
        pass
    else:
        assert _digits(amount) in said
        assert unit in text
    try:
        low, high, unit, _ = numbers.interval(text)
    except Invalid:
        return
    for limit in (low, high):
        assert limit is None or _digits(limit) in said
    assert unit in text
    if low is not None and high is not None:
        assert Decimal(low) <= Decimal(high)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=0, max_value=10**6),
       st.sampled_from(["", "<", ">=", "≤ "]), st.sampled_from(["", " mg/L", " g/24h"]))  # fmt: skip
def test_the_text_of_a_number_is_a_part_of_what_was_written(
    number: Decimal, comparator: str, unit: str
) -> None:
    text = f"{comparator}{number:f}{unit}"
    assert numbers.quantity(text)[1] in text


@given(st.text(alphabet="0123456789-+:TZ. ", max_size=30), st.sampled_from(["", "Europe/Paris"]))
def test_dates_say_no_more_than_what_was_written(text: str, zone: str) -> None:
    said = re.sub(r"[^0-9]", "", text)
    for read in (times.date, lambda each: times.date_time(each, zone), times.time):
        try:
            found, _ = read(text)
        except Invalid:
            continue
        written = re.sub(r"[^0-9]", "", found.split("+")[0][:16])
        assert said.startswith(written) or written.startswith(said)


@given(st.text(max_size=40), st.text(max_size=8))
def test_systems_are_uris_or_nothing(text: str, source: str) -> None:
    for made in (texts.code_system(text, source), texts.identifier_system(text, {})):
        assert made is None or (made and not re.search(r"\s", made))


def test_an_oid_with_a_uri_of_its_own_becomes_it() -> None:
    assert texts.code_system("2.16.840.1.113883.6.1", "x") == "http://loinc.org"
    assert (
        texts.code_system("urn:oid:2.16.840.1.113883.6.3", "x") == "http://hl7.org/fhir/sid/icd-10"
    )
    assert texts.code_system("1.2.250.1.213.2.12", "x") == "urn:oid:1.2.250.1.213.2.12"


# --- in a message ----------------------------------------------------------------------------


@cache
def _library() -> Library:
    return Library.load([packaged_mappings()], languages(), checked=checked_mappings())


def _mapped(*segments: str) -> Mapped:
    text = "\r".join((
        "MSH|^~\\&|LAB|X|E|X|20240101||ORU^R01^ORU_R01|1|P|2.5", "PID|1||7^^^A&1.2.3&ISO||X",
        "OBR|1|1|2|C^Count^L|||20240101", *segments, "",
    ))  # fmt: skip
    root = readers()[Format.HL7V2].read([Payload.from_bytes(text.encode())])
    program = _library().match(root, Format.HL7V2)
    assert program is not None
    return program.run(root, MappingContext(source="x"))


def _observation(segment: str) -> tuple[dict[str, object], set[str]]:
    mapped = _mapped(segment)
    found = [e.resource for e in mapped.entries if e.resource["resourceType"] == "Observation"]
    return found[0], {flag.code for flag in mapped.flags}


@pytest.mark.parametrize(
    ("written", "code", "flagged"),
    [("mg/L", "mg/L", False), ("G/L", "10*9/L", False), ("ug/g{creat}", "ug/g{creat}", False),
     ("U/(2.h)", "U/(2.h)", False), ("µg/dl", "ug/dL", False), ("zorglubs", None, True),
     ("ERU", None, True)],
)  # fmt: skip
def test_a_unit_that_is_not_known_is_kept_and_flagged(
    written: str, code: str | None, flagged: bool
) -> None:
    observation, flags = _observation(f"OBX|1|NM|A^A^L||1.10|{written}|||||F")
    quantity = observation["valueQuantity"]
    assert isinstance(quantity, dict)
    assert quantity["unit"] == written
    assert quantity["value"] == "1.10"
    assert quantity.get("code") == code
    assert ("system" in quantity) == (code is not None)
    assert ("unknown-code" in flags) == flagged


@pytest.mark.parametrize(
    ("written", "expected", "flag"),
    [  # HL7 v2.9.1 chapter 2A, SN: comparator ^ number ^ separator or suffix ^ number
        ("^100", {"valueQuantity": {"value": "100"}}, ""),
        ("=^100", {"valueQuantity": {"value": "100"}}, ""),
        (">^100", {"valueQuantity": {"value": "100", "comparator": ">"}}, ""),
        ("<^0.50", {"valueQuantity": {"value": "0.50", "comparator": "<"}}, ""),
        (">=^32", {"valueQuantity": {"value": "32", "comparator": ">="}}, ""),
        ("<=^7", {"valueQuantity": {"value": "7", "comparator": "<="}}, ""),
        ("^100^-^200",
         {"valueRange": {"low": {"value": "100"}, "high": {"value": "200"}}}, ""),
        ("^1^:^128",
         {"valueRatio": {"numerator": {"value": "1"}, "denominator": {"value": "128"}}}, ""),
        ("^1^/^80",
         {"valueRatio": {"numerator": {"value": "1"}, "denominator": {"value": "80"}}}, ""),
        ("^2^+", {"valueString": "2+"}, ""),
        ("^100^-", {"valueString": "100-"}, ""),
        ("<>^5", {"valueString": "<>5"}, "invalid-value"),
        (">^1^:^128", {"valueString": ">1:128"}, "invalid-value"),
        (">^5^-^9", {"valueString": ">5-9"}, "invalid-value"),
        ("^1^.^5", {"valueString": "1.5"}, "invalid-value"),
        ("^x", {"valueString": "x"}, "invalid-value"),
        ("^200^-^100", {"valueString": "200-100"}, "invalid-value"),
    ],
)  # fmt: skip
def test_sampled_numerics(written: str, expected: dict[str, object], flag: str) -> None:
    observation, flags = _observation(f"OBX|1|SN|A^A^L||{written}||||||F")
    values = {key: value for key, value in observation.items() if key.startswith("value")}
    assert values == expected
    assert ("invalid-value" in flags) == bool(flag)
