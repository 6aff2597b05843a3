"""A mailbox on a real server (Dovecot): emptied once, whatever happens in between."""

from __future__ import annotations

import contextlib
import imaplib
import itertools
import logging
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.cda.transmitted import CdaHeaders
from adapters.mail.imap import ImapSource
from adapters.mail.mailbox import Mailbox, MailboxFault
from adapters.mail.settings import ImapSourceSettings
from adapters.tls import ClientTls, ClientTlsSettings
from gateway.cli.checks import Level
from gateway.cli.doctor_mailboxes import mailbox_checks
from gateway.mail import mail_source
from gateway.model import CauseCode
from gateway.ports import Source
from tests.certificates import Authority
from tests.dovecot import Dovecot, running_dovecot
from tests.eventually import eventually
from tests.integration.cda.recording import FixedClock, RecordingIntake
from tests.integration.mail.mails import mail, mssante, written
from tests.integration.mail.running import running
from tests.integration.xdm.archives import archive
from tests.unit.hl7.transmissions import cda

ONE, TWO = cda(), cda(document="2.999.6.2")
GOOD = written(mssante(archive(ONE)))
BAD = written(mail(("IHE_XDM.zip", "application/zip", archive(ONE)[:-30])))
USERS = tuple(f"cabinet{n}@mssante.fr" for n in range(24))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def dovecot(authority: Authority) -> Iterator[Dovecot]:
    with running_dovecot(authority, USERS) as server:
        yield server


_FREE = itertools.count()


@dataclass
class Box:
    """One mailbox of the server, as its owner and as the gateway see it."""

    server: Dovecot
    authority: Authority
    folder: Path
    user: str
    intake: RecordingIntake

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.certificate))

    @contextlib.contextmanager
    def owner(self) -> Iterator[imaplib.IMAP4_SSL]:
        client = imaplib.IMAP4_SSL("localhost", self.server.secure_port, ssl_context=self.context())
        client.login(self.user, self.server.password)
        client.select("INBOX")
        yield client
        client.logout()

    def put(self, *mails: bytes) -> None:
        with self.owner() as client:
            for each in mails:
                assert client.append("INBOX", None, None, each)[0] == "OK"

    def mails(self, folder: str) -> list[bytes]:
        with self.owner() as client:
            if client.select(f'"{folder}"', readonly=True)[0] != "OK":
                return []
            _, numbers = client.search(None, "ALL")
            return [client.fetch(each, "(RFC822)")[1][0][1] for each in numbers[0].split()]  # type: ignore[index,misc]

    def counted(self, *folders: str) -> list[int]:
        with self.owner() as client:
            found = []
            for each in folders:
                kind, said = client.select(f'"{each}"', readonly=True)
                found.append(int(said[0] or b"0") if kind == "OK" else -1)
            return found

    def settings(self, **changes: object) -> ImapSourceSettings:
        password = self.folder / "password"
        password.write_text(self.server.password + "\n")
        options: dict[str, object] = {
            "server": f"localhost:{self.server.secure_port}", "user": self.user,
            "password_file": password, "tls": ClientTlsSettings(ca=self.authority.certificate),
            "poll_seconds": 0.02, "backoff_seconds_max": 0.05, "memory_bytes_max": 4096,
            "mail_bytes_max": 3 << 20, "spool_folder": self.folder / "spool", **changes,
        }  # fmt: skip
        return ImapSourceSettings(name="box", **options)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def emptied(self, **changes: object) -> Iterator[ImapSource]:
        settings = self.settings(**changes)
        with running(lambda: mail_source(settings, self.intake, FixedClock(), CdaHeaders())) as (
            source,
            _,
        ):  # type: ignore[type-var]
            assert isinstance(source, ImapSource)
            try:
                yield source
            finally:
                self.intake.committing.set()
        assert list((self.folder / "spool").iterdir()) == []

    def until(self, *wanted: int) -> None:
        """Until the mailbox, the accepted and the refused folder hold so many."""
        eventually(
            lambda: self.counted("INBOX", "ecluse-accepted", "ecluse-refused") == list(wanted),
            timeout=30, every=0.05,
        )  # fmt: skip


@pytest.fixture
def box(dovecot: Dovecot, authority: Authority, tmp_path: Path) -> Box:
    return Box(dovecot, authority, tmp_path, USERS[next(_FREE)], RecordingIntake())


def test_accepted_and_refused_mails_are_moved_with_their_bytes(box: Box) -> None:
    box.put(GOOD, BAD, written(mail(("a.xml", "text/xml", TWO))), written(mail()))
    with box.emptied() as source:
        assert isinstance(source, Source)
        box.until(0, 2, 2)
        eventually(lambda: sum(source.statistics().values()) == 4, timeout=30)
        assert source.statistics() == {"accepted": 2, "refused": 2}
        assert source.address() == f"imap://localhost:{box.server.secure_port}/INBOX"
        assert source.left() == {}
    assert box.mails("ecluse-accepted")[0] == GOOD
    assert box.mails("ecluse-refused")[0] == BAD
    assert box.intake.accepted() == [ONE, TWO]
    received, evidence = next(each for each in box.intake.kept if each[1] == BAD)
    assert evidence == BAD
    assert received.refusal is not None
    assert received.refusal.code is CauseCode.NOT_THE_FORMAT
    assert received.peer == f"localhost:{box.server.secure_port}"
    assert box.intake.kept[0][0].attributes["mail_id"] == "<1.ecluse@labo.mssante.fr>"


