"""MLLP over TLS: who is let in, who is not and why, and certificates that change."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.hl7.framing import frame
from adapters.hl7.listener import MllpSource
from adapters.hl7.port import Port, Ports
from adapters.hl7.settings import MllpSourceSettings
from adapters.tls import TlsUnusable
from tests.certificates import Authority, Issued
from tests.integration.hl7.fake_intake import (
    FakeIntake,
    Peer,
    RealClock,
    Running,
    adt,
    fields,
    running,
    until,
)
from tests.servers import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: the gateway's own is uvloop's where there is one."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Issued:
    return authority.issue("server")


@pytest.fixture(scope="module")
def lab(authority: Authority) -> Issued:
    return authority.issue("lab", dns=("lab.example",), organization="CHU")


def tls(server: Issued, ca: Authority | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"certificate": server.certificate, "key": server.key, **more}
    if ca is not None:
        found["client_ca"] = ca.certificate
    return found


def context(ca: Authority, own: Issued | None = None, **options: Any) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(ca.certificate))
    if own is not None:
        made.load_cert_chain(own.certificate, own.key)
    for name, value in options.items():
        setattr(made, name, value)
    return made


def port_of(source: MllpSource) -> Port:
    assert source.port is not None
    return source.port


OPENED: list[Peer] = []


@pytest.fixture(autouse=True)
async def _closed_at_the_end(anyio_backend: object) -> AsyncIterator[None]:
    yield
    for peer in OPENED:
        await peer.close()
    OPENED.clear()


async def connect(source: MllpSource, made: ssl.SSLContext) -> Peer:
    number = int(source.address().rpartition(":")[2])
    streams = await asyncio.open_connection(
        "127.0.0.1", number, ssl=made, server_hostname="localhost"
    )
    OPENED.append(Peer(*streams))
    return OPENED[-1]


async def ask(peer: Peer, name: str) -> bytes:
    await peer.send(frame(adt(name)))
    return fields(await peer.answer(), "MSA", 2)


async def refused(source: MllpSource, made: ssl.SSLContext) -> None:
    """With TLS 1.3 a client notices only when it reads."""
    with pytest.raises((OSError, EOFError)):
        await _converse(source, made)


async def _converse(source: MllpSource, made: ssl.SSLContext) -> None:
    peer = await connect(source, made)
    await peer.send(frame(adt()))
    await peer.answer()


async def until_refused(run: Running, reason: str) -> None:
    await until(lambda: port_of(run.source).refusals().get(reason))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_messages_over_tls(
    authority: Authority, server: Issued, version: ssl.TLSVersion
) -> None:
    async with running(tls=tls(server)) as run:
        made = context(authority, minimum_version=version, maximum_version=version)
        peer = await connect(run.source, made)
        names = [f"T{number}" for number in range(100)]
        await peer.send(b"".join(frame(adt(name)) for name in names))
        answers = [fields(await peer.answer(), "MSA", 2).decode() for _ in names]
        assert answers == names
        assert [each.control_id for each in run.intake.kept] == names
        large = b"A" * 3_000_000
        await peer.send(frame(adt("BIG") + b"OBX|1|TX|||" + large + b"\r"))
        assert fields(await peer.answer(), "MSA", 2) == b"BIG"
        assert large in run.intake.kept[-1].payload.data
        await peer.close()
        await until(lambda: run.source.statistics()["connections"] == 0)
    assert not port_refusals_left(run)


def port_refusals_left(run: Running) -> dict[str, int]:
    return {} if run.source.port is None else dict(run.source.port.refusals())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
async def test_openssl_as_an_independent_client(
    authority: Authority, server: Issued, lab: Issued
) -> None:
    async with running(tls=tls(server, authority)) as run:
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-quiet", "-verify_return_error", "-verify_hostname",
            "localhost", "-CAfile", str(authority.certificate), "-cert", str(lab.certificate),
            "-key", str(lab.key), "-connect", run.source.address(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(frame(adt("OPENSSL")))
        await process.stdin.drain()
        answer = await asyncio.wait_for(process.stdout.readuntil(b"\x1c\r"), 10)
        assert fields(answer, "MSA", 2) == b"OPENSSL"
        process.stdin.close()
        process.terminate()
        await process.wait()


async def test_old_versions_are_refused(authority: Authority, server: Issued) -> None:
    async with running(tls=tls(server, minimum_version="1.3")) as run:
        await refused(run.source, context(authority, maximum_version=ssl.TLSVersion.TLSv1_2))
        await until_refused(run, "tls-version-too-old")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(adt()), "tls-plain-bytes"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "tls-plain-bytes"),
        (b"\x16\x03", "tls-handshake-timeout"),
        (b"", "tls-handshake-timeout"),
        (b"\x16\x03\x01\x00\x05xxxxx", "tls-handshake-failed"),
    ],
)
async def test_what_is_no_tls_is_closed_and_counted(
    server: Issued, data: bytes, reason: str
) -> None:
    async with running(tls=tls(server, handshake_timeout_seconds=0.3)) as run:
        peer = await run.peer()
        await peer.send(data)
        assert await peer.closed()
        await until_refused(run, reason)
        assert not run.intake.submitted
        await until(lambda: not port_of(run.source).shaking)


async def test_a_handshake_that_is_cut_is_counted(server: Issued) -> None:
    async with running(tls=tls(server)) as run:
        peer = await run.peer()
        await peer.send(b"\x16\x03\x01")
        await until(lambda: port_of(run.source).shaking)
        await peer.close()
        await until_refused(run, "tls-handshake-cut")


async def test_handshakes_of_one_address_are_limited(server: Issued) -> None:
    async with running(tls=tls(server), connections_per_address_max=2) as run:
        hanging = [await run.peer() for _ in range(2)]
        await until(lambda: port_of(run.source).shaking.total() == 2)
        assert await (await run.peer()).closed()
        await until_refused(run, "refused-handshakes-limit")
        for each in hanging:
            await each.close()
        await until(lambda: not port_of(run.source).shaking)


async def test_tls_to_a_plain_port_is_closed_at_once(authority: Authority) -> None:
    async with running() as run:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.wait_for(connect(run.source, context(authority)), 5)
        await until_refused(run, "tls-to-plain-port")
        assert run.source.statistics()["connections"] == 0
        peer = await run.peer()
        assert await ask(peer, "PLAIN") == b"PLAIN"


async def test_client_certificates_required(
    authority: Authority, server: Issued, lab: Issued, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "Strangers")
    expired = authority.issue("late", begins=timedelta(days=-9), ends=timedelta(days=-1))
    async with running(tls=tls(server, authority)) as run:
        assert await ask(await connect(run.source, context(authority, lab)), "IN") == b"IN"
        await refused(run.source, context(authority))
        await until_refused(run, "tls-certificate-missing")
        await refused(run.source, context(authority, stranger.issue("lab")))
        await until_refused(run, "tls-certificate-untrusted")
        await refused(run.source, context(authority, expired))
        await until_refused(run, "tls-certificate-expired")
        assert [each.control_id for each in run.intake.kept] == ["IN"]


async def test_client_certificates_optional(
    authority: Authority, server: Issued, lab: Issued, tmp_path: Path
) -> None:
    async with running(tls=tls(server, authority, client_certificate="optional")) as run:
        assert await ask(await connect(run.source, context(authority)), "NONE") == b"NONE"
        assert await ask(await connect(run.source, context(authority, lab)), "ONE") == b"ONE"
        await refused(run.source, context(authority, Authority(tmp_path).issue("lab")))
        await until_refused(run, "tls-certificate-untrusted")


async def test_a_client_that_distrusts_us_is_counted(server: Issued, tmp_path: Path) -> None:
    def shake(number: int) -> None:
        """A blocking client: asyncio's does not say why it goes away."""
        made = context(Authority(tmp_path))
        with socket.create_connection(("127.0.0.1", number)) as plain:
            with pytest.raises(ssl.SSLCertVerificationError):
                made.wrap_socket(plain, server_hostname="localhost")

    async with running(tls=tls(server)) as run:
        await asyncio.to_thread(shake, int(run.source.address().rpartition(":")[2]))
        await until_refused(run, "tls-refused-by-sender")


