"""Validation packs: what of ISO Schematron is understood, what cannot be opened, what is bounded."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.cda.validation.findings import FINDINGS_MAX, Level, Report
from adapters.cda.validation.pack import Pack, PackUnusable
from adapters.cda.validation.process import JudgingProcess
from adapters.cda.validation.schematron import compile_schematron
from adapters.cda.validation.validator import Validator
from gateway.model import Payload
from tests.unit.cda.samples import BODY, document

SCHEMA = """<schema xmlns="http://purl.oclc.org/dsdl/schematron" queryBinding="xslt2"{phase}>
<title>Rules</title><ns prefix="cda" uri="urn:hl7-org:v3"/>{content}</schema>"""
VALUES = """<ValueSet xmlns="urn:ihe:iti:svs:2008"><Concept code="11502-2"/></ValueSet>"""


def pack(folder: Path, content: str, *, phase: str = "", files: dict[str, str] | None = None,
         more: str = "") -> Path:  # fmt: skip
    """A pack of one schematron for every document."""
    root = folder / "pack"
    root.mkdir(exist_ok=True)
    (root / "rules.sch").write_text(SCHEMA.format(content=content, phase=phase))
    (root / "pack.yaml").write_text(f"name: tried\nevery: [rules.sch]\n{more}")
    for name, text in (files or {}).items():
        (root / name).write_text(text)
    return root


@contextlib.contextmanager
def validator(root: Path | None, **options: object) -> Iterator[Validator]:
    made = Validator(Pack.open(root) if root is not None else None, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def judged(root: Path, data: str = "", **options: object) -> Report:
    with validator(root, **options) as made:
        return made.check(Payload.from_bytes((data or document(body=BODY)).encode()))


def of_rules(report: Report) -> list[tuple[str, str]]:
    return [(each.rule, each.text) for each in report.findings if each.origin == "rules"]


def rule(test: str, context: str = "cda:ClinicalDocument", *, text: str = "said") -> str:
    return f'<pattern id="p"><rule context="{context}"><assert test="{test}">{text}</assert></rule></pattern>'


def test_a_failed_assertion_is_a_finding_with_its_place_line_and_words(tmp_path: Path) -> None:
    content = """<pattern id="units"><let name="wanted" value="'g/L'"/>
      <rule context="cda:value[@unit]"><let name="given" value="@unit"/>
       <assert test="$given = $wanted" role="warning" id="u1">
         Unité <value-of select="$given"/> dans <name/>.</assert>
       <report test="@value = '1.10'">One point ten</report></rule>
      <rule context="cda:value"><assert test="false()">never for one with a unit</assert></rule>
      </pattern>"""
    report = judged(pack(tmp_path, content), document(body=BODY).replace("\n", "\n\n"))
    found = [each for each in report.findings if each.origin == "rules"]
    assert [(each.rule, each.level, each.text) for each in found[:2]] == [
        ("u1", Level.WARNING, "Unité mmol/L dans value."),
        ("units", Level.ERROR, "One point ten"),
    ]
    path = "/ClinicalDocument/component/structuredBody/component/section/entry/organizer"
    assert found[0].xpath == f"{path}/component[1]/observation/value"
    assert found[0].line > 20
    # The first rule of a pattern that fits a node is the only one that judges it.
    assert len([each for each in found if "never" in each.text]) == 2


def test_includes_phases_abstract_patterns_and_rules(tmp_path: Path) -> None:
    included = """<pattern xmlns="http://purl.oclc.org/dsdl/schematron" id="inc"><rule abstract="true"
      id="base"><assert test="false()">from the base of <name/></assert></rule>
      <rule context="cda:setId"><extends rule="base"/></rule></pattern>"""
    content = """<include href="inc.sch"/>
      <pattern abstract="true" id="model"><rule context="$where"><assert test="@value = '$what'">
        $what is text, <value-of select="'$what'"/> a value</assert></rule></pattern>
      <pattern is-a="model" id="use"><param name="where" value="cda:versionNumber"/>
        <param name="what" value="7"/></pattern>
      <pattern id="asleep"><rule context="*"><assert test="false()">not active</assert></rule></pattern>
      <phase id="now"><active pattern="inc"/><active pattern="use"/></phase>"""
    root = pack(tmp_path, content, phase=' defaultPhase="now"', files={"inc.sch": included})
    assert of_rules(judged(root)) == [
        ("base", "from the base of setId"), ("use", "$what is text, 7 a value"),
    ]  # fmt: skip


def test_value_sets_are_looked_into(tmp_path: Path) -> None:
    content = """<ns prefix="svs" uri="urn:ihe:iti:svs:2008"/><let name="codes" value="'codes.xml'"/>
      <pattern id="p"><rule context="cda:code"><assert
      test="document($codes)//svs:Concept[@code = current()/@code]">unknown code</assert></rule></pattern>"""
    report = judged(pack(tmp_path, content, files={"codes.xml": VALUES}))
    places = [each.xpath for each in report.findings if each.origin == "rules"]
    assert "/ClinicalDocument/code" not in places
    assert len(places) == 5


def test_what_the_pack_does_not_have_is_told_and_the_rest_judges(tmp_path: Path) -> None:
    content = (
        '<include href="gone.sch"/><include href="../../../etc/hosts"/>'
        + rule("doc('none.xml')//x")
        + '<pattern id="q"><rule context="cda:setId"><extends rule="nobody"/>'
        '<assert test="false()">still judged</assert></rule></pattern>'
    )
    report = judged(pack(tmp_path, content))
    assert of_rules(report) == [("q", "still judged")]
    said = "\n".join(report.problems)
    for missing in ("include gone.sch", "include ../../../etc/hosts", "value set none.xml",
                    "abstract rule nobody", "rules which need it say nothing"):  # fmt: skip
        assert missing in said


def test_a_schematron_that_does_not_compile_stops_no_other(tmp_path: Path) -> None:
    root = pack(tmp_path, rule("this is not ( xpath"), files={"good.sch": SCHEMA.format(
        content=rule("false()", text="good"), phase="")})  # fmt: skip
    (root / "pack.yaml").write_text("every: [rules.sch, good.sch]\n")
    report = judged(root)
    assert [each.text for each in report.findings if each.origin == "good"] == ["good"]
    assert any(each.startswith("rules: ") for each in report.problems)


# --- nothing is opened -------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        "unparsed-text('SECRET')", "fn:unparsed-text-lines('SECRET')", "collection('SECRET')",
        "doc-available('SECRET')", "json-doc('SECRET')", "transform(map{})", "doc#1('SECRET')",
        "function-lookup(xs:QName('fn:doc'), 1)('SECRET')", "environment-variable('PATH')",
        "parse-xml('&lt;a/&gt;')", "unparsed-text (: a comment :) ('SECRET')",
    ],
)  # fmt: skip
def test_rules_that_could_open_something_are_left_out(tmp_path: Path, call: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the canary")
    content = rule(f"contains({call.replace('SECRET', secret.as_uri())}, 'canary')")
    compiled = compile_schematron(pack(tmp_path, content) / "rules.sch", tmp_path / "pack")
    assert compiled.rules == []
    assert "could open something" in compiled.problems[0]


def test_a_file_outside_the_pack_is_no_value_set(tmp_path: Path) -> None:
    (tmp_path / "outside.xml").write_text("<a>canary</a>")
    content = rule("document('../outside.xml')//a = 'canary'") + rule(
        f"document('{(tmp_path / 'outside.xml').as_uri()}')//a = 'canary'"
    ).replace('id="p"', 'id="q"')
    report = judged(pack(tmp_path, content))
    assert of_rules(report) == []
    assert "../outside.xml is not in the pack" in "\n".join(report.problems)


def test_the_sealed_process_opens_no_file_and_no_socket(tmp_path: Path) -> None:
    """Even a stylesheet that no schematron makes: the process has given the right away."""
    canary = tmp_path / "canary.xml"
    canary.write_text("<a>sung</a>")
    written = tmp_path / "written.xml"
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    port = listener.getsockname()[1]
    calls = [
        f"doc('{canary.as_uri()}')", f"unparsed-text('{canary.as_uri()}')",
        f"doc('http://127.0.0.1:{port}/x')", f"unparsed-text('http://127.0.0.1:{port}/x')",
        f"collection('{tmp_path.as_uri()}')",
    ]  # fmt: skip
    head = (
        '<xsl:stylesheet version="3.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
        '<xsl:param name="d:documents" xmlns:d="urn:ecluse:schematron"/>'
    )
    bodies = [
        f'<xsl:template match="/"><r><f n="0" p="/"><xsl:value-of select="{call}"/></f></r>'
        "</xsl:template>" for call in calls
    ]  # fmt: skip
    bodies.append(
        f'<xsl:template match="/"><r><xsl:result-document href="{written.as_uri()}"><a/>'
        "</xsl:result-document></r></xsl:template>"
    )
    bodies.append(f'<xsl:import href="{canary.as_uri()}"/>')
    import orjson

    process = JudgingProcess(Pack.open(pack(tmp_path, rule("true()"))), None)
    try:
        payload = Payload.from_bytes(document().encode())
        for body in bodies:
            content = orjson.dumps(
                {"title": "t", "rules": [["r", "error"]], "documents": {},
                 "stylesheet": f"{head}{body}</xsl:stylesheet>"}
            )  # fmt: skip
            loaded = process._ask({"do": "rules", "name": "x"}, 30, Payload.from_bytes(content))
            process._ask({"do": "read", "encoding": ""}, 30, payload)
            said = process._ask({"do": "judge", "names": ["x"] if not loaded else []}, 30)
            assert said["findings"] == []
            assert loaded or said["problems"], body
            assert "sung" not in str(said)
    finally:
        process.close()
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.close()
    assert not written.exists()


# --- bounds ------------------------------------------------------------------------------


def test_a_rule_without_end_is_ended_and_the_next_document_is_judged(tmp_path: Path) -> None:
    test = "count(for $a in 1 to 9999999, $b in 1 to 9999999 return ($a + $b)[. = 0]) = 1"
    root = pack(tmp_path, rule(test, "cda:ClinicalDocument[cda:title = 'slow']"))
    slow = document().replace("CR d'examens", "slow")
    with validator(root, seconds_max=2.0) as made:
        report = made.check(Payload.from_bytes(slow.encode()))
        assert [each.rule for each in report.findings] == ["CONTROLE-INACHEVE"]
        assert "2 secondes" in report.findings[0].text
        assert of_rules(made.check(Payload.from_bytes(document().encode()))) == []


def test_findings_have_a_limit_and_say_what_was_left_out(tmp_path: Path) -> None:
    root = pack(tmp_path, rule("false()", "cda:entry"))
    body = BODY.replace("</section>", "<entry/>" * (FINDINGS_MAX + 50) + "</section>")
    report = judged(root, document(body=body))
    assert len(report.findings) == FINDINGS_MAX
    assert report.left_out >= 50


def test_an_unreadable_document_is_a_finding(tmp_path: Path) -> None:
    with validator(None) as made:
        bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><ClinicalDocument/>'
        (found,) = made.check(Payload.from_bytes(bomb)).findings
        assert (found.origin, found.rule, found.line) == ("lecture", "hostile-content", 1)
        (found,) = made.check(Payload.from_bytes(b"no xml")).findings
        assert found.rule == "not-the-format"


# --- what is kept ------------------------------------------------------------------------


def test_compiled_rules_and_reports_are_kept_by_content(tmp_path: Path) -> None:
    root, cache, reports = pack(tmp_path, rule("false()")), tmp_path / "c", tmp_path / "r"
    payload = Payload.from_bytes(document().encode())
    with validator(root, compiled=cache, reports=reports) as made:
        first = made.check(payload)
        assert made.kept(payload.sha256) == first
    assert len(list(cache.rglob("*.json"))) == 1
    with validator(root, compiled=cache, reports=reports) as made:
        assert made.check(payload) == first
        assert made._idle == []  # nothing was started for what is known
    (root / "rules.sch").write_text(SCHEMA.format(content=rule("true()"), phase=""))
    with validator(root, compiled=cache, reports=reports) as made:
        assert made.kept(payload.sha256) is None
        assert of_rules(made.check(payload)) == []
    (kept, *_) = reports.rglob("*.json")
    assert kept.stat().st_mode & 0o077 == 0


def test_a_folder_that_is_no_pack_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(PackUnusable, match="there is neither"):
        Pack.open(tmp_path)
    with pytest.raises(PackUnusable, match="no such folder"):
        Pack.open(tmp_path / "none")
    for text, said in (("every: [none.sch]", "none.sch is not a file"), ("other: 1", "unknown: other"),
                       ("- a", "are expected"), ("every: [../x]", "not a file of the pack"),
                       ("documents: [{template: 1}]", "has template and schematrons")):  # fmt: skip
        (tmp_path / "pack.yaml").write_text(text)
        with pytest.raises(PackUnusable, match=said):
            Pack.open(tmp_path)
