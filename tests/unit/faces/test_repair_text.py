"""Editing a message as text changes exactly what was edited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.repair import Editable, NotEditable

HEAD = "MSH|^~\\&|LAB|X|E|X|20240101||ORU^R01|1|P|2.5|||||FRA|8859/15"


@pytest.mark.parametrize("terminator", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("ends", [True, False])
def test_unedited_text_gives_the_same_bytes(terminator: str, ends: bool) -> None:
    whole = terminator.join([HEAD, "PID|1||42||Noël€^ZOÉ", ""] if ends else [HEAD, "PID|1"])
    data = whole.encode("iso8859-15")
    found = Editable.of(data, "")
    # A browser sends CRLF whatever the text had.
    assert found.write(found.text.replace("\n", "\r\n")) == data


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0|"), max_size=30))
def test_only_the_edited_field_changes(value: str) -> None:
    data = f"{HEAD}\rPID|1||42\rOBX|1\r".encode("iso8859-15")
    found = Editable.of(data, "")
    try:
        written = found.write(found.text.replace("PID|1||42", f"PID|1||{value}"))
    except NotEditable:
        with pytest.raises(UnicodeEncodeError):
            value.encode(found.codec)
        return
    assert written == f"{HEAD}\rPID|1||{value}\rOBX|1\r".encode(found.codec)


def test_a_character_that_the_set_has_not_is_named_by_its_line() -> None:
    found = Editable.of(f"{HEAD}\rPID|1||É\r".encode("iso8859-15"), "")
    with pytest.raises(NotEditable, match="line 2"):
        found.write(f"{HEAD}\nPID|1||中")


def test_mixed_line_ends_are_not_edited() -> None:
    with pytest.raises(NotEditable, match="line ends"):
        Editable.of(f"{HEAD}\r\nPID|1\rOBX|1\r\n".encode(), "")


def test_bytes_that_are_no_text_are_not_edited() -> None:
    with pytest.raises(NotEditable):
        Editable.of(b"\0\1\2", "")