# --- one port, several sources ------------------------------------------------------


@asynccontextmanager
async def sharing(*sources: dict[str, Any]) -> AsyncIterator[list[MllpSource]]:
    ports, intake, listen = Ports(), FakeIntake(), f"127.0.0.1:{free_port()}"
    made = [
        MllpSource(MllpSourceSettings(listen=listen, **each), intake, RealClock(), ports=ports)
        for each in sources
    ]
    try:
        for source in made:
            await source.start()
        yield made
    finally:
        for source in made:
            await source.stop()
        intake.close()


def kept(source: MllpSource) -> list[tuple[str, str]]:
    assert isinstance(source.intake, FakeIntake)
    return [(each.source, each.control_id) for each in source.intake.kept]


async def test_the_certificate_says_which_source_it_is(
    authority: Authority, server: Issued, lab: Issued
) -> None:
    ward, imaging = authority.issue("ward"), authority.issue("imaging", dns=("img.example",))
    unknown = authority.issue("unknown")
    own = tls(server, authority)
    async with sharing(
        {"name": "lab", "tls": own, "clients": ["subject:O=CHU, CN=lab"]},
        {"name": "ward", "tls": own, "clients": [f"fingerprint:{ward.fingerprint.upper()}"]},
        {"name": "imaging", "tls": own, "clients": ["dns:IMG.example", "cn:other"]},
    ) as sources:
        assert len({source.address() for source in sources}) == 1
        for name, client in (("A", lab), ("B", ward), ("C", imaging)):
            peer = await connect(sources[0], context(authority, client))
            assert await ask(peer, name) == name.encode()
        assert kept(sources[0]) == [("lab", "A"), ("ward", "B"), ("imaging", "C")]
        await refused(sources[0], context(authority, unknown))
        port = port_of(sources[0])
        await until(lambda: port.refusals().get("tls-certificate-unknown") == 1)

        await sources[1].stop()
        await refused(sources[0], context(authority, ward))
        await until(lambda: port.refusals().get("tls-certificate-unknown") == 2)
        assert await ask(await connect(sources[0], context(authority, lab)), "D") == b"D"


