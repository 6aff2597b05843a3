"""DICOMweb without a network: parts of a body, media types, queries, the JSON and XML models."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adapters.dicom.dataset import Instance
from adapters.dicom.holdings import QueryLevel
from adapters.dicom.imaging.process import Made
from adapters.dicom.json_model import attributes_of
from adapters.dicom.web.frames import frames
from adapters.dicom.web.media import DICOM_JSON, DICOM_XML, chosen, syntaxes_wanted, wishes
from adapters.dicom.web.multipart import (
    MalformedBody,
    PartBegins,
    PartData,
    PartEnds,
    PartReader,
    media_type,
)
from adapters.dicom.web.native_xml import NAMESPACE, native_xml
from adapters.dicom.web.query import BadQuery, query_of
from adapters.dicom.web.retrieving import NotAcceptable
from gateway.model import Payload
from tests.integration.dicom.objects import CT, EXPLICIT, data_set, element, file_head

BOUNDARY = "b-1"


def parts(body: bytes, cuts: list[int]) -> tuple[list[tuple[dict[str, str], bytes, bool]], bool]:
    """Header fields, content and whether it ended, of each part, however the body is cut."""
    reader = PartReader(BOUNDARY)
    found: list[tuple[dict[str, str], bytes, bool]] = []
    marks = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in pairwise(marks):
        for event in reader.feed(body[start:end]):
            match event:
                case PartBegins(headers):
                    found.append((dict(headers), b"", False))
                case PartData(data):
                    found[-1] = (found[-1][0], found[-1][1] + bytes(data), False)
                case PartEnds():
                    found[-1] = (*found[-1][:2], True)
    return found, reader.whole


CONTENT = st.lists(
    st.sampled_from([b"\r\n", b"--b-1", b"\r\n--b-1x", b"\r\n--b-", b"-", b"x" * 300, b"\0", b"\r"]),
    max_size=8,
).map(b"".join)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(CONTENT, max_size=4), cuts=st.lists(st.integers(0, 5_000), max_size=8))
def test_parts_are_the_same_however_the_body_is_cut(contents: list[bytes], cuts: list[int]) -> None:
    # What ends in a delimiter's beginning could not stand in a body of this boundary.
    contents = [each for each in contents if b"\r\n--b-1\r\n" not in b"\r\n" + each + b"\r\n"
                and b"\r\n--b-1--" not in b"\r\n" + each + b"\r\n"]  # fmt: skip
    body = b"".join(b"--b-1\r\nA: 1\r\n\r\n" + each + b"\r\n" for each in contents) + b"--b-1--"
    found, whole = parts(b"preamble\r\n" + body + b"\r\nepilogue", cuts)
    assert [content for _, content, _ in found] == contents
    assert all(ended and headers == {"a": "1"} for headers, _, ended in found)
    assert whole


def test_parts_without_a_head_and_with_padding_are_read() -> None:
    found, whole = parts(
        b"--b-1 \t\r\n\r\nx\r\n--b-1\r\nContent-Type: a/b\r\nbad\r\n\r\ny\r\n--b-1", []
    )
    assert found == [({}, b"x", True), ({"content-type": "a/b"}, b"y", False)]
    assert not whole


@pytest.mark.parametrize("boundary", ["", "a" * 300, "né", "a\r\nb", "ends "])
def test_what_is_no_boundary_is_said_so(boundary: str) -> None:
    with pytest.raises(MalformedBody):
        PartReader(boundary)


def test_media_types_are_chosen_by_weight() -> None:
    assert media_type('Multipart/Related; TYPE="a/b"; boundary="x y"').parameters == {
        "type": "a/b", "boundary": "x y",
    }  # fmt: skip
    assert [each.name for each in wishes('a/b;q=0.1, c/d;x="1,2", e/f;q=0')] == ["c/d", "a/b"]
    offered = (DICOM_JSON, f"multipart/related;{DICOM_XML}")
    assert chosen("", offered) == DICOM_JSON
    assert chosen("application/json", offered) == DICOM_JSON
    assert chosen(f'multipart/related; type="{DICOM_XML}"', offered) == offered[1]
    assert chosen(f"{DICOM_JSON};q=0.1, multipart/related", offered) == offered[1]
    assert chosen("text/html", offered) is None
    assert syntaxes_wanted("image/jpeg") is None
    assert syntaxes_wanted("") == ("*",)
    assert syntaxes_wanted('multipart/related; type="application/dicom"') == (EXPLICIT,)
    asked = "application/dicom; transfer-syntax=1.2.3;q=0.5, application/dicom; transfer-syntax=1.2"
    assert syntaxes_wanted(asked) == ("1.2", "1.2.3")


def test_a_query_string_is_read_by_keyword_and_tag() -> None:
    found = query_of(
        QueryLevel.SERIES,
        [("0020000D", "1.2,1.3"), ("RequestAttributesSequence.00400009", "S1"), ("Rows", "3"),
         ("includefield", "all"), ("limit", "7"), ("PatientName", "a,b")],
        {},
    )  # fmt: skip
    assert found.keys == {
        "StudyInstanceUID": "1.2\\1.3", "ScheduledProcedureStepID": "S1", "PatientName": "a,b",
    }  # fmt: skip
    assert found.limit == 7
    assert found.warnings == ("The following parameters are not supported and were ignored: Rows",)
    with pytest.raises(BadQuery):
        query_of(QueryLevel.STUDY, [("StudyInstanceUID", "1.2")], {"StudyInstanceUID": "1.3"})
    with pytest.raises(BadQuery):
        query_of(QueryLevel.STUDY, [("PatientID", "1")] * 101, {})


def test_the_model_says_what_stands_in_the_data_set(tmp_path: Path) -> None:
    extra = b"".join([
        element(0x00280009, "AT", b"\x10\x00\x20\x00"),
        element(0x00281050, "DS", "1.10\\\\x\\123456789012345678.5"),
        element(0x00281101, "US", b"\x01\x00\x02\x00"),
        element(0x00281300, "CS", ""),
        element(0x00409224, "FD", b"\0\0\0\0\0\0\xf8\x7f"),
    ])  # fmt: skip
    path = tmp_path / "one.dcm"
    path.write_bytes(
        file_head(CT, "1.2", EXPLICIT) + data_set("1.2", extra=extra, pixels=bytes(4000))
    )
    model = attributes_of(
        Instance(Payload.from_file(path)).level, bulk=lambda where: f"https://x/{where}"
    )
    assert model["00280009"] == {"vr": "AT", "Value": ["00100020"]}
    assert model["00281050"] == {"vr": "DS", "Value": [1.1, None, "x", "123456789012345678.5"]}
    assert model["00281101"] == {"vr": "US", "Value": [1, 2]}
    assert model["00281300"] == {"vr": "CS"}
    assert model["00409224"] == {"vr": "FD"}
    assert model["7FE00010"] == {"vr": "OW", "BulkDataURI": "https://x/7FE00010"}
    json.dumps(model, allow_nan=False)
    root = etree.fromstring(native_xml(model))
    odd = {"00081030": {"vr": "LO", "Value": ["T\x01\ufffe\uffff\U0001f9b4"]}}
    assert etree.fromstring(native_xml(odd))[0][0].text == "T\U0001f9b4"
    values = root.findall(f"{{{NAMESPACE}}}DicomAttribute[@tag='00281050']/{{{NAMESPACE}}}Value")
    assert [(each.get("number"), each.text) for each in values] == [
        ("1", "1.1"), ("3", "x"), ("4", "123456789012345678.5"),
    ]  # fmt: skip


def test_frames_come_in_a_type_that_is_accepted() -> None:
    jpeg = "1.2.840.10008.1.2.4.50"

    class Stored:
        def make(self, payload: Payload, do: str, **asked: Any) -> Made:
            return Made(b"pixels", {"syntax": EXPLICIT if asked["decoded"] else jpeg})

    def got(accept: str, stored: str = jpeg) -> str:
        kind, _ = frames(Stored(), Payload.from_bytes(b""), [1], accept, stored=stored)
        return kind.split('"')[1]

    assert got("*/*") == got("image/jpeg") == got("image/*") == "image/jpeg"
    assert got('multipart/related; type="image/jpeg"') == "image/jpeg"
    octets = "application/octet-stream"
    assert got(octets) == got(f"image/jls, {octets};q=0.5") == octets
    assert got('multipart/related; type="application/octet-stream"; transfer-syntax=*') == (
        "image/jpeg"
    )
    for accept, stored in (("image/jls", jpeg), ("image/jpeg", EXPLICIT), ("text/html", jpeg)):
        with pytest.raises(NotAcceptable):
            got(accept, stored)
