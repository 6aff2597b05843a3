"""A mailbox that is emptied by a gateway that is killed: every document once, no mail lost."""

from __future__ import annotations

import contextlib
import imaplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gateway_process import GatewayProcess
from tests.certificates import Authority
from tests.dovecot import Dovecot, running_dovecot
from tests.eventually import eventually
from tests.integration.mail.mails import mail, mssante, written
from tests.integration.xdm.archives import archive
from tests.unit.hl7.transmissions import cda

pytestmark = pytest.mark.acceptance

USER = "cabinet@cabinet.mssante.fr"
GOOD, BAD, KILLS = 20, 3, 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Dovecot, Authority]]:
    authority = Authority(tmp_path / "certificates")
    with running_dovecot(authority, [USER]) as started:
        yield started, authority


class Owner:
    """Looks into the mailbox over one connection of its own."""

    def __init__(self, server: Dovecot, authority: Authority) -> None:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        self.client = imaplib.IMAP4_SSL("localhost", server.secure_port, ssl_context=context)
        self.client.login(USER, server.password)

    def counted(self, folder: str) -> int:
        kind, said = self.client.status(folder, "(MESSAGES)")
        if kind != "OK" or not said[0]:
            return 0
        return int(said[0].split(b"MESSAGES ")[1].rstrip(b")"))

    def close(self) -> None:
        self.client.logout()


def test_a_killed_gateway_takes_every_mail_once(
    server: tuple[Dovecot, Authority], tmp_path: Path
) -> None:
    with contextlib.closing(Owner(*server)) as owner:
        empty_under_kills(*server, owner, tmp_path)


def empty_under_kills(dovecot: Dovecot, authority: Authority, owner: Owner, tmp_path: Path) -> None:
    sent = [
        written(mssante(archive(cda(document=f"2.999.9.{number}")))) if number % 2
        else written(mail((f"{number}.xml", "text/xml", cda(document=f"2.999.9.{number}"))))
        for number in range(GOOD)
    ]  # fmt: skip
    sent += [written(mail(("IHE_XDM.zip", "application/zip", b"PK%d" % n))) for n in range(BAD)]
    for each in sent:
        assert owner.client.append("INBOX", None, None, each)[0] == "OK"  # type: ignore[arg-type]
    (tmp_path / "password").write_text(dovecot.password)
    box = {
        "name": "box", "type": "imap", "server": f"localhost:{dovecot.secure_port}", "user": USER,
        "password_file": str(tmp_path / "password"), "poll_seconds": 0.05, "others": "leave",
        "tls": {"ca": str(authority.certificate)},
    }  # fmt: skip
    gateway = GatewayProcess(tmp_path / "gateway", extra={"sources": [box]})
    for kill in range(1, KILLS + 1):
        gateway.start()
        eventually(
            lambda n=kill: owner.counted("ecluse-accepted") >= n * 4, timeout=60, every=0.005
        )
        gateway.kill()
        assert owner.counted("INBOX") > 0, "the kill came too late to say anything"
    gateway.start()
    eventually(lambda: owner.counted("INBOX") == 0, timeout=90, every=0.05)
    assert (owner.counted("ecluse-accepted"), owner.counted("ecluse-refused")) == (GOOD, BAD)
    eventually(gateway.settled, timeout=60)
    account = gateway.ledger()["box"]
    assert (account["accepted"], account["refused"]) == (GOOD, BAD), account
    assert account["received"] == GOOD + BAD + account["duplicates"]
    assert account["duplicates"] <= KILLS  # at most the mail in hand at each kill
    documents = gateway.get("/fhir/DocumentReference", _count="100")
    assert len(documents["entry"]) == GOOD
    assert gateway.stop() == 0, gateway.log_tail()
    assert dovecot.password not in gateway.log_tail(10_000)
