"""Messages held against the grammar of their version."""

from __future__ import annotations

import time

import pytest

from adapters.hl7.conformance import NOTHING_MORE, Allowances, Finding, check
from adapters.hl7.datatypes import is_date, is_date_time, is_time
from adapters.hl7.message import Message
from adapters.hl7.scopes import MessageScope

HEAD = "MSH|^~\\&|SGL|LABO|E|CHU|20261120093000+0100||{kind}|1|P|{version}|||||FRA|UNICODE UTF-8"
ORU = [
    HEAD.format(kind="ORU^R01^ORU_R01", version="2.5"),
    "PID|1||123^^^CHU&2.999.1&ISO^PI||DOE^JANE||19850314|F",
    "OBR|1|B1^CHU|B1^LABO|24323-8^Bilan^LN|||20261120093000+0100",
    "OBX|1|NM|2345-7^Glucose^LN||5.10|mmol/L|3.90-5.50|N|||F|||20261120093000+0100",
    "NTE|1||à jeun",
]
ADT = [
    HEAD.format(kind="ADT^A01^ADT_A01", version="2.5"),
    "EVN||20261120081500+0100",
    "PID|1||123^^^CHU&2.999.1&ISO^PI||DOE^JANE||19850314|F",
    "PV1|1|I",
]


def findings(lines: list[str], allowances: Allowances = NOTHING_MORE) -> list[Finding]:
    return list(check(MessageScope(Message.read("\r".join(lines).encode())), allowances))


def told(lines: list[str]) -> list[tuple[str, str]]:
    return sorted((each.location, each.code) for each in findings(lines))


def changed(lines: list[str], name: str, text: str) -> list[str]:
    return [text if line.startswith(name) else line for line in lines]


@pytest.mark.parametrize("lines", [ORU, ADT])
def test_a_message_by_the_book_has_no_finding(lines: list[str]) -> None:
    assert findings(lines) == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # Structure.
        ([*ADT[:3]], [("PV1", "100")]),
        ([ADT[0], *ADT[2:]], [("EVN", "100")]),
        ([*ADT, "PV1|2|O"], [("PV1(2)", "198")]),
        ([ADT[0], ADT[2], ADT[1], ADT[3]], [("EVN", "100")]),
        ([*ADT, "OBR|1|||A"], [("OBR", "100")]),
        ([*ADT, "ZBE|1|2|3", "ZZZ"], []),
        ([*ADT, "PV9|1"], [("PV9", "100")]),
        ([*ADT[:3], "NTE|1||x", ADT[3]], [("NTE", "100")]),
        ([ORU[0], ORU[1]], [("OBR", "100")]),
        ([*ADT, "IN1|1|A|B", "no segment"], [("line 6", "100")]),
        # Fields.
        (changed(ADT, "PV1", "PV1|1|"), [("PV1-2", "101")]),
        (changed(ADT, "PV1", 'PV1|1|""'), []),
        (changed(ADT, "PV1", "PV1|1|I~O"), [("PV1-2(2)", "198")]),
        (changed(ADT, "PV1", "PV1|1|I" + "|" * 51 + "x"), [("PV1-53", "199")]),
        (changed(ADT, "PV1", "PV1|1|X"), []),  # table 0004 is a site's own, with suggestions
        (changed(ADT, "PV1", "PV1|eleven|I"), [("PV1-1", "102")]),
        (changed(ADT, "EVN", "EVN||20261340"), [("EVN-2.1", "102")]),
        (changed(ADT, "PID", "PID|1||1^^^A&2.9&XYZ^PI~2^^^A&2.9&ISO^ZZ||D"),
         [("PID-3(1).4.3", "103"), ("PID-3(2).5", "103")]),
        (changed(ADT, "PID", "PID|1||1^^^A&2.9&ISO^PI^^^^^^x||D"), [("PID-3.11", "199")]),
        (changed(ADT, "PID", "PID|1||1||D||19853101|" + "A" * 21),
         [("PID-7.1", "102"), ("PID-8", "102"), ("PID-8", "103")]),
        (changed(ORU, "OBX", "OBX|1|NM|A^B^LN||five"), [("OBX-11", "101"), ("OBX-5", "102")]),
        (changed(ORU, "OBX", "OBX|1||A^B^LN||five||||||F"), [("OBX-2", "101")]),
        (changed(ORU, "OBX", "OBX|1|XX|A^B^HL70078||five||||||F"), [("OBX-2", "103")]),
        (changed(ORU, "OBX", "OBX|1|CE|A^B^99LAB||a^b^LN||||||F"), []),
        (changed(ORU, "OBX", "OBX|1|CWE|A^B^L||a^b^LN||||||F"), []),
    ],
)  # fmt: skip
def test_what_breaks_the_grammar_is_told_with_its_place(
    lines: list[str], expected: list[tuple[str, str]]
) -> None:
    found = told(lines)
    assert [each for each in found if each[0] != "PV1-2" or each[1] != "103"] == expected


