"""Store, search and retrieve over the wire, by a client of others and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from lxml import etree
from PIL import Image

from adapters.dicom.dataset import Instance
from adapters.dicom.imaging.process import Pictures
from adapters.dicom.part10 import NotPart10, read_file_meta
from adapters.dicom.web.native_xml import NAMESPACE
from adapters.dicom.web.settings import DicomwebSettings
from gateway.model import Payload
from tests.eventually import eventually
from tests.integration.dicom.objects import (
    CT,
    EXPLICIT,
    PUBLISHED,
    STUDY,
    data_set,
    data_set_of,
    file_head,
    published_files,
)
from tests.integration.dicom.web import Answer, Web, running_web

CT_FILE = PUBLISHED / "test_files" / "CT_small.dcm"
JPEG_FILE = PUBLISHED / "test_files" / "SC_rgb_jpeg_dcmtk.dcm"
FRAMES_FILE = PUBLISHED / "test_files" / "SC_rgb_rle_2frame.dcm"
ANY = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture(scope="module")
def pictures() -> Iterator[Pictures]:
    made = Pictures(DicomwebSettings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures) -> Iterator[Web]:
    with running_web(tmp_path_factory.mktemp("web"), pictures) as made:
        for path in (CT_FILE, JPEG_FILE, FRAMES_FILE):
            assert made.store(path.read_bytes()).status == 200
        yield made


def address_of(path: Path) -> str:
    """Where an instance is retrieved."""
    one = Instance(Payload.from_file(path))
    return f"/studies/{one.study}/series/{one.series}/instances/{one.sop_instance}"


def parts_of(answer: Answer) -> list[bytes]:
    """The contents of a multipart answer."""
    boundary = answer.headers["content-type"].rpartition("boundary=")[2].encode()
    pieces = (b"\r\n" + answer.body).split(b"\r\n--" + boundary)
    assert pieces[-1].startswith(b"--")
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]]


def test_every_published_file_comes_back_byte_for_byte(tmp_path: Path) -> None:
    newest: dict[tuple[str, str], Path] = {}
    files = [path for path in published_files() if path.stat().st_size < 1 << 20]
    with running_web(tmp_path) as web:
        answer = web.store(*(path.read_bytes() for path in files))
        assert answer.status == 202
        stored = {each["00081155"]["Value"][0] for each in answer.json["00081199"]["Value"]}
        # Those that are refused say two things of themselves, break off, or name no study.
        assert set(answer.reasons()) == {0xA900, 0xC000, 0xC001}
        assert len(answer.json["00081199"]["Value"]) > 130
        for path in files:
            one = Instance(Payload.from_file(path))
            if one.sop_instance in stored and one.study:
                newest[one.study, one.sop_instance] = path
        back: set[bytes] = set()
        for study in {study for study, _ in newest}:
            answer = web.get(f"/studies/{study}", ANY)
            assert answer.status == 200
            for body in parts_of(answer):
                meta = read_file_meta(BytesIO(body), len(body))
                back.add(body[meta.data_set_offset :])
    sent = {data_set_of(path) for path in files}
    assert back <= sent
    assert len(back) == len({uid for _, uid in newest})


def test_a_client_of_others_stores_searches_and_retrieves(web: Web) -> None:
    client = DICOMwebClient(web.url)
    sent = [pydicom.dcmread(CT_FILE), pydicom.dcmread(PUBLISHED / "test_files" / "MR_small.dcm")]
    done = client.store_instances(sent)
    assert len(done.ReferencedSOPSequence) == 2
    ct = sent[0]
    (study,) = client.search_for_studies(search_filters={"PatientID": ct.PatientID})
    assert study["0020000D"]["Value"] == [ct.StudyInstanceUID]
    (series,) = client.search_for_series(ct.StudyInstanceUID)
    assert series["00080060"]["Value"] == ["CT"]
    assert "00100010" not in series
    (instance,) = client.search_for_instances(ct.StudyInstanceUID, ct.SeriesInstanceUID)
    assert instance["00280010"]["Value"] == [128]
    three = (ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID)
    for back in (
        *client.retrieve_study(three[0]),
        *client.retrieve_series(*three[:2]),
        client.retrieve_instance(*three),
    ):
        assert back.PixelData == ct.PixelData
        assert back == ct
    (described,) = client.retrieve_series_metadata(*three[:2])
    assert pydicom.Dataset.from_json(described, lambda *_: b"").PatientName == ct.PatientName
    (frame,) = client.retrieve_instance_frames(*three, frame_numbers=[1])
    assert frame == ct.PixelData
    rendered = client.retrieve_instance_rendered(*three, media_types=("image/png",))
    assert Image.open(BytesIO(rendered)).size == (128, 128)
    assert client.retrieve_bulkdata(described["7FE00010"]["BulkDataURI"]) == [ct.PixelData]


def test_metadata_says_of_each_attribute_what_pydicom_says(web: Web) -> None:
    (ours,) = web.get(address_of(CT_FILE) + "/metadata").json
    read = pydicom.dcmread(CT_FILE)
    theirs = read.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=lambda _: "x")
    # What stands behind the pixels is not read.
    theirs = {tag: said for tag, said in theirs.items() if tag <= "7FE00010"}
    missing = {tag for tag in theirs if tag not in ours}
    assert missing == set()
    for tag, said in theirs.items():
        if said["vr"] in {"UN", "OW", "OB"} or tag == "00080005":
            continue
        assert ours[tag] == said or _equal(ours[tag], said), tag


def _equal(ours: dict[str, object], theirs: dict[str, object]) -> bool:
    """Numbers may be written as text (PS3.18 table F.2.3-1)."""
    values = zip(ours.get("Value", ()), theirs.get("Value", ()), strict=True)  # type: ignore[call-overload]
    return all(a == b or float(a) == pytest.approx(float(b)) for a, b in values)


def test_a_search_at_the_largest_limit_says_that_there_is_more(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("adapters.dicom.web.query", "gateway.holdings"):
        monkeypatch.setattr(f"{module}.PAGE_MAX", 1)
    for limit in (1, 5):
        some = web.get(f"/instances?limit={limit}")
        assert len(some.json) == 1
        assert "additional results" in some.headers["warning"]


def test_searches_say_what_they_did_not_do(web: Web) -> None:
    assert web.get("/studies?PatientID=nobody").status == 204
    some = web.get("/studies?limit=1")
    assert "additional results" in some.headers["warning"]
    assert len(some.json) == 1
    rest = web.get("/studies?offset=1&limit=1000")
    assert some.json[0] not in rest.json
    assert "warning" not in rest.headers
    fuzzy = web.get("/studies?fuzzymatching=true&SliceThickness=1&PatientName=*")
    assert "fuzzymatching parameter is not supported" in fuzzy.headers["warning"]
    assert "ignored: SliceThickness" in fuzzy.headers["warning"]
    for query in ("limit=x", "Nothing=1", "StudyDate=today", "PatientID=1&00100020=2"):
        assert web.get(f"/studies?{query}").status == 400, query
    by_tag = web.get("/series?00080060=CT,MR&RequestAttributesSequence.RequestedProcedureID=*")
    assert {each["00080060"]["Value"][0] for each in by_tag.json} <= {"CT", "MR"}
    assert "00100020" in by_tag.json[0]
    assert web.get("/web/instances?limit=2").status == 200
    assert web.get("/nobody/instances").status == 404
    assert web.get("/studies", "text/html").status == 406
    xml = web.get("/studies?limit=1", 'multipart/related; type="application/dicom+xml"')
    root = etree.fromstring(parts_of(xml)[0])
    assert root.tag == f"{{{NAMESPACE}}}NativeDicomModel"
    uid = root.find(f"{{{NAMESPACE}}}DicomAttribute[@keyword='StudyInstanceUID']")
    assert uid is not None


def test_instances_come_in_a_transfer_syntax_that_is_accepted(web: Web) -> None:
    path = address_of(JPEG_FILE)
    stored = web.get(path, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.50")
    assert "1.2.840.10008.1.2.4.50" in stored.headers["content-type"]
    assert stored.body.endswith(data_set_of(JPEG_FILE))
    plain = web.get(path, "application/dicom")
    assert f"transfer-syntax={EXPLICIT}" in plain.headers["content-type"]
    read = pydicom.dcmread(BytesIO(plain.body))
    assert read.pixel_array.shape == (100, 100, 3)
    assert web.get(path, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90").status == 406
    assert web.get(path, "image/tiff").status == 406
    assert web.get("/studies/1.2.3").status == 406
    assert web.get("/studies/1.2.3", ANY).status == 404
    assert web.get("/studies/name", ANY).status == 400
    assert web.get(path + "/bulkdata/7FE00011", "*/*").status == 404


def test_pictures_and_frames_are_made_and_refused_in_words(web: Web) -> None:
    path = address_of(FRAMES_FILE)
    for where, size in (
        ("/rendered", (100, 100)), ("/frames/2/rendered?viewport=50,60", (50, 50)),
        ("/thumbnail", (192, 192)), ("/frames/2/thumbnail", (192, 192)),
    ):  # fmt: skip
        picture = web.get(path + where, "image/png, image/jpeg;q=0.5")
        assert picture.headers["content-type"] == "image/png"
        assert Image.open(BytesIO(picture.body)).size == size
    ct = address_of(CT_FILE)
    dark = web.get(f"{ct}/rendered?window=4000,100", "image/png")
    assert Image.open(BytesIO(dark.body)).getextrema() == (0, 0)
    for query, status in (
        ("window=1", 400), ("window=a,b", 400), ("window=1,2,cubic", 400), ("viewport=1", 400),
        ("viewport=9999,1", 400), ("quality=0", 400), ("window=40,400,sigmoid", 200),
    ):  # fmt: skip
        assert web.get(f"{ct}/rendered?{query}", "*/*").status == status, query
    assert web.get(f"{ct}/frames/2/rendered", "*/*").status == 404
    assert web.get(f"{ct}/frames/0", "*/*").status == 400
    kept = web.get(f"{path}/frames/1,2", "*/*")
    assert "image/dicom-rle" in kept.headers["content-type"]
    decoded = parts_of(web.get(f"{path}/frames/1,2", "application/octet-stream"))
    assert [len(each) for each in decoded] == [30_000, 30_000]
    assert web.get(f"{path}/frames/1", "video/mp4").status == 406


def test_a_request_with_a_whole_study_says_that_it_is_whole(tmp_path: Path) -> None:
    def file(number: int, study: str) -> bytes:
        uid = f"{study}.1.{number}"
        return file_head(CT, uid, EXPLICIT) + data_set(uid, study=study)

    together, alone = f"{STUDY}.501", f"{STUDY}.502"
    with running_web(tmp_path, quiet_seconds=3600) as web:
        assert web.store(file(1, together), file(2, together), file(1, alone)).status == 200
        whole, single = web.gathering(together), web.gathering(alone)
        assert whole is not None
        assert single is not None
        assert whole.due_at is not None
        assert whole.due_at <= web.journal.now()
        assert single.due_at is not None
        assert single.due_at > web.journal.now()
        # What is refused with it may be a part of it.
        other = f"{STUDY}.503"
        assert web.store(file(1, other), file(2, other), b"no DICOM").status == 202
        left = web.gathering(other)
        assert left is not None
        assert left.due_at is not None
        assert left.due_at > web.journal.now()
        eventually(lambda: web.holdings.step() is False)


def test_what_is_kept_is_no_polyglot_and_the_same_however_it_came(web: Web) -> None:
    uid = f"{STUDY}.1.77"
    plain = file_head(CT, uid, EXPLICIT) + data_set(uid)
    polyglot = b"MZ" + plain[2:]
    assert web.store(plain).status == 200
    before = len(web.kept())
    assert web.store(polyglot).status == 200
    assert len(web.kept()) == before
    with pytest.raises(NotPart10):
        read_file_meta(BytesIO(b"MZ"), 2)
