"""A running MLLP source that takes other settings."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from adapters.hl7.framing import frame
from adapters.hl7.settings import MllpSourceSettings
from adapters.tls import TlsUnusable
from tests.certificates import Authority
from tests.integration.hl7.fake_intake import Peer, Running, adt, fields, running, until
from tests.servers import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: the gateway's own is uvloop's where there is one."""
    return "asyncio", {"use_uvloop": request.param}


async def change(run: Running, **values: Any) -> None:
    settings = run.source.settings.model_dump()
    await run.source.reconfigure(MllpSourceSettings(**{**settings, **values}))


async def code(peer: Peer, message: bytes) -> str:
    await peer.send(frame(message))
    return fields(await peer.answer(), "MSA", 1).decode()


async def test_policies_and_limits_hold_from_the_next_message_on() -> None:
    async with running(processing_ids=["P"], frame_bytes_max=4096) as run:
        peer = await run.peer()
        assert await code(peer, adt("1", processing="T")) == "AR"
        assert await code(peer, adt("2") + b"NTE|1||" + b"x" * 5000) == "AR"
        await change(run, processing_ids=["T"], frame_bytes_max=8192)
        assert await code(peer, adt("3", processing="T")) == "AA"
        assert await code(peer, adt("4", processing="T") + b"NTE|1||" + b"x" * 5000) == "AA"
        assert await code(peer, adt("5")) == "AR"
        assert run.source.statistics()["connections"] == 1


async def test_a_message_under_way_keeps_the_limit_under_which_it_began() -> None:
    async with running(frame_bytes_max=8192) as run:
        peer = await run.peer()
        block = frame(adt("LONG") + b"NTE|1||" + b"x" * 5000)
        await peer.send(block[:2000])
        await until(lambda: run.source.statistics()["held-bytes"])
        await change(run, frame_bytes_max=4096)
        await peer.send(block[2000:])
        assert fields(await peer.answer(), "MSA", 1) == b"AA"
        assert await code(peer, adt("NEXT") + b"NTE|1||" + b"x" * 5000) == "AR"


async def test_what_waits_for_its_commit_is_answered_once() -> None:
    async with running(frames_in_flight_max=2) as run:
        run.intake.commit.clear()
        peer = await run.peer()
        await peer.send(b"".join(frame(adt(f"N{number}")) for number in range(6)))
        await until(lambda: len(run.intake.submitted) == 2)
        await change(run, frames_in_flight_max=4)
        await until(lambda: len(run.intake.submitted) == 4)
        run.intake.commit.set()
        answers = [fields(await peer.answer(), "MSA", 2).decode() for _ in range(6)]
        assert answers == [f"N{number}" for number in range(6)]


async def test_another_port_is_open_before_the_old_one_closes() -> None:
    async with running() as run:
        old = run.source.address()
        run.intake.commit.clear()
        peer = await run.peer()
        await peer.send(frame(adt("LAST")))
        await until(lambda: run.intake.submitted)
        await change(run, listen=f"127.0.0.1:{free_port()}")
        assert run.source.address() != old
        assert closed_to_all(old)
        fresh = await run.peer()
        run.intake.commit.set()
        assert fields(await peer.answer(), "MSA", 2) == b"LAST"
        assert await peer.closed()
        assert await code(fresh, adt("FRESH")) == "AA"


def closed_to_all(address: str) -> bool:
    import socket

    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


async def test_a_port_that_cannot_be_had_changes_nothing() -> None:
    async with running() as other, running() as run:
        before, peer = run.source.address(), await run.peer()
        with pytest.raises(OSError, match="cannot listen on"):
            await change(run, listen=other.source.address(), processing_ids=["T"])
        assert run.source.address() == before
        assert await code(peer, adt("STILL")) == "AA"


async def test_tls_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    async with running() as run:
        peer = await run.peer()
        with pytest.raises(TlsUnusable):
            await change(run, tls={"certificate": tmp_path / "none.pem"})
        assert await code(peer, adt("STILL")) == "AA"
        assert await code(await run.peer(), adt("PLAIN")) == "AA"


async def test_a_port_that_becomes_tls_lets_no_plain_connection_stay(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    made = ssl.create_default_context(cafile=str(authority.certificate))
    made.load_cert_chain(client.certificate, client.key)
    tls = {
        "certificate": server.certificate, "key": server.key, "client_ca": authority.certificate,
    }  # fmt: skip

    async def connect() -> Peer:
        number = int(run.source.address().rpartition(":")[2])
        return Peer(*await asyncio.open_connection("127.0.0.1", number, ssl=made))

    async with running() as run:
        at, plain = run.source.address(), await run.peer()
        assert await code(plain, adt("PLAIN")) == "AA"
        await change(run, tls=tls)
        assert run.source.address() == at
        assert await plain.closed()
        secure = await connect()
        assert await code(secure, adt("SECURE")) == "AA"

        # The same trust: the connection stays. Another one: it does not.
        await change(run, clients=[f"fingerprint:{client.fingerprint}"], idle_timeout_seconds=60)
        assert await code(secure, adt("STAYS")) == "AA"
        await change(run, clients=["cn:somebody else"])
        assert await secure.closed()
        assert run.source.statistics()["closed-by-reconfiguration"] == 2
        await secure.close()
