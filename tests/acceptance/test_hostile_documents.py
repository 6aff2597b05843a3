"""Every case of the table by every road at a real gateway, watched for what it costs and touches."""

from __future__ import annotations

import contextlib
import hashlib
import re
import smtplib
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.gateway_process import GatewayProcess
from tests.canary import SECRET, Canary, canaries
from tests.eventually import eventually
from tests.hostile import ARCHIVES, DOCUMENTS, MAILS, HostileDocument
from tests.http_client import HTTP
from tests.integration.mail.mails import mail, written
from tests.integration.xdm.archives import (
    FOLDER,
    PATIENT,
    archive,
    entry,
    files_of,
    metadata,
    packed,
)
from tests.servers import free_port
from tests.unit.cda.samples import encoded

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

SECONDS_MAX = 60.0
"""For one case by all roads; each takes well below a second on a quiet machine."""
MEMORY_MAX, TIMES_MAX = 150 << 20, 12
"""What the gateway may grow by: this, and so many times what it was sent."""
LARGE = 8 << 20
NUMBERS = iter(range(1_000_000))


def good() -> bytes:
    return encoded(root=f"1.2.250.1.999.67.{next(NUMBERS)}")


@dataclass
class Answer:
    """What a road said. ``kept`` are the bytes that stand as evidence."""

    refused: bool
    number: int
    said: str
    kept: bytes
    cause: str = ""
    status: int = 0


