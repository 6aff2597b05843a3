"""Alerts: once when born, grown, ended; durable; over a real mail server and real HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deadletter import replay, triage
from deadletter.alerts import Alerts, Channel, NotSent, trial
from deadletter.channels import Mail, Webhook
from gateway.journal import alerting
from gateway.journal.values import DeadLetterFilter
from tests.certificates import Authority
from tests.integration.pipeline.rig import HeldClock, Rig, national

smtp = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")

ONE_DATABASE = pytest.mark.parametrize("journal_url", ["sqlite"], indirect=True)
SECRET_NAME = "LHERMITTE"


class Post:
    """A channel in memory, which may be down."""

    def __init__(self, name: str = "post") -> None:
        self.name = name
        self.down = False
        self.sent: list[tuple[int, str, int]] = []

    def send(self, alert: alerting.Alert) -> str:
        if self.down:
            raise NotSent("it is down")
        self.sent.append((alert.id, alert.kind, alert.body["count"]))
        return "taken"


def alerts(rig: Rig, *channels: Channel, **options: Any) -> Alerts:
    given = {"thresholds": (5, 10), "calm": timedelta(seconds=60), **options}
    return Alerts(rig.journal, channels, **given)


def die(rig: Rig, count: int) -> None:
    for n in range(count):
        rig.submit({"patient": [national(n)], "facts": [SECRET_NAME], "broken": True})
    rig.send({"patient": [national(99)], "facts": ["good"]})
    rig.settle()


def look(told: Alerts) -> None:
    told.decide()
    told.send_due()


def settle_all(rig: Rig, key: str) -> None:
    replay.discard(rig.journal, DeadLetterFilter(), actor="a", key=key, reason="a test")


def test_people_are_told_once_of_each_step(rig: Rig, clock: HeldClock) -> None:
    post = Post()
    told = alerts(rig, post)
    look(told)
    assert post.sent == []
    die(rig, 2)
    look(told)
    look(told)
    assert [each[1:] for each in post.sent] == [("born", 2)]
    die(rig, 2)
    look(told)
    assert len(post.sent) == 1, "between two thresholds nobody is told"
    die(rig, 2)
    look(alerts(rig, post))  # a restart knows what people were told
    look(told)
    assert [each[1:] for each in post.sent][1:] == [("grown", 6)]
    settle_all(rig, "one")
    look(told)
    clock.forward(seconds=59)
    look(told)
    assert len(post.sent) == 2, "it must stay empty for a while"
    clock.forward(seconds=2)
    look(told)
    look(told)
    assert [each[1:] for each in post.sent][2:] == [("ended", 0)]
    die(rig, 1)
    look(told)
    assert [each[1:] for each in post.sent][3:] == [("born", 1)]


@ONE_DATABASE
def test_a_group_that_fills_again_at_once_has_not_ended(rig: Rig, clock: HeldClock) -> None:
    post = Post()
    told = alerts(rig, post)
    die(rig, 1)
    look(told)
    settle_all(rig, "one")
    look(told)
    clock.forward(seconds=30)
    die(rig, 1)
    look(told)
    clock.forward(seconds=120)
    look(told)
    assert [each[1] for each in post.sent] == ["born"]


def test_two_gateways_tell_it_once(rig: Rig) -> None:
    post = Post()
    one, other = alerts(rig, post), alerts(rig, post)
    die(rig, 3)
    with rig.journal.read() as connection:
        assert alerting.levels(connection) == {}
    assert one.decide() == 1
    assert other.decide() == 0
    one.send_due()
    other.send_due()
    assert len(post.sent) == 1


@ONE_DATABASE
def test_a_channel_that_is_down_is_tried_again_and_holds_up_no_other(
    rig: Rig, clock: HeldClock
) -> None:
    down, up = Post("down"), Post("up")
    down.down = True
    told = alerts(rig, down, up)
    die(rig, 1)
    look(told)
    assert len(up.sent) == 1
    for seconds in (5, 15, 60):
        clock.forward(seconds=seconds - 1)
        assert told.send_due() == 0
        clock.forward(seconds=2)
        told.send_due()
    with rig.journal.read() as connection:
        (waiting,) = [each for each in alerting.newest(connection) if each.channel == "down"]
    assert (waiting.attempts, waiting.answer) == (4, "it is down")
    down.down = False
    clock.forward(minutes=10)
    assert told.send_due() == 1
    assert len(down.sent) == len(up.sent) == 1
    down.down = True
    settle_all(rig, "one")
    look(told)
    clock.forward(minutes=5)
    look(told)
    clock.forward(days=4)
    told.send_due()
    with rig.journal.read() as connection:
        last = next(each for each in alerting.newest(connection) if each.channel == "down")
    assert (last.kind, last.state) == ("ended", alerting.AlertState.FAILED)


# --- over the wire --------------------------------------------------------------------


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]], list[int]]]:
    """A real HTTP server: its URL, what it got, and the statuses it is to answer."""
    got: list[tuple[dict[str, str], bytes]] = []
    answers: list[int] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/told", got, answers
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_webhook_that_never_stops_answering_is_not_listened_to() -> None:
    """Only its status counts: an endless body would fill the memory, or hold the thread."""
    over = threading.Event()

    class Endless(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            try:
                while not over.is_set():
                    self.wfile.write(b"x" * 65_536)
            except OSError:
                over.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    said: list[str] = []
    hook = Webhook(name="hook", url=f"http://127.0.0.1:{server.server_port}/")
    asked = threading.Thread(
        target=lambda: said.append(hook.send(trial(datetime.now(UTC), "hook"))), daemon=True
    )
    asked.start()
    asked.join(30)
    over.set()
    server.shutdown()
    server.server_close()
    assert said == ["200"]


@ONE_DATABASE
def test_a_webhook_gets_signed_json_without_a_patient(
    rig: Rig, clock: HeldClock, webhook: tuple[str, list[Any], list[int]], tmp_path: Path
) -> None:
    url, got, answers = webhook
    secret = tmp_path / "secret"
    secret.write_text("of the house\n")
    answers += [500, 302]
    told = alerts(
        rig, Webhook(name="hook", url=url, secret_file=secret),
        link=lambda group: f"https://ecluse.example/dead/groups/{group}",
    )  # fmt: skip
    die(rig, 3)
    look(told)
    for seconds in (6, 16):
        clock.forward(seconds=seconds)
        look(told)
    assert len(got) == 3, "an answer that is no 2xx is tried again"
    headers, body = got[-1]
    assert {each["ecluse-alert"] for each, _ in got} == {headers["ecluse-alert"]}
    digest = hmac.new(b"of the house", body, hashlib.sha256).hexdigest()
    assert headers["ecluse-signature"] == f"sha256={digest}"
    said = json.loads(body)
    assert (said["kind"], said["count"], said["sources"]) == ("born", 3, {"lab": 3})
    assert said["link"] == f"https://ecluse.example/dead/groups/{said['group']}"
    assert said["title"] == "The mapping's result is not valid FHIR R4"
    assert SECRET_NAME not in body.decode()
    assert national(1)[1] not in body.decode()


class Letterbox:
    """What a mail server keeps."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], EmailMessage]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, mail))
        return "250 kept"


