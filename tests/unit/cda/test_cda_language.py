"""The path notation: what it finds, what it says of it, what it refuses at load."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from adapters.cda.language import CdaLanguage, CdaReader
from adapters.cda.structure import V3, name_of, structure
from adapters.cda.values import CdaElement
from gateway.model import Payload
from gateway.ports import (
    PathError,
    Reader,
    Scope,
    SourceLanguage,
    Unreadable,
    Value,
    ValueState,
    WholeSource,
)
from tests.unit.cda.samples import BODY, HEAD, TAIL, TYPE_ID, encoded

LANGUAGE: SourceLanguage = CdaLanguage()
READER: Reader = CdaReader()
ROOT = LANGUAGE.root(["R2"])
OBSERVATION = "//observation[templateId=1.2.3.20]"


@pytest.fixture(scope="module")
def root() -> Scope:
    return READER.read([Payload.from_bytes(encoded(body=BODY))])


def values(text: str, scope: Scope, within: object = ROOT) -> list[Value]:
    return list(LANGUAGE.path(text, versions=["R2"], within=within).read(scope))


def texts(text: str, scope: Scope, within: object = ROOT) -> list[str]:
    return [value.text for value in values(text, scope, within)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "ClinicalDocument/recordTarget/patientRole/id@root",
            ["1.2.250.1.213.1.4.10", "1.2.3.4.5"],
        ),
        ("/ClinicalDocument/title", ["CR d'examens"]),
        ("title", ["CR d'examens"]),
        ("./title", ["CR d'examens"]),
        ("$/title/text()", ["CR d'examens"]),
        ("recordTarget/patientRole/id(2)@extension", ["IPP-1"]),
        ("recordTarget/patientRole/id(last)/@extension", ["IPP-1"]),
        ("recordTarget/patientRole/id(*)@extension", ["279035121518989", "IPP-1"]),
        ("recordTarget/patientRole/id(3)@extension", []),
        ("recordTarget/patientRole/id[@root=1.2.3.4.5]@extension", ["IPP-1"]),
        ("recordTarget/patientRole/id[@root=9|1.2.3.4.5]@extension", ["IPP-1"]),
        ("recordTarget/patientRole/id[@root!=1.2.3.4.5]@extension", ["279035121518989"]),
        ('recordTarget/patientRole/id[@root="1.2.3.4.5"]', ["IPP-1"]),
        ("recordTarget/patientRole/patient/name/given[@qualifier=BR]", ["ANNE"]),
        ("recordTarget/patientRole/patient/name/given[!@qualifier]", ["ANNE MARIE"]),
        ("recordTarget/patientRole/patient/name/family", ["ESSAI-DEUX"]),
        ("recordTarget/patientRole/patient/sdtc:deceasedInd@value", ["false"]),
        ("//section[code=18719-5]/title", ["Biochimie"]),
        ("//section[templateId=1.2.3.10^2024.01]/title", ["Biochimie"]),
        ("//section[templateId=1.2.3.10^2023.01]/title", []),
        ("//section[code=18719-5][title=Biochimie]/title", ["Biochimie"]),
        ("//section[entry/organizer[@classCode=BATTERY]]/title", ["Biochimie"]),
        ("//section[//observation[code=INNER]]/title", ["Biochimie"]),
        ("//section[!entry]/title", []),
        ("//observation/code@code", ["2951-2", "", "X", "INNER"]),
        ("//observation//observation/code@code", ["INNER"]),
        ("//organizer//observation[value[@xsi:type=PQ]]/value@unit", ["mmol/L"]),
        ("//observation/value@xsi:type", ["PQ", "CD", "IVL_PQ"]),
        ("//observation/value/low@value", ["1"]),
        ("//observation/code/originalText/ref()", ["Sodium sérique", "Autre"]),
        ("//section/text/text()", ["Analyse\tValeur\nSodium sérique\t1.10 mmol/L\nFin.\nSuite"]),
        (
            "recordTarget/patientRole/id/uri()",
            ["urn:oid:1.2.250.1.213.1.4.10", "urn:oid:1.2.3.4.5"],
        ),
        ("recordTarget/patientRole/telecom/scheme()", ["tel", "mailto"]),
        ("recordTarget/patientRole/telecom/address()", ["0102030405", "a@b.example", "06 07"]),
        ("ClinicalDocument@moodCode", []),
        ("effectiveTime", ["20240102030405+0100"]),
    ],
)
def test_paths_from_the_root(root: Scope, path: str, expected: list[str]) -> None:
    assert texts(path, root) == expected


def test_scopes_and_what_is_read_inside_them(root: Scope) -> None:
    compiled = LANGUAGE.scope({"path": OBSERVATION}, versions=["R2"], within=ROOT)
    scopes = list(compiled.walk(root))
    assert [scope.path.rpartition("/entry/")[2] for scope in scopes] == [
        "organizer/component(1)/observation",
        "organizer/component(2)/observation",
    ]
    first, kind = scopes[0], compiled.kind
    assert texts("code@code", first, kind) == ["2951-2"]
    assert texts("./code/translation@displayName", first, kind) == ["Sodium"]
    assert texts("value", first, kind) == ["1.10"]
    assert texts("$@classCode", first, kind) == ["OBS"]
    assert texts("@classCode", first, kind) == ["OBS"]
    assert texts("../../id@root", first, kind) == ["1.2.9"]
    assert texts("ancestor::organizer/id@root", first, kind) == ["1.2.9"]
    assert texts("ancestor::section/title", first, kind) == ["Biochimie"]
    assert texts("ancestor::component[section]/section/title", first, kind) == ["Biochimie"]
    assert texts("ancestor::component[structuredBody]//title", first, kind) == ["Biochimie"]
    assert texts("ClinicalDocument/setId@root", first, kind) == ["1.2.250.1.999"]
    # Inside a scope, // searches below it; ClinicalDocument// searches everywhere.
    assert texts("//observation/code@code", first, kind) == []
    assert texts("ClinicalDocument//observation/code@code", first, kind) == [
        "2951-2",
        "",
        "X",
        "INNER",
    ]
    assert [v.path for v in values("$", first, kind)] == [first.path]


def test_scopes_within_scopes(root: Scope) -> None:
    outer = LANGUAGE.scope({"path": "//organizer"}, versions=[], within=ROOT)
    inner = LANGUAGE.scope({"path": "component/observation"}, versions=[], within=outer.kind)
    (organizer,) = outer.walk(root)
    assert [texts("code@code", each, inner.kind) for each in inner.walk(organizer)] == [
        ["2951-2"],
        [""],
        ["X"],
    ]


def test_states_stay_distinct(root: Scope) -> None:
    (low, high) = values("//value/low", root), values("//value/high", root)
    assert low[0].state is ValueState.PRESENT
    assert high[0].state is ValueState.EMPTY
    assert high[0].part("@nullFlavor").text == "PINF"
    assert high[0].part("@value").state is ValueState.EMPTY
    assert low[0].part("@inclusive").state is ValueState.ABSENT
    null_value = values("//observation/value[@xsi:type=CD]", root)[0]
    assert null_value.state is ValueState.EMPTY
    assert null_value.text == ""
    # A flavour beside words: the words are not lost.
    other = values("//observation/code[@nullFlavor=OTH]", root)[0]
    assert other.state is ValueState.PRESENT
    assert other.part("@code").state is ValueState.EMPTY
    assert other.part("originalText/ref()").text == "Autre"
    assert values("//observation/methodCode", root) == []


def test_values_know_datatype_place_parts_and_bytes(root: Scope) -> None:
    value = values("//observation/value[@xsi:type=PQ]", root)[0]
    assert value.datatype == "PQ"
    assert value.path.endswith("/organizer/component(1)/observation/value")
    assert value.part("@unit").text == "mmol/L"
    code = values("//observation/code", root)[0]
    assert code.datatype == "CD"
    assert [part.part("@code").text for part in code.parts("translation")] == ["NA"]
    assert code.part("translation(2)@code").state is ValueState.ABSENT
    assert code.part("translation(2)").part("@code").text == ""
    assert code.part("@code").raw() == b"2951-2"
    assert code.part("@code").path.endswith("/code@code")
    datatypes = {
        "recordTarget/patientRole/id": "II",
        "recordTarget/patientRole/patient/name": "PN",
        "recordTarget/patientRole/patient/birthTime": "TS",
        "effectiveTime": "TS",
        "code": "CE",
        "title": "ST",
        "setId": "II",
        "versionNumber": "INT",
    }
    for path, datatype in datatypes.items():
        compiled = LANGUAGE.path(path, versions=["R2"], within=ROOT)
        assert compiled.datatype == datatype
        assert compiled.read(root)[0].datatype == datatype
    observation_value = LANGUAGE.path("//observation/value", versions=["R2"], within=ROOT)
    assert observation_value.datatype == ""
    assert observation_value.repeats


def test_raw_gives_base64_as_it_stands_and_the_document_as_it_came() -> None:
    data = encoded(
        body="<component><nonXMLBody><text mediaType='application/pdf'"
        " representation='B64'>JVBE\n Ri0x</text></nonXMLBody></component>"
    )
    scope = READER.read([Payload.from_bytes(data)])
    assert values("component/nonXMLBody/text", scope)[0].raw() == b"JVBE\n Ri0x"
    assert values("$", scope)[0].raw() == data
    assert values("ClinicalDocument", scope)[0].raw() == data


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        (
            "ClinicalDocument/recordTarget/patientRol/id",
            "ClinicalDocument/recordTarget/patientRole/id",
        ),
        (
            "recordTarget/patientRole/patient/birthtime",
            "recordTarget/patientRole/patient/birthTime",
        ),
        ("author/id", "author/assignedAuthor/id"),
        ("code@Code", "code@code"),
        ("code@translation", "code/translation"),
        ("id/root", "id@root"),
        ("//observatoin/code", "//observation/code"),
        (
            "recordTarget/patientRole/patient/deceasedInd",
            "recordTarget/patientRole/patient/sdtc:deceasedInd",
        ),
        ("title/uri()", ""),
        ("id/scheme()", ""),
        ("title[@langage=fr]", "title[@language=fr]"),
        ("/recordTarget", "/ClinicalDocument"),
        ("id(0)", "(1)"),
        ("", ""),
        ("code@", ""),
        ("a b", ""),
        ("id(1)[@root=1]", ""),
        ("id[@root=1", ""),
        ("id[@root=]", '""'),
        ("$code", ""),
        ("typeId/text()", ""),
        ("nonsense:code", ""),
        ("x" * 3000, ""),
        ("a[" * 20, ""),
        ("//section[text/text()=x]", ""),
        ("ClinicalDocument(2)/id", ""),
        ("/ClinicalDocument[@classCode=x]/id", ""),
    ],
)
def test_wrong_paths_are_errors_at_load(path: str, suggestion: str) -> None:
    with pytest.raises(PathError) as caught:
        LANGUAGE.path(path, versions=["R2"], within=ROOT)
    assert caught.value.suggestion == suggestion


def test_versions_and_scopes_are_checked_too() -> None:
    with pytest.raises(PathError) as caught:
        LANGUAGE.root(["2.5"])
    assert caught.value.suggestion == "R2"
    for spec in ({"segment": "OBX"}, {}, {"path": "code@code"}, {"path": "//observatoin"}):
        with pytest.raises(PathError):
            LANGUAGE.scope(spec, versions=["R2"], within=ROOT)


def test_the_root_hands_over_its_bytes(root: Scope) -> None:
    assert isinstance(root, WholeSource)
    assert root.source_bytes() == encoded(body=BODY)


def test_one_document_at_a_time() -> None:
    payload = Payload.from_bytes(encoded())
    with pytest.raises(Unreadable):
        READER.read([payload, payload])


def test_facts(root: Scope) -> None:
    assert LANGUAGE.facts(root) == {
        "version": "R2",
        "kind": "11502-2",
        "codeSystem": "2.16.840.1.113883.6.1",
        "templateIds": "1.2.250.1.213.1.1.1.1",
        "id": "1.2.250.1.999.1",
        "setId": "1.2.250.1.999",
        "versionNumber": "1",
        "form": "plain",
    }


def test_deep_and_wide_documents_are_walked_in_bounded_time() -> None:
    nested = "<component><section>" * 90 + "</section></component>" * 90
    wide = "<component><section><code code='x'/></section></component>" * 5_000
    data = (
        f'{HEAD}{TYPE_ID}<id root="1.2.3"/><component><structuredBody>{nested}{wide}'
        f"</structuredBody></component>{TAIL}"
    ).encode()
    scope = READER.read([Payload.from_bytes(data)])
    started = time.perf_counter()
    found = values("//section//section[code=x]", scope) + values("//section[code=x]/code", scope)
    places = [value.path for value in found]
    assert len(places) == 5_000
    assert places[-1].endswith("/component(5001)/section/code")
    assert len(values("//component//component//section", scope)) == 5_090
    assert time.perf_counter() - started < 5


def test_the_schema_knows_every_element_and_attribute_of_the_corpus(shared: Path) -> None:
    known = structure()
    strangers = set()
    for path in sorted((shared / "corpora" / "cda").glob("*.xml")):
        scope = READER.read([Payload.from_file(path)])
        assert isinstance(scope, CdaElement)
        for element in scope.element.below():
            value = CdaElement(scope.reading, element)
            parent = element.parent
            if parent is not None and element is not scope.element:
                above = CdaElement(scope.reading, parent).datatype
                types, _ = known.child([above], name_of(element.tag))
                if not types:
                    strangers.add(f"{above}/{name_of(element.tag)}")
            for attribute in element.attributes:
                if not attribute.startswith("{") and not known.has_attribute(
                    [value.datatype], attribute
                ):
                    strangers.add(f"{value.datatype}@{attribute}")
            assert not value.path.startswith("{" + V3)
    assert not strangers
