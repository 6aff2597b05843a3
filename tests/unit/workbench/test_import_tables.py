"""``ecluse mapping import`` on small tables and on those that HL7 publishes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli.application import main
from gateway.deployment.loading import checked_mappings
from gateway.formats import languages, readers
from gateway.mapping import Library, MappingContext, packaged_mappings
from gateway.model import Format, Payload
from gateway.workbench.importing import TablesUnreadable, import_tables
from gateway.workbench.importing.rows import read_tables

_HEAD = (
    "HL7 v2,,,,,,Condition (IF True),,,HL7 FHIR,,,,,,,,,Comments\n"
    "Sort Order,Identifier,Name,Data Type,Cardinality - Min,Cardinality - Max,Computable ANTLR,"
    "Computable FHIRPath,Narrative,FHIR Attribute,,Data Type,Cardinality - Min,Cardinality - Max,"
    'Data Type Mapping,"Vocabulary Mapping\n(IS, ID, CE, CNE, CWE)",Assignment,,\n'
)
_SEGMENT = _HEAD + (
    "3,PID-3,Identifiers,CX,1,-1,,,,identifier[2],,Identifier,0,-1,CX[Identifier],,,,\n"
    "7,PID-7,Birth,DTM,0,1,,,,birthDate,,date,0,1,,,,,\n"
    "8,PID-8,Sex,CWE,0,1,,,,gender,,code,0,1,CWE[code],AdministrativeSex,,,\n"
    "13,PID-13,Phone,XTN,0,-1,,,,telecom[1],,ContactPoint,0,-1,XTN[ContactPoint],,,,\n"
    '13,PID-13,Phone,XTN,0,-1,IF PID-13.2 IS NOT VALUED,,,telecom[1].use,,,,,,,"""home""",,\n'
    '19,PID-19,SSN,ST,0,1,,,If in the US,identifier[4].type.text,,,,,,,"""SS""",,\n'
    "20,PID-99,None,ST,0,1,,,,language,,code,0,1,,,,,\n"
    "21,PID-30,Death,ID,0,1,,,,deathSign,,boolean,0,1,,,,,\n"
)
_CX = _HEAD + (
    "1,CX.1,ID,ST,0,1,,,,value,,string,,,,,,,\n"
    "5,CX.5,Type,ID,0,1,,,,type.coding.code,,code,,,,IdentifierType,,,\n"
)
_XTN = _HEAD + (
    "1,XTN.1,Phone,ST,0,1,,,,value,,string,,,,,,,\n2,XTN.2,Use,ID,0,1,,,,use,,code,,,,,,,\n"
)
_CWE = _HEAD + (
    "1,CWE.1,ID,ST,0,1,,,,$value,,code,,,,,,,\n"
    "4,CWE.4,ID,ST,0,1,IF CWE.1 NOT VALUED,,,$value,,code,,,,,,,\n"
)
_CODES = (
    "HL7 v2,,,Condition (IF True),,,HL7 FHIR,,,,,Comments\n"
    "Code,Text,Code System,Computable ANTLR,Computable FHIRPath,Narrative,Code,,Display,"
    "Code System,,\n"
    "F,Female,HL70001,,,,female,,Female,http://hl7.org/fhir/administrative-gender,,\n"
    "M,Male,HL70001,,,,male,,Male,http://hl7.org/fhir/administrative-gender,,\n"
    "X,Odd,HL70001,,,,odd,,Odd,http://hl7.org/fhir/administrative-gender,,\n"
    "Z,None,HL70001,,,,,,,,,\n"
)
_MESSAGE = (
    "HL7 v2,,,,,,Condition (IF True),,,HL7 FHIR,,,,Comments\n"
    "Sort Order,Identifier,Syntax,Name,Cardinality - Min,Cardinality - Max,Computable ANTLR,"
    "Computable FHIRPath,Narrative,Primary Target,Segment Map,References,,\n"
    "1,ADT_A01.MSH,MSH,Header,1,1,,,,Bundle,MSH[Bundle],,,\n"
    "3,ADT_A01.PID,PID,Patient,1,1,,,,Patient[1],PID[Patient],,,\n"
)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    for name, text in {
        "messages/HL7_Message_-_FHIR_R4__ADT_A01_-_Sheet1.csv": _MESSAGE,
        "segments/HL7_Segment_-_FHIR_R4__PID_Patient_-_PID.csv": _SEGMENT,
        "datatypes/HL7_Data_Type_-_FHIR_R4__CX_Identifier_-_Sheet1.csv": _CX,
        "datatypes/HL7_Data_Type_-_FHIR_R4__XTN_ContactPoint_-_Sheet1.csv": _XTN,
        "datatypes/HL7_Data_Type_-_FHIR_R4__CWE_code_-_Sheet1.csv": _CWE,
        "codesystems/HL7_Concept_Map__AdministrativeSex_-_Sheet1.csv": _CODES,
    }.items():
        path = tmp_path / "tables" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "tables"


def test_small_tables_make_a_mapping_that_runs(tables: Path, tmp_path: Path) -> None:
    made = import_tables(tables, languages(), sender="LABO")
    assert made.findings == ()
    made.write(tmp_path / "out")
    library = Library.load(
        [packaged_mappings(), tmp_path / "out"], languages(), checked=checked_mappings()
    )
    text = (
        "MSH|^~\\&|LABO|HOSP|X|Y|20240101||ADT^A01^ADT_A01|1|P|2.5\r"
        "PID|1||77^^^A&1.2.3&ISO^PI||X||19800102|^^^F|||||0612345678~0698^WPN\r"
    )
    root = readers()[Format.HL7V2].read([Payload.from_bytes(text.encode())])
    program = library.match(root, Format.HL7V2)
    assert program is not None
    assert program.name == "v2-to-fhir.ADT_A01"
    (patient,) = [entry.resource for entry in program.run(root, MappingContext(source="x")).entries]
    assert patient["gender"] == "female"  # CWE.4, because CWE.1 is not valued
    assert patient["birthDate"] == "1980-01-02"
    assert patient["identifier"][0]["value"] == "77"
    assert [each["value"] for each in patient["telecom"]] == ["0612345678", "0698"]
    assert patient["telecom"][0]["use"] == "home"


def test_what_is_left_out_is_listed_with_its_reason(tables: Path) -> None:
    todo = import_tables(tables, languages(), sender="LABO").todo.tasks()
    found = {(task.kind, task.source): task for task in todo}
    assert found["condition", "PID-19"].text == "If in the US"
    assert "PID has" in found["path", "PID-99"].reason
    assert "deathSign" in found["target", "PID-30"].reason
    reasons = {task.reason: task.text for task in todo if task.kind == "vocabulary"}
    assert reasons["odd is not of the codes that R4 binds there"] == "X"
    assert reasons["the table gives no FHIR code"] == "Z"
    assert "IdentifierType" in found["vocabulary", "CX.5"].reason
    assert found["entry", "ADT_A01.MSH"].row == 3


def test_the_same_tables_give_the_same_files(tables: Path) -> None:
    first = import_tables(tables, languages(), sender="LABO")
    second = import_tables(tables, languages(), sender="LABO")
    assert first.files == second.files


def test_the_command(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["mapping", "import", str(tables), "--out", str(out), "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["counts"]["messages"] == 1
    assert told["counts"]["conditions_of_prose"] == 1
    listed = json.loads((out / "todo.json").read_text(encoding="utf-8"))
    assert len(listed["tasks"]) == told["counts"]["tasks"]
    assert "PID-19" in (out / "todo.md").read_text(encoding="utf-8")
    assert main(["mapping", "check", "--no-twins", str(out)]) == 0
    assert main(command) == 2
    assert "--replace" in capsys.readouterr().err
    assert main([*command, "--replace"]) == 0


def test_a_folder_without_tables(tmp_path: Path) -> None:
    with pytest.raises(TablesUnreadable, match="no folder messages"):
        read_tables(tmp_path)
    assert main(["mapping", "import", str(tmp_path), "--out", str(tmp_path / "out")]) == 2


def test_a_file_that_is_no_text(tables: Path) -> None:
    next((tables / "segments").iterdir()).write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(TablesUnreadable, match="UTF-8"):
        read_tables(tables)


def test_the_published_tables_are_read_whole(shared: Path) -> None:
    found = read_tables(shared / "corpora" / "v2-to-fhir")
    assert found.files == 292
    assert found.rows > 9_000
    assert found.narrative_conditions() == 173


def test_the_published_tables_make_results_of_a_message(shared: Path, tmp_path: Path) -> None:
    """ORU^R01 with the segments of a result, from HL7's own files, as the record takes it."""
    from gateway.mapping.r4.checker import Checker

    source = shared / "corpora" / "v2-to-fhir" / "mappings"
    chosen = {
        "messages": ["*ORU_R01*"], "segments": ["*PID_Patient*", "*OBR_DiagnosticReport*",
        "*ORC_DiagnosticReport*", "*OBX_Observation_-*"], "datatypes": ["*"], "codesystems": ["*"],
    }  # fmt: skip
    for kind, patterns in chosen.items():
        (tmp_path / "tables" / kind).mkdir(parents=True)
        for pattern in patterns:
            for path in (source / kind).glob(pattern):
                (tmp_path / "tables" / kind / path.name).symlink_to(path)
    made = import_tables(tmp_path / "tables", languages(), sender="LABO")
    assert [each for each in made.findings if each.severity == "error"] == []
    made.write(tmp_path / "out")
    library = Library.load([tmp_path / "out"], languages())
    text = (
        "MSH|^~\\&|LABO|HOSP|X|Y|20240101||ORU^R01^ORU_R01|1|P|2.5\r"
        "PID|1||123^^^HOSP&1.2.3&ISO^PI||DUPONT^JEAN||19800101|M\r"
        "ORC|RE|P1|F1\r"
        "OBR|1|P1|F1|CBC^Count^L|||20240101100000+0100|||||||||||||||20240101110000+0100|||F\r"
        "OBX|1|NM|HB^Hemoglobin^L||13.50|g/dL^^UCUM|13-17|N|||F|||20240101100000+0100\r"
        "OBX|2|ST|C^Comment^L||lipemic||||||F\r"
    )
    root = readers()[Format.HL7V2].read([Payload.from_bytes(text.encode())])
    program = library.match(root, Format.HL7V2)
    assert program is not None
    mapped = program.run(root, MappingContext(source="x", zone="Europe/Paris"))
    kinds = [entry.resource["resourceType"] for entry in mapped.entries]
    assert kinds.count("Observation") == 2
    values = [entry.resource for entry in mapped.entries if "valueQuantity" in entry.resource]
    assert values[0]["valueQuantity"]["value"] == "13.50"
    assert values[0]["valueQuantity"]["code"] == "g/dL"
    assert values[0]["subject"]["reference"].startswith("Patient/")
    checker = Checker.load()
    assert [problem for entry in mapped.entries for problem in checker.check(entry.resource)] == []
