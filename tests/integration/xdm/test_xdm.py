"""XDM archives by HTTP and by folder: every document of the corpus, and what is refused and why."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.cda.reception import Reception as CdaReception
from adapters.cda.settings import CdaHttpSourceSettings
from adapters.cda.transmitted import CdaHeaders
from adapters.doors.reception import Arrived
from adapters.xdm.folder import XdmFolderSource
from adapters.xdm.http import XdmHttpSource
from adapters.xdm.settings import XdmFolderSourceSettings, XdmHttpSourceSettings
from gateway.model import Payload, Received
from tests.hostile import described
from tests.http_client import HTTP
from tests.integration.doors.running import Watched, served, watching
from tests.integration.hl7.fake_intake import FakeIntake, RealClock
from tests.integration.xdm.archives import (
    FOLDER,
    PATIENT,
    archive,
    entry,
    files_of,
    metadata,
    packed,
    patient_of,
    slot,
)
from tests.unit.hl7.transmissions import cda

ONE = cda()
TWO = cda(document="2.999.6.2")
LIMITS = {
    "archive_bytes_max": 4 << 20, "document_bytes_max": 3 << 20, "unpacked_bytes_max": 6 << 20,
    "files_max": 50, "ratio_max": 100,
}  # fmt: skip


@dataclass
class Served:
    url: str
    intake: FakeIntake

    def post(self, body: bytes, kind: str = "application/zip") -> tuple[int, dict[str, object]]:
        answer = HTTP.post(self.url, content=body, headers={"Content-Type": kind}, timeout=30)
        return answer.status_code, answer.json()

    def kept_of(self, body: bytes) -> list[Received]:
        before = len(self.intake.kept)
        status, _ = self.post(body)
        assert status in (200, 201)  # taken, or known already
        return self.intake.kept[before:]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    intake = FakeIntake()

    def make() -> list[XdmHttpSource]:
        settings = XdmHttpSourceSettings(
            name="mail", spool_folder=tmp_path_factory.mktemp("spool"), memory_bytes_max=2048,
            **LIMITS,  # type: ignore[arg-type]
        )  # fmt: skip
        return [XdmHttpSource(settings, intake, RealClock(), CdaHeaders())]

    with served("xdm", make) as (url, _):
        yield Served(url, intake)
    intake.close()


def by_cda(data: bytes) -> Received:
    """The same document by the road of CDA."""
    reception = CdaReception(CdaHttpSourceSettings(name="cda"), None)  # type: ignore[arg-type]
    arrived = Arrived(payload=Payload.from_bytes(data), received_at=RealClock().now(), peer="")
    header = reception._read(arrived.payload, "")
    return Received(
        source="cda", format=reception.format, payload=arrived.payload,
        received_at=arrived.received_at, control_id=header.control_id, kind=header.kind,  # type: ignore[union-attr]
        subject=header.subject, attributes=header.attributes,  # type: ignore[union-attr]
    )  # fmt: skip


def test_every_document_of_the_corpus_says_what_it_says_by_the_road_of_cda(
    http: Served, shared: Path
) -> None:
    paths = sorted((shared / "corpora" / "cda").glob("*.xml"))
    assert len(paths) == 36
    for path in paths:
        data = path.read_bytes()
        [received] = http.kept_of(archive(data))
        other = by_cda(data)
        assert received.payload.read() == data
        for name in ("format", "control_id", "kind", "subject", "encoding"):
            assert getattr(received, name) == getattr(other, name), (path.name, name)
        assert other.attributes.items() <= received.attributes.items()
        assert received.attributes["submission_set"] == "2.999.77.1"


def test_several_documents_and_what_is_no_cda(http: Served) -> None:
    before = len(http.intake.kept)
    files = files_of([ONE, TWO])
    signature = b"<Signature xmlns='http://www.w3.org/2000/09/xmldsig#'/>"
    files[f"{FOLDER}SIGN.XML"] = signature
    files[f"{FOLDER}METADATA.XML"] = metadata(
        entry("DOC0001.XML", ONE), entry("DOC0002.XML", TWO), entry("SIGN.XML", signature)
    )
    status, told = http.post(packed(files))
    assert status == 201
    assert [each["disposition"] for each in told["messages"]] == [  # type: ignore[attr-defined]
        "accepted", "accepted", "refused",
    ]  # fmt: skip
    first, second, third = http.intake.kept[before:]
    assert [first.payload.read(), second.payload.read(), third.payload.read()] == [
        ONE, TWO, signature,
    ]  # fmt: skip
    assert second.attributes["file_message"] == "2 of 3"
    assert second.attributes["archive_file"] == f"{FOLDER}DOC0002.XML"
    assert third.refusal is not None
    assert third.refusal.code.value == "unsupported-type"
    # Again: known, each by its id and bytes.
    _, told = http.post(packed(files))
    assert [each["disposition"] for each in told["messages"]][:2] == ["duplicate"] * 2  # type: ignore[attr-defined]


def test_what_writers_do(http: Served) -> None:
    files = files_of([ONE])
    assert len(http.kept_of(packed(files, prefix="export/"))) == 1
    assert len(http.kept_of(packed(files, method=zipfile.ZIP_STORED))) == 1
    lower = {name.replace("METADATA.XML", "metadata.xml"): data for name, data in files.items()}
    assert len(http.kept_of(packed(lower))) == 1
    windows = {name.replace("/", "\\"): data for name, data in files.items()}
    assert len(http.kept_of(packed(windows))) == 1
    two_sets = files | {
        name.replace("SUBSET01", "SUBSET02"): data
        for name, data in files_of([TWO]).items()
        if name.startswith(FOLDER)
    }
    assert len(http.kept_of(packed(two_sets))) == 2
    split = entry("DOC0001.XML", ONE).replace(
        slot("URI", "DOC0001.XML"), slot("URI", "2|01.XML", "1|DOC00")
    )
    assert len(http.kept_of(packed(files | {f"{FOLDER}METADATA.XML": metadata(split)}))) == 1


def test_other_bodies(http: Served) -> None:
    assert http.post(b"<a/>", "application/xml")[0] == 415
    assert http.post(b"x" * ((4 << 20) + 1))[0] == 413


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[Watched, FakeIntake]]:
    intake = FakeIntake()

    def make() -> XdmFolderSource:
        settings = XdmFolderSourceSettings(
            name="drop", path=tmp_path / "drop", poll_seconds=0.01, settle_seconds=0.02
        )
        return XdmFolderSource(settings, intake, RealClock(), CdaHeaders())

    with watching(make) as watched:
        yield watched, intake
    intake.close()


def test_by_folder(folder: tuple[Watched, FakeIntake]) -> None:
    watched, intake = folder
    body = archive(ONE, TWO)
    watched.put("IHE_XDM.zip", body)
    watched.put("wrong.zip", described(entry("DOC0001.XML", ONE, hash="0" * 40)))
    watched.until_gone()
    assert watched.names("accepted") == ["IHE_XDM.zip"]
    assert watched.read("accepted", "IHE_XDM.zip") == body
    assert watched.names("refused") == ["wrong.zip", "wrong.zip.reason.txt"]
    reason = watched.read("refused", "wrong.zip.reason.txt").decode()
    assert "METADATA.XML" in reason
    assert "hash" in reason
    assert "DOC0001.XML" in reason
    assert [each.payload.read() for each in intake.kept if each.refusal is None] == [ONE, TWO]
    assert patient_of(ONE) == PATIENT
