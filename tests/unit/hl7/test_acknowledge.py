"""Answers word for word, by version and by fault."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7.acknowledge import (
    UNAVAILABLE,
    Acknowledger,
    Code,
    ControlIds,
    code_for,
    commit_code_for,
    error_location,
)
from adapters.hl7.charset import ASCII, UTF_8, charset_named
from adapters.hl7.header import Header
from gateway.model import Cause, CauseCode

NOW = datetime(2026, 7, 14, 10, 0, 0, 123456, UTC)
PARIS = ZoneInfo("Europe/Paris")


class FixedIds(ControlIds):
    def next(self) -> str:
        return "OURS"


def header(version: str = "2.5", kind: str = "ORU^R01^ORU_R01", charset: str = "") -> Header:
    return Header.read(
        f"MSH|^~\\&|APP^1.2^ISO~X|FAC|DEST^3.4^ISO|PLACE|2024||{kind}|THEIRS|P^T|{version}"
        f"||||||{charset}".encode()
    )


def acknowledger() -> Acknowledger:
    return Acknowledger(PARIS, FixedIds())


def test_acceptance_word_for_word() -> None:
    assert acknowledger().accept(header(charset="UTF8"), UTF_8, NOW) == (
        b"MSH|^~\\&|DEST^3.4^ISO|PLACE|APP^1.2^ISO~X|FAC|20260714120000+0200||ACK^R01^ACK|OURS"
        b"|P^T|2.5||||||UNICODE UTF-8\r"
        b"MSA|AA|THEIRS\r"
    )


def test_the_character_set_is_told_when_it_is_not_ascii() -> None:
    def told(declared: str, used: str) -> bytes:
        charset = charset_named(used)
        assert charset is not None
        line = acknowledger().accept(header(charset=declared), charset, NOW).split(b"\r")[0]
        return (line.split(b"|") + [b""] * 6)[17]

    assert told("", "ASCII") == b""
    assert told("", "UTF-8") == b"UNICODE UTF-8"
    assert told("", "8859/15") == b"8859/15"
    assert told("iso-8859-1", "8859/1") == b"8859/1"
    assert told("ASCII", "ASCII") == b"ASCII"
    assert told("code1~code2", "ASCII") == b""


CAUSE = Cause(
    code=CauseCode.REQUIRED_FIELD_MISSING,
    detail="PID-3 is missing | & so on",
    location="PID-3(2).4.1",
    protocol_code="101",
)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "2.5",
            b"MSH|^~\\&|DEST^3.4^ISO|PLACE|APP^1.2^ISO~X|FAC|20260714120000+0200||ACK^R01^ACK|OURS"
            b"|P^T|2.5\rMSA|AE|THEIRS\r"
            b"ERR||PID^1^3^2^4^1|101^Required field missing^HL70357|E||||"
            b"PID-3 is missing \\F\\ \\T\\ so on\r",
        ),
        (
            "2.4",
            b"MSH|^~\\&|DEST^3.4^ISO|PLACE|APP^1.2^ISO~X|FAC|20260714120000+0200||ACK^R01^ACK|OURS"
            b"|P^T|2.4\rMSA|AE|THEIRS|PID-3 is missing \\F\\ \\T\\ so on\r"
            b"ERR|PID^1^3^101&Required field missing&HL70357\r",
        ),
        (
            "2.1",
            b"MSH|^~\\&|DEST^3.4^ISO|PLACE|APP^1.2^ISO~X|FAC|20260714120000||ACK|OURS"
            b"|P^T|2.1\rMSA|AE|THEIRS|PID-3 is missing \\F\\ \\T\\ so on\r"
            b"ERR|PID^1^3^101&Required field missing&HL70357\r",
        ),
    ],
)
def test_refusal_word_for_word(version: str, expected: bytes) -> None:
    assert acknowledger().refuse(header(version), ASCII, NOW, CAUSE) == expected


def test_refusal_without_a_header() -> None:
    cause = Cause(
        code=CauseCode.NOT_THE_FORMAT, detail="No MSH", location="MSH", protocol_code="100"
    )
    assert acknowledger().refuse(None, None, NOW, cause) == (
        b"MSH|^~\\&|||||20260714120000+0200||ACK|OURS|P|2.5\r"
        b"MSA|AR|\r"
        b"ERR||MSH^1|100^Segment sequence error^HL70357|E||||No MSH\r"
    )


def test_our_words_are_in_the_character_set_of_the_answer() -> None:
    cause = Cause(code=CauseCode.FEEDING_OPPOSED, detail="Refusé — désolé")
    utf8 = acknowledger().refuse(header(charset="UNICODE UTF-8"), UTF_8, NOW, cause)
    assert "Refusé — désolé" in utf8.decode()
    latin = charset_named("8859/1")
    answer = acknowledger().refuse(header(charset="8859/1"), latin, NOW, cause)
    assert "Refusé ? désolé" in answer.decode("latin-1")
    assert b"Refus? ? d?sol?" in acknowledger().refuse(header(), ASCII, NOW, cause)


@given(st.binary(min_size=1, max_size=30))
def test_msa_2_is_msh_10_byte_for_byte(control_id: bytes) -> None:
    if set(control_id) & set(b"|\r\n"):
        return
    line = b"MSH|^~\\&|A|B|C|D|2024||ADT^A01|" + control_id + b"|P|2.5"
    for charset in (ASCII, UTF_8, None):
        answer = acknowledger().refuse(Header.read(line), charset, NOW, CAUSE)
        assert b"\rMSA|AE|" + control_id + b"\r" in answer
    assert b"\rMSA|AA|" + control_id + b"\r" in acknowledger().accept(Header.read(line), ASCII, NOW)


@pytest.mark.parametrize(
    ("code", "location", "number", "expected"),
    [
        (CauseCode.UNSUPPORTED_TYPE, "MSH-9.1", "200", "AR"),
        (CauseCode.UNSUPPORTED_TYPE, "MSH-9.2", "201", "AR"),
        (CauseCode.UNSUPPORTED_TYPE, "MSH-11", "202", "AR"),
        (CauseCode.UNSUPPORTED_VERSION, "MSH-12", "203", "AR"),
        (CauseCode.REQUIRED_FIELD_MISSING, "MSH-12", "101", "AR"),
        (CauseCode.NOT_THE_FORMAT, "MSH", "100", "AR"),
        (CauseCode.NOT_THE_FORMAT, "MSH(2)", "100", "AE"),
        (CauseCode.FRAME_OVERSIZED, "", "", "AR"),
        (CauseCode.FRAME_TRUNCATED, "", "207", "AE"),
        (CauseCode.REQUIRED_FIELD_MISSING, "MSH-10", "101", "AE"),
        (CauseCode.CHARACTER_SET, "PID-5", "102", "AE"),
        (CauseCode.FEEDING_OPPOSED, "", "", "AE"),
    ],
)
def test_reject_or_error(code: CauseCode, location: str, number: str, expected: str) -> None:
    cause = Cause(code=code, location=location, protocol_code=number)
    assert code_for(cause) == expected
    assert code_for(UNAVAILABLE) == "AR"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("MSH-9.1", ("MSH", "1", "9", "1", "1")),
        ("PID-3(2)", ("PID", "1", "3", "2")),
        ("OBX(7)-5(1).2.3", ("OBX", "7", "5", "1", "2", "3")),
        ("MSH(2)", ("MSH", "2")),
        ("MSH-10", ("MSH", "1", "10")),
        ("byte 12", ()),
        ("", ()),
        ("hl7/oru.yaml:3:4", ()),
    ],
)
def test_error_locations(path: str, expected: tuple[str, ...]) -> None:
    assert error_location(path) == expected


def test_the_time_follows_the_clock_and_the_zone() -> None:
    ours = acknowledger()
    for month, stamp in [(1, b"20260114110000+0100"), (7, b"20260714120000+0200")]:
        assert stamp in ours.accept(header(), ASCII, NOW.replace(month=month))
    assert b"20260714120001+0200" in ours.accept(header(), ASCII, NOW.replace(second=1))


def test_control_ids_are_unique_across_threads_and_processes_and_short() -> None:
    made: list[str] = []
    first, second = ControlIds(), ControlIds()

    def make(ids: ControlIds) -> None:
        made.extend([ids.next() for _ in range(5000)])

    threads = [threading.Thread(target=make, args=(ids,)) for ids in (first, first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == len(made) == 15_000
    assert max(map(len, made)) <= 20
    assert all(each.isalnum() for each in made)


def test_the_enhanced_mode_and_the_expected_number_word_for_word() -> None:
    accepted = acknowledger().accept(header(), ASCII, NOW, code=Code.COMMIT_ACCEPT, number=8)
    assert accepted.split(b"\r")[1] == b"MSA|CA|THEIRS||8"
    refused = acknowledger().refuse(header(), ASCII, NOW, CAUSE, commit=True, number=-1)
    assert refused.split(b"\r")[1] == b"MSA|CE|THEIRS||-1"
    old = acknowledger().refuse(header("2.3"), ASCII, NOW, CAUSE, number=8)
    assert old.split(b"\r")[1].split(b"|")[4:] == [b"8"]


def test_an_exchange_of_its_own_asks_for_its_own_acknowledgement() -> None:
    answer = acknowledger().accept(header(charset="UTF8"), UTF_8, NOW, asking="AL")
    line = answer.split(b"\r")[0].split(b"|")
    assert (line[14], line[15], line[17]) == (b"AL", b"NE", b"UNICODE UTF-8")


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (Cause(code=CauseCode.UNSUPPORTED_VERSION, location="MSH-12"), "CR"),
        (Cause(code=CauseCode.NOT_THE_FORMAT, location="MSH"), "CR"),
        (Cause(code=CauseCode.FRAME_OVERSIZED), "CE"),
        (Cause(code=CauseCode.CHARACTER_SET, location="PID-5"), "CE"),
        (Cause(code=CauseCode.SEQUENCE_NUMBER, location="MSH-13"), "CE"),
        (UNAVAILABLE, "CE"),
    ],
)
def test_commit_codes(cause: Cause, code: str) -> None:
    assert commit_code_for(cause) == code


def test_each_field_behind_the_version_stands_in_its_place() -> None:
    told = {}
    for asking in ("", "AL"):
        for country in ("", "FRA"):
            line = f"MSH|^~\\&|A|B|C|D|2024||ADT^A01|X|P|2.5|||||{country}|UNICODE UTF-8"
            answer = acknowledger().accept(Header.read(line.encode()), UTF_8, NOW, asking=asking)
            fields = answer.split(b"\r")[0].split(b"|")
            told[asking, country] = b"|".join(fields[12:]).decode()
    assert told == {
        ("", ""): "|||||UNICODE UTF-8",
        ("", "FRA"): "||||FRA|UNICODE UTF-8",
        ("AL", ""): "||AL|NE||UNICODE UTF-8",
        ("AL", "FRA"): "||AL|NE|FRA|UNICODE UTF-8",
    }
