"""Studies sent on to a DICOMweb server by STOW-RS, over real HTTP."""

from __future__ import annotations

import email
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adapters.dicom.forward_settings import StorageSettings
from adapters.dicom.rewriting import Rewriter
from adapters.dicom.stow import StowDestination
from gateway.model import Again, CauseCode, Delivered, Outcome, Refused, Wait
from tests.integration.dicom.objects import STUDY, data_set, write
from tests.integration.dicom.storing_peer import Files, delivery
from tests.servers import free_port


@dataclass
class WebServer:
    """Keeps the files of each request; ``answers`` are status, headers and body of the next."""

    port: int = 0
    kept: list[bytes] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes] | None] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[WebServer]:
    made = WebServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kind = self.headers["Content-Type"]
            made.requests.append((self.path, kind, self.headers.get("Authorization", "")))
            answer = made.answers.pop(0) if made.answers else (200, {}, b"{}")
            if answer is None:
                self.close_connection = True
                return
            if answer[0] in {200, 202}:
                head = f"Content-Type: {kind}\r\n\r\n".encode()
                for part in email.message_from_bytes(head + body).get_payload():
                    assert part.get_content_type() == "application/dicom"  # type: ignore[union-attr]
                boundary = kind.rpartition("boundary=")[2].encode()
                files = body.split(b"--" + boundary)[1:-1]
                made.kept += [each.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for each in files]
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer[2])))
            self.end_headers()
            self.wfile.write(answer[2])

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path | bytes]:
    made: list[Path | bytes] = []
    for number in (1, 2, 3):
        uid = f"{STUDY}.1.{number}"
        path = write(tmp_path / f"{number}.dcm", data_set(uid), uid)
        made.append(path if number % 2 else path.read_bytes())
    return made


def sent(port: int, files: list[Path | bytes], **settings: Any) -> tuple[StowDestination, Outcome]:
    values = {"type": "dicom", "protocol": "stow", "url": f"http://127.0.0.1:{port}/dicom-web"}
    configured = StorageSettings.model_validate({**values, **settings})
    made = StowDestination("web", configured, Files(files), Rewriter((), 1 << 30))
    outcome = made.deliver(delivery(), None)
    return made, outcome


def content(each: Path | bytes) -> bytes:
    return each if isinstance(each, bytes) else each.read_bytes()


def test_files_go_as_they_are(web: WebServer, files: list[Path | bytes], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-token")
    made, outcome = sent(web.port, files, token_file=tmp_path / "token")
    made.close()
    assert outcome == Delivered(evidence="3 objects stored")
    assert web.kept == [content(each) for each in files]
    ((path, kind, authorization),) = web.requests
    assert path == "/dicom-web/studies"
    assert kind.startswith('multipart/related; type="application/dicom"; boundary=')
    assert authorization == "Bearer secret-token"


def failures(**reasons: int) -> bytes:
    items = [
        {"00081155": {"vr": "UI", "Value": [f"{STUDY}.1.{number[1:]}"]},
         "00081197": {"vr": "US", "Value": [reason]}}
        for number, reason in reasons.items()
    ]  # fmt: skip
    return json.dumps({"00081198": {"vr": "SQ", "Value": items}}).encode()


def test_each_object_has_its_own_fate(web: WebServer, files: list[Path | bytes]) -> None:
    web.answers = [(202, {}, failures(n2=0xA700))]
    made, outcome = sent(web.port, files)
    assert isinstance(outcome, Again)
    assert outcome.cause.protocol_code == "0xA700"
    assert made.deliver(delivery(begun=1), None) == Delivered(evidence="3 objects stored")
    assert web.kept[3:] == [content(files[1])]
    made.close()
    web.answers = [(409, {}, failures(n1=0xA900, n2=0xC000, n3=0x0122))]
    made, outcome = sent(web.port, files)
    made.close()
    assert isinstance(outcome, Refused)
    assert outcome.cause.protocol_code == "0xA900"


def stored(*numbers: int) -> dict[str, Any]:
    items = [{"00081155": {"vr": "UI", "Value": [f"{STUDY}.1.{each}"]}} for each in numbers]
    return {"00081199": {"vr": "SQ", "Value": items}}


def test_what_the_server_does_not_say_is_stored_is_not(
    web: WebServer, files: list[Path | bytes]
) -> None:
    other = {"0008119A": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}
    failed = json.loads(failures(n2=0xA900))
    for said in (stored(1, 3), stored(1, 3) | other, [stored(1, 3), other]):
        web.answers = [(202, {}, json.dumps(said).encode())]
        made, outcome = sent(web.port, files)
        assert isinstance(outcome, Again), said
        web.kept.clear()
        assert made.deliver(delivery(begun=1), None) == Delivered(evidence="3 objects stored")
        assert web.kept == [content(files[1])]
        made.close()
    web.answers = [(202, {}, json.dumps([stored(1, 3), failed]).encode())]
    made, outcome = sent(web.port, files)
    made.close()
    assert isinstance(outcome, Refused)
    web.answers = [(200, {}, json.dumps(stored(1, 2, 3)).encode())]
    made, outcome = sent(web.port, files)
    made.close()
    assert outcome == Delivered(evidence="3 objects stored")


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (None, Again, CauseCode.OUTCOME_UNKNOWN),
        ((500, {}, b""), Again, CauseCode.OUTCOME_UNKNOWN),
        ((200, {}, b"<html>"), Again, CauseCode.OUTCOME_UNKNOWN),
        ((503, {"Retry-After": "7"}, b""), Wait, CauseCode.DESTINATION_UNAVAILABLE),
        ((401, {}, b""), Wait, CauseCode.DESTINATION_UNAVAILABLE),
        ((404, {}, b""), Wait, CauseCode.DESTINATION_UNAVAILABLE),
        ((415, {}, b""), Refused, CauseCode.DESTINATION_REFUSED),
    ],
)
def test_an_answer_says_what_is_to_be_done(
    web: WebServer, files: list[Path | bytes], answer: Any, kind: type[Any], code: CauseCode
) -> None:
    web.answers = [answer]
    made, outcome = sent(web.port, files)
    made.close()
    assert isinstance(outcome, kind)
    assert outcome.cause.code is code
    if isinstance(outcome, Wait) and answer[0] == 503:
        assert outcome.after.total_seconds() == 7


def test_a_server_that_is_away(files: list[Path | bytes]) -> None:
    made, outcome = sent(free_port(), files)
    made.close()
    assert isinstance(outcome, Again)
    assert outcome.cause.code is CauseCode.DESTINATION_UNAVAILABLE
