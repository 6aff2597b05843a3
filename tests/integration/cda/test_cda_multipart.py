"""Several documents in one POST, written by an HTTP client and by Python's mail package."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import HTTP as HTTP_POLICY
from pathlib import Path

import httpx2
import pytest

from gateway.model import CauseCode
from tests.eventually import eventually
from tests.http_client import HTTP
from tests.integration.cda.test_cda_http import Gateway, pdf_document, served
from tests.unit.cda.samples import encoded

ONE, TWO = encoded(root="1.2.1"), encoded(root="1.2.2")
XML = "application/xml"
LIMIT = 4 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with served(
        tmp_path_factory.mktemp("gateway"), memory_bytes_max=4096, documents_max=10,
        document_bytes_max=1 << 20, multipart_bytes_max=LIMIT,
    ) as gateway:  # fmt: skip
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    return running.with_fresh_intake()


def form(gateway: Gateway, *parts: tuple[str, bytes, str], **fields: str) -> httpx2.Response:
    """As a browser's form, or any HTTP library, posts files."""
    files = [("documents", part) for part in parts]
    return HTTP.post(gateway.url, files=files, data=fields or None, timeout=30)


def mixed(subtype: str, *documents: bytes) -> tuple[bytes, str]:
    """A multipart of RFC 2046 without a Content-Transfer-Encoding, and its type."""
    made = EmailMessage(policy=HTTP_POLICY)
    made["Content-Type"] = f'multipart/{subtype}; boundary="=_cut here"; type="text/xml"'
    boundary = made.get_boundary()
    body = b"".join(
        b"--%b\r\nContent-Type: text/xml; charset=utf-8\r\nContent-ID: <%d@x>\r\n\r\n%b\r\n"
        % (str(boundary).encode(), number, data)
        for number, data in enumerate(documents)
    )
    return body + b"--%b--\r\n" % str(boundary).encode(), str(made["Content-Type"])


def post(gateway: Gateway, body: bytes, kind: str) -> httpx2.Response:
    return HTTP.post(gateway.url, content=body, headers={"Content-Type": kind}, timeout=30)


def test_each_document_has_an_answer_of_its_own(gateway: Gateway) -> None:
    answer = form(gateway, ("a.xml", ONE, XML), ("b.xml", TWO, "application/octet-stream"))
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "documents": [
            {"part": 1, "filename": "a.xml", "status": 201, "message_id": 1,
             "disposition": "accepted", "control_id": "1.2.1", "location": "/console/messages/1"},
            {"part": 2, "filename": "b.xml", "status": 201, "message_id": 2,
             "disposition": "accepted", "control_id": "1.2.2", "location": "/console/messages/2"},
        ]
    }  # fmt: skip
    assert gateway.intake.accepted() == [ONE, TWO]
    received, _ = gateway.intake.last()
    assert received.attributes["file_name"] == "b.xml"
    assert received.attributes["multipart_part"] == "2"
    # One of them again, with a new one; then both again.
    third = encoded(root="1.2.3")
    again = form(gateway, ("a.xml", ONE, XML), ("c.xml", third, XML))
    assert again.status_code == 201
    assert [each["status"] for each in again.json()["documents"]] == [200, 201]
    known = form(gateway, ("a.xml", ONE, XML), ("c.xml", third, XML))
    assert known.status_code == 200
    assert gateway.intake.accepted() == [ONE, TWO, third]


@pytest.mark.parametrize("subtype", ["mixed", "related"])
def test_the_multiparts_of_mime_are_taken(gateway: Gateway, subtype: str) -> None:
    large = pdf_document(600_000)
    answer = post(gateway, *mixed(subtype, ONE, large, TWO))
    assert answer.status_code == 201, answer.text
    assert gateway.intake.accepted() == [ONE, large, TWO]
    assert gateway.intake.kept[0][0].encoding == "utf-8"


def test_every_document_of_the_corpus_in_one_body(tmp_path: Path, shared: Path) -> None:
    paths = sorted((shared / "corpora" / "cda").glob("*.xml"))
    with served(tmp_path) as gateway:
        answer = form(gateway, *((path.name, path.read_bytes(), XML) for path in paths))
        assert answer.status_code == 201
        assert len(answer.json()["documents"]) == 36
        assert gateway.intake.accepted() == [path.read_bytes() for path in paths]