def test_the_server_tells_of_new_mail(box: Box) -> None:
    """No look but the first would come in the time of this test."""
    with box.emptied(poll_seconds=86_400) as source:
        eventually(lambda: source._mailbox is not None and source._mailbox._imap._idles, timeout=30)
        box.put(GOOD)
        box.until(0, 1, 0)
        box.put(BAD, written(mail(("a.xml", "text/xml", TWO))))
        box.until(0, 2, 1)
    assert box.intake.accepted() == [ONE, TWO]


def test_a_server_that_is_not_asked_to_tell(box: Box) -> None:
    with box.emptied(idle_seconds=0):
        box.put(GOOD)
        box.until(0, 1, 0)


def test_nothing_is_seen_or_moved_before_the_commit(box: Box) -> None:
    box.put(GOOD)
    box.intake.committing.clear()
    with box.emptied():
        eventually(lambda: list((box.folder / "spool").rglob("*.spool")) or None, timeout=30)
        with box.owner() as client:
            assert client.search(None, "UNSEEN")[1] == [b"1"]
        box.intake.committing.set()
        box.until(0, 1, 0)


def test_marks_instead_of_moves_by_starttls(box: Box) -> None:
    box.put(GOOD, BAD)
    more = {"server": f"localhost:{box.server.port}", "security": "starttls", "after": "flag",
            "accepted": "$Ecluse", "refused": "$EcluseRefused"}  # fmt: skip
    with box.emptied(**more) as source:
        eventually(lambda: sum(source.statistics().values()) == 2, timeout=30)
        with box.owner() as client:
            assert client.search(None, "KEYWORD", "$Ecluse")[1] == [b"1"]
            assert client.search(None, "KEYWORD", "$EcluseRefused")[1] == [b"2"]
        box.put(written(mail(("a.xml", "text/xml", TWO))))
        eventually(lambda: source.statistics()["accepted"] == 2, timeout=30)
    assert box.intake.accepted() == [ONE, TWO]
    assert box.counted("INBOX") == [3]


