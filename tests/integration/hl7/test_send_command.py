"""``ecluse send`` over MLLP: its answers, its words, its options, against bare sockets."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.cli.output import Code
from tests.acceptance.return_listener import ReturnListener
from tests.certificates import Authority
from tests.integration.hl7.bad_peers import ack, asking, peer
from tests.integration.hl7.fake_intake import adt
from tests.servers import free_port


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


def test_the_command_with_release_2_over_tls(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    server, own = authority.issue("server"), authority.issue("client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = ReturnListener(free_port(), tls=context, release=2)
    listener.start()
    files = ("--ca", str(authority.certificate), "--cert", str(own.certificate),
             "--key", str(own.key))  # fmt: skip
    path = file_of(tmp_path, adt("ONE"), adt("TWO"))
    at = f"127.0.0.1:{listener.port}"
    try:
        told, _ = send(capsys, path, f"mllp2s://{at}", *files, code=0)
        assert [each["code"] for each in told["messages"]] == ["CA", "CA"]
        send(capsys, path, f"mllp2://{at}", "--tls", *files, code=0)
        assert (len(listener.taken), listener.shown) == (4, ["client", "client"])
        _, err = send(capsys, path, f"mllp2://{at}", *files, code=Code.USAGE)
        assert "need --tls or mllp2s://" in err
        told, _ = send(capsys, path, f"mllps://{at}", *files, "--timeout", "5", code=0)
        assert told["codes"] == {"CA": 2}, "release 1 passes over what it does not know"
    finally:
        listener.stop()


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
