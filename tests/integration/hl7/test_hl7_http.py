"""HL7 over HTTP: a real client, the acknowledgements, batches, and everything that goes wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from adapters.hl7.batch import read_file
from adapters.hl7.http import Hl7HttpSource
from adapters.hl7.settings import Hl7HttpSourceSettings
from gateway.model import Cause, CauseCode, Received
from tests.eventually import eventually
from tests.http_client import HTTP
from tests.integration.doors.running import served
from tests.integration.hl7.fake_intake import FakeIntake, RealClock

ER7 = "application/hl7-v2"


def message(control_id: str, name: str = "ESSAI", charset: str = "", kind: str = "ORU^R01") -> str:
    return (
        f"MSH|^~\\&|LAB|X|ECLUSE|Y|20240101||{kind}|{control_id}|P|2.5||||||{charset}\r"
        f"PID|1||1^^^LAB&1.2.3.4&ISO^PI||{name}\rOBR|1||A^LAB|1^B^L\r"
    )


@dataclass
class Served:
    url: str
    port: int
    intake: FakeIntake

    def post(self, body: bytes, content_type: str = ER7, **headers: str) -> httpx2.Response:
        sent = {"Content-Type": content_type} if content_type else {}
        return HTTP.post(self.url, content=body, headers={**sent, **headers}, timeout=20)

    def fresh(self, since: int) -> list[Received]:
        return self.intake.kept[since:]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    spool = tmp_path_factory.mktemp("hl7-http")
    intake = FakeIntake()

    def make() -> list[Hl7HttpSource]:
        settings = Hl7HttpSourceSettings(
            name="lab", spool_folder=spool, memory_bytes_max=2048, file_bytes_max=1 << 20,
            frame_bytes_max=64 << 10, idle_timeout_seconds=1, messages_max=500,
        )  # fmt: skip
        return [Hl7HttpSource(settings, intake, RealClock())]

    with served("hl7", make) as (url, port):  # type: ignore[arg-type]
        yield Served(url, port, intake)
    intake.close()
    assert list(spool.iterdir()) == []


def test_a_message_is_acknowledged_after_its_commit(http: Served) -> None:
    body = message("H1", "Élodie", "UNICODE UTF-8").encode()
    before = len(http.intake.kept)
    answer = http.post(body, f"{ER7}; charset=utf-8")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{ER7}; charset=utf-8"
    assert b"\rMSA|AA|H1\r" in answer.content
    assert answer.content.startswith(b"MSH|^~\\&|ECLUSE|Y|LAB|X|")
    (received,) = http.fresh(before)
    assert received.payload.read() == body
    assert (received.control_id, received.kind, received.encoding) == (
        "H1", "ORU^R01", "UNICODE UTF-8",
    )  # fmt: skip
    assert received.subject[0].system == "urn:oid:1.2.3.4"
    assert received.peer.startswith("127.0.0.1:")
    again = http.post(body, f"{ER7}; charset=utf-8")
    assert again.content == answer.content


@pytest.mark.parametrize(
    "content_type", [ER7, "application/hl7-v2+er7", "x-application/hl7-v2+er7", "text/plain", ""]
)
def test_types_that_are_er7(http: Served, content_type: str) -> None:
    assert b"MSA|AA|" in http.post(message("T1").encode(), content_type).content


def test_the_charset_of_the_transport_counts_where_msh_18_says_nothing(http: Served) -> None:
    before = len(http.intake.kept)
    answer = http.post(message("C1", "Élodie").encode("latin-1"), f"{ER7}; charset=ISO-8859-1")
    assert b"MSA|AA|C1" in answer.content
    assert http.fresh(before)[0].encoding == "8859/1"
    # The source's own default is UTF-8, in which these bytes are wrong.
    assert b"MSA|AE|C2" in http.post(message("C2", "Élodie").encode("latin-1")).content


def test_two_charsets_that_disagree_are_refused_and_named(http: Served) -> None:
    before = len(http.intake.kept)
    body = message("C3", "Élodie", "8859/15").encode("iso8859-15")
    answer = http.post(body, f"{ER7}; charset=utf-8")
    assert answer.status_code == 200
    assert b"MSA|AE|C3" in answer.content
    (received,) = http.fresh(before)
    assert received.refusal is not None
    assert received.refusal.code is CauseCode.CHARACTER_SET
    assert received.refusal.detail == "Content-Type says UNICODE UTF-8, MSH-18 says 8859/15"
    # Where all is ASCII nothing is at stake.
    plain = message("C4", charset="8859/15").encode()
    assert b"MSA|AA|C4" in http.post(plain, f"{ER7}; charset=utf-8").content
    assert b"MSA|A" in http.post(plain, f"{ER7}; charset=klingon").content
    assert b"MSA|AA" not in http.post(plain, f"{ER7}; charset=klingon").content


def test_refusals_of_hl7_are_answers_with_status_200(http: Served) -> None:
    for body, code in (
        (message("R1", kind="ZZZ^Z01").encode(), b"MSA|AR|R1"),
        (message("").encode(), b"MSA|AE|"),
        (b"PID|1\r", b"MSA|AR|"),
        (b"", b"MSA|AR|"),
        (b"<ClinicalDocument/>", b"MSA|AR|"),
    ):
        answer = http.post(body)
        assert answer.status_code == 200
        assert code in answer.content
        assert b"\rERR|" in answer.content
    http.intake.refuse = lambda _: Cause(code=CauseCode.FEEDING_OPPOSED, detail="opposed")
    try:
        answer = http.post(message("R2").encode())
    finally:
        http.intake.refuse = lambda _: None
    assert b"MSA|AE|R2" in answer.content


def test_a_batch_is_answered_by_a_batch(http: Served) -> None:
    header = "BHS|^~\\&|LAB|X|ECLUSE|Y|20240101||||B7\r"
    bodies = [message(f"B{n}", kind="ZZZ" if n == 2 else "ORU^R01") for n in range(4)]
    before = len(http.intake.kept)
    answer = http.post((header + "".join(bodies) + "BTS|4\r").encode())
    assert answer.status_code == 200
    file = read_file(answer.content, message_bytes_max=10_000, messages_max=100)
    assert file.mismatch is None
    header_found = file.batches[0].header
    assert header_found is not None
    assert header_found.whole(12) == "B7"
    codes = [found.split(b"\rMSA|")[1][:5] for found in file.messages]
    assert codes == [b"AA|B0", b"AA|B1", b"AR|B2", b"AA|B3"]
    kept = http.fresh(before)
    assert [each.payload.read().decode() for each in kept] == bodies
    assert [each.attributes["file_message"] for each in kept] == [f"{n} of 4" for n in range(1, 5)]


def test_what_gets_no_answer_leaves_none(http: Served) -> None:
    silent = message("S1").replace("ORU^R01", "ACK^R01")
    before = len(http.intake.kept)
    answer = http.post(silent.encode())
    assert (answer.status_code, answer.content) == (204, b"")
    (kept,) = http.fresh(before)
    assert kept.refusal is not None
    assert kept.refusal.code is CauseCode.ACKNOWLEDGEMENT
    assert answer.headers["location"]
    header = "BHS|^~\\&|LAB|X|ECLUSE|Y|20240101||||B8\r"
    batch = http.post(f"{header}{message('S2')}{silent}{message('S3')}BTS|3\r".encode())
    assert batch.status_code == 200
    file = read_file(batch.content, message_bytes_max=10_000, messages_max=100)
    assert file.mismatch is None
    assert [found.split(b"\rMSA|")[1][:5] for found in file.messages] == [b"AA|S2", b"AA|S3"]


def test_more_messages_than_are_in_flight_keep_their_order(http: Served) -> None:
    before = len(http.intake.kept)
    http.post("".join(message(f"N{n}") for n in range(400)).encode())
    assert [each.control_id for each in http.fresh(before)] == [f"N{n}" for n in range(400)]


def test_a_count_that_does_not_agree_refuses_the_whole(http: Served) -> None:
    before = len(http.intake.kept)
    body = f"BHS|^~\\&\r{message('M1')}{message('M2')}BTS|3\r".encode()
    answer = http.post(body)
    assert b"MSA|AE|" in answer.content
    assert b"BTS-1 says 3, and there are 2 messages" in answer.content
    (received,) = http.fresh(before)
    assert received.payload.read() == body
    assert received.refusal is not None
    assert (received.refusal.code, received.refusal.location) == (
        CauseCode.CONTENT_MISMATCH, "BTS-1",
    )  # fmt: skip


def test_nothing_kept_is_said_so_that_the_sender_tries_again(http: Served) -> None:
    http.intake.unavailable = True
    try:
        answer = http.post(message("U1").encode())
        batch = http.post(f"BHS|^~\\&\r{message('U2')}{message('U3')}BTS|2\r".encode())
    finally:
        http.intake.unavailable = False
    assert answer.status_code == batch.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert b"MSA|AR|U1" in answer.content
    assert batch.content.count(b"MSA|AR|") == 2
    assert b"MSA|AA|U1" in http.post(message("U1").encode()).content


def test_what_is_no_matter_of_hl7(http: Served) -> None:
    xml = http.post(b"<ORU_R01/>", "application/hl7-v2+xml")
    assert xml.status_code == 415
    assert xml.headers["content-type"] == "application/problem+json"
    packed = http.post(b"x", **{"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    large = http.post(b"x" * ((1 << 20) + 1))
    assert large.status_code == 413
    assert HTTP.get(http.url).status_code == 405
    assert HTTP.post(f"{http.url}/nobody", content=b"x").status_code == 404


def test_a_stream_beyond_the_limit_and_a_body_that_is_cut_are_kept_as_evidence(
    http: Served,
) -> None:
    before = len(http.intake.kept)
    block = b"x" * 65536
    streamed = HTTP.post(
        http.url, content=(block for _ in range(20)), headers={"Content-Type": ER7}
    )
    assert streamed.status_code == 413
    with socket.create_connection(("127.0.0.1", http.port), timeout=10) as connection:
        connection.sendall(
            b"POST /intake/hl7 HTTP/1.1\r\nHost: x\r\nContent-Type: application/hl7-v2\r\n"
            b"Content-Length: 500\r\n\r\n" + message("CUT").encode()
        )
    eventually(lambda: len(http.fresh(before)) == 2)
    oversized, cut = http.fresh(before)
    assert oversized.refusal is not None
    assert oversized.refusal.code is CauseCode.FRAME_OVERSIZED
    assert oversized.payload.size == 1 << 20
    assert cut.refusal is not None
    assert cut.refusal.code is CauseCode.FRAME_TRUNCATED
    assert cut.payload.read() == message("CUT").encode()


def test_one_message_beyond_the_limit_of_a_message(http: Served) -> None:
    before = len(http.intake.kept)
    answer = http.post((message("L1") + "NTE|1||" + "x" * 70_000 + "\r").encode())
    assert b"MSA|AE|" in answer.content
    assert http.fresh(before)[0].refusal is not None


def test_the_spool_is_empty_when_all_is_answered(http: Served, tmp_path: Path) -> None:
    del tmp_path
    assert (
        b"MSA|AA|S1" in http.post((message("S1") + "NTE|1||" + "x" * 9000 + "\r").encode()).content
    )
