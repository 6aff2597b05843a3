"""The parts of a mail: as Python's own parser finds them, and where its limits are."""

from __future__ import annotations

import contextlib
import email
import mmap
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.mail.mime import MimeLimits, Part, Refused, parts_of
from adapters.mail.settings import ImapSourceSettings, SmtpSourceSettings
from adapters.tls import ClientTlsSettings
from gateway.model import CauseCode
from tests.hostile import MAILS, multipart, nested

LIMITS = MimeLimits()


def found(data: bytes, limits: MimeLimits = LIMITS) -> list[tuple[Part, bytes]]:
    return [(part, part.content(data)) for part in parts_of(data, limits)]


contents = st.lists(
    st.tuples(st.sampled_from(["base64", "quoted-printable", "8bit"]), st.text(max_size=200)),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=25)
@given(contents, st.booleans())
def test_a_mail_of_pythons_writer_has_the_parts_of_pythons_parser(
    made: list[tuple[str, str]], deep: bool
) -> None:
    message = EmailMessage()
    message["Subject"] = "été"
    message.set_content("bonjour")
    for number, (encoding, text) in enumerate(made):
        safe = "".join(each for each in text if each.isprintable())
        message.add_attachment(safe, subtype="xml", filename=f"é {number}.xml", cte=encoding)
    if deep:
        outer = EmailMessage()
        outer.set_content("transfert")
        outer.add_attachment(message)
        message = outer
    data = message.as_bytes(policy=SMTP)
    theirs = [
        each for each in email.message_from_bytes(data, policy=SMTP).walk()
        if not each.is_multipart()
    ]  # fmt: skip
    ours = found(data)
    assert [part.media_type for part, _ in ours] == [each.get_content_type() for each in theirs]
    assert [part.name for part, _ in ours] == [each.get_filename() or "" for each in theirs]
    assert [content for _, content in ours] == [each.get_payload(decode=True) for each in theirs]
    # Line ends of Unix, as some servers hand a mail over.
    assert [content.replace(b"\r\n", b"\n") for _, content in found(data.replace(b"\r\n", b"\n"))] == [
        content.replace(b"\r\n", b"\n") for _, content in ours
    ]  # fmt: skip


def test_delimiters_are_whole_lines() -> None:
    """RFC 2046, section 5.1.1: blanks behind them, a preamble, an epilogue, an empty part."""
    data = (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\npreamble --a\r\n--a  \r\n\r\none\r\n--ab\r\n"
        b" --a\r\n--a\r\n--a\t\r\nContent-Type: application/x\r\n\r\n\r\n--a--\r\n--a\r\nepilogue"
    )
    assert [content for _, content in found(data)] == [b"one\r\n--ab\r\n --a", b"", b""]
    # The boundary of a part may begin with that of the whole.
    inner = multipart(b"ab", b"\r\n1", b"\r\n2")
    assert [content for _, content in found(multipart(b"a", inner, b"\r\n3"))] == [b"1", b"2", b"3"]


def test_limits_hold_to_the_number() -> None:
    assert len(found(nested(9))) == 1
    with pytest.raises(Refused, match="deeper than 10"):
        found(nested(10))
    parts = multipart(b"x", *[b"\r\ny"] * 5)
    assert len(found(parts, MimeLimits(parts_max=6))) == 5
    with pytest.raises(Refused, match="more than 5 parts"):
        found(parts, MimeLimits(parts_max=5))


def test_a_mail_in_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_bytes(multipart(b"x", b"\r\none", b"\r\ntwo"))
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert [part.content(view) for part in parts_of(view, LIMITS)] == [b"one", b"two"]


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_are_a_mail_or_refused(noise: bytes, at: int) -> None:
    whole = multipart(b"x", b"Content-Type: text/xml\r\n\r\n<a/>", nested(2))
    for data in (noise, whole[:at] + noise + whole[at:], whole[:at]):
        with contextlib.suppress(Refused):
            for part, content in found(data):
                assert part.name.isprintable()
                assert part.media_type.count("/") == 1
                assert part.attached in (True, False)
                assert len(content) <= len(data)


@pytest.mark.parametrize(
    "name", [name for name, (_, cause) in MAILS.items() if cause == "hostile-content"]
)
def test_what_is_made_to_do_harm_is_refused_by_its_structure(name: str) -> None:
    with pytest.raises(Refused) as refused:
        found(MAILS[name][0]())
    assert refused.value.cause.code is CauseCode.HOSTILE_CONTENT


def test_settings_that_cannot_be() -> None:
    box = {"name": "b", "server": "mail.fr:993", "user": "a@b", "password_file": "/x"}
    assert ImapSourceSettings(**box).host_and_port() == ("mail.fr", 993)  # type: ignore[arg-type]
    for wrong, words in (
        ({"server": "mail.fr"}, "not host:port"),
        ({"security": "none"}, "in the clear"),
        ({"password_file": None}, "password_file is needed"),
        ({"accepted": "INBOX"}, "three different names"),
        ({"after": "flag", "accepted": "a b"}, "no blanks"),
        ({"mailbox": 'IN"BOX'}, "pattern"),
    ):
        with pytest.raises(ValidationError, match=words):
            ImapSourceSettings(**{**box, **wrong})  # type: ignore[arg-type]
    for wrong, words in (
        ({"recipients": ()}, "at least 1"),
        ({"recipients": ("x",)}, "neither an address"),
        ({"recipients": ("@b",), "listen": "x"}, "not host:port"),
    ):
        with pytest.raises(ValidationError, match=words):
            SmtpSourceSettings(name="s", **wrong)  # type: ignore[arg-type]
    own = ClientTlsSettings(certificate=Path("/x"))
    assert ImapSourceSettings(**{**box, "password_file": None, "tls": own}).tls is own  # type: ignore[arg-type]
