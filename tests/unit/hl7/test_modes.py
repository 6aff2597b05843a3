"""MSH-15 and MSH-16 to the answers that are given, each combination by the standard's table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7.answer import Asked, asked_for
from adapters.hl7.header import Header
from adapters.hl7.modes import ORIGINAL, SILENT, Condition, is_response, mode_of


def message(accept: str, application: str, kind: str = "ADT^A01", more: str = "") -> bytes:
    return (
        f"MSH|^~\\&|A|B|C|D|2024||{kind}|1|P|2.5|||{accept}|{application}\r{more}EVN||2024\r"
    ).encode()


def header(accept: str, application: str, kind: str = "ADT^A01") -> Header:
    return Header.read(message(accept, application, kind).split(b"\r")[0])


# MSH-15, MSH-16 → answered at once when kept, when refused; condition of the later answer,
# whether a refusal at the door is told by then.
ENHANCED = [
    ("AL", "NE", True, True, None, None),
    ("ER", "NE", False, True, None, None),
    ("SU", "NE", True, False, None, None),
    ("NE", "NE", False, False, None, None),
    ("NE", "AL", False, False, "AL", False),
    ("NE", "ER", False, False, "ER", False),
    ("NE", "SU", False, False, "SU", True),
    ("AL", "AL", True, True, "AL", True),
    ("AL", "ER", True, True, "ER", True),
    ("ER", "AL", False, True, "AL", True),
    ("SU", "AL", True, False, "AL", False),
    ("SU", "SU", True, False, "SU", True),
    ("AL", "", True, True, None, None),
    ("", "AL", False, False, "AL", False),
    ("AL", "always", True, True, None, None),
]


@pytest.mark.parametrize(
    ("accept", "application", "kept", "refused", "condition", "told"), ENHANCED
)
def test_the_table_with_a_return_link(
    accept: str,
    application: str,
    kept: bool,
    refused: bool,
    condition: str | None,
    told: bool | None,
) -> None:
    mode = mode_of(header(accept, application), "auto", linked=True)
    assert (mode.accept, mode.positive, mode.negative) == (True, kept, refused)
    assert mode.unknown is (application == "always")
    if condition is None:
        assert mode.later is None
    else:
        assert mode.later is not None
        assert (mode.later.condition, mode.later.refusal_told) == (condition, told)
        assert mode.later.linked


@pytest.mark.parametrize("asked", ["NE", ""])
@pytest.mark.parametrize(
    ("application", "kept", "refused"),
    [("AL", True, True), ("ER", False, True), ("SU", True, False)],
)
def test_an_application_acknowledgement_alone_comes_on_the_connection_without_a_link(
    asked: str, application: str, kept: bool, refused: bool
) -> None:
    mode = mode_of(header(asked, application), "auto", linked=False)
    assert (mode.accept, mode.positive, mode.negative) == (False, kept, refused)
    assert mode.later is None


def test_without_a_link_the_later_answer_is_owed_all_the_same() -> None:
    mode = mode_of(header("AL", "AL"), "auto", linked=False)
    assert mode.accept
    assert mode.later is not None
    assert not mode.later.linked


def test_the_source_may_say_which_mode() -> None:
    assert mode_of(header("", ""), "auto", linked=True) == ORIGINAL
    assert mode_of(header("AL", "AL"), "original", linked=False) == ORIGINAL
    always = mode_of(header("", ""), "enhanced", linked=False)
    assert (always.accept, always.positive, always.negative) == (True, True, True)
    assert not mode_of(header("NE", "NE"), "enhanced", linked=False).positive


def test_unknown_values_alone_are_the_original_mode_and_noticed() -> None:
    mode = mode_of(header("Y", ""), "auto", linked=False)
    assert (mode.accept, mode.positive, mode.negative, mode.unknown) == (False, True, True, True)


@given(
    st.sampled_from(["auto", "original", "enhanced"]), st.booleans(), st.sampled_from(["", "AL"])
)
def test_an_acknowledgement_is_never_answered(setting: str, linked: bool, asked: str) -> None:
    for kind in ("ACK", "ACK^A01^ACK", "MCF^A01"):
        assert mode_of(header(asked, asked, kind), setting, linked=linked) is SILENT


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("MSA|AA|1\r", True),
        ("SFT|x\rUAC|y\rMSA|AA|1\r", True),
        ("ZXX|1\rMSA|AA|1\r", True),
        ("PID|1\rMSA|AA|1\r", False),
        ("NTE|1||MSA|AA\r", False),
        ("", False),
    ],
)
def test_a_response_is_known_by_its_msa(more: str, expected: bool) -> None:
    data = message("", "", "RSP^K22", more)
    found = is_response(data, Header.read(data.split(b"\r")[0]), 0)
    assert found is expected
    assert asked_for(data).first is (Asked.NEVER if expected else Asked.ALWAYS)


@pytest.mark.parametrize(
    ("accept", "application", "first"),
    [
        ("", "", Asked.ALWAYS),
        ("AL", "AL", Asked.ALWAYS),
        ("ER", "NE", Asked.ON_ERROR),
        ("ER", "AL", Asked.ON_ERROR),
        ("NE", "AL", Asked.ALWAYS),
        ("NE", "NE", Asked.NEVER),
    ],
)
def test_what_a_sender_waits_for(accept: str, application: str, first: Asked) -> None:
    assert asked_for(message(accept, application)).first is first
    assert asked_for(message(accept, application, "ACK")).first is Asked.NEVER


def test_conditions() -> None:
    told = {
        condition: (condition.wants(positive=True), condition.wants(positive=False))
        for condition in Condition
    }
    assert told == {
        Condition.ALWAYS: (True, True),
        Condition.NEVER: (False, False),
        Condition.ERROR: (False, True),
        Condition.SUCCESS: (True, False),
    }