def test_without_move_a_mail_is_copied_first(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with servers that know IMAP4rev1 and no extension."""
    opened = Mailbox.__init__

    def poor(self: Mailbox, *arguments: object) -> None:
        opened(self, *arguments)  # type: ignore[arg-type]
        self._can = self._can - {"MOVE"} - (set() if "UIDPLUS" in told else {"UIDPLUS"})

    monkeypatch.setattr(Mailbox, "__init__", poor)
    told = {"UIDPLUS"}
    box.put(GOOD)
    with box.emptied():
        box.until(0, 1, 0)
    told = set()
    box.put(written(mail(("a.xml", "text/xml", TWO))))
    with box.emptied() as source:
        eventually(lambda: source.statistics().get("accepted"), timeout=30)
        with box.owner() as client:
            assert client.search(None, "UNDELETED")[1] == [b""]
    # It is marked as deleted and stays: EXPUNGE alone would take others' mails along.
    assert box.counted("INBOX", "ecluse-accepted") == [1, 2]
    assert box.intake.accepted() == [ONE, TWO]


def test_a_log_in_by_certificate(box: Box) -> None:
    issued = box.authority.issue(box.user, file="mine")
    tls = ClientTlsSettings(
        ca=box.authority.certificate, certificate=issued.certificate, key=issued.key
    )
    box.put(GOOD)
    with box.emptied(password_file=None, tls=tls) as source:
        box.until(0, 1, 0)
        assert {each.use for each in source.certificates()} == {"client", "server-ca"}


def test_what_cannot_be_kept_stays_and_goes_later(box: Box) -> None:
    box.put(GOOD)
    box.intake.available = False
    with box.emptied() as source:
        eventually(lambda: list(source.left().values()) == ["could not be kept yet"], timeout=30)
        assert box.counted("INBOX", "ecluse-accepted") == [1, 0]
        box.intake.available = True
        box.until(0, 1, 0)
        eventually(lambda: source.left() == {}, timeout=30)
    assert box.intake.accepted() == [ONE]


def test_a_crash_between_commit_and_move_loses_and_doubles_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.put(GOOD, BAD)

    def cut_off(self: Mailbox, uid: int, place: str) -> None:
        raise MailboxFault("the cable was pulled")

    with monkeypatch.context() as patched:
        patched.setattr(Mailbox, "settle", cut_off)
        with box.emptied() as source:
            eventually(lambda: source.statistics().get("left", 0) >= 3, timeout=30)
            # What was decided is not asked for again as long as the UIDs are the same.
            assert len(box.intake.accepted()) == 1
            assert sum(received.refusal is not None for received, _ in box.intake.kept) <= 3
    assert box.counted("INBOX") == [2]
    with box.emptied():
        box.until(0, 1, 1)
    assert box.intake.accepted() == [ONE]


def test_a_mail_that_cannot_be_moved_does_not_hold_up_the_others(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = Mailbox.settle
    stuck = [1]

    def refused(self: Mailbox, uid: int, place: str) -> None:
        if uid in stuck:
            raise MailboxFault("over quota", connected=True)
        settle(self, uid, place)  # type: ignore[arg-type]

    monkeypatch.setattr(Mailbox, "settle", refused)
    box.put(GOOD, written(mail(("a.xml", "text/xml", TWO))))
    with box.emptied() as source:
        box.until(1, 1, 0)
        eventually(lambda: source.left() == {"1": "is kept; over quota"}, timeout=30)
        # Another UIDVALIDITY: the numbers say nothing any more, and intake knows the document.
        source._validity = 7
        stuck.clear()
        box.until(0, 2, 0)
    assert box.intake.accepted() == [ONE, TWO]


def test_what_is_too_large_leaves_its_beginning_as_evidence(box: Box) -> None:
    box.put(b"Subject: x\r\n\r\n" + b"y" * (4 << 20), GOOD)
    with box.emptied():
        box.until(0, 1, 1)
    received, data = next(each for each in box.intake.kept if each[0].refusal is not None)
    assert received.refusal is not None
    assert received.refusal.code is CauseCode.FRAME_OVERSIZED
    assert len(data) == 1 << 20


def test_a_server_that_goes_away_is_found_again(
    box: Box, dovecot: Dovecot, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), box.emptied() as source:
        box.put(GOOD)
        box.until(0, 1, 0)
        dovecot.stop()
        eventually(lambda: source.statistics().get("connections-failed", 0) >= 3, timeout=30)
        dovecot.start()
        box.put(written(mail(("a.xml", "text/xml", TWO))))
        box.until(0, 2, 0)
        eventually(lambda: "is read again" in caplog.text, timeout=30)
    said = [each.message for each in caplog.records]
    assert all(one != other for one, other in itertools.pairwise(said))  # once for each state
    for secret in (box.server.password, box.user, "PAT-TROIS"):
        assert secret not in caplog.text


def test_other_settings_while_it_runs(box: Box) -> None:
    settings = box.settings()
    blocked = box.folder / "file"
    blocked.write_bytes(b"")
    with running(lambda: mail_source(settings, box.intake, FixedClock(), CdaHeaders())) as (
        source,
        loop,
    ):  # type: ignore[type-var]
        assert isinstance(source, ImapSource)
        with pytest.raises(OSError):
            loop.run(source.reconfigure(box.settings(spool_folder=blocked)))
        box.put(GOOD)
        box.until(0, 1, 0)  # the former settings are in force
        loop.run(source.reconfigure(box.settings(accepted="ailleurs")))
        box.put(written(mail(("a.xml", "text/xml", TWO))))
        eventually(lambda: box.counted("INBOX", "ailleurs") == [0, 1], timeout=30, every=0.05)


def test_the_doctor_looks_and_changes_nothing(box: Box) -> None:
    box.put(GOOD)
    [found] = mailbox_checks([box.settings()])
    assert (found.level, found.found) == (Level.OK, f"localhost:{box.server.secure_port}, 1 wait")
    assert box.counted("INBOX", "ecluse-accepted") == [1, -1]
    [wrong] = mailbox_checks([box.settings(server="localhost:9")])
    assert wrong.level is Level.ERROR
    assert "no connection" in wrong.found


def faults() -> dict[str, tuple[Callable[[Box], ImapSourceSettings], str]]:
    return {
        "a wrong password": (
            lambda box: box.settings(password_file=written_file(box.folder, "wrong")), "log-in is refused"),
        "no password": (
            lambda box: box.settings(password_file=box.folder / "none"), "cannot be read"),
        "an authority that is not its": (
            lambda box: box.settings(tls=ClientTlsSettings(ca=Authority(box.folder / "other").certificate)),
            "not trusted"),
        "another name": (
            lambda box: box.settings(tls=ClientTlsSettings(ca=box.authority.certificate, server_name="x.fr")),
            "not trusted"),
        "nobody there": (lambda box: box.settings(server="localhost:9"), "no connection"),
        "no such folder": (lambda box: box.settings(mailbox="Nowhere"), "mailbox cannot be opened"),
        "STARTTLS where TLS is": (
            lambda box: box.settings(security="starttls", timeout_seconds=0.5), "no connection"),
    }  # fmt: skip


def written_file(folder: Path, text: str) -> Path:
    path = folder / "other-password"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", faults())
def test_faults_are_told_in_words(box: Box, case: str) -> None:
    make, words = faults()[case]
    settings = make(box)
    with pytest.raises(MailboxFault, match=words) as told:
        with contextlib.closing(Mailbox(settings, ClientTls(settings.tls))) as opened:
            opened.look()
    assert box.server.password not in str(told.value)
