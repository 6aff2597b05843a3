"""Escape sequences of HL7 2.7, and what is not one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7.delimiters import Delimiters, read_delimiters
from adapters.hl7.escapes import escape_text, unescape

STANDARD = read_delimiters("|", "^~\\&#")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f\P\g", "a|b^c&d~e\\f#g"),
        (r"caf\XE9\ ", "café "),
        (r"\X0D0A\x", "\r\nx"),
        (r"line 1\.br\line 2", "line 1\nline 2"),
        (r"\.sp\\.sp2\x", "\n\n\nx"),
        (r"a\.sk3\b", "a   b"),
        (r"\.in+4\\.ti-4\1. Heart", "1. Heart"),
        (r"\.ce\Title", "\nTitle"),
        (r"\H\bold\N\ plain\.fi\\.nf\ ", "bold plain "),
        # Not sequences: they stay as they are written.
        (r"\.sp9999\x", r"\.sp9999\x"),
        (r"\.sk-1\x", r"\.sk-1\x"),
        (r"\X0\x", r"\X0\x"),
        (r"\XZZ\x", r"\XZZ\x"),
        (r"\X00\x", r"\X00\x"),  # a NUL is kept by no store of text
        (r"\Zlocal\x", r"\Zlocal\x"),
        (r"\C2842\x", r"\C2842\x"),
        ("C:\\temp", "C:\\temp"),
        ("ends with \\", "ends with \\"),
        (r"\E\R\ ", "\\R\\ "),
        (r"C:\dir\F\x", r"C:\dir|x"),
        (r"\\F\\", "\\|\\"),
    ],
)
def test_unescape(written: str, meant: str) -> None:
    assert unescape(written, STANDARD, "latin-1") == meant


def test_hexadecimal_bytes_are_in_the_character_set_of_the_message() -> None:
    assert unescape(r"\XC3A9\ ", STANDARD, "utf-8") == "é "
    assert unescape(r"\XE9\ ", STANDARD, "utf-8") == r"\XE9\ "
    assert unescape(r"\XA4\ ", STANDARD, "iso8859-15") == "€ "


def test_other_delimiters() -> None:
    other = read_delimiters("#", "*!/%")
    assert unescape("a/F/b/S/c/R/d/T/e/E/", other, "ascii") == "a#b*c!d%e/"
    assert unescape(r"a\F\b", other, "ascii") == r"a\F\b"
    # Without a truncation character \P\ means nothing.
    assert unescape("/P/", other, "ascii") == "/P/"


def test_a_message_without_an_escape_character() -> None:
    bare = read_delimiters("|", "^~")
    assert unescape(r"a\F\b", bare, "ascii") == r"a\F\b"
    assert escape_text("a|b", bare) == "a b"


@given(st.text())
def test_what_is_escaped_comes_back(text: str) -> None:
    expected = text.replace("\r", "\n")
    written = escape_text(text, STANDARD)
    assert not set("|^~&#\r\n") & set(written)
    assert unescape(written, STANDARD, "utf-8") == expected


@given(st.text(alphabet="\\FSTREXPHN.brsp0E9~", max_size=60))
def test_unescape_never_fails_and_is_idempotent_without_escapes(text: str) -> None:
    meant = unescape(text, STANDARD, "ascii")
    if "\\" not in text:
        assert meant == text


def test_unescape_is_linear() -> None:
    def seconds(size: int) -> float:
        text = r"\F" * size
        start = time.process_time()
        unescape(text, STANDARD, "utf-8")
        return time.process_time() - start

    small = min(seconds(10_000) for _ in range(3))
    assert min(seconds(80_000) for _ in range(3)) < small * 8 * 4


def test_delimiters_know_their_own_encoding_characters() -> None:
    assert Delimiters().encoding_characters == "^~\\&"
    assert STANDARD.encoding_characters == "^~\\&#"
