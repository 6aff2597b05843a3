"""HPRIM Santé: separators, continuation, comments, files of several patients, faults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hprim import sante
from adapters.hprim.faults import NotReadable
from adapters.hprim.segments import Message
from gateway.model import CauseCode
from tests.unit.hprim import samples


def read(data: bytes, encoding: str = "windows-1252") -> Message:
    return sante.read(data, encoding)


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\n\r\n"])
def test_lines_end_as_they_like(end: str) -> None:
    message = read(samples.sante(end=end))
    assert message.version == "H2.4"
    (observation, conclusion) = message.root.below("OBX")
    assert message.text(observation, 3, 2) == "Hémoglobine"
    assert [child.fields[3] for child in observation.children] == ["contrôlé"]
    assert conclusion.children == []
    assert observation.parent is next(message.root.below("OBR"))


def test_the_separators_are_those_of_the_header() -> None:
    """The second character parts components, the third repetitions: not as in HL7 v2."""
    message = read(b"H$#@!%$A$$S#T$$ORU$$$R$$P$H2.1#C$20240101\rP$1$7$$$NAME#GIVEN\rL$1\r")
    patient = next(message.root.below("P"))
    assert message.text(patient, 5, 2) == "GIVEN"
    assert message.text(message.root, 4) == "S"


def test_repetitions_and_escapes() -> None:
    data = samples.sante(["P|1|7|||A\\S\\B~C|||||||01^02", "OBR|1|||X~a^Y~b"])
    message = read(data)
    patient, order = next(message.root.below("P")), next(message.root.below("OBR"))
    assert message.text(patient, 5) == "A~B"
    assert message.repetitions(patient, 12) == ["01", "02"]
    assert message.repetitions(order, 4) == ["X~a", "Y~b"]
    assert message.plain("a\\F\\b\\Q\\c\\") == "a|b\\Q\\c\\"


def test_continuation_lines_are_put_back_where_they_were_cut() -> None:
    data = samples.sante(
        ["P|1|7|||NA", "A|ME~GIVEN", "A||BIRTH", "OBR|1", "OBX|1|TX|T", "C|1|L|a comment that", "A| goes on"]
    )  # fmt: skip
    message = read(data)
    patient = next(message.root.below("P"))
    assert message.text(patient, 5) == "NAME"
    assert message.text(patient, 5, 2) == "GIVEN"
    assert message.text(patient, 6) == "BIRTH"
    (comment,) = message.root.below("C")
    assert comment.fields[3] == "a comment that goes on"


def test_several_patients_are_several_messages_in_their_own_bytes() -> None:
    one, two = samples.patient(1, "398"), samples.patient(2, "399")
    data = samples.sante(one, two)
    first, second = sante.split(data, 10)
    assert first == samples.sante(one)
    assert second == samples.sante(two)
    assert sante.split(samples.sante(), 10) == [samples.sante()]
    assert sante.split(samples.sante() + samples.sante(two), 10) == [
        samples.sante(),
        samples.sante(two),
    ]


def test_a_message_without_a_patient_is_a_message() -> None:
    data = (samples.HEADER.replace("|ORU|", "|ERR|") + "\rL|1\r").encode()
    assert sante.split(data, 1) == [data]
    assert list(read(data).root.below("P")) == []


@pytest.mark.parametrize(
    ("data", "code", "location"),
    [
        (samples.sante().replace(b"L|1\r\n", b""), CauseCode.FRAME_TRUNCATED, "line"),
        (samples.sante()[:-40], CauseCode.FRAME_TRUNCATED, "line"),
        (samples.sante() + b"OBX|9|ST\r\n", CauseCode.NOT_THE_FORMAT, "line 8"),
        (samples.sante(*[samples.patient()] * 6), CauseCode.HOSTILE_CONTENT, ""),
    ],
)
def test_files_that_are_refused(data: bytes, code: CauseCode, location: str) -> None:
    with pytest.raises(NotReadable) as refused:
        sante.split(data, 5)
    assert refused.value.code is code
    assert refused.value.location.startswith(location)


@pytest.mark.parametrize(
    ("change", "code", "location"),
    [
        (("H2.4~C", "H9.9~C"), CauseCode.UNSUPPORTED_VERSION, "H-12"),
        (("H2.4~C", ""), CauseCode.REQUIRED_FIELD_MISSING, "H-12"),
        (("|ORU|", "||"), CauseCode.REQUIRED_FIELD_MISSING, "H-6"),
        (("~^\\&|ESSAI", "~~\\&|ESSAI"), CauseCode.NOT_THE_FORMAT, "H-1"),
        (("OBR|1", "OBQ|1"), CauseCode.NOT_THE_FORMAT, "line 3"),
        (("P|1|", "AC|1|"), CauseCode.NOT_THE_FORMAT, "line 2"),
        (("OBR|1", "AP|1"), CauseCode.NOT_THE_FORMAT, "line 4"),
    ],
)
def test_messages_that_are_refused(change: tuple[str, str], code: CauseCode, location: str) -> None:
    data = samples.sante(encoding="utf-8").decode().replace(*change).encode()
    with pytest.raises(NotReadable) as refused:
        read(data, "utf-8")
    assert refused.value.code is code
    assert refused.value.location == location
    assert "ESSAI" not in str(refused.value)


def test_a_result_of_one_request_is_not_another_s() -> None:
    data = samples.sante(
        ["P|1|7|||N", "OBR|1||~A", "OBX|1|ST|X||a", "OBR|2||~B", "OBX|1|ST|X||b", "C|1|L|of b"]
    )
    orders = list(read(data).root.below("OBR"))
    assert [[x.fields[5] for x in order.below("OBX")] for order in orders] == [["a"], ["b"]]
    assert [len(list(order.below("C"))) for order in orders] == [0, 1]


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="|~^\\&\r\n\"", exclude_categories=("Cc", "Zs", "Zl", "Zp", "Cs")), max_size=8)  # fmt: skip


@given(st.lists(st.lists(FIELD, min_size=1, max_size=3), min_size=1, max_size=6))
def test_what_is_written_is_read(values: list[list[str]]) -> None:
    field = "^".join("~".join(parts) for parts in values)
    data = samples.sante([f"P|1|7|||{field}|end"], encoding="utf-8")
    message = read(data, "utf-8")
    patient = next(message.root.below("P"))
    found = message.repetitions(patient, 5)
    assert [
        [message.component(patient, 5, text, number + 1) for number in range(len(parts))]
        for text, parts in zip(found, values, strict=True)
    ] == values
    assert message.text(patient, 6) == "end"


@given(st.integers(min_value=1, max_value=219), FIELD)
def test_a_line_may_be_cut_anywhere_behind_its_name(width: int, text: str) -> None:
    line = f"OBX|1|TX|T~{text}||{text * 4}|unit|normal||||F"
    pieces, rest = [line[: width + 4]], line[width + 4 :]
    while rest:
        pieces.append("A|" + rest[:width])
        rest = rest[width:]
    whole = read(samples.sante(["P|1|7|||N", "OBR|1", line], encoding="utf-8"), "utf-8")
    cut = read(samples.sante(["P|1|7|||N", "OBR|1", *pieces], encoding="utf-8"), "utf-8")
    assert [s.fields for s in cut.root.below("OBX")] == [s.fields for s in whole.root.below("OBX")]


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for content in (data, samples.HEADER.encode() + b"\r" + data, samples.sante()[:60] + data):
        try:
            for message in sante.split(content, 5):
                read(message)
        except NotReadable:
            pass  # the only way in which a file may be refused
