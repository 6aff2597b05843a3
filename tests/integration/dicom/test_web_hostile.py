"""Store transactions that are broken, too large, or hold what must not be taken."""

from __future__ import annotations

import http.client
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.dicom.part10 import file_head
from adapters.dicom.web.multipart import HEAD_BYTES_MAX
from gateway.model import CauseCode
from tests.eventually import eventually
from tests.integration.dicom.hostile import BAD_OBJECTS
from tests.integration.dicom.objects import CT, EXPLICIT, STUDY, data_set
from tests.integration.dicom.web import Web, multipart, running_web

MEMORY_MAX = 16 << 20
OBJECT_MAX = 1 << 20


def file(number: int, **given: object) -> bytes:
    """A whole DICOM file of the study."""
    uid = f"{STUDY}.1.{number}"
    return file_head(CT, uid, EXPLICIT) + data_set(uid, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("hostile")
    limits = {"object_bytes_max": OBJECT_MAX, "instances_max": 200, "request_bytes_max": 40 << 20}
    with running_web(folder, **limits) as made:
        yield made


def test_each_bad_object_of_a_request_has_its_reason_and_is_kept(web: Web) -> None:
    # Without a presentation context there is none whose class could be another one.
    cases = [bad for bad in BAD_OBJECTS if bad.status != 0x0122]
    files = [file_head(bad.sop_class, bad.instance, bad.syntax) + bad.body() for bad in cases]
    before = len(web.kept())
    answer = web.store(*files)
    assert answer.status == 202
    expected = [bad.status for bad in cases if bad.status]
    assert answer.reasons() == expected
    taken = len(answer.json["00081199"]["Value"])
    assert taken == len(cases) - len(expected)
    kept = web.kept()[before:]
    refused = [each for each in kept if each.cause is not None]
    assert {each.cause.code for each in refused if each.cause} == {
        bad.cause for bad in cases if bad.cause is not None
    }
    assert not web.spooled()
    assert web.store(file(2)).status == 200


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [("/studies", 200, None), (f"/studies/{STUDY}", 200, None), (f"/studies/{STUDY}.9", 409, 0xC002),
     ("/studies/none", 400, None), ("/nobody/studies", 404, None), ("/web/studies", 200, None)],
)  # fmt: skip
def test_the_study_of_the_address_is_the_only_one(
    web: Web, path: str, status: int, reason: int | None
) -> None:
    answer = web.store(file(3), path=path)
    assert answer.status == status
    if reason is not None:
        assert answer.reasons() == [reason]
        assert web.kept()[-1].cause is not None


def test_bodies_that_are_no_multipart_bodies_are_bad_requests(web: Web) -> None:
    kind, body = multipart([file(4)], "right")
    wrong = kind.replace("right", "wrong")
    for content_type, sent, status in (
        (wrong, body, 400),
        (kind, b"", 400),
        (kind, b"--right--", 400),
        (kind, b"--right and more\r\n\r\n", 400),
        (kind, b"x" * (128 << 10), 400),
        (kind, b"--right\r\nA: " + b"a" * (2 * HEAD_BYTES_MAX) + b"\r\n\r\n", 400),
        (kind, b"--right\r\n\r\nno DICOM at all\r\n--right--", 400),
        (kind, b"--right\r\nContent-Type: text/plain\r\n\r\n" + file(4) + b"\r\n--right--", 400),
        (kind.replace('boundary="right"', ""), body, 400),
        (kind.replace("right", "é"), body, 400),
        ("text/plain", body, 415),
        (kind.replace("application/dicom", "application/dicom+json"), body, 415),
    ):
        answer = web.ask("POST", "/studies", sent, Content_Type=content_type.encode("latin-1"))  # type: ignore[arg-type]
        assert answer.status == status, (content_type, sent[:40], answer.body)
    assert (
        web.ask("POST", "/studies", body, Content_Type=kind, Content_Encoding="gzip").status == 415
    )
    assert web.ask("POST", "/studies", body, Content_Type=kind, Accept="text/html").status == 406
    causes = [each.cause.code for each in web.kept() if each.cause is not None]
    assert causes.count(CauseCode.NOT_THE_FORMAT) == 2
    assert not web.spooled()


def test_what_was_whole_before_the_cut_is_kept_and_told(web: Web) -> None:
    kind, body = multipart([file(5), file(6)], "cut")
    answer = web.ask("POST", "/studies", body[:-200], Content_Type=kind)
    assert answer.status == 202
    assert [each["00081155"]["Value"] for each in answer.json["00081199"]["Value"]] == [
        [f"{STUDY}.1.5"]
    ]
    assert answer.reasons("0008119A") == [0xC000]
    assert not web.spooled()