# --- certificates that change -------------------------------------------------------


async def test_a_renewed_certificate_is_shown_to_new_connections_only(
    authority: Authority,
) -> None:
    first = authority.issue("renewed", file="renewed")
    ports, intake = Ports(look_seconds=0.02), FakeIntake()
    settings = MllpSourceSettings(name="lab", listen="127.0.0.1:0", tls=tls(first))
    source = MllpSource(settings, intake, RealClock(), ports=ports)
    await source.start()

    def shown(peer: Peer) -> str:
        import hashlib

        der = peer.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return hashlib.sha256(der).hexdigest()

    def held() -> str:
        return source.certificates()[0].certificate.fingerprint

    try:
        before = await connect(source, context(authority))
        assert await ask(before, "1") == b"1"
        assert shown(before) == first.fingerprint == held()

        # The certificate is there and its key is not yet: what is in force stays.
        half = authority.issue("renewed", file="half")
        half.certificate.replace(first.certificate)
        await until(lambda: port_of(source).refusals().get("tls-files-unusable"))
        assert shown(await connect(source, context(authority))) == first.fingerprint
        half.key.replace(first.key)
        await until(lambda: held() == half.fingerprint)

        after = await connect(source, context(authority))
        assert shown(after) == half.fingerprint
        assert await ask(after, "2") == b"2"
        assert await ask(before, "3") == b"3"
        assert source.statistics()["connections"] == 3
    finally:
        await source.stop()
        intake.close()


async def test_files_that_cannot_be_used_are_named(
    authority: Authority, server: Issued, lab: Issued, tmp_path: Path
) -> None:
    locked = authority.issue("locked", password="canal")
    password = tmp_path / "password"
    password.write_text("canal\n", encoding="utf-8")
    wrong = tmp_path / "wrong"
    wrong.write_text("lock\n", encoding="utf-8")
    empty = tmp_path / "empty.pem"
    empty.write_text("", encoding="utf-8")
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"certificate": tmp_path / "none.pem"}, "certificate", "none.pem: cannot be read: No such"),
        ({"certificate": empty}, "certificate", "no certificate chain and key"),
        ({"certificate": server.certificate, "key": lab.key}, "key", "is not the key of"),
        ({"certificate": locked.certificate, "key": locked.key}, "key", "is encrypted"),
        ({"certificate": locked.certificate, "key": locked.key, "key_password_file": wrong},
         "key_password_file", "cannot be decrypted"),
        ({**tls(server), "client_ca": empty}, "client_ca", "holds no certificate"),
    ]  # fmt: skip
    for given, setting, said in cases:
        with pytest.raises(TlsUnusable, match=said) as found:
            async with running(tls=given):
                pass
        assert found.value.setting == setting
    async with running(
        tls={"certificate": locked.certificate, "key": locked.key, "key_password_file": password}
    ) as run:
        assert await ask(await connect(run.source, context(authority)), "OPEN") == b"OPEN"


async def test_a_port_that_is_taken_is_named() -> None:
    async with running() as run:
        with pytest.raises(OSError, match="cannot listen on"):
            async with running(listen=run.source.address()):
                pass


async def test_a_peer_that_goes_away_during_a_stop_harms_nothing(
    authority: Authority, server: Issued
) -> None:
    async with running(tls=tls(server)) as run:
        run.intake.commit.clear()
        peer = await connect(run.source, context(authority))
        await peer.send(frame(adt("LAST")))
        hanging = await run.peer()
        await until(lambda: run.intake.submitted and port_of(run.source).shaking)
        stopping = asyncio.create_task(run.source.stop())
        assert await hanging.closed()
        run.intake.commit.set()
        assert fields(await peer.answer(), "MSA", 2) == b"LAST"
        with suppress(ConnectionError):
            assert await peer.closed()
        await stopping