@dataclass
class Doors:
    """A gateway with every road for documents."""

    gateway: GatewayProcess
    canary: Canary
    smtp_port: int
    kept: dict[str, bytes] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        assert self.gateway.process is not None
        return self.gateway.process.pid

    def high_water(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10

    def resident(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10

    def post(self, path: str, body: bytes, kind: str) -> Answer:
        answer = HTTP.post(
            f"{self.gateway.url}/intake/{path}",
            content=body,
            headers={"Content-Type": kind},
            timeout=60,
        )
        told = answer.json()
        if answer.status_code < 400:
            return Answer(
                False,
                told["message_id"] if "message_id" in told else told["messages"][0]["message_id"],
                "",
                body,
            )
        assert answer.headers["content-type"] == "application/problem+json"
        assert told["type"] == f"urn:ecluse:cause:{told['cause']}"
        assert told["status"] == answer.status_code
        assert told["title"], told
        assert told["detail"], told
        return Answer(
            True, told["message_id"], answer.text, body, told["cause"], answer.status_code
        )

    def in_a_multipart(self, body: bytes) -> Answer:
        """Before a good one, which goes through."""
        files = [("d", ("a.xml", body, "text/xml")), ("d", ("b.xml", good(), "text/xml"))]
        answer = HTTP.post(f"{self.gateway.url}/intake/cda/web", files=files, timeout=60)
        told, last = answer.json()["documents"]
        assert last["status"] == 201
        refused = told["status"] >= 400
        assert answer.status_code == (207 if refused else 201)
        return Answer(
            refused, told["message_id"], str(told), body, told.get("cause", ""), told["status"]
        )

    def drop(self, folder: str, name: str, body: bytes) -> Answer:
        place = self.gateway.folder / folder
        unfinished = place / "incoming" / f"{name}.part"
        unfinished.write_bytes(body)
        unfinished.rename(place / "incoming" / name)
        eventually(lambda: not (place / "incoming" / name).exists(), timeout=60)
        if (place / "accepted" / name).exists():
            assert (place / "accepted" / name).read_bytes() == body
            return Answer(False, 0, "", body)
        assert (place / "refused" / name).read_bytes() == body
        said = (place / "refused" / f"{name}.reason.txt").read_text(encoding="utf-8")
        french = said.splitlines()[0]
        assert french.startswith("Refusé")
        number = re.search(r"Message n° (\d+), motif « ([\w-]+) »", french)
        assert number is not None, said
        return Answer(True, int(number[1]), said, body, number[2])

    def mailed(self, name: str, body: bytes) -> Answer:
        kind = "application/zip" if name.endswith("zip") else "text/xml"
        return self.sent(written(mail((name, kind, body))), body)

    def sent(self, whole: bytes, body: bytes = b"") -> Answer:
        """A mail as it is, with a line's end at its end."""
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=60) as client:
            client.ehlo()
            client.mail("labo@labo.mssante.fr")
            client.rcpt("cabinet@cabinet.mssante.fr")
            code, said = client.data(whole)
        text = said.decode("ascii")
        number = re.search(r"\(message (\d+)\)", text)
        assert number is not None, text
        # The evidence of a mail is the mail; that of what was taken is the document.
        return Answer(code >= 500, int(number[1]), text, whole if code >= 500 else body)

    def check(self, answer: Answer, cause: str) -> None:
        """The answer is the right one, and what it speaks of is kept byte for byte."""
        assert answer.refused == bool(cause), answer.said
        assert SECRET not in answer.said
        if not answer.number:
            return
        message = self.gateway.get(f"/api/v1/messages/{answer.number}")
        if cause:
            assert message["state"] == "refused"
            assert message["cause"]["code"] == cause, answer.said
            assert answer.cause in ("", cause)
        stored = HTTP.get(f"{self.gateway.url}/api/v1/messages/{answer.number}/bytes", timeout=60)
        assert hashlib.sha256(stored.content).digest() == hashlib.sha256(answer.kept).digest()

    @contextlib.contextmanager
    def watched(self, size: int) -> Iterator[None]:
        """Nothing is touched, and time and memory stay within their bounds."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the high-water mark starts anew
        before, started = self.resident(), time.monotonic()
        yield
        assert time.monotonic() - started < SECONDS_MAX
        assert self.high_water() - before < MEMORY_MAX + TIMES_MAX * size
        assert self.canary.heard == []
        assert not self.canary.opened()


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("doors")
    port, quick = free_port(), {"poll_seconds": 0.02, "settle_seconds": 0}
    sources: list[dict[str, Any]] = [
        {"name": "web", "type": "cda-http", "multipart_bytes_max": 40 << 20},
        {"name": "slow", "type": "cda-http", "idle_timeout_seconds": 0.3},
        {"name": "xweb", "type": "xdm-http"},
        {"name": "drop", "type": "cda-folder", "path": str(folder / "drop"), **quick},
        {"name": "xdrop", "type": "xdm-folder", "path": str(folder / "xdrop"), **quick},
        {
            "name": "mail",
            "type": "smtp",
            "listen": f"127.0.0.1:{port}",
            "recipients": ["@cabinet.mssante.fr"],
        },
    ]
    gateway = GatewayProcess(folder, extra={"sources": sources})
    gateway.start()
    with canaries(tmp_path_factory.mktemp("canary")) as canary:
        yield Doors(gateway, canary, port)
        # What was taken was mapped too, or buried, and that touched nothing either.
        eventually(gateway.settled, timeout=60)
        assert canary.heard == []
        assert not canary.opened()
    assert gateway.stop() == 0, gateway.log_tail()
    assert SECRET not in gateway.log_tail(100_000)


def renamed(document: bytes) -> bytes:
    """With an id of its own: what is taken must not be another document under a known id."""
    old, new = 'root="1.2.250.1.999.1"', f'root="1.2.250.1.999.68.{next(NUMBERS)}"'
    for codec in ("utf-8", "utf-16-le"):
        document = document.replace(old.encode(codec), new.encode(codec))
    return document


def in_an_archive(document: bytes, case: HostileDocument) -> bytes:
    """An archive whose metadata fit the document, so that it is the document that is judged."""
    if not case.cause:
        return archive(document)
    described = entry("DOC0001.XML", document, unique_id="2.999.4.9", patient=PATIENT)
    return packed(
        files_of(
            [], **{FOLDER + "DOC0001.XML": document, FOLDER + "METADATA.XML": metadata(described)}
        )
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_by_every_road(doors: Doors, name: str) -> None:
    case = DOCUMENTS[name]
    data = renamed(doors.canary.placed(case.data()))
    packed_up = in_an_archive(data, case)
    file = f"{next(NUMBERS)}.xml"
    roads: dict[str, Callable[[], Answer]] = {
        "http": lambda: doors.post("cda/web", data, "application/xml"),
        "multipart": lambda: doors.in_a_multipart(data),
        "folder": lambda: doors.drop("drop", file, data),
        "xdm": lambda: doors.post("xdm/xweb", packed_up, "application/zip"),
        "mail": lambda: doors.mailed(file, data),
    }
    if len(data) > LARGE:  # the other roads differ in nothing that depends on size
        roads = {road: roads[road] for road in ("http", "folder", "mail")}
    with doors.watched(len(data)):
        for road, send in roads.items():
            answer = send()
            if road == "xdm" and not case.cause:
                answer.kept = data
            packed_cause = case.packed or case.cause
            doors.check(answer, packed_cause if road == "xdm" else case.cause)
            if road == "http" and case.cause:
                assert answer.status == case.status
                assert f'"location":"{case.location}' in answer.said or not case.location


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_by_every_road(doors: Doors, name: str) -> None:
    make, cause, xds = ARCHIVES[name]
    data = make()
    file = f"{next(NUMBERS)}.zip"
    with doors.watched(len(data)):
        for answer in (
            doors.post("xdm/xweb", data, "application/zip"),
            doors.drop("xdrop", file, data),
            doors.mailed("IHE_XDM.zip", data),
        ):
            doors.check(answer, cause)
            assert xds in answer.said


@pytest.mark.parametrize("name", MAILS)
def test_a_mail_that_is_made_to_do_harm(doors: Doors, name: str) -> None:
    make, cause = MAILS[name]
    whole = doors.canary.placed(make())
    whole += b"" if whole.endswith(b"\r\n") else b"\r\n"
    with doors.watched(len(whole)):
        doors.check(doors.sent(whole), cause)


# --- the ways in themselves (62, 63, 67) ----------------------------------------------


def endless(count: int) -> Iterator[bytes]:
    yield b'--x\r\nContent-Disposition: form-data; name="d"; filename="d.xml"\r\n\r\n'
    for _ in range(count):
        yield b"y" * (1 << 20)


def test_a_multipart_without_an_end_stops_at_its_limit(doors: Doors) -> None:
    with doors.watched(40 << 20):
        answer = HTTP.post(
            f"{doors.gateway.url}/intake/cda/web", content=endless(100), timeout=60,
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )  # fmt: skip
        assert (answer.status_code, answer.json()["cause"]) == (413, "frame-oversized")
        bomb = b"--x\r\n" + b"X: y\r\n" * 100_000
        refused = doors.post("cda/web", bomb, "multipart/related; boundary=x")
        assert (refused.status, refused.cause) == (400, "unreadable")
        assert not doors.post("cda/web", good(), "application/xml").refused


@pytest.mark.parametrize("message_id", ["<1@x>", ""])
def test_the_same_mail_again_is_one_message(doors: Doors, message_id: str) -> None:
    sent = mail(("d.xml", "text/xml", good()))
    del sent["Message-ID"]
    if message_id:
        sent["Message-ID"] = message_id
    with smtplib.SMTP("127.0.0.1", doors.smtp_port, timeout=60) as client:
        client.ehlo()
        said = []
        for _ in range(3):
            client.mail("labo@labo.mssante.fr")
            client.rcpt("cabinet@cabinet.mssante.fr")
            said.append(client.data(written(sent)))
    assert said[0][0] == 250
    assert len(set(said)) == 1


def test_a_compressed_body_is_not_unpacked(doors: Doors) -> None:
    import gzip

    bomb = gzip.compress(b" " * (50 << 20))
    with doors.watched(len(bomb)):
        for path, kind in (("cda/web", "application/xml"), ("xdm/xweb", "application/zip"),
                           ("cda/web", "multipart/mixed; boundary=x")):  # fmt: skip
            answer = HTTP.post(
                f"{doors.gateway.url}/intake/{path}", content=bomb, timeout=60,
                headers={"Content-Type": kind, "Content-Encoding": "gzip"},
            )  # fmt: skip
            assert (answer.status_code, answer.json()["cause"]) == (415, "unsupported-type")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nContent-Length: 50\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
    ],
)
def test_lengths_that_contradict_each_other_are_no_request(doors: Doors, headers: bytes) -> None:
    document = good()
    said = raw(doors, b"Content-Type: application/xml\r\n" + headers, document)
    assert said.startswith(b"HTTP/1.1 400"), said
    assert not doors.post("cda/web", good(), "application/xml").refused


def test_a_length_beside_chunks_smuggles_nothing(doors: Doors) -> None:
    """RFC 9112, section 6.3: chunks win, or it is refused; what follows is no second request."""
    second = b"POST /intake/cda/web HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    body = b"0\r\n\r\n" + second
    said = raw(doors, b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n" % len(body), body)
    statuses = re.findall(rb"HTTP/1.1 (\d{3})", said)
    assert statuses
    assert all(each.startswith(b"4") for each in statuses), said
    assert not doors.post("cda/web", good(), "application/xml").refused


def test_a_slow_body_is_cut(doors: Doors) -> None:
    said = raw(
        doors, b"Content-Type: application/xml\r\nContent-Length: 5000\r\n", b"<Clin", "slow"
    )
    assert said.startswith(b"HTTP/1.1 408")
    assert b"frame-truncated" in said
    assert not doors.post("cda/slow", good(), "application/xml").refused


def raw(doors: Doors, headers: bytes, body: bytes, source: str = "web") -> bytes:
    """What is answered to a request that no HTTP client writes, until the end."""
    port = doors.gateway.http_port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(
            b"POST /intake/cda/%b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n%b\r\n%b"
            % (source.encode(), port, headers, body)
        )
        found = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while block := connection.recv(1 << 16):
                found += block
        return found


def test_every_road_takes_good_documents_after_all_that(doors: Doors) -> None:
    number = next(NUMBERS)
    assert not doors.post("cda/web", good(), "application/xml").refused
    assert not doors.post("xdm/xweb", archive(good()), "application/zip").refused
    assert not doors.drop("xdrop", f"{number}.zip", archive(good())).refused
    assert not doors.drop("drop", f"{number}.xml", good()).refused
    assert not doors.mailed("next.xml", good()).refused
