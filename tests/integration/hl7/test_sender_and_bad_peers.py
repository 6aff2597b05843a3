"""The sending side against receivers that misbehave, written on bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapters.hl7.framing import Frame, FrameReader, frame
from adapters.hl7.sender import MllpClient, NoAnswer, Reconnect
from adapters.tls import ClientTlsSettings, client_context
from gateway.cli import main
from gateway.cli.output import Code
from tests.certificates import Authority
from tests.integration.hl7.fake_intake import adt, fields, running
from tests.servers import free_port

pytestmark = pytest.mark.anyio


def ack(control_id: bytes | str, code: str = "AA", *more: str) -> bytes:
    name = control_id.decode() if isinstance(control_id, bytes) else control_id
    lines = ("MSH|^~\\&|||||||ACK|9|P|2.5", f"MSA|{code}|{name}", *more, "")
    return frame("\r".join(lines).encode())


Respond = Callable[[bytes, int, socket.socket], None]


@dataclass
class BadPeer:
    """A receiver in a thread: ``respond`` gets the control id, its number, and the socket."""

    respond: Respond
    context: ssl.SSLContext | None = None
    seen: list[str] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        frames = FrameReader()
        with contextlib.suppress(OSError):
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            while data := connection.recv(1 << 16):
                for event in frames.receive(data):
                    assert isinstance(event, Frame)
                    control_id = fields(event.payload, "MSH", 10)
                    self.seen.append(control_id.decode())
                    self.respond(control_id, len(self.seen), connection)

    def stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # close() alone leaves accept() waiting
        self._listening.close()

    def close(self) -> None:
        self.stop_listening()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextlib.contextmanager
def peer(respond: Respond, **options: Any) -> Iterator[BadPeer]:
    made = BadPeer(respond, **options)
    try:
        yield made
    finally:
        made.close()


def msa(answer: bytes) -> tuple[str, str]:
    return fields(answer, "MSA", 1).decode(), fields(answer, "MSA", 2).decode()


# --- answers that are not the message's ----------------------------------------------


async def test_an_answer_that_comes_late_is_never_the_next_ones() -> None:
    late = threading.Event()

    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        if number == 1:
            late.wait(5)
            connection.sendall(ack(control_id))
        else:
            connection.sendall(ack(control_id, "AE"))

    with peer(respond) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=0.2) as client:
            with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
                await client.send(adt("ONE"))
            late.set()
            assert msa(await client.send(adt("TWO"))) == ("AE", "TWO")
        assert bad.connections == 2
        assert bad.seen == ["ONE", "TWO"]


async def test_the_same_id_answered_twice_and_one_unasked() -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        # Two answers to each, then a refusal without a control id: to whom does it belong?
        connection.sendall(ack(control_id) * 2 + ack("", "AE"))

    with peer(respond) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=5) as client:
            for number in range(5):
                assert msa(await client.send(adt(f"N{number}"))) == ("AA", f"N{number}")
                await asyncio.sleep(0.02)
            assert client.strays == 10
        assert bad.connections == 1


async def test_answers_to_others_come_first() -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.sendall(ack("SOMEBODY") + ack(control_id + b"X") + ack(b"x" + control_id))
        connection.sendall(frame(b"no acknowledgement at all") + ack(control_id, "CE"))

    with peer(respond) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=5) as client:
            assert msa(await client.send(adt("MINE"))) == ("CE", "MINE")
            assert client.strays == 4


async def test_only_answers_to_others() -> None:
    with peer(lambda _id, _number, connection: connection.sendall(ack("OTHER"))) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=0.2) as client:
            with pytest.raises(NoAnswer, match="no answer within"):
                await client.send(adt("MINE"))


async def test_half_an_answer() -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.sendall(ack(control_id)[:-20])
        if number == 2:
            connection.shutdown(socket.SHUT_WR)

    with peer(respond) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=0.2) as client:
            with pytest.raises(NoAnswer, match="only half an answer"):
                await client.send(adt("ONE"))
            with pytest.raises(NoAnswer, match="in the middle of an answer"):
                await client.send(adt("TWO"))


async def test_an_answer_in_single_bytes() -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in ack(control_id):
            connection.sendall(bytes((byte,)))

    with peer(respond) as bad, contextlib.nullcontext():
        async with MllpClient("127.0.0.1", bad.port) as client:
            assert msa(await client.send(adt("ONE"))) == ("AA", "ONE")
            assert msa(await client.send(adt("TWO"))) == ("AA", "TWO")


async def test_a_connection_closed_between_messages_is_made_again_before_the_next() -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.sendall(ack(control_id))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    with peer(respond) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=5) as client:
            for number in range(3):
                assert msa(await client.send(adt(f"N{number}")))[0] == "AA"
                await asyncio.sleep(0.05)
        assert bad.seen == ["N0", "N1", "N2"], "each was sent once"
        assert bad.connections == 3


async def test_a_receiver_that_does_not_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with MllpClient("127.0.0.1", port, timeout_seconds=0.3) as client:
            with pytest.raises(NoAnswer, match="does not read"):
                await client.send(adt("BIG") + b"NTE|1||" + b"x" * 12_000_000)


# --- the enhanced mode -----------------------------------------------------------------


def asking(name: str, commit: str, application: str) -> bytes:
    return adt(name).replace(b"|2.5||||||", f"|2.5|||{commit}|{application}||".encode(), 1)


async def test_commit_then_application() -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.sendall(ack(control_id, "CA"))
        if number != 3:
            connection.sendall(ack(control_id, "AE", "ERR||PID^1^3|204^Unknown key|E"))

    with peer(respond) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=0.3) as client:
            both = await client.exchange(asking("ONE", "AL", "AL"), application=True)
            assert [msa(each) for each in both.answers] == [("CA", "ONE"), ("AE", "ONE")]
            first = await client.exchange(asking("TWO", "AL", "AL"))
            assert [msa(each) for each in first.answers] == [("CA", "TWO")]
            missing = await client.exchange(asking("THREE", "AL", "AL"), application=True)
            assert missing.missing
            assert [msa(each) for each in missing.answers] == [("CA", "THREE")]
            alone = await client.exchange(asking("FOUR", "AL", "NE"), application=True)
            assert [msa(each) for each in alone.answers] == [("CA", "FOUR")]


@pytest.mark.parametrize(
    ("commit", "application", "code", "expected"),
    [
        ("NE", "NE", "", []), ("ER", "NE", "", []), ("ER", "NE", "CR", ["CR"]),
        ("NE", "AL", "AR", ["AR"]), ("SU", "NE", "CA", ["CA"]), ("", "ER", "AE", ["AE"]),
    ],
)  # fmt: skip
async def test_what_is_asked_for_is_waited_for(
    commit: str, application: str, code: str, expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("adapters.hl7.sender.QUIET_SECONDS", 0.2)

    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        if code:
            connection.sendall(ack(control_id, code))

    with peer(respond) as bad:
        async with MllpClient("127.0.0.1", bad.port, timeout_seconds=5) as client:
            found = await client.exchange(asking("ONE", commit, application))
        assert [msa(each)[0] for each in found.answers] == expected


# --- connections -----------------------------------------------------------------------


async def test_connecting_is_tried_again_with_growing_pauses() -> None:
    pauses: list[float] = []
    port = free_port()
    started: list[BadPeer] = []

    def on_pause(error: OSError, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            made = BadPeer.__new__(BadPeer)
            made.respond, made.context, made.seen, made.connections = _answer, None, [], 0
            made._listening, made._open, made.port = (
                socket.create_server(("127.0.0.1", port)), [], port,
            )  # fmt: skip
            threading.Thread(target=made._accept, daemon=True).start()
            started.append(made)

    def _answer(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.sendall(ack(control_id))

    reconnect = Reconnect(within_seconds=20, base_seconds=0.01, cap_seconds=0.05, draw=lambda: 1.0)
    async with MllpClient("127.0.0.1", port, reconnect=reconnect, on_pause=on_pause) as client:
        assert msa(await client.send(adt("ONE"))) == ("AA", "ONE")
    assert pauses == [0.01, 0.02, 0.04, 0.05]
    started[0].close()


def test_pauses_have_jitter() -> None:
    drawn = iter([0.5, 0.25, 1.0])
    pauses = Reconnect(base_seconds=2, cap_seconds=4, draw=lambda: next(drawn)).pauses()
    assert [next(pauses) for _ in range(3)] == [1.0, 1.0, 4.0]
    assert len({next(Reconnect().pauses()) for _ in range(20)}) > 1


async def test_nobody_answers_the_call_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        number = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", number))
        async with MllpClient("127.0.0.1", number, timeout_seconds=0.3) as client:
            with pytest.raises((ConnectionError, NoAnswer)):
                await client.send(adt())
        for each in fillers:
            each.close()


# --- TLS ---------------------------------------------------------------------------------


async def test_tls_to_our_own_listener(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client_files = authority.issue("server"), authority.issue("client")
    secure = {"certificate": server.certificate, "key": server.key,
              "client_ca": authority.certificate}  # fmt: skip
    settings = ClientTlsSettings(
        ca=authority.certificate, certificate=client_files.certificate, key=client_files.key
    )
    async with running(tls=secure, clients=["cn:client"]) as run:
        number = int(run.source.address().rpartition(":")[2])
        async with MllpClient("127.0.0.1", number, tls=client_context(settings)) as client:
            for name in ("ONE", "TWO"):
                assert msa(await client.send(adt(name))) == ("AA", name)
        assert run.source.statistics()["accepted-connections"] == 1

        without = client_context(ClientTlsSettings(ca=authority.certificate))
        async with MllpClient("127.0.0.1", number, tls=without, timeout_seconds=5) as client:
            with pytest.raises((NoAnswer, OSError)):
                await client.send(adt("NO"))

        wrong = MllpClient("127.0.0.1", number, tls=client_context(settings), server_name="pacs")
        with pytest.raises(ssl.SSLCertVerificationError):
            await wrong.send(adt("NO"))
        stranger = client_context(ClientTlsSettings(ca=Authority(tmp_path / "x").certificate))
        with pytest.raises(ssl.SSLCertVerificationError):
            await MllpClient("127.0.0.1", number, tls=stranger).send(adt("NO"))
        assert len(run.intake.kept) == 2


# --- the command -------------------------------------------------------------------------


def send(
    capsys: pytest.CaptureFixture[str], path: Path, to: str, *options: str, code: int
) -> tuple[Any, str]:
    found = main(["send", str(path), "--to", to, "--json", *options])
    out = capsys.readouterr()
    assert found == code, out
    return (json.loads(out.out) if out.out else None), out.err


def file_of(tmp_path: Path, *messages: bytes) -> Path:
    path = tmp_path / "messages.hl7"
    path.write_bytes(b"\r".join(messages))
    return path


def test_the_command_sends_again_only_when_told_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        if number in {1, 4}:
            connection.close() if number == 4 else None
        else:
            connection.sendall(ack(control_id))

    path = file_of(tmp_path, adt("ONE"), adt("TWO"))
    with peer(respond) as bad:
        told, err = send(capsys, path, f"mllp://127.0.0.1:{bad.port}", "--timeout", "0.3", code=1)
        assert bad.seen == ["ONE", "TWO"]
        assert [each["attempts"] for each in told["messages"]] == [1, 1]
        assert (told["unanswered"], told["sent_again"]) == (1, 0)
        assert "sent again" not in err
    with peer(respond) as bad:
        told, err = send(
            capsys, path, f"mllp://127.0.0.1:{bad.port}", "--timeout", "0.3", "--resend", "2",
            code=0,
        )  # fmt: skip
        assert bad.seen == ["ONE", "ONE", "TWO"]
        assert [each["attempts"] for each in told["messages"]] == [2, 1]
        assert f"sent again (2): {path} (ONE): no answer within 0.3 s" in err
        assert told["sent_again"] == 1


def test_the_command_reads_every_code_and_err(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answers = {
        "1": ("AA",), "2": ("AE", "ERR||PID^1^3|204^Unknown key identifier^HL70357|E||||who?"),
        "3": ("AR", "ERR|MSH^1^12^203&Unsupported version id&HL70357"), "4": ("CA",),
        "5": ("CE", "ERR||OBX^2^5|102^Data type error^HL70357|W", "ERR||PV1^1|100|I"), "6": ("CR",),
    }  # fmt: skip

    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.sendall(ack(control_id, *answers[control_id.decode()]))

    path = file_of(tmp_path, *(adt(name) for name in answers))
    with peer(respond) as bad:
        told, err = send(capsys, path, f"mllp://127.0.0.1:{bad.port}", code=0)
        assert told["codes"] == dict.fromkeys(["AA", "AE", "AR", "CA", "CE", "CR"], 1)
        by_id = {each["control_id"]: each for each in told["messages"]}
        assert [each["accepted"] for each in by_id.values()] == [
            True,
            False,
            False,
            True,
            False,
            False,
        ]
        assert (by_id["2"]["error"], by_id["2"]["location"]) == ("who?", "PID^1^3")
        assert "203" in by_id["3"]["location"]
        assert by_id["5"]["error"] == "102^Data type error^HL70357"
        assert len(by_id["5"]["notes"]) == 2
        assert "AA 1, AE 1, AR 1, CA 1, CE 1, CR 1" in err
        assert main(["send", str(path), "--to", f"mllp://127.0.0.1:{bad.port}"]) == 0
        assert "AE\t" in (out := capsys.readouterr().out)
        assert "who? (at PID^1^3)" in out


def test_the_command_in_the_enhanced_mode(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        if control_id != b"SILENT":
            connection.sendall(ack(control_id, "CA") + ack(control_id, "AA"))

    path = file_of(tmp_path, asking("ONE", "AL", "AL"), asking("SILENT", "NE", "NE"))
    with peer(respond) as bad:
        to = f"mllp://127.0.0.1:{bad.port}"
        told, err = send(capsys, path, to, "--application", code=0)
        one, silent = told["messages"]
        assert (one["code"], one["commit_code"]) == ("AA", "CA")
        assert (silent["silent"], silent["code"]) == (True, "")
        assert "none asked for 1" in err


def test_the_command_over_tls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    server = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    own = authority.issue("client")
    path = file_of(tmp_path, adt("ONE"))

    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        connection.sendall(ack(control_id))

    files = ("--ca", str(authority.certificate), "--cert", str(own.certificate),
             "--key", str(own.key))  # fmt: skip
    with peer(respond, context=context) as bad:
        told, _ = send(capsys, path, f"mllps://127.0.0.1:{bad.port}", *files, code=0)
        assert told["codes"] == {"AA": 1}
        send(capsys, path, f"mllp://localhost:{bad.port}", "--tls", *files, code=0)
        _, err = send(
            capsys, path, f"mllps://127.0.0.1:{bad.port}", *files, "--server-name", "pacs",
            code=Code.UNREACHABLE,
        )  # fmt: skip
        assert "certificate is not trusted" in err
        _, err = send(capsys, path, f"mllps://127.0.0.1:{bad.port}", code=Code.UNREACHABLE)
        assert "certificate is not trusted" in err
        _, err = send(capsys, path, f"mllp://127.0.0.1:{bad.port}", *files, code=Code.USAGE)
        assert "need --tls" in err
        _, err = send(capsys, path, f"mllps://127.0.0.1:{bad.port}", "--ca",
                      str(tmp_path / "none"), code=Code.USAGE)  # fmt: skip
        assert "none: cannot be read" in err


def test_the_command_waits_for_a_receiver_that_comes_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def respond(control_id: bytes, number: int, connection: socket.socket) -> None:
        bad.stop_listening()
        # The answer and the end together: between the two the next message could be sent.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        connection.sendall(ack(control_id))
        connection.shutdown(socket.SHUT_RDWR)
        threading.Timer(0.4, later).start()

    def later() -> None:
        with socket.create_server(("127.0.0.1", bad.port)) as again:
            connection, _ = again.accept()
            with connection:
                assert b"TWO" in connection.recv(1 << 16)
                connection.sendall(ack("TWO"))
                connection.recv(1)

    path = file_of(tmp_path, adt("ONE"), adt("TWO"))
    with peer(respond) as bad:
        told, err = send(capsys, path, f"mllp://127.0.0.1:{bad.port}", code=0)
    assert (told["codes"], told["sent_again"]) == ({"AA": 2}, 0)
    assert "trying again in" in err