def test_a_site_code_is_a_warning_and_no_text_holds_a_value() -> None:
    found = findings(changed(ADT, "PV1", "PV1|1|SECRET"))
    assert [(each.severity, each.code, each.written) for each in found] == [
        ("warning", "103", "SECRET")
    ]
    assert all("SECRET" not in each.text for each in found)
    assert {each.rule for each in found} == {"HL7 2.5"}


@pytest.mark.parametrize(
    ("kind", "version", "expected"),
    [
        ("ZZZ^Z01", "2.5", ("MSH-9.1", "200")),
        ("ADT^A01^ADT_A02", "2.5", ("MSH-9.3", "103")),
        ("ADT^A01", "2.9", ("MSH-12", "203")),
    ],
)
def test_types_and_versions(kind: str, version: str, expected: tuple[str, str]) -> None:
    assert expected in told([HEAD.format(kind=kind, version=version), *ADT[1:]])


def test_what_a_site_allows_is_no_finding() -> None:
    lines = [*changed(ADT, "PID", "PID|1||1^^^A&2.9&ISO^INS||D"), "PRT|1|AD||A"]
    assert {("PID-3.5", "103"), ("PRT", "100")} <= set(told(lines))
    allowed = Allowances(frozenset({"PRT"}), {"0203": frozenset({"INS"})})
    codes = {(each.location, each.code) for each in findings(lines, allowed)}
    assert not codes & {("PID-3.5", "103"), ("PRT", "100")}


def test_a_repeated_group_names_the_one_that_lacks_something() -> None:
    lines = [*ORU, "ORC|RE|B2", "ORC|RE|B3", *ORU[2:4]]
    [found] = [each for each in findings(lines) if each.code == "100"]
    assert (found.location, "ORC(1)" in found.text) == ("OBR", True)


@pytest.mark.parametrize("text", ["2026", "202602", "20260228", "20240229"])
def test_dates(text: str) -> None:
    assert is_date(text)
    assert is_date_time(text)


@pytest.mark.parametrize(
    "text", ["", "26", "202613", "20260230", "2026-02-01", "20260228 ", "２０２６"]
)
def test_what_is_no_date(text: str) -> None:
    assert not is_date(text)
    assert not is_date_time(text)


def test_times() -> None:
    for text in ("09", "0930", "093059", "093059.1234", "0930+0100", "235959.9-1400"):
        assert is_time(text), text
        assert is_date_time(f"20260228{text}"), text
    for text in ("24", "0960", "093060", "0930.5", "0930+01", "0930+1500", "9"):
        assert not is_time(text), text
        assert not is_date_time(f"20260228{text}"), text
    assert is_date_time("2026+0100")
    assert not is_date_time("202609:30")


def test_findings_and_time_are_bounded() -> None:
    lines = [*ORU, *(f"OBX|x|NM|A^B^XX||five{n}|||||Q" for n in range(20_000))]
    start = time.process_time()
    assert len(findings(lines)) == 1000
    assert time.process_time() - start < 10
