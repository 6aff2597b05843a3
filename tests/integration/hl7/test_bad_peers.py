"""The sending side against receivers that misbehave, written on bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from adapters.hl7.framing import frame
from adapters.hl7.sender import MllpClient, NoAnswer, Reconnect
from adapters.tls import ClientTlsSettings, client_context
from tests.certificates import Authority
from tests.integration.hl7.bad_peers import BadPeer, ack, asking, msa, peer
from tests.integration.hl7.fake_intake import adt, running
from tests.servers import free_port

pytestmark = pytest.mark.anyio


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
