"""CDA over a real HTTP server: every document of the corpus, and everything hostile."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from adapters.cda.http import CdaHttpSource
from adapters.cda.settings import CdaHttpSourceSettings
from adapters.doors.http import intake_router
from adapters.doors.sender import post_file
from gateway.model import Cause, CauseCode, Format
from gateway.ports import Source
from tests.eventually import eventually
from tests.integration.cda.recording import FixedClock, RecordingIntake
from tests.integration.doors.running import served as serving
from tests.unit.cda.samples import encoded

LIMIT = 20 << 20


@dataclass
class Gateway:
    """A served source, its intake and where it listens."""

    url: str
    port: int
    intake: RecordingIntake
    source: CdaHttpSource
    others: list[CdaHttpSource]
    spool: Path

    def with_fresh_intake(self) -> Gateway:
        """The same server as if nothing had been sent yet."""
        self.intake.committing.set()
        self.intake = RecordingIntake()
        for source in (self.source, *self.others):
            source.reception.intake = self.intake
        return self


@contextlib.contextmanager
def served(tmp_path: Path, **settings: object) -> Iterator[Gateway]:
    intake = RecordingIntake()
    made: list[CdaHttpSource] = []
    spool = tmp_path / "spool"
    options = {"document_bytes_max": LIMIT, "spool_folder": spool, **settings}

    def make() -> Sequence[CdaHttpSource]:
        made.extend(
            CdaHttpSource(CdaHttpSourceSettings(name=name, **options), intake, FixedClock())  # type: ignore[arg-type]
            for name in ("letters", "laboratory")
        )
        return made

    with serving("cda", make, location="/console/messages/{message_id}") as (url, port):
        gateway = Gateway(url, port, intake, made[0], made[1:], spool)
        try:
            yield gateway
        finally:
            gateway.intake.committing.set()
    assert list(spool.iterdir()) == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with served(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    return running.with_fresh_intake()


def post(
    gateway: Gateway, data: bytes, *, kind: str | None = "application/xml", **headers: str
) -> httpx2.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if kind is not None:
        sent["Content-Type"] = kind
    return httpx2.post(gateway.url, content=data, headers=sent, timeout=30)


# --- the corpus ---------------------------------------------------------------------


def test_every_document_of_the_corpus_arrives_byte_for_byte(shared: Path, gateway: Gateway) -> None:
    paths = sorted((shared / "corpora" / "cda").glob("*.xml"))
    assert len(paths) == 36
    for number, path in enumerate(paths, 1):
        status, body = post_file(gateway.url, path)
        answer = json.loads(body)
        assert status == 201, (path.name, answer)
        assert answer["disposition"] == "accepted"
        assert answer["message_id"] == number
        received, data = gateway.intake.last()
        assert data == path.read_bytes()
        assert received.payload.sha256 == hashlib.sha256(data).hexdigest()
        assert received.control_id == answer["control_id"]
        assert received.format is Format.CDA
        assert received.source == "letters"
        assert received.kind
        assert received.subject
        assert received.received_at == FixedClock().now()
        assert received.peer.startswith("127.0.0.1:")
    # Sent again, each is the same message, and nothing more is kept.
    status, body = post_file(gateway.url, paths[0])
    assert status == 200
    assert json.loads(body)["disposition"] == "duplicate"
    assert len(gateway.intake.kept) == 36


def test_the_answer_names_the_message_and_its_place(gateway: Gateway) -> None:
    answer = post(gateway, encoded(extension="X"), kind="text/xml; charset=UTF-8")
    assert answer.status_code == 201
    assert answer.json() == {
        "message_id": 1,
        "disposition": "accepted",
        "control_id": "1.2.250.1.999.1^X",
    }
    assert answer.headers["location"] == "/console/messages/1"
    received, _ = gateway.intake.last()
    assert received.encoding == "utf-8"
    assert dict(received.attributes) == {
        "set_id": "1.2.250.1.999",
        "version_number": "1",
        "form": "plain",
    }


def test_sources_have_paths_of_their_own(gateway: Gateway) -> None:
    answer = httpx2.post(f"{gateway.url}/laboratory", content=encoded())
    assert answer.status_code == 201
    assert gateway.intake.last()[0].source == "laboratory"
    unknown = httpx2.post(f"{gateway.url}/nowhere", content=encoded())
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"
    assert gateway.source.address() == "/intake/cda/letters"
    assert isinstance(gateway.source, Source)


def test_no_answer_before_the_commit(gateway: Gateway) -> None:
    gateway.intake.committing.clear()
    answers: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: answers.append(post(gateway, encoded())))
    thread.start()
    thread.join(timeout=0.3)
    assert thread.is_alive()
    assert answers == []
    gateway.intake.committing.set()
    thread.join(timeout=10)
    assert [answer.status_code for answer in answers] == [201]


# --- size ---------------------------------------------------------------------------


def pdf_document(base64_bytes: int) -> bytes:
    text = "QUJD" * (base64_bytes // 4)
    return encoded(body=f"<component><nonXMLBody><text>{text}</text></nonXMLBody></component>")


def test_12_mb_of_base64_pass_through_a_spool_file(gateway: Gateway) -> None:
    data = pdf_document(12 << 20)
    gateway.intake.committing.clear()
    answers: list[httpx2.Response] = []
    thread = threading.Thread(target=lambda: answers.append(post(gateway, data)))
    thread.start()
    eventually(lambda: [p for p in gateway.spool.rglob("*.spool") if p.stat().st_size == len(data)])
    gateway.intake.committing.set()
    thread.join(timeout=20)
    assert answers[0].status_code == 201
    assert gateway.intake.last()[1] == data
    eventually(lambda: not list(gateway.spool.rglob("*.spool")))


def test_a_declared_length_beyond_the_limit_is_refused_at_once(gateway: Gateway) -> None:
    answer = post(gateway, b"x" * (LIMIT + 1))
    assert answer.status_code == 413
    assert answer.json()["cause"] == "frame-oversized"
    assert gateway.intake.kept == []


def test_an_undeclared_length_beyond_the_limit_leaves_its_beginning_as_evidence(
    gateway: Gateway,
) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(LIMIT // (1 << 20) + 2):
            yield b"y" * (1 << 20)

    answer = httpx2.post(
        gateway.url, content=endless(), headers={"Content-Type": "text/xml"}, timeout=30
    )
    assert answer.status_code == 413
    received, data = gateway.intake.last()
    assert data == b"y" * (1 << 20)
    assert received.refusal is not None
    assert received.refusal.code is CauseCode.FRAME_OVERSIZED
    assert answer.json()["message_id"] == 1
    assert received.attributes["truncated"] == f"after {1 << 20} bytes"


# --- what is wrong (what is hostile: tests/acceptance/test_hostile_documents.py) ------


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("application/json", {}),
        ("text/plain", {}),
        ("multipart/encrypted; boundary=x", {}),
        ("application/xml", {"Content_Encoding": "gzip"}),
    ],
)
def test_other_types_are_refused(gateway: Gateway, kind: str, headers: dict[str, str]) -> None:
    answer = post(gateway, encoded(), kind=kind, **headers)
    assert answer.status_code == 415
    received, data = gateway.intake.last()
    assert received.refusal is not None
    assert received.refusal.code is CauseCode.UNSUPPORTED_TYPE
    assert data == encoded()


@pytest.mark.parametrize(
    "kind", ["text/xml", "application/hl7-cda+xml", "application/xslt+xml", None]
)
def test_xml_types_are_taken(gateway: Gateway, kind: str | None) -> None:
    assert post(gateway, encoded(), kind=kind).status_code == 201


def test_a_charset_that_contradicts_the_document_is_refused(gateway: Gateway) -> None:
    data = encoded().replace(b"ESSAI", "ÉTÉ".encode())
    answer = post(gateway, data, kind="text/xml; charset=iso-8859-1")
    assert answer.status_code == 400
    assert answer.json()["cause"] == "character-set"
    assert post(gateway, data, kind="text/xml; charset=utf-8").status_code == 201


# --- what is not the sender's fault -------------------------------------------------


def test_a_closed_record_answers_403_with_its_cause(gateway: Gateway) -> None:
    gateway.intake.permission = Cause(code=CauseCode.FEEDING_OPPOSED, detail="opposed")
    answer = post(gateway, encoded())
    assert answer.status_code == 403
    assert answer.json()["cause"] == "feeding-opposed"
    assert answer.json()["message_id"] == 1


def test_503_when_nothing_can_be_kept(gateway: Gateway) -> None:
    gateway.intake.available = False
    for data in (encoded(), b"no XML"):
        answer = post(gateway, data)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["content-type"] == "application/problem+json"
    gateway.intake.available = True
    assert post(gateway, encoded()).status_code == 201


def test_503_when_the_commit_takes_too_long(tmp_path: Path) -> None:
    with served(tmp_path, commit_timeout_seconds=0.2, memory_bytes_max=1024) as gateway:
        data = pdf_document(8192)
        gateway.intake.committing.clear()
        assert post(gateway, data).status_code == 503
        gateway.intake.committing.set()
        # The commit happened all the same: the sender's next attempt is a duplicate.
        eventually(gateway.intake.accepted)
        assert post(gateway, data).status_code == 200
        assert gateway.intake.accepted() == [data]


def test_503_beyond_the_number_of_uploads(tmp_path: Path) -> None:
    with served(tmp_path, uploads_max=1) as gateway:
        with unfinished_request(gateway, b"<"):
            eventually(lambda: post(gateway, encoded()).status_code == 503)
        eventually(lambda: post(gateway, encoded()).status_code in (200, 201))


def unfinished_request(gateway: Gateway, body: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gateway.port))
    connection.sendall(
        b"POST /intake/cda HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
        b"Content-Length: 1000\r\n\r\n" + body
    )
    return connection


def test_a_slow_body_is_cut_and_kept_as_evidence(tmp_path: Path) -> None:
    with served(tmp_path, idle_timeout_seconds=0.2) as gateway:
        with unfinished_request(gateway, b"<Clinical") as connection:
            connection.settimeout(10)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408")
        received, data = gateway.intake.last()
        assert data == b"<Clinical"
        assert received.refusal is not None
        assert received.refusal.code is CauseCode.FRAME_TRUNCATED
        assert post(gateway, encoded()).status_code == 201


def test_a_trickle_is_cut_by_the_time_for_the_whole_body(tmp_path: Path) -> None:
    with served(tmp_path, body_timeout_seconds=0.5, idle_timeout_seconds=5) as gateway:
        with unfinished_request(gateway, b"<") as connection:
            connection.settimeout(0.05)
            answer = b""
            for _ in range(200):
                with contextlib.suppress(TimeoutError, OSError):
                    connection.sendall(b"a")
                    answer = connection.recv(4096)
                if answer:
                    break
        assert answer.startswith(b"HTTP/1.1 408")


def test_a_sender_that_leaves_in_the_middle_leaves_evidence(gateway: Gateway) -> None:
    with unfinished_request(gateway, b"<Clin"):
        pass
    eventually(lambda: gateway.intake.kept)
    received, data = gateway.intake.last()
    assert data == b"<Clin"
    assert received.refusal is not None
    assert received.refusal.code is CauseCode.FRAME_TRUNCATED


def test_a_stopped_source_takes_nothing(tmp_path: Path) -> None:
    intake = RecordingIntake()
    source = CdaHttpSource(CdaHttpSourceSettings(name="x"), intake, FixedClock())
    app = FastAPI()
    app.include_router(intake_router("cda", source))

    async def exchange() -> int:
        await source.start()
        await source.start()
        await source.stop()
        await source.stop()
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.post("/intake/cda", content=encoded())).status_code

    assert asyncio.run(exchange()) == 503
    assert intake.kept == []


def test_what_a_crash_left_in_the_spool_is_removed(tmp_path: Path) -> None:
    for name in ("ecluse-cda-letters.abc", "ecluse-cda-letters-two.abc"):
        (tmp_path / "spool" / name).mkdir(parents=True)
        (tmp_path / "spool" / name / "x.spool").write_bytes(b"left")
    settings = CdaHttpSourceSettings(name="letters", spool_folder=tmp_path / "spool")
    source = CdaHttpSource(settings, RecordingIntake(), FixedClock())
    asyncio.run(source.start())
    left = {path.parent.name for path in (tmp_path / "spool").rglob("*.spool")}
    assert left == {"ecluse-cda-letters-two.abc"}
    asyncio.run(source.stop())


def test_post_file_reports_refusals_and_missing_files(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes(b"{}")
    with httpx2.Client() as client:
        status, body = post_file(gateway.url, path, client=client)
    assert status == 400
    assert json.loads(body)["cause"] == "not-the-format"
    with pytest.raises(OSError):
        post_file(gateway.url, tmp_path / "missing.xml")
    with pytest.raises(httpx2.HTTPError):
        post_file("http://127.0.0.1:9/intake/cda", path)