def test_a_sender_that_closes_leaves_whole_instances_and_nothing_else(web: Web) -> None:
    kind, body = multipart([file(7), file(8, pixels=bytes(600_000))], "gone")
    before = web.source.statistics().get("disconnected", 0)
    with socket.create_connection(("127.0.0.1", web.port)) as connection:
        connection.sendall(
            f"POST /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body[:-1000]
        )
    eventually(lambda: web.source.statistics().get("disconnected", 0) > before, timeout=30)
    eventually(lambda: f"{STUDY}.1.7" in {each.control_id for each in web.kept()}, timeout=30)
    eventually(lambda: not web.spooled(), timeout=30)
    kept = {each.control_id for each in web.kept()}
    assert f"{STUDY}.1.8" not in kept


def test_an_object_that_is_too_large_is_refused_in_constant_memory_and_the_next_is_taken(
    web: Web,
) -> None:
    block = b"\1\2" * (1 << 15)
    uid = f"{STUDY}.1.9"

    def body() -> Iterator[bytes]:
        yield b"--b\r\nContent-Type: application/dicom\r\n\r\n"
        yield file_head(CT, uid, EXPLICIT) + data_set(uid)[:100]
        for _ in range(400):
            yield block
        yield b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + file(10) + b"\r\n--b--"

    kind = 'multipart/related; type="application/dicom"; boundary=b'
    tracemalloc.start()
    try:
        answer = web.ask("POST", "/studies", body(), Content_Type=kind)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status == 202
    assert answer.reasons() == [0xA701]
    assert peak < MEMORY_MAX
    alone = web.store(file(9, pixels=bytes(2 * OBJECT_MAX)))
    assert (alone.status, alone.reasons()) == (413, [0xA701])
    assert not web.spooled()


def test_a_request_has_limits_of_its_own(web: Web) -> None:
    same = file(11)
    answer = web.store(*[same] * 210)
    assert answer.status == 202
    assert len(answer.json["00081199"]["Value"]) == 200
    assert answer.reasons() == [0xA702] * 10
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)
    kind, body = multipart([same], "large")
    connection.putrequest("POST", "/dicomweb/studies")
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()
    with pytest.raises((ConnectionError, BrokenPipeError)):  # noqa: PT012 - whichever write sees it
        connection.send(body[:-10])
        for _ in range(1_200):
            connection.send(bytes(1 << 16))
    connection.close()
    eventually(lambda: web.source.statistics().get("stow-413", 0) >= 1, timeout=30)


def test_what_is_not_taken_is_refused_by_class_syntax_and_address(tmp_path: Path) -> None:
    limits = {"sop_classes": ["1.2.840.10008.5.1.4.1.1.4"], "transfer_syntaxes": [EXPLICIT]}
    with running_web(tmp_path, **limits) as web:
        assert web.store(file(1)).reasons() == [0x0122]
        mr = "1.2.840.10008.5.1.4.1.1.4"
        uid = f"{STUDY}.1.1"
        jpeg = file_head(mr, uid, "1.2.840.10008.1.2.4.50") + data_set(sop_class=mr)
        answer = web.store(jpeg)
        assert (answer.status, answer.reasons()) == (409, [0xC122])
        assert web.kept() == []
    with running_web(tmp_path / "other", addresses=["10.0.0.0/8"]) as web:
        assert web.store(file(1)).status == 403


def test_a_full_disk_is_told_and_may_be_tried_again(tmp_path: Path) -> None:
    with running_web(tmp_path, free_bytes_min=1 << 60) as web:
        answer = web.store(file(1), file(2))
        assert (answer.status, answer.reasons()) == (503, [0xA700, 0xA700])
        assert answer.headers["retry-after"] == "5"
        assert web.kept() == []


def test_a_sender_that_stops_is_told_what_was_kept(tmp_path: Path) -> None:
    kind, body = multipart([file(1), file(2)], "slow")
    for limit in ({"idle_timeout_seconds": 0.3}, {"request_timeout_seconds": 0.3}):
        with (
            running_web(tmp_path / next(iter(limit)), **limit) as web,
            socket.create_connection(("127.0.0.1", web.port)) as connection,
        ):
            connection.settimeout(60)
            connection.sendall(
                f"POST /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body[:-100]
            )
            answer = connection.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 202"), answer[:100]
            assert [each.control_id for each in web.kept()] == [f"{STUDY}.1.1"]


def test_one_object_that_is_cut_at_an_element_is_not_kept(tmp_path: Path) -> None:
    whole = file(1)
    # Up to the pixels it is a data set that nothing seems to be missing from.
    cut = whole[: whole.index(b"\xe0\x7f\x10\x00OW")]
    with (
        running_web(tmp_path, idle_timeout_seconds=0.3) as web,
        socket.create_connection(("127.0.0.1", web.port)) as connection,
    ):
        connection.settimeout(60)
        connection.sendall(
            b"POST /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/dicom\r\n"
            + f"Content-Length: {len(whole)}\r\n\r\n".encode()
            + cut
        )
        answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 408"), answer[:100]
        assert [each.state for each in web.kept()] == []
        assert not web.spooled()