@pytest.fixture
def mail_server(tmp_path: Path) -> Iterator[Callable[..., tuple[int, Letterbox]]]:
    """Starts a real SMTP server; its port and its letter box."""
    running = []

    def start(**options: Any) -> tuple[int, Letterbox]:
        box = Letterbox()
        made = smtp.Controller(box, hostname="127.0.0.1", port=free_port(), **options)
        made.start()
        running.append(made)
        return made.port, box

    yield start
    for each in running:
        each.stop()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@ONE_DATABASE
def test_a_mail_reaches_people_without_a_patient(
    rig: Rig, mail_server: Callable[..., tuple[int, Letterbox]]
) -> None:
    port, box = mail_server()
    mail = Mail(
        name="mail", host="127.0.0.1", port=port, security="none", sender="ecluse@chu.example",
        to=("anne@chu.example", "bob@chu.example"),
    )  # fmt: skip
    die(rig, 3)
    look(alerts(rig, mail))
    ((sender, recipients, letter),) = box.mails
    assert (sender, recipients) == (
        "ecluse@chu.example", ["anne@chu.example", "bob@chu.example"],
    )  # fmt: skip
    assert letter["Subject"] == (
        "[Écluse] New dead letters: The mapping's result is not valid FHIR R4 (3 messages)"
    )
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Message-ID"].endswith("@chu.example>")
    text = letter.get_content()
    assert "Sources: lab (3)" in text
    assert "What to do: Correct the mapping and replay." in text
    assert SECRET_NAME not in text
    assert national(1)[1] not in text


def test_a_mail_goes_by_starttls_with_a_password(
    mail_server: Callable[..., tuple[int, Letterbox]], tmp_path: Path
) -> None:
    from aiosmtpd.smtp import AuthResult, LoginPassword

    authority = Authority(tmp_path / "authority")
    issued = authority.issue("mail")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)

    def check(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> Any:
        right = isinstance(given, LoginPassword) and given.password == b"of the gateway"
        return AuthResult(success=right and given.login == b"ecluse")

    port, box = mail_server(
        tls_context=context, require_starttls=True, authenticator=check, auth_required=True
    )
    password = tmp_path / "password"
    password.write_text("of the gateway\n")

    def mail(**changed: Any) -> Mail:
        given: dict[str, Any] = {
            "name": "mail", "host": "127.0.0.1", "port": port, "security": "starttls",
            "user": "ecluse", "password_file": password, "ca_file": authority.certificate,
            "sender": "ecluse@chu.example", "to": ("anne@chu.example",), **changed,
        }  # fmt: skip
        return Mail(**given)

    from datetime import UTC, datetime

    test = trial(datetime.now(UTC), "mail")
    assert mail().send(test) == "accepted for 1"
    assert box.mails[0][2]["Subject"] == "[Écluse] This is a test: alerts arrive here."
    wrong = tmp_path / "wrong"
    wrong.write_text("something else\n")
    for fault, said in (
        ({"password_file": wrong}, "does not take the account"),
        ({"ca_file": None}, "SSLCertVerificationError"),
        ({"security": "none", "user": ""}, "answered 5"),
        ({"port": free_port()}, "ConnectionRefusedError"),
        ({"password_file": tmp_path / "none"}, "cannot be read"),
    ):
        with pytest.raises(NotSent, match=said) as caught:
            mail(**fault).send(test)
        assert "of the gateway" not in str(caught.value)
    assert len(box.mails) == 1


@ONE_DATABASE
def test_what_is_told_hangs_on_nothing(rig: Rig) -> None:
    """A channel that raises what it should not is one alert's fault, and the thread lives."""

    class Broken:
        name = "broken"

        def send(self, alert: alerting.Alert) -> str:
            raise RuntimeError("LHERMITTE must not be logged")

    told = alerts(rig, Broken())
    die(rig, 1)
    look(told)
    with rig.journal.read() as connection:
        (kept,) = alerting.newest(connection)
    assert kept.state is alerting.AlertState.DUE
    assert kept.answer.startswith("RuntimeError at ")
    assert SECRET_NAME not in kept.answer
    assert triage.count(rig.journal) == 1
