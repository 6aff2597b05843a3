"""What became of every value of a message: the measure that docs/coverage.md defines."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.dicom.notation import study_files
from gateway.inventory import Leaf
from gateway.mapping import Library, MappingContext
from gateway.model import Cause, Format, Payload
from gateway.workbench.examining import Bench, Examined, examine
from gateway.workbench.happenings import Outcome
from gateway.workbench.retention import Fate, settle
from tests.unit.workbench.bench import CONTEXT, ORU, bench, examined

HEAD = r"MSH|^~\&|LAB|X|ECLUSE|X|20240101120000||ADT^A01^ADT_A01|1|P|2.5"

MAPPING = """\
mapping: test.adt
version: "1"
source: {{format: hl7v2, versions: ["2.5"], match: {{MSH-9.1: [ADT]}}}}
defaults: {{invalid: flag, unknown: flag}}
entries:
  - resource: Patient
    id: {{key: [PID-3.1], authority: worldwide}}
    set:
{rules}
{more}
"""


def leaves_of(message: str) -> dict[str, Leaf]:
    root = bench().readers[Format.HL7V2].read([Payload.from_bytes(message.encode())])
    return {leaf.path: leaf for leaf in bench().inventories[Format.HL7V2].leaves(root)}


def fates(found: Examined, wanted: Bench | None = None) -> dict[str, Fate]:
    part = found.parts[0]
    inventory = (wanted or bench()).inventories[part.format]
    return {settled.leaf.path: settled.fate for settled in settle(part, Outcome(found), inventory)}


def with_rules(folder: Path, rules: str, more: str, *lines: str) -> dict[str, Fate]:
    """The fates under a mapping of the test's own."""
    text = MAPPING.format(rules="\n".join(f"      {r}" for r in rules.splitlines()), more=more)
    (folder / "test.yaml").write_text(text)
    (folder / "colours.yaml").write_text(
        "table: colours\nversion: '1'\nsource: here\nlicence: CC0\nrows: {M: male}\n"
    )
    from gateway.formats import languages

    own = Bench(
        readers=bench().readers,
        library=Library.load([folder], languages()),
        inventories=bench().inventories,
    )
    message = "\r".join((HEAD, *lines, ""))
    found = examine(own, Format.HL7V2, [Payload.from_bytes(message.encode())], CONTEXT)
    assert not isinstance(found, Cause), found
    return fates(found, own)


def test_hl7_leaves_are_the_smallest_pieces_without_separators_and_set_ids() -> None:
    found = leaves_of(HEAD + '\rPID|1||42^^^CHU&1.2&ISO~77||A^B||""|\rZFD|x^y|\rOBX|1|ST|c||a^b\r')
    assert "MSH-1" not in found
    assert "MSH-2" not in found
    assert "PID-1" not in found
    assert {"PID-3(1).1", "PID-3(1).4.1", "PID-3(1).4.2", "PID-3(2)", "PID-5.1", "PID-7"} <= set(
        found
    )
    assert {"ZFD-1.1", "ZFD-1.2"} <= set(found)
    assert found["PID-3(1).4.2"].generic == "PID-3.4.2"
    assert "PID-4" not in found


def test_a_value_read_as_text_is_only_its_first_part(tmp_path: Path) -> None:
    found = with_rules(tmp_path, "maritalStatus: {set: {text: PID-16}}", "",
                       "PID|||1|||||||||||||S^Single")  # fmt: skip
    assert found["PID-16.1"] is Fate.MAPPED
    assert found["PID-16.2"] is Fate.LOST
    assert found["PID-3"] is Fate.MAPPED, "the key of the id"
    assert found["MSH-9.1"] is Fate.MAPPED, "it chose the mapping"
    assert found["MSH-9.2"] is Fate.LOST


@pytest.mark.parametrize(
    ("rules", "field", "fate"),
    [
        ("gender: {from: PID-8, table: colours}", "M", Fate.MAPPED),
        ("gender: {from: PID-8, table: colours}", "X", Fate.LOST),
        ("birthDate: {from: PID-8}", "never", Fate.LOST),
        ('active: {const: "true", when: "PID-8 = M", reason: "so it is"}', "M", Fate.MAPPED),
        ('active: {const: "true", when: "PID-8 = M", reason: "so it is"}', "X", Fate.LOST),
        ('birthDate: {from: PID-7, when: "PID-8 = M"}', "M", Fate.LOST),
        ("birthDate: {from: PID-8}", '""', Fate.MAPPED),
        ("active: {switch: PID-8, cases: {M: {const: 'true', reason: x}, else: {skip: no}}}", "M",
         Fate.MAPPED),
        ("active: {switch: PID-8, cases: {M: {const: 'true', reason: x}, else: {skip: no}}}", "F",
         Fate.LOST),
        ("birthDate: {first: [PID-7, PID-8]}", "1988", Fate.LOST),
        ("name: [{set: {family: PID-8, period: {set: {start: PID-33}, missing: drop}}}]", "A",
         Fate.LOST),
    ],
)  # fmt: skip
def test_what_counts_as_mapped(tmp_path: Path, rules: str, field: str, fate: Fate) -> None:
    found = with_rules(tmp_path, rules, "", f"PID|||1||||1988|{field}")
    assert found["PID-8"] is fate


