"""Paths: what they read, and what is wrong with those that are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.hl7.language import Within
from adapters.hl7.paths import parse
from gateway.ports import PathError, ValueState
from tests.unit.hl7.reading import LANGUAGE, compiled, each, root, state, texts, values

INS = "279035121518989^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS^^20101207"
MESSAGE = root(
    "MSH|^~\\&|LAB^1.2.3^ISO|X|ECLUSE|X|20240101||ORU^R01^ORU_R01|C1|P|2.5^FRA^2.11\n"
    f'PID|1||{INS}~4711^^^HOSP&1.2.3&ISO^PI~A||D\\S\\E&van^JOHN^""^^||19800101|M||""\n'
    "OBR|1|P1|F1|GLU^Glucose^L\n"
    "OBX|1|NM|GLU^Glucose^L||7.0|mmol/l\n"
    "OBX|2|CE|X^Y||A^B&C^D~E\n"
    "OBX|3|TX|N||first & foremost~second^line\n"
    "OBX|4|ED|DOC||^text^XML^Base64^QUJD\n"
    "ZZZ|1|a^b&c"
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("MSH-1", ["|"]),
        ("MSH-2", ["^~\\&"]),
        ("MSH-9.2", ["R01"]),
        ("MSH-3", ["LAB"]),
        ("MSH-3.2", ["1.2.3"]),
        ("MSH-12.1", ["2.5"]),
        ("PID-3", ["279035121518989"]),
        ("PID-3.1", ["279035121518989"]),
        ("PID-3(2).4.2", ["1.2.3"]),
        ("PID-3(*).1", ["279035121518989", "4711", "A"]),
        ("PID-3(5=PI).1", ["4711"]),
        ("PID-3(5 = PI).1", ["4711"]),
        ("PID-3(5 in PI INS).1", ["279035121518989"]),
        ("PID-3(* 5 in PI INS).1", ["279035121518989", "4711"]),
        ("PID-3(5!=INS).1", ["4711"]),
        ("PID-3(* 5 not in PI INS).1", ["A"]),
        ("PID-3(4.2=1.2.250.1.213.1.4.10).1", ["279035121518989"]),
        ("PID-3(5=PI, 4.1=HOSP).1", ["4711"]),
        ("PID-3(5=PI, 4.1=OTHER).1", [""]),
        ('PID-3(5="PI").1', ["4711"]),
        ("PID-3(5=).1", ["A"]),
        ("PID-5.1", ["D^E"]),
        ("PID-5.1.2", ["van"]),
        ("OBX-5", ["7.0"]),
        ("OBX(2)-5.2", ["B&C"]),
        ("OBX(2)-5.2.2", ["C"]),
        ("OBX(2)-5(2)", ["E"]),
        ("OBX(3)-5", ["first & foremost"]),
        ("OBX(3)-5(*)", ["first & foremost", "second^line"]),
        ("OBX(3.1=DOC)-5.5", ["QUJD"]),
        ("OBX(2=ED)-5.4", ["Base64"]),
        ("OBX(*)-1", ["1", "2", "3", "4"]),
        ("OBX(* 2 in NM CE)-3.1", ["GLU", "X"]),
        ("OBX(*)-5(*)", ["7.0", "A", "E", "first & foremost", "second^line", ""]),
        ("ZZZ-2.2.2", ["c"]),
        ("ZZZ-2", ["a^b&c"]),
    ],
)
def test_texts(path: str, expected: list[str]) -> None:
    assert texts(MESSAGE, path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("PID-5.1", ValueState.PRESENT),
        ("PID-5.3", ValueState.NULL),
        ("PID-5.4", ValueState.EMPTY),
        ("PID-5.6", ValueState.ABSENT),
        ("PID-6", ValueState.EMPTY),
        ("PID-6.2", ValueState.ABSENT),
        ("PID-10", ValueState.NULL),
        ("PID-10.1", ValueState.NULL),
        ("PID-10.4", ValueState.NULL),
        ("PID-30", ValueState.ABSENT),
        ("PID-3(9)", ValueState.ABSENT),
        ("PV1-2", ValueState.ABSENT),
        ("OBX(9)-5", ValueState.ABSENT),
        ("OBX(3.1=NONE)-5", ValueState.ABSENT),
    ],
)
def test_the_four_states_stay_apart(path: str, expected: ValueState) -> None:
    assert state(MESSAGE, path) is expected


@pytest.mark.parametrize("path", ["PV1(*)-2", "PID-3(* 5=XX)", "OBX(* 2=ZZ)-5"])
def test_a_star_gives_nothing_when_nothing_is_there(path: str) -> None:
    assert list(values(MESSAGE, path)) == []


@pytest.mark.parametrize(
    ("path", "spelt", "datatype"),
    [
        ("PID-3(5=PI).4.2", "PID-3(2).4.2", "ST"),
        ("PID-3", "PID-3(1)", "CX"),
        ("PID-7", "PID-7", "TS"),
        ("OBX(2)-5", "OBX(2)-5(1)", "CE"),
        ("OBX(3)-5(2)", "OBX(3)-5(2)", "TX"),
        ("OBX(2)-5.1", "OBX(2)-5(1).1", "ST"),
        ("ZZZ-2", "ZZZ-2", ""),
    ],
)
def test_where_a_value_stands_and_its_type(path: str, spelt: str, datatype: str) -> None:
    [value] = values(MESSAGE, path)
    assert (value.path, value.datatype) == (spelt, datatype)


def test_parts_of_a_value() -> None:
    [value] = values(MESSAGE, "PID-3(2)")
    assert value.part("1").text == "4711"
    assert value.part("4.2").text == "1.2.3"
    assert value.part("4").part("2").text == "1.2.3"
    assert value.part("4").text == "HOSP"
    assert value.part("4.2").part("1").text == "1.2.3"
    assert value.part("9").state is ValueState.ABSENT
    assert [part.text for part in value.parts("5")] == ["PI"]
    assert list(value.parts("9")) == []
    for wrong in ("0", "1.2.3"):
        with pytest.raises(ValueError, match="component"):
            value.part(wrong)


def test_raw_bytes_are_as_they_arrived() -> None:
    [value] = values(MESSAGE, "PID-5")
    assert value.raw() == b'D\\S\\E&van^JOHN^""^^'
    accented = root("MSH|^~\\&|||||||ADT^A01|1|P|2.5||||||UNICODE UTF-8\nPID|||||NOËL")
    [name] = values(accented, "PID-5")
    assert name.raw() == "NOËL".encode()


@pytest.mark.parametrize(
    ("path", "says", "suggestion"),
    [
        ("PID-3.14", "CX has 10 components in 2.6", "PID-3.10"),
        ("PID-3.4.9", "HD has 3 components in 2.6", "PID-3.4.3"),
        ("PID-99", "PID has 39 fields in 2.6", "PID-39"),
        ("PIX-3", "no segment PIX", "PID"),
        ("OBX-1.2", "OBX-1 is SI in 2.6 and has no parts", "OBX-1"),
        ("pid-3.1", "not an HL7 v2 path", "PID-3.1"),
        ("PID.3.1", "not an HL7 v2 path", "PID-3.1"),
        ("PID-3-1", "not an HL7 v2 path", "PID-3.1"),
        ("PID-3(5", "not an HL7 v2 path", ""),
        ("PID-0", "not an HL7 v2 path", "PID-0"),
        ("", "not an HL7 v2 path", ""),
        ("PID", "names a segment, not a field", "PID-1"),
        ("PID-3()", "selector", ""),
        ("PID-3(0)", "not a condition", ""),
        ("PID-3(PI)", "not a condition", ""),
        ("PID-3(5=PI INS)", "compares with several values", "PID-3(5 in PI INS)"),
        ("PID-3(5 in)", "names no value", ""),
        ('PID-3(5="PI)', "not well quoted", ""),
        ("PID-3(14=PI)", "CX has 10 components", "PID-3.10"),
        ("PID-3(5.1.1=PI)", "deeper than a subcomponent", ""),
        ("ZZZ-3(5.1.1=PI)", "deeper than a subcomponent", ""),
        ("OBX(99=A)-5", "OBX has 25 fields", "OBX-25"),
        ("$", "there is none", ""),
        ("$.1", "there is none", ""),
    ],
)
def test_wrong_paths(path: str, says: str, suggestion: str) -> None:
    with pytest.raises(PathError) as wrong:
        compiled(path)
    assert says in str(wrong.value)
    assert wrong.value.suggestion in {suggestion, "" if suggestion == "PID-0" else suggestion}


def test_a_path_that_is_right_in_one_declared_version_is_right() -> None:
    assert compiled("PID-32", ["2.3", "2.5"]).text == "PID-32"
    with pytest.raises(PathError, match="PID has 30 fields"):
        compiled("PID-32", ["2.3"])
    with pytest.raises(PathError, match="is ST in"):
        compiled("PID-5.1.2", ["2.3"])
    assert compiled("PID-5.1.2", ["2.3", "2.5"]).datatype == "ST"


def test_segments_of_later_versions_and_z_segments_are_reachable() -> None:
    assert compiled("PRT-15", ["2.5"]).datatype == "XTN"
    assert compiled("ZFA-9.4.2", ["2.5"]).datatype == ""
    with pytest.raises(PathError, match="PRT has"):
        compiled("PRT-99", ["2.5"])


def test_the_type_is_told_when_all_versions_agree() -> None:
    assert compiled("PID-3").datatype == "CX"
    assert compiled("OBX-3").datatype == ""  # CE until 2.5.1, CWE from 2.6
    assert compiled("OBX-3", ["2.6"]).datatype == "CWE"
    assert compiled("PID-3(*)").repeats
    assert not compiled("PID-3(5=PI)").repeats


@pytest.mark.parametrize("versions", [["2.9"], ["2.5", "3.0"]])
def test_unknown_versions(versions: list[str]) -> None:
    with pytest.raises(PathError, match="is not one of"):
        LANGUAGE.root(versions)


def test_the_repetition_at_hand() -> None:
    scopes, kind = each(MESSAGE, path="PID-3")
    assert [scope.path for scope in scopes] == ["PID-3(1)", "PID-3(2)", "PID-3(3)"]
    assert [texts(scope, "$.4.2", kind) for scope in scopes] == [
        ["1.2.250.1.213.1.4.10"],
        ["1.2.3"],
        [""],
    ]
    assert texts(scopes[1], "$", kind) == ["4711"]
    assert texts(scopes[1], "PID-7", kind) == ["19800101"]
    with pytest.raises(PathError, match="CX has 10 components"):
        compiled("$.14", within=kind)


def test_the_repetitions_that_are_walked() -> None:
    assert len(each(MESSAGE, path="PID-3(5=PI)")[0]) == 1
    assert len(each(MESSAGE, path="PID-3(2)")[0]) == 1
    assert len(each(MESSAGE, path="PID-6")[0]) == 0
    assert len(each(MESSAGE, path="PID-10")[0]) == 1  # a null is something to say
    assert len(each(MESSAGE, path="OBX(*)-5")[0]) == 6
    for wrong in ("PID-3.1", "$", "PID"):
        with pytest.raises(PathError, match="not a field"):
            each(MESSAGE, Within("", "PID", 3), path=wrong)


def test_wrong_scopes() -> None:
    with pytest.raises(PathError, match="has no group 'ORDER_OBSERVATON'") as wrong:
        each(MESSAGE, group="ORDER_OBSERVATON")
    assert wrong.value.suggestion == "ORDER_OBSERVATION"
    with pytest.raises(PathError) as prefixed:
        each(MESSAGE, group="ORU_R01_ORDER_OBSERVATION")
    assert prefixed.value.suggestion == "ORDER_OBSERVATION"
    _, observation = each(MESSAGE, group="OBSERVATION")
    with pytest.raises(PathError, match="within OBSERVATION"):
        each(MESSAGE, observation, group="PATIENT")
    with pytest.raises(PathError, match="no segment OBY"):
        each(MESSAGE, segment="OBY")
    with pytest.raises(PathError, match="not the name of a segment"):
        each(MESSAGE, segment="OBX-5")
    with pytest.raises(PathError, match="no scope 'series'"):
        each(MESSAGE, series="1")
    with pytest.raises(PathError, match="one of"):
        each(MESSAGE, series="1", group="A")


@given(st.text(max_size=30))
def test_any_text_is_a_path_or_a_path_error(text: str) -> None:
    try:
        path = parse(text)
    except PathError:
        return
    assert path.text == text.strip()


PLAIN_PATHS = (
    "MSH-3", "MSH-3.2", "MSH-9.2", "MSH-10", "PID-2", "PID-3", "PID-3.1", "PID-3.4.2", "PID-3.4",
    "PID-5", "PID-5.1", "PID-5.1.1", "PID-5.1.2", "PID-5.2", "PID-5.3", "PID-8", "PID-9", "PID-30.1",
    "OBR-4.2", "OBX-2", "OBX-5", "OBX-5.1", "OBX-5.2", "OBX-6.1", "NTE-3", "ZZZ-1.2",
)  # fmt: skip
WRITTEN = st.lists(
    st.sampled_from(
        ["", '""', "a", " b ", "D\\S\\E", "\\F\\", "x&y", "&z", "NM", "é", "^", "^c", "~"]
    ),
    min_size=40,
    max_size=40,
)


def written(fields: list[str]) -> str:
    return (
        f"MSH|^~\\&|{fields[0]}|X|ECLUSE|X|20240101||ORU^R01^ORU_R01|C1|P|2.5\n"
        f"PID|1|{'|'.join(fields[1:9])}\nOBR|1|P1|F1|{fields[9]}{fields[10]}\n"
        f"OBX|1|{fields[11]}|GLU||{fields[12]}{fields[13]}|{fields[14]}\nNTE|1||{fields[15]}\n"
        f"ZZZ|{fields[16]}^{fields[17]}"
    )


@settings(max_examples=40, deadline=None)
@given(WRITTEN)
def test_the_quick_way_to_a_text_gives_the_text_of_the_first_value(fields: list[str]) -> None:
    place = root(written(fields))
    for path in PLAIN_PATHS:
        found = compiled(path)
        assert found.text_of is not None
        (value,) = found.read(place)
        expected = value.text if value.state is ValueState.PRESENT else ""
        assert found.text_of(place) == expected, path
    for path in ("MSH-1", "MSH-2", "PID-3(2)", "PID-3(*)", "PID-3(5=PI)", "NTE(*)-3"):
        assert compiled(path).text_of is None, path


@settings(max_examples=25, deadline=None)
@given(WRITTEN)
def test_one_look_at_several_paths_tells_what_each_tells(fields: list[str]) -> None:
    place = root(written(fields))
    paths = [compiled(path) for path in (*PLAIN_PATHS, "PID-3(5=PI).1", "NTE(*)-3(*)", "OBR-49")]
    look = LANGUAGE.contents(paths)
    scopes = [place, *each(place, segment="OBX")[0], *each(place, group="ORDER_OBSERVATION")[0]]
    for scope in scopes * 2:  # the second time by the places that are known
        for path, token in zip(paths, look(scope), strict=True):
            assert path.content is not None
            told = path.content(scope)
            if isinstance(told, tuple) and told != token:
                # By itself a content names the profile too, which all that are compared share.
                told = told[1:] if len(told) > 2 else told[1]
            assert token == told, path.text


@settings(max_examples=40, deadline=None)
@given(WRITTEN, WRITTEN)
def test_values_of_one_key_have_the_same_parts(one: list[str], other: list[str]) -> None:
    for path in ("PID-3", "PID-5", "PID-8"):
        for read in (frozenset[int](), frozenset({1}), frozenset({2, 4})):
            pair = [compiled(path).read(root(written(fields)))[0] for fields in (one, other)]
            keys = [value.masked(read) for value in pair]
            if keys[0] is None or keys[1] is None or keys[0][0] != keys[1][0]:
                continue
            for number in range(1, 6):
                parts = [value.part(str(number)) for value in pair]
                assert parts[0].state is parts[1].state
                plain = keys[0][1][number - 1] if number <= len(keys[0][1]) else None
                if number in read or not plain:
                    assert parts[0].text == parts[1].text
                else:
                    assert parts[0].text == plain
                below = [value.part(f"{number}.2").state for value in pair]
                assert below[0] is below[1]
