"""Profile files: their language, their errors, what they find, what they let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.hl7.charset import UTF_8
from adapters.hl7.conformance import Finding
from adapters.hl7.message import Message
from adapters.hl7.profile_files import ProfileError
from adapters.hl7.profile_model import Profile, bounds
from adapters.hl7.requirements import Requirements
from adapters.hl7.scopes import MessageScope
from adapters.hl7.site_profiles import load_profile
from gateway.model import CauseCode

LINES = [
    "MSH|^~\\&|A|B|C|D|20260101||ORU^R01^ORU_R01|1|P|2.5",
    "PID|1||111^^^X&1.2.3&ISO^INS~22^^^Y&2.999&ISO^PI||DOE^JANE|||F||||||||||||||||||||||||VALI",
    "OBR|1|||A^B^LN",
    "OBX|1|NM|1-1^A^LN||5.1||||||F",
    "OBX|2|ST|2-2^B^L||text~more||||||P",
    'OBX|3|ST|||""',
]
MESSAGE = "\r".join(LINES).encode()


def profile(folder: Path, text: str) -> Path:
    path = folder / "site.profile.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def rules(folder: Path, text: str, message: bytes = MESSAGE) -> list[Finding]:
    whole = f"profile: site\ntables: {{own: [F, M], '0085': [Q]}}\nmessages:\n  ORU:\n    {text}\n"
    return list(load_profile(profile(folder, whole)).check(MessageScope(Message.read(message))))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("PV1: {required: true}", [("PV1", "100")]),
        ("PID: {required: true, occurs: 1}", []),
        ("OBX: {occurs: ..2}", [("OBX", "198")]),
        ("OBX: {forbidden: true}", [("OBX", "198")]),
        ("PV1: {forbidden: true}", []),
        ("OBX-11: {required: true}", [("OBX(3)-11", "101")]),
        ("OBX(2)-11: {required: true}", []),
        ("OBX(2=NM)-11: {required: true, values: [C]}", [("OBX(1)-11", "103")]),
        ("OBX-3.1: {required: true}", [("OBX(3)-3", "101")]),
        ("OBX-3.3: {values: [LN]}", [("OBX(2)-3.3", "103")]),
        ("OBX-5: {occurs: 1}", [("OBX(2)-5", "198")]),
        ("OBX-5: {length: 4..}", [("OBX(1)-5", "102")]),
        ("OBX-5: {type: NM}", [("OBX(2)-5(1)", "102"), ("OBX(2)-5(2)", "102")]),
        ("OBX-11: {table: '0085'}", []),
        ("OBX-11: {table: own}", [("OBX(2)-11", "103")]),
        ("PID-3: {occurs: 3..*}", [("PID-3", "198")]),
        ("PID-3(5=INS).4.2: {starts_with: 1.2.250.}", [("PID-3(1).4.2", "102")]),
        ("PID-3(5=NSS): {required: true}", [("PID-3", "101")]),
        ("PID-3.4.2: {type: oid}", []),
        ("PID-3.1: {type: digits, length: ..2}", [("PID-3(1).1", "102")]),
        ("PID-5.1: {type: letters}", []),
        ("PID-5.3: {required: true}", [("PID-5.3", "101")]),
        ("PID-8: {forbidden: true}", [("PID-8", "198")]),
        ("PID-19: {forbidden: true}", []),
        ("PID-7: {type: DTM}", []),
        ("PV1-2: {required: true}", []),  # of a segment that is not there nothing is said
        ("ZBE-1: {required: true}", []),
        ("PID-8: {values: [M], code: '204', note: Le sexe}", [("PID-8", "204")]),
    ],
)
def test_rules(tmp_path: Path, rule: str, expected: list[tuple[str, str]]) -> None:
    assert [(each.location, each.code) for each in rules(tmp_path, rule)] == expected


def test_findings_say_who_asks_and_never_the_value(tmp_path: Path) -> None:
    [found] = rules(tmp_path, "PID-5.1: {values: [SMITH], severity: warning}")
    assert found.rule == f"{tmp_path / 'site.profile.yaml'}:5:5"
    assert (found.severity, found.written) == ("warning", "DOE")
    assert "DOE" not in found.text
    [noted] = rules(tmp_path, "PID-5.1: {values: [SMITH], note: Le nom manque}")
    assert noted.text == "Le nom manque"


def test_the_narrowest_type_wins(tmp_path: Path) -> None:
    path = profile(
        tmp_path,
        "profile: x\nmessages:\n"
        "  '*': {PID-8: {values: [A]}, PID-5: {required: true}}\n"
        "  ORU: {PID-8: {values: [B]}}\n"
        "  ORU^R01: {PID-8: {values: [F]}}\n"
        "  ADT: {PID-8: {forbidden: true}}\n",
    )
    assert list(load_profile(path).check(MessageScope(Message.read(MESSAGE)))) == []


def test_a_profile_for_other_versions_says_nothing(tmp_path: Path) -> None:
    path = profile(
        tmp_path, "profile: x\nversions: ['2.6']\nmessages: {'*': {PV1: {required: yes}}}"
    )
    assert list(load_profile(path).check(MessageScope(Message.read(MESSAGE)))) == []
    newer = MESSAGE.replace(b"|2.5", b"|2.6")
    assert len(list(load_profile(path).check(MessageScope(Message.read(newer))))) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ":1:1: a profile is a map"),
        ("- a", ":1:1: a profile is a map"),
        ("profile: x\n", "messages: Field required"),
        ("profile: x\nmessages: {ORU: {}}\nmesages: 1", ":3:1: mesages: there is no such key (did you mean messages?)"),
        ("profile: x\nmessages:\n  ORU:\n    PDI-3: {required: yes}", ":4:5: HL7 2.1 to 2.8.2 has no segment PDI"),
        ("profile: x\nmessages:\n  ORU:\n    PID-99: {required: yes}", ":4:5: PID has 40 fields"),
        ("profile: x\nmessages:\n  ORU:\n    pid.3: {required: yes}", "did you mean PID-3?"),
        ("profile: x\nmessages:\n  ORU:\n    $: {required: yes}", "begins with a segment"),
        ("profile: x\nmessages:\n  oru:\n    PID: {required: yes}", ":3:3: messages.oru: a message type is written"),
        ("profile: x\nmessages:\n  ORU:\n    PID: {reqired: yes}", ":4:11: messages.ORU.PID.reqired: there is no such key (did you mean required?)"),
        ("profile: x\nmessages:\n  ORU:\n    PID: {required: perhaps}", ":4:11: messages.ORU.PID.required"),
        ("profile: x\nmessages:\n  ORU:\n    PID: {severity: error}", "the rule asks for nothing"),
        ("profile: x\nmessages:\n  ORU:\n    PID: {occurs: 3..1}", "ends before it begins"),
        ("profile: x\nmessages:\n  ORU:\n    PID: {occurs: many}", "how many is written"),
        ("profile: x\nmessages:\n  ORU:\n    PID: {length: 3}", ":4:11: length is for fields"),
        ("profile: x\nmessages:\n  ORU:\n    PID-3.1: {occurs: 3}", "components do not repeat"),
        ("profile: x\nmessages:\n  ORU:\n    PID-8: {table: own}", ":4:13: there is no table own"),
        ("profile: x\nmessages:\n  ORU:\n    PID-8: {table: '9999'}", "there is no table 9999"),
        ("profile: x\nmessages:\n  ORU:\n    PID-8: {forbidden: yes, type: NM}", "no other constraint"),
        ("profile: x\nmessages:\n  ORU:\n    PID-8: {values: [A], code: '999'}", "a code of HL7 table 0357"),
        ("profile: x\nprofile: y\nmessages: {}", ":2:1: profile stands twice"),
        ("profile: x\nversions: ['2.55']\nmessages: {}", "did you mean 2.5"),
        ("profile: &a x\nmessages: {}", "anchors are not taken"),
        ("profile: [x\nmessages: {}", "not YAML"),
        ("profile: x\n\tmessages: {}", "not YAML"),
        ("profile: x\nmessages: {? [a] : b}", "a key must be a plain word"),
        ("a: " + "[" * 200 + "]" * 200, "deeper"),
        ("profile: \x07", "not YAML"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_column(tmp_path: Path, text: str, problem: str) -> None:
    path = profile(tmp_path, text)
    with pytest.raises(ProfileError) as wrong:
        load_profile(path)
    assert any(problem in line and line.startswith(str(path)) for line in wrong.value.problems), (
        wrong.value.problems
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for data in (b"\xff", b"x" * (2 << 20)):
        (tmp_path / "p").write_bytes(data)
        with pytest.raises(ProfileError):
            load_profile(tmp_path / "p")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "missing")


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    path = profile(
        tmp_path,
        "profile: x\nmessages:\n  ORU:\n    PDI: {required: yes}\n    PIX: {required: yes}",
    )
    with pytest.raises(ProfileError) as wrong:
        load_profile(path)
    assert len(wrong.value.problems) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", (3, 3)), ("1..3", (1, 3)), ("2..*", (2, -1)), ("2..", (2, -1)), ("..20", (0, 20))],
)
def test_ranges(text: str, expected: tuple[int, int]) -> None:
    assert bounds(text) == expected


def test_the_shipped_example_loads_and_its_schema_describes_it(repository: Path) -> None:
    compiled = load_profile(repository / "docs" / "examples" / "laboratory.profile.yaml")
    assert compiled.profile.profile == "laboratory"
    schema = Profile.model_json_schema()
    assert set(compiled.profile.model_fields_set) <= set(schema["properties"])
    assert all(each.get("description") for each in schema["$defs"]["Rule"]["properties"].values())


def test_at_the_door(tmp_path: Path) -> None:
    path = profile(
        tmp_path,
        "profile: site\nmessages:\n  ORU:\n    PID-8: {values: [M]}\n    PID-7: {required: true}\n"
        "    PID-5: {length: ..1, severity: warning}\n",
    )
    refuse = Requirements.of(path, "refuse")
    assert refuse is not None
    cause = refuse.judge(MESSAGE, UTF_8.name).refusal
    assert cause is not None
    assert (cause.code, cause.location, cause.protocol_code) == (
        CauseCode.PROFILE_VIOLATED, "PID-8", "103",
    )  # fmt: skip
    assert cause.detail == "PID-8 is none of the values that are taken (profile site, and 1 more)"
    flag = Requirements.of(path, "flag")
    assert flag is not None
    judged = flag.judge(MESSAGE, UTF_8.name)
    assert judged.refusal is None
    assert judged.attributes == {"profile": "site: PID-8 103; PID-7 101; PID-5 102"}
    fine = refuse.judge(MESSAGE.replace(b"|||F|", b"||2026|M|"), UTF_8.name)
    assert fine.refusal is None
    assert fine.attributes == {"profile": "site: PID-5 102"}
    assert Requirements.of(None, "refuse") is None


def test_the_grammar_at_the_door(tmp_path: Path) -> None:
    path = profile(tmp_path, "profile: strict\ngrammar: yes\nmessages: {}\n")
    strict = Requirements.of(path, "refuse")
    assert strict is not None
    cause = strict.judge(MESSAGE, UTF_8.name).refusal
    assert cause is not None
    assert cause.protocol_code == "103"
    assert cause.location == "PID-3(1).5"