def test_ignored_says_why_and_only_where_its_condition_holds(tmp_path: Path) -> None:
    more = """\
ignore:
  - {path: NK1, reason: "no kin"}
  - {path: OBX-14, when: "OBX-14 same as OBX-19", reason: "the same instant"}
"""
    found = with_rules(
        tmp_path, "birthDate: PID-7", more, "PID|||1", "NK1|1|A^B",
        "OBX|1|ST|c||a||||||F|||2024|||||2024", "OBX|2|ST|c||a||||||F|||2024|||||2025",
    )  # fmt: skip
    assert found["NK1-2.1"] is Fate.IGNORED
    assert found["OBX(1)-14"] is Fate.IGNORED
    assert found["OBX(2)-14"] is Fate.LOST
    assert found["OBX(1)-19"] is Fate.LOST


def test_what_an_earlier_entry_contradicts_is_lost_and_what_it_says_too_is_kept(
    tmp_path: Path,
) -> None:
    more = """\
  - resource: Practitioner
    each: PV1-7(*)
    id: {key: [$.1], authority: worldwide, repeated: same}
    set: {name: [{set: {family: $.2, given: [$.3]}}]}
"""
    found = with_rules(tmp_path, "birthDate: PID-7", more, "PID|||1", "PV1||I|||||9^A^B~9^A^C")
    assert found["PV1-7(1).2"] is Fate.MAPPED
    assert found["PV1-7(2).2"] is Fate.MAPPED
    assert found["PV1-7(2).3"] is Fate.LOST


def test_the_shipped_mapping_keeps_the_result_and_flags_what_it_cannot() -> None:
    found = fates(examined(ORU))
    assert found["OBX(1)-5"] is Fate.MAPPED
    assert found["OBX(1)-6"] is Fate.MAPPED
    assert found["OBX(1)-7"] is Fate.MAPPED
    assert found["OBX(2)-5"] is Fate.MAPPED, "the text stands instead"
    assert found["PID-31"] is Fate.LOST


CDA = """\
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
  <id root="1.2.3" extension="x"/>
  <code code="11502-2" codeSystem="2.16.840.1.113883.6.1"/>
  <title>CR</title>
  <component><structuredBody><component><section><title>T</title><text><paragraph ID="a">words
  </paragraph></text><entry><observation classCode="OBS" moodCode="EVN"><code code="1"/><value
  xsi:type="PQ" value="1.0" unit="g"/></observation></entry></section></component></structuredBody>
  </component>
</ClinicalDocument>
"""


def test_cda_leaves_are_attributes_and_words_outside_the_narrative() -> None:
    root = bench().readers[Format.CDA].read([Payload.from_bytes(CDA.encode())])
    inventory = bench().inventories[Format.CDA]
    found = {leaf.generic: leaf for leaf in inventory.leaves(root)}
    assert "ClinicalDocument/title/text()" in found
    assert "ClinicalDocument//section/title/text()" in found
    assert "ClinicalDocument//section/entry/observation/value@xsi:type" in found
    assert not [path for path in found if "section/text" in path]
    every = inventory.covers("ClinicalDocument//*@classCode", root)
    assert every(found["ClinicalDocument//section/entry/observation@classCode"])
    assert not every(found["ClinicalDocument//section/entry/observation@moodCode"])
    below = inventory.covers("ClinicalDocument//observation", root)
    assert below(found["ClinicalDocument//section/entry/observation/value@unit"])
    leaf = found["ClinicalDocument/id@extension"]
    assert leaf.heard == len(leaf.key) - 1, "the text of the id is its extension"
    [key] = inventory.places("ClinicalDocument/id/uri()", root)
    assert key == found["ClinicalDocument/id@root"].key


def test_dicom_leaves_are_values_that_instances_share_once() -> None:
    text = """\
PatientName = TESTARD^Zoé
PatientID = 1
StudyInstanceUID = 2.999.1
ImageType = ORIGINAL\\PRIMARY
---
SOPClassUID = 1.2.840.10008.5.1.4.1.1.2
SeriesInstanceUID = 2.999.1.1
SOPInstanceUID = 2.999.1.1.1
ProcedureCodeSequence(1).CodeValue = ZB
---
SOPClassUID = 1.2.840.10008.5.1.4.1.1.2
SeriesInstanceUID = 2.999.1.1
SOPInstanceUID = 2.999.1.1.2
"""
    root = bench().readers[Format.DICOM].read(study_files(text))
    inventory = bench().inventories[Format.DICOM]
    generic = [leaf.generic for leaf in inventory.leaves(root)]
    assert generic.count("PatientName.FamilyName") == 1
    assert generic.count("SOPInstanceUID") == 2
    assert generic.count("ImageType") == 2
    assert "ProcedureCodeSequence.CodeValue" in generic
    by_path = {leaf.path: leaf for leaf in inventory.leaves(root)}
    [second] = inventory.places("series(1)/instance(2)/SOPInstanceUID", root)
    assert by_path["series(1)/instance(2)/SOPInstanceUID"].key[: len(second)] == second
    [name] = inventory.places("PatientName.GivenName", root)
    assert by_path["series(1)/instance(1)/PatientName.GivenName"].key == name
    assert inventory.covers("ProcedureCodeSequence", root)(
        by_path["series(1)/instance(1)/ProcedureCodeSequence(1).CodeValue"]
    )


def test_context_of_a_source_is_used() -> None:
    found = examine(
        bench(), Format.HL7V2, [Payload.from_bytes(ORU.encode())],
        MappingContext(source="lab", authorities={"CHU": "1.2.250.1.999"}),
    )  # fmt: skip
    assert not isinstance(found, Cause)
    [patient] = [e for e in found.mapped.entries if e.resource["resourceType"] == "Patient"]
    assert patient.resource["identifier"][0]["system"] == "urn:oid:1.2.250.1.999"
