"""The return link of enhanced mode over TLS and MLLP release 2, to a listener over a socket."""

from __future__ import annotations

import io
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.hl7.return_link import MllpReturnLink
from adapters.hl7.settings import MllpSourceSettings
from adapters.tls import TlsUnusable
from gateway.cli.doctor_return_links import return_link_checks
from gateway.model import Again, CauseCode, Delivered
from gateway.settings import Settings
from tests.acceptance.return_listener import ReturnListener, part
from tests.certificates import Authority, Issued
from tests.integration.hl7.fake_intake import RealClock, adt
from tests.servers import free_port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Issued:
    return authority.issue("his")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    return authority.issue("ecluse")


def context(server: Issued, clients: Authority | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(server.certificate, server.key)
    if clients is not None:
        made.load_verify_locations(clients.certificate)
        made.verify_mode = ssl.CERT_REQUIRED
    return made


@contextmanager
def listening(tls: ssl.SSLContext | None = None, release: int = 1) -> Iterator[ReturnListener]:
    listener = ReturnListener(free_port(), tls=tls, release=release)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


def settings_of(listener: ReturnListener, **more: Any) -> MllpSourceSettings:
    given = {"return_link": f"127.0.0.1:{listener.port}", "return_link_timeout_seconds": 5, **more}
    return MllpSourceSettings(name="his", **given)


@contextmanager
def link_to(listener: ReturnListener, **more: Any) -> Iterator[MllpReturnLink]:
    link = MllpReturnLink(settings_of(listener, **more), RealClock())
    try:
        yield link
    finally:
        link.close()


def give(link: MllpReturnLink, control_id: str) -> object:
    worded = link.word(io.BytesIO(adt(control_id)), "ASCII", None)
    assert worded is not None
    return link.send(worded.body)


@pytest.mark.parametrize("release", [1, 2])
@pytest.mark.parametrize("mutual", [False, True])
def test_over_tls(
    authority: Authority, server: Issued, own: Issued, release: int, mutual: bool
) -> None:
    tls: dict[str, Any] = {"ca": authority.certificate, "minimum_version": "1.3"}
    if mutual:
        tls.update(certificate=own.certificate, key=own.key)
    with (
        listening(context(server, authority if mutual else None), release) as listener,
        link_to(listener, return_link_tls=tls, return_link_mllp_release=release) as link,
    ):
        for control_id in ("R1", "R2"):
            assert give(link, control_id) == Delivered(evidence="CA")
        assert [part(each, "MSA", 2) for each in listener.taken] == ["R1", "R2"]
        assert listener.shown == (["ecluse"] if mutual else [])  # one connection for both


def test_release_2_in_the_clear(server: Issued) -> None:
    with (
        listening(release=2) as listener,
        link_to(listener, return_link_mllp_release=2) as link,
    ):
        assert give(link, "C1") == Delivered(evidence="CA")


def test_what_does_not_fit_is_tried_again_and_says_why(
    tmp_path: Path, authority: Authority, server: Issued
) -> None:
    """Nothing is lost by a certificate that is put right later."""
    stranger = Authority(tmp_path / "stranger")
    cases = [
        (context(server), {"ca": stranger.certificate}, "not trusted"),
        (context(server), {"ca": authority.certificate, "server_name": "other.example"}, "not valid for"),
        # The listener's alert (certificate required) may be lost with the end of the connection.
        (context(server, authority), {"ca": authority.certificate}, ""),
        (None, {"ca": authority.certificate}, "TLS"),
    ]  # fmt: skip
    for tls, given, said in cases:
        with listening(tls) as listener, link_to(listener, return_link_tls=given, return_link_timeout_seconds=1) as link:  # fmt: skip
            outcome = give(link, "X")
            assert isinstance(outcome, Again), given
            assert outcome.cause.code is CauseCode.DESTINATION_UNAVAILABLE
            assert said in outcome.cause.detail
            assert listener.taken == []


def test_certificates_are_taken_up_when_their_files_change(
    tmp_path: Path, authority: Authority, server: Issued
) -> None:
    first = authority.issue("first", file="own", ends=timedelta(days=3))
    tls = {"ca": authority.certificate, "certificate": first.certificate, "key": first.key}
    with (
        listening(context(server, authority)) as listener,
        link_to(listener, return_link_tls=tls, return_link_confirmed=False) as link,
    ):
        assert give(link, "N1") == Delivered(evidence="written")
        authority.issue("second", file="own")
        assert give(link, "N2") == Delivered(evidence="written")
        assert listener.shown == ["first", "second"]
        first.key.write_text("no key", encoding="ascii")
        assert give(link, "N3") == Delivered(evidence="written")
        assert listener.shown[-1] == "second"
        uses = {each.use: each.certificate.name for each in link.certificates()}
        assert uses == {"client": "second", "server-ca": "Test authority"}


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    with listening() as listener, pytest.raises(TlsUnusable) as caught:
        MllpReturnLink(
            settings_of(listener, return_link_tls={"ca": tmp_path / "none.pem"}), RealClock()
        )
    assert (caught.value.block, caught.value.setting) == ("return_link_tls", "ca")
    for wrong in ({"return_link_tls": {}}, {"return_link": "a:1", "return_link_tls": {"key": "k"}}):
        with pytest.raises(ValueError, match="is given without"):
            MllpSourceSettings(name="his", **wrong)


def test_the_doctor_shakes_hands(
    tmp_path: Path, authority: Authority, server: Issued, own: Issued
) -> None:
    trusted = {"ca": str(authority.certificate)}
    shown = {**trusted, "certificate": str(own.certificate), "key": str(own.key)}
    with listening(context(server, authority)) as listener:
        for tls, level, said in (
            (shown, "ok", "0 due"),
            (trusted, "warning", "certificate required"),
            ({**shown, "server_name": "other.example"}, "warning", "not valid for"),
        ):
            source = settings_of(listener, return_link_tls=tls).model_dump(mode="json")
            effective = Settings.model_validate({"state": str(tmp_path), "sources": [source]})
            [check] = return_link_checks(effective)
            assert (check.level.value, said in check.found) == (level, True), check


def test_the_certificates_of_the_link_expire_like_those_of_a_port(
    tmp_path: Path, authority: Authority, own: Issued
) -> None:
    from gateway.cli.checks import certificate_checks

    source = {
        "name": "his", "type": "mllp", "return_link": "127.0.0.1:1",
        "return_link_tls": {"certificate": str(own.certificate), "key": str(own.key)},
    }  # fmt: skip
    effective = Settings.model_validate({"state": str(tmp_path), "sources": [source]})
    [now] = certificate_checks(effective)
    assert (now.name, now.level.value) == ("certificate of the return link his", "ok")
    [late] = certificate_checks(effective, datetime.now(UTC) + timedelta(days=350))
    assert late.level.value == "warning"
    [over] = certificate_checks(effective, datetime.now(UTC) + timedelta(days=400))
    assert (over.level.value, "expired" in over.found) == ("error", True)
