"""The words of a business acknowledgement, beside the profile's own samples."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from adapters.hl7.business import BusinessAcknowledger, wanted
from adapters.hl7.charset import charset_named
from adapters.hl7.header import Header, read_header
from gateway.model import Cause, CauseCode
from tests.unit.hl7.transmissions import message

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
UTF8, LATIN9 = charset_named("UNICODE UTF-8"), charset_named("8859/15")


def header(profile: str = "2.1^CISIS_CDA_HL7_V2", charset: str = "UNICODE UTF-8") -> Header:
    line = (
        f"MSH|^~\\&|SIL-Y|labo|PFI-X|Organisation-X|20210606||ORU^R01^ORU_R01|015|P|2.5|||||FRA|"
        f"{charset}|||{profile}"
    )
    return read_header(line.encode() + b"\r")[1]


def worded(cause: Cause | None, **changes: str) -> list[list[str]]:
    made = BusinessAcknowledger(ZoneInfo("Europe/Paris"))
    spoken = LATIN9 if changes.get("charset") == "8859/15" else UTF8
    body = made.word(header(**changes), spoken, NOW, cause)
    return [line.split("|") for line in body.decode(spoken.codec).rstrip("\r").split("\r")]


def sample(shared: Path, version: str) -> list[list[str]]:
    name = (
        f"Volets_TRANS_DOC_CDA_HL7V2_V{version}_ORU_Transmission_initiale_ORU_"
        "Message_metier_reception_DMP"
    )
    path = shared / "corpora" / "hl7v2" / "ansforge__hl7V2-exemples" / name
    return [line.split("|") for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_a_closed_record_is_told_as_in_the_sample(shared: Path, version: str) -> None:
    closed = Cause(code=CauseCode.RECORD_CLOSED, detail="the record is closed")
    ours = worded(closed, profile=f"{version}^CISIS_CDA_HL7_V2")
    theirs = sample(shared, version)
    assert (
        [each[0] for each in ours] == [each[0] for each in theirs] == ["MSH", "EVN", "OBX", "ERR"]
    )
    assert ours[0][2:6] == theirs[0][2:6]
    assert ours[0][8] == theirs[0][8]
    assert ours[0][10:] == theirs[0][10:]
    assert ours[2] == theirs[2][:12]
    assert ours[3][3:6] == theirs[3][3:6]


def test_another_cause_is_an_application_error() -> None:
    cause = Cause(code=CauseCode.CONTENT_MISMATCH, detail="key | wrong", protocol_code="204")
    error = worded(cause)[3]
    assert error[5] == "906^Autre erreur applicative^applicationErrorCondition"
    assert error[8] == r"key \F\ wrong"
    known = Cause(code=CauseCode.CONTENT_MISMATCH, detail="", protocol_code="905")
    assert worded(known)[3][5].startswith("905^L'INS transmis n'est pas complet^")


def test_it_is_in_the_character_set_of_the_message() -> None:
    lines = worded(None, charset="8859/15")
    assert lines[0][17] == "8859/15"
    assert lines[2][3] == "ACK_RECEPTION_DMP^Accusé de réception DMP^AckMetierZAM"
    assert lines[2][5].startswith("Y^^")


@pytest.mark.parametrize(
    ("metadata", "profile", "asked"),
    [
        ({"ACK_RECEPTION": "Y"}, "2.1^CISIS_CDA_HL7_V2", True),
        ({"ACK_RECEPTION": "N"}, "2.1^CISIS_CDA_HL7_V2", False),
        ({}, "2.1^CISIS_CDA_HL7_V2", False),
        ({"ACK_RECEPTION": "Y", "DESTDMP": "N"}, "2.1^CISIS_CDA_HL7_V2", False),
        ({"ACK_RECEPTION": "Y"}, "1.0^CISIS_CDA_HL7_LPS", False),
    ],
)
def test_who_asks(metadata: dict[str, str], profile: str, asked: bool) -> None:
    payload = message(metadata=metadata, profile=profile)
    _, found = read_header(payload)
    assert wanted(payload, found, UTF8) is asked
