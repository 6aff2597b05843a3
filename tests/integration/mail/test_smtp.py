"""A port that takes mail, spoken to by Python's smtplib and by sockets that behave badly."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.cda.transmitted import CdaHeaders
from adapters.mail.listener import SmtpSource
from adapters.mail.settings import SmtpSourceSettings
from adapters.tls import TlsSettings
from gateway.mail import mail_source
from gateway.model import Cause, CauseCode
from gateway.ports import Source
from tests.certificates import Authority
from tests.eventually import eventually
from tests.integration.cda.recording import FixedClock, RecordingIntake
from tests.integration.mail.mails import PDF, mail, mssante, report, written
from tests.integration.mail.running import Loop, running
from tests.integration.xdm.archives import archive, files_of, packed
from tests.unit.hl7.transmissions import cda

ONE, TWO = cda(), cda(document="2.999.6.2")
FROM, TO = "labo@labo.mssante.fr", "cabinet@cabinet.mssante.fr"


@dataclass
class Port:
    source: SmtpSource
    intake: RecordingIntake
    loop: Loop
    settings: SmtpSourceSettings
    spool: Path

    @property
    def number(self) -> int:
        return int(self.source.address().rpartition(":")[2])

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.number, timeout=30)

    def send(self, data: bytes, sender: str = FROM, to: str = TO) -> tuple[int, str]:
        """The reply to a mail's data."""
        with contextlib.closing(self.client()) as client:
            client.ehlo()
            assert client.mail(sender)[0] == 250
            assert client.rcpt(to)[0] == 250
            code, said = client.data(data)
            return code, said.decode("ascii")

    def fresh(self, **changes: object) -> Port:
        self.intake.committing.set()
        self.intake = RecordingIntake()
        self.source.reception.intake = self.intake
        changed = SmtpSourceSettings(**{**self.settings.model_dump(), **changes})  # type: ignore[arg-type]
        self.loop.run(self.source.reconfigure(changed))
        return self