def test_some_are_refused_and_the_others_taken(gateway: Gateway) -> None:
    answer = form(
        gateway, ("a.xml", ONE, XML), ("b.xml", b"<html/>", XML), ("c.pdf", b"%PDF-1.4", "application/pdf"),
        ("d.xml", TWO[:-5], XML), ("e.xml", b"x" * ((1 << 20) + 1), XML), ("f.xml", TWO, XML),
        comment="bonjour",
    )  # fmt: skip
    assert answer.status_code == 207
    told = {each.get("filename", "comment"): each for each in answer.json()["documents"]}
    assert {name: each["status"] for name, each in told.items()} == {
        "a.xml": 201, "b.xml": 422, "c.pdf": 415, "d.xml": 400, "e.xml": 413, "f.xml": 201,
        "comment": 415,
    }  # fmt: skip
    assert told["d.xml"]["type"] == "urn:ecluse:cause:unreadable"
    assert told["d.xml"]["title"] == "The body is not acceptable XML"
    assert gateway.intake.accepted() == [ONE, TWO]
    kept = {received.attributes.get("file_name", "comment"): data
            for received, data in gateway.intake.kept if received.refusal is not None}  # fmt: skip
    assert kept == {
        "b.xml": b"<html/>", "c.pdf": b"%PDF-1.4", "d.xml": TWO[:-5], "comment": b"bonjour",
        "e.xml": b"x" * (1 << 20),
    }  # fmt: skip


def test_all_are_refused(gateway: Gateway) -> None:
    same = form(gateway, ("a.xml", b"<a/>", XML), ("b.xml", b"<b/>", XML))
    assert same.status_code == 422
    assert same.headers["content-type"] == "application/problem+json"
    assert [each["cause"] for each in same.json()["documents"]] == ["not-the-format"] * 2
    assert form(gateway, ("a.xml", b"", XML)).status_code == 400
    assert form(gateway, ("a.xml", b"<a/>", XML), ("b.pdf", b"%PDF", "a/b")).status_code == 422


BODY, KIND = mixed("mixed", ONE, TWO)
BROKEN = {
    "cut within the second": (BODY[: -len(TWO) // 2], KIND, 400, 1),
    "no end": (BODY[:-4], KIND, 400, 1),
    "another boundary": (BODY, "multipart/mixed; boundary=other", 400, 0),
    "no part": (b"--x--\r\n", "multipart/mixed; boundary=x", 400, 0),
    "nothing": (b"", "multipart/mixed; boundary=x", 400, 0),
    "a header without an end": (b"--x\r\n" + b"A: " + b"b" * 99_999, "multipart/mixed; boundary=x", 400, 0),
    "too many headers": (b"--x\r\n" + b"A: b\r\n" * 99, "multipart/mixed; boundary=x", 400, 0),
    "too many parts": (*mixed("mixed", *[encoded(root=f"1.2.{n}") for n in range(11)]), 400, 10),
    "too large": (*mixed("mixed", ONE, *[b"<x>" + b" " * 999_999 for _ in range(5)]), 413, 5),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_body_is_refused_after_what_came_before(gateway: Gateway, case: str) -> None:
    body, kind, status, whole = BROKEN[case]
    answer = post(gateway, body, kind)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json()["documents"]) == whole
    received, data = gateway.intake.last()
    assert received.refusal is not None
    assert answer.json()["message_id"] == len(gateway.intake.kept)
    assert data == body[: 1 << 20]
    assert post(gateway, *mixed("mixed", encoded(root="1.2.99"))).status_code == 201


def test_other_multiparts_and_compressed_ones_are_no_documents(gateway: Gateway) -> None:
    assert post(gateway, BODY, KIND.replace("mixed", "byteranges")).status_code == 415
    assert post(gateway, BODY, f"multipart/mixed; boundary={'x' * 71}").status_code == 415
    sent = {"Content-Type": KIND, "Content-Encoding": "gzip"}
    assert HTTP.post(gateway.url, content=BODY, headers=sent).status_code == 415
    encoded_part = BODY.replace(b"Content-ID", b"Content-Transfer-Encoding: base64\r\nContent-ID")
    assert post(gateway, encoded_part, KIND).status_code == 415
    assert gateway.intake.accepted() == []


def test_nothing_is_promised_that_cannot_be_kept(gateway: Gateway) -> None:
    gateway.intake.available = False
    answer = post(gateway, BODY, KIND)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert [each["status"] for each in answer.json()["documents"]] == [503, 503]
    gateway.intake.available = True
    assert post(gateway, BODY, KIND).status_code == 201


def test_a_permission_refuses_each(gateway: Gateway) -> None:
    from gateway.model import Cause

    gateway.intake.permission = Cause(code=CauseCode.RECORD_CLOSED)
    assert post(gateway, BODY, KIND).status_code == 403


def test_a_slow_body_keeps_what_was_whole(tmp_path: Path) -> None:
    with served(tmp_path, idle_timeout_seconds=0.3) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port), 30) as connection:
            connection.sendall(
                b"POST /intake/cda HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\n"
                b"Content-Length: 100000\r\n\r\n%b" % (KIND.encode(), BODY[: -len(TWO) // 2])
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert gateway.intake.accepted() == [ONE]
        eventually(lambda: not list(gateway.spool.rglob("*.spool")))
