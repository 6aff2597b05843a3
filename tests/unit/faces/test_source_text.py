"""The bytes of a message as people read them; nothing is repaired, everything has a limit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from gateway.console import source_text
from gateway.console.source_text import field_anchor, view_of
from gateway.journal.states import MessageState
from gateway.journal.values import Message
from gateway.model import Format, Payload

HL7 = (
    "MSH|^~\\&|LAB|X|E|X|20240101||ORU^R01|1|P|2.5\rPID|1||42^^^A||ÉCLUSE^ZOÉ\r"
    "OBX|1|NM|a||5\rOBX|2|NM|b||6\r"
).encode()


def view(form: Format, data: bytes, **more: Any) -> source_text.View:
    message = Message(
        id=1, sequence=1, parent_id=None, carrier_id=None, source="s", format=form, kind="",
        control_id="", dedupe_key="", group_key="", lane="in:s", state=MessageState.RECEIVED,
        cause=None, sha256="", size=len(data), encoding=more.get("encoding", ""), peer="",
        received_at=datetime.now(UTC), changed_at=datetime.now(UTC), attributes={}, arrivals=1,
        starts=0, patient_id=None, mapping="", mapping_version="", mapping_digest="", flags=(),
    )  # fmt: skip
    return view_of(message, Payload.from_bytes(data))


def test_segments_give_back_every_character() -> None:
    shown = view(Format.HL7V2, HL7)
    assert shown.kind == "segments"
    lines = [s.name + "".join(f.separator + f.text for f in s.fields) for s in shown.segments]
    assert "\r".join(lines) + "\r" == HL7.decode()


def test_fields_are_named_as_the_standard_counts_them() -> None:
    shown = view(Format.HL7V2, HL7)
    header = {f.path: f.text for f in shown.segments[0].fields}
    assert header["MSH-2"] == "^~\\&"
    assert header["MSH-10"] == "1"
    assert {f.path: f.text for f in shown.segments[1].fields}["PID-5"] == "ÉCLUSE^ZOÉ"


@pytest.mark.parametrize(
    ("path", "anchor"),
    [
        ("PID-3(1).1", "f-PID-1-3"),
        ("OBX(2)-5", "f-OBX-2-5"),
        ("ORDER_OBSERVATION(1).OBX(2)-5.1", "f-OBX-2-5"),
        ("MSH-10", "f-MSH-1-10"),
        ("StudyInstanceUID", ""),
        ("", ""),
    ],
)
def test_a_trace_finds_its_field(path: str, anchor: str) -> None:
    assert field_anchor(path) == anchor
    if anchor and path != "MSH-10":
        shown = view(Format.HL7V2, HL7)
        assert anchor in {f.anchor for s in shown.segments for f in s.fields}


def test_xml_gives_back_every_character_and_cuts_base64() -> None:
    document = '<?xml version="1.0"?>\n<a b="c"><!-- d -->é &lt; f</a>'
    shown = view(Format.CDA, document.encode())
    assert "\n".join("".join(t for _, t in line) for line in shown.lines) == document
    tones = {tone for line in shown.lines for tone, _ in line}
    assert {"tag", "name", "value", "comment", ""} <= tones
    long = view(Format.CDA, b"<a>" + b"QUJD" * 4000 + b"</a>")
    assert sum(len(t) for line in long.lines for _, t in line) < 300


def test_a_document_on_one_line_is_broken_between_elements() -> None:
    assert len(view(Format.CDA, b"<a><b/><c/></a>").lines) == 4


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (Format.HL7V2, b"no message at all"),
        (Format.HL7V2, b"MSH|^~\\&|\xff\xfe|"),
        (Format.HL7V2, b""),
        (Format.CDA, b'<?xml version="1.0" encoding="no-such"?><a/>'),
        (Format.CDA, b"\xff\xff\xff"),
        (Format.DICOM, b"MZ nothing"),
    ],
)
def test_what_cannot_be_read_is_shown_in_hexadecimal(form: Format, data: bytes) -> None:
    shown = view(form, data)
    assert shown.kind == "hex"
    assert bytes.fromhex("".join(row[1] for row in shown.rows).replace(" ", "")) == data


def test_a_long_message_says_that_it_was_cut() -> None:
    many = HL7 + b"NTE|1||x\r" * 5000
    shown = view(Format.HL7V2, many)
    assert len(shown.segments) == source_text.SEGMENTS_MAX
    assert "not shown" in shown.cut
    wide = view(Format.HL7V2, HL7.replace(b"||6", b"||" + b"Z" * 100_000))
    assert max(len(f.text) for s in wide.segments for f in s.fields) < 400


def test_a_dicom_header_shows_its_elements_and_no_pixels() -> None:
    path = get_testdata_file("CT_small.dcm")
    shown = view(Format.DICOM, Path(str(path)).read_bytes())
    values = {e.keyword: e.value for e in shown.elements}
    data = pydicom.dcmread(str(path))
    assert values["StudyInstanceUID"] == data.StudyInstanceUID
    assert values["Rows"] == str(data.Rows)
    assert values["PixelData"] == "pixel data"
    assert any(e.depth for e in shown.elements), "sequences are opened"


def test_a_header_that_breaks_off_is_shown_as_far_as_it_goes() -> None:
    data = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()[:700]
    shown = view(Format.DICOM, data)
    assert shown.elements
    assert "breaks off" in shown.note


def test_hprim_is_shown_as_its_lines() -> None:
    shown = view(Format.HPRIM, "H|~^\\&|é\r\nL|1\r\n".encode("cp1252"))
    assert shown.kind == "xml"
    assert shown.note == "windows-1252, 2 lines"
    assert [line[0][1] for line in shown.lines] == ["H|~^\\&|é", "L|1"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(Format)), st.binary(max_size=400))
def test_no_bytes_make_a_view_fail(form: Format, data: bytes) -> None:
    head = {
        Format.HL7V2: b"MSH|^~\\&|",
        Format.CDA: b"<a ",
        Format.DICOM: bytes(128) + b"DICM",
        Format.HPRIM: b"H|~^\\&|",
    }
    view(form, data)
    view(form, head[form] + data)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "data",
    [b"<!--" * 50_000, b"<?" * 100_000, b"<![CDATA[" * 20_000, b"<" + b"a" * 200_000 + b">",
     b"<a " + b"a=" * 100_000 + b">", b'<a a="' * 30_000, b"<a " + b' a="' * 50_000 + b">",
     (b"A" * 179 + b"<") * 1_000, (b"A" * 399 + b"<") * 500,
     (b"A" * 76 + b"\n" + b"A" * 76 + b"\n<") * 1_000, b"<" * 200_000, b"<a " + b" " * 200_000],
    ids=lambda data: data[:9].decode(),
)  # fmt: skip
def test_nothing_takes_long_to_lay_out(data: bytes) -> None:
    assert view(Format.CDA, data).kind == "xml"


@pytest.mark.parametrize("encoding", ["idna", "punycode", "undefined", "hex", "utf-7", "none"])
def test_a_declared_encoding_makes_no_view_fail(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?><a>'.encode() + b"\xff.\xe9" * 40
    assert view(Format.CDA, data).kind == "hex"