@contextlib.contextmanager
def listening(folder: Path, **changes: object) -> Iterator[Port]:
    intake, spool = RecordingIntake(), folder / "spool"
    options = {"mail_bytes_max": 4 << 20, "memory_bytes_max": 8192, "spool_folder": spool,
               "document_bytes_max": 2 << 20, **changes}  # fmt: skip
    settings = SmtpSourceSettings(
        name="port", listen="127.0.0.1:0", recipients=(TO, "@other.mssante.fr"),
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    with running(lambda: mail_source(settings, intake, FixedClock(), CdaHeaders())) as (
        source,
        loop,
    ):  # type: ignore[type-var]
        assert isinstance(source, SmtpSource)
        port = Port(source, intake, loop, settings, spool)
        try:
            yield port
        finally:
            port.intake.committing.set()
    assert list(spool.iterdir()) == []


@pytest.fixture(scope="module")
def shared_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    with listening(tmp_path_factory.mktemp("port")) as port:
        yield port


@pytest.fixture
def port(shared_port: Port) -> Port:
    return shared_port.fresh()


def test_a_mail_of_an_mssante_client_goes_in_as_its_archive_does(port: Port) -> None:
    assert isinstance(port.source, Source)
    code, said = port.send(written(mssante(archive(ONE, TWO))))
    assert (code, said) == (250, "2.6.0 kept (message 1)")
    first, second, third = port.intake.kept
    assert [first[1], second[1], third[1]] == [ONE, TWO, PDF]
    received = first[0]
    assert received.refusal is None
    assert received.control_id == "2.999.5.2"
    assert received.source == "port"
    assert received.peer.startswith("127.0.0.1:")
    assert received.received_at == FixedClock().now()
    assert received.attributes["submission_set"] == "2.999.77.1"
    assert received.attributes["file_name"] == "IHE_XDM.zip"
    assert received.attributes["mail_from"] == FROM
    assert received.attributes["mail_id"] == "<1.ecluse@labo.mssante.fr>"
    assert received.attributes["mss_nil"] == "123456"
    assert received.attributes["mss_code_cda"] == "11502-2"
    # The PDF copy is kept, and goes no further.
    assert third[0].refusal is not None
    assert third[0].refusal.code is CauseCode.UNSUPPORTED_TYPE
    # The same again is known.
    assert port.send(written(mssante(archive(ONE, TWO))))[0] == 250
    assert port.intake.accepted() == [ONE, TWO]
    assert port.source.statistics()["accepted"] >= 2


def test_plain_documents_in_every_transfer_encoding(port: Port) -> None:
    eight_bit = cda(document="2.999.6.8").replace(b"ESSAI", "ÉTÉ".encode())
    plain = mail(("a.xml", "text/xml", ONE), ("b.XML", "application/octet-stream", TWO))
    plain.add_attachment(
        eight_bit.decode(), subtype="xml", filename="Compte rendu dété.xml", cte="8bit"
    )
    plain.add_attachment(
        cda(document="2.999.6.9").decode(), subtype="xml", filename="q.xml", cte="quoted-printable"
    )
    assert port.send(written(plain))[0] == 250
    # A text has the line ends of mail; a document that must keep its bytes travels in Base64.
    bodies = [data.replace(b"\r\n", b"\n").strip() for data in port.intake.accepted()]
    assert bodies == [ONE, TWO, eight_bit, cda(document="2.999.6.9")]
    assert port.intake.kept[2][0].attributes["file_name"] == "Compte rendu dété.xml"
    assert port.intake.kept[2][0].encoding == "utf-8"


def test_documents_of_the_corpus_byte_for_byte(port: Port, shared: Path) -> None:
    paths = sorted((shared / "corpora" / "cda").glob("*.xml"))[::6]
    assert len(paths) == 6
    with port.client() as client:
        for path in paths:
            sent = mail(("IHE_XDM.zip", "application/zip", archive(path.read_bytes())))
            assert client.send_message(sent, FROM, TO) == {}
    assert port.intake.accepted() == [path.read_bytes() for path in paths]


def test_a_mail_within_a_mail_is_looked_into_and_a_report_is_not(port: Port) -> None:
    forwarded = mail()
    forwarded.add_attachment(mssante(archive(ONE)))
    assert port.send(written(forwarded))[0] == 250
    assert port.intake.accepted() == [ONE]
    code, said = port.send(report(mssante(archive(TWO))), sender="")
    assert code == 554
    assert said.startswith("5.6.1 the mail is a report on another mail")
    assert port.intake.accepted() == [ONE]


def broken_archive() -> bytes:
    files = files_of([ONE])
    name = next(name for name in files if name.endswith("DOC0001.XML"))
    return packed({**files, name: TWO})


REFUSED = {
    "no attachment": (written(mail()), "554 5.6.1", "carries no document"),
    "only a picture": (written(mail(("a.png", "image/png", b"\x89PNG"))), "554 5.6.1", "image/png"),
    "two that are none": (
        written(mail(("a.png", "image/png", b"x"), ("b.pdf", "application/pdf", PDF))),
        "554 5.6.1", "no attachment is"),
    "an archive whose hashes are wrong": (
        written(mail(("IHE_XDM.zip", "application/zip", broken_archive()))),
        "554 5.6.0", "XDSRepositoryMetadataError); place: attachment 1 IHE_XDM/SUBSET01/DOC0001.XML"),
    "one bad, one good": (
        written(mail(("a.xml", "text/xml", ONE), ("b.xml", "text/xml", TWO[:-9]))),
        "554 5.6.0", "place: attachment 2"),
    "an entity": (
        written(mail(("a.xml", "text/xml", ONE.replace(b"?>", b'?><!DOCTYPE x SYSTEM "x">', 1)))),
        "554 5.6.0", "document type declaration"),
    "a cut mail": (written(mssante(archive(ONE)))[:2000], "554 5.6.0", "cut"),
    "damaged Base64": (
        b'Content-Type: application/zip; name="x.zip"\r\nContent-Transfer-Encoding: base64\r\n\r\nUEsDB\r\n',
        "554 5.6.0", "Base64"),
    "a document beyond its limit": (
        written(mail(("a.xml", "text/xml", ONE + b" " * (2 << 20)))), "552 5.3.4", "bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_refused_whole_and_kept(port: Port, case: str) -> None:
    data, status, words = REFUSED[case]
    code, said = port.send(data)
    assert f"{code} {said}".startswith(status), said
    assert words in said
    assert "(message 1)" in said
    [(received, kept)] = port.intake.kept
    assert kept.rstrip() == data.rstrip()
    assert received.refusal is not None
    assert port.intake.accepted() == []
    assert port.send(written(mail(("a.xml", "text/xml", ONE))))[0] == 250


def test_a_permission_is_told_as_a_policy(port: Port) -> None:
    port.intake.permission = Cause(code=CauseCode.FEEDING_OPPOSED, detail="opposed")
    assert port.send(written(mssante(archive(ONE)))) == (550, "5.7.1 opposed (message 1)")


def test_nothing_is_promised_that_cannot_be_kept(port: Port) -> None:
    port.intake.available = False
    code, said = port.send(written(mssante(archive(ONE))))
    assert code == 451
    assert said.startswith("4.3.0")
    port.intake.available = True
    assert port.send(written(mssante(archive(ONE))))[0] == 250


def test_no_answer_before_the_commit(port: Port) -> None:
    port.intake.committing.clear()
    answers: list[tuple[int, str]] = []
    thread = threading.Thread(
        target=lambda: answers.append(port.send(written(mail(("a.xml", "text/xml", ONE)))))
    )
    thread.start()
    thread.join(timeout=0.3)
    assert answers == []
    port.intake.committing.set()
    thread.join(timeout=30)
    assert [code for code, _ in answers] == [250]


def test_who_may_send_and_to_whom(port: Port) -> None:
    port.fresh(senders=("@labo.mssante.fr",))
    with port.client() as client:
        assert client.mail(FROM)[0] == 503  # EHLO comes first
        client.ehlo()
        assert client.esmtp_features["size"] == str(4 << 20)
        assert client.mail("someone@elsewhere.fr")[0] == 550
        assert client.mail("")[0] == 550
        assert client.mail(FROM, [f"size={(4 << 20) + 1}"])[0] == 552
        assert client.mail(FROM, ["BODY=8BITMIME"])[0] == 250
        assert client.rcpt("nobody@cabinet.mssante.fr")[0] == 550
        assert client.docmd("DATA")[0] == 503
        assert client.rcpt(TO.upper())[0] == 250
        assert client.rcpt("anyone@OTHER.mssante.fr")[0] == 250
        assert client.data(written(mail(("a.xml", "text/xml", ONE))))[0] == 250
        assert client.verify("x")[0] == 252
        assert client.docmd("EXPN", "x")[0] == 500
        assert client.noop()[0] == 250
        assert client.rset()[0] == 250
    assert len(port.intake.accepted()) == 1


def test_what_is_too_large_is_read_to_its_end_and_refused(port: Port) -> None:
    code, said = port.send(b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + b"z" * (5 << 20))
    assert code == 552
    assert said.startswith("5.3.4 at most 4194304 bytes are taken")
    [(received, data)] = port.intake.kept
    assert len(data) == 1 << 20
    assert received.attributes["truncated"] == f"after {1 << 20} bytes"
    assert port.send(written(mail(("a.xml", "text/xml", ONE))))[0] == 250


def raw(port: Port) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port.number), 30)
    assert connection.recv(200).startswith(b"220")
    return connection


def read_all(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while block := connection.recv(4096):
            found += block
    return found


def test_a_mail_ends_with_cr_lf_dot_cr_lf_and_with_nothing_else(port: Port) -> None:
    """Whatever the cuts; a bare LF is a part of the mail (RFC 5321, 4.1.1.4: SMTP smuggling)."""
    head = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<cabinet@cabinet.mssante.fr>\r\nDATA\r\n"
    body = b"Subject: x\r\n\r\n..\r\n\n.\nMAIL FROM:<evil@b>\n.\r\n\r.\r\n\r\n...x\r\n.\r\n"
    for size in (1, 2, 3, 1 << 16):
        with raw(port) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            everything = head + body + b"QUIT\r\n"
            for start in range(0, len(everything), size):
                connection.sendall(everything[start : start + size])
            said = read_all(connection)
        assert said.count(b"\r\n554 5.6.1 ") == 1, said
        assert said.endswith(b"221 2.0.0 bye\r\n")
        _, kept = port.intake.last()
        assert kept == b"Subject: x\r\n\r\n.\r\n\n.\nMAIL FROM:<evil@b>\n.\r\n\r.\r\n\r\n..x\r\n"


def test_bad_conversations_end_and_the_next_one_is_served(port: Port) -> None:
    with raw(port) as connection:
        connection.sendall(b"NONSENSE\r\n" * 30)
        assert read_all(connection).endswith(b"421 4.7.0 too many errors\r\n")
    with raw(port) as connection:
        connection.sendall(b"EHLO " + b"x" * 100_000)
        assert b"500 5.5.2" in read_all(connection)
    with raw(port) as connection:
        connection.sendall(
            b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<%b>\r\nDATA\r\nhalf" % TO.encode()
        )
        said = b""
        while b"354" not in said:
            said += connection.recv(4096)
    eventually(lambda: port.source.statistics().get("cut", 0) >= 1, timeout=30)
    assert port.intake.kept == []
    port.fresh(idle_timeout_seconds=0.05)
    with raw(port) as connection:
        assert read_all(connection) == b"421 4.4.2 too slow\r\n"
    port.fresh(connections_max=1)
    with raw(port), socket.create_connection(("127.0.0.1", port.number), 30) as second:
        assert read_all(second).startswith(b"421 4.3.2 too many connections")
    eventually(port.fresh, timeout=30)
    assert port.send(written(mail(("a.xml", "text/xml", ONE))))[0] == 250


def test_lmtp_answers_each_recipient(port: Port) -> None:
    port.fresh(protocol="lmtp")
    with smtplib.LMTP("127.0.0.1", port.number) as client:
        client.ehlo()
        client.mail(FROM)
        assert client.rcpt(TO)[0] == 250
        assert client.rcpt("x@other.mssante.fr")[0] == 250
        assert client.data(written(mail(("a.xml", "text/xml", ONE))))[0] == 250
        assert client.getreply()[0] == 250
        assert client.docmd("EHLO", "x")[0] == 500
    assert port.intake.accepted() == [ONE]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def tls_of(authority: Authority, **more: object) -> TlsSettings:
    issued = authority.issue("localhost", file="port")
    return TlsSettings(certificate=issued.certificate, key=issued.key, **more)  # type: ignore[arg-type]


def test_starttls_comes_before_anything_else(tmp_path: Path, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with listening(tmp_path, tls=tls_of(authority)) as port:
        with port.client() as client:
            client.ehlo()
            assert client.mail(FROM)[0] == 530
            assert client.starttls(context=context)[0] == 220
            assert client.mail(FROM)[0] == 503  # what was said in the clear is forgotten
            client.ehlo()
            assert "starttls" not in client.esmtp_features
            assert client.send_message(mssante(archive(ONE)), FROM, TO) == {}
        with raw(port) as connection:
            connection.sendall(b"EHLO x\r\nSTARTTLS\r\nEHLO injected\r\n")
            assert b"554 5.5.0" in read_all(connection)
        with raw(port) as connection:
            connection.sendall(b"EHLO x\r\n")
            connection.recv(4096)
            connection.sendall(b"STARTTLS\r\n")
            connection.recv(4096)
            connection.sendall(b"no handshake\r\n")
            read_all(connection)
        eventually(lambda: port.source.statistics().get("tls-plain-bytes"), timeout=30)
        # Another certificate is taken up without a restart.
        before = port.source.certificates()[0].certificate.fingerprint
        tls_of(authority)
        with port.client() as client:
            client.starttls(context=context)
            client.ehlo()
            assert client.send_message(mail(("a.xml", "text/xml", TWO)), FROM, TO) == {}
        assert port.source.certificates()[0].certificate.fingerprint != before
        assert port.intake.accepted() == [ONE, TWO]


def test_tls_from_the_first_byte_with_certificates_of_clients(
    tmp_path: Path, authority: Authority
) -> None:
    tls = tls_of(authority, client_ca=authority.certificate)
    mine = authority.issue("labo")
    with listening(tmp_path, tls=tls, security="tls") as port:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        with (
            pytest.raises(OSError),
            smtplib.SMTP_SSL("localhost", port.number, context=context) as client,
        ):
            client.ehlo()
        context.load_cert_chain(mine.certificate, mine.key)
        with smtplib.SMTP_SSL("localhost", port.number, context=context) as client:
            assert client.send_message(mssante(archive(ONE)), FROM, TO) == {}
    assert port.intake.accepted() == [ONE]


def test_another_port_and_a_stop_with_a_mail_in_hand(tmp_path: Path) -> None:
    with listening(tmp_path) as port:
        port.intake.committing.clear()
        answers: list[tuple[int, str]] = []
        thread = threading.Thread(
            target=lambda: answers.append(port.send(written(mail(("a.xml", "text/xml", ONE)))))
        )
        thread.start()
        eventually(
            lambda: any(each and each.busy for each in port.source._sessions.values()), timeout=30
        )
        idle = raw(port)
        eventually(lambda: len(port.source._sessions) == 2, timeout=30)
        stopping = threading.Thread(target=lambda: port.loop.run(port.source.stop()))
        stopping.start()
        assert b"421 4.3.2" in read_all(idle)
        idle.close()
        port.intake.committing.set()
        stopping.join(30)
        thread.join(30)
        assert [code for code, _ in answers] == [250]
        with pytest.raises(OSError):
            raw(port)
        port.loop.run(port.source.start())
        assert port.send(written(mail(("a.xml", "text/xml", TWO))))[0] == 250
