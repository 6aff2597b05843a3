"""What the CI-SIS profile of a message refuses, rule by rule, and what it lets pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cda.transmitted import CdaHeaders
from adapters.hl7.reception import Arrival, Reception
from adapters.hl7.settings import MllpSourceSettings
from gateway.model import CauseCode
from tests.integration.hl7.fake_intake import RealClock, fields
from tests.unit.hl7.transmissions import (
    DOCTOR,
    INS,
    OTHER_INS,
    PARENT,
    PATIENT,
    ROOT,
    SENDER,
    cda,
    encoded,
    message,
)

RECEPTION = Reception(MllpSourceSettings(name="ris"), RealClock(), CdaHeaders())
PDF = encoded(b"%PDF-1.4\n")
NO_EXCHANGE = {"DESTMSSANTEPS": "N", "DESTMSSANTEPAT": "N"}
PS_ONLY = {"INVISIBLE_PATIENT": "Y", "DESTMSSANTEPAT": "N"}
PATIENT_ONLY = {"DESTDMP": "N", "DESTMSSANTEPS": "N"}


def received(data: bytes, reception: Reception = RECEPTION) -> Arrival:
    return reception.open(data, "peer")


def refused(data: bytes, reception: Reception = RECEPTION) -> tuple[str, str] | None:
    cause = received(data, reception).received.refusal
    return None if cause is None else (cause.protocol_code, cause.location)


ACCEPTED: dict[str, dict[str, Any]] = {
    "a first MDM": {},
    "a replacement": {"status": "C", "parent": PARENT},
    "a deletion": {"status": "D"},
    "a first ORU": {"kind": "ORU"},
    "an ORU that replaces": {"kind": "ORU", "status": "C"},
    "an ORU that deletes": {"kind": "ORU", "status": "D"},
    "two CDA": {"kind": "ORU", "documents": (encoded(cda()), encoded(cda(document="2.999.6")))},
    "a CDA and a PDF": {"kind": "ORU", "documents": (encoded(cda()), PDF)},
    "Base64 without padding": {"documents": (encoded(cda()).rstrip("="),)},
    "an ORC-1 that 2.0 does not define": {
        "kind": "ORU", "order": "SC", "profile": "2.0^CISIS_CDA_HL7_V2",
    },
    "no ORC in 2.0": {"without": ("ORC",), "profile": "2.0^CISIS_CDA_HL7_V2"},
    "the professional alone": {"metadata": PS_ONLY},
    "the patient alone": {"metadata": PATIENT_ONLY},
    "the patient alone, hidden from professionals": {
        "metadata": {**PATIENT_ONLY, "MASQUE_PS": "Y", "INVISIBLE_REP_LEGAUX": "Y"},
    },
    "no exchange, hidden from all": {
        "metadata": {
            **NO_EXCHANGE, "MASQUE_PS": "Y", "INVISIBLE_PATIENT": "Y", "CONNEXION_SECRETE": "Y",
        },
        "participations": (SENDER,),
    },
    "a provisional identity that does not go to the DMP": {
        "metadata": PATIENT_ONLY, "reliability": "PROV",
    },
    "several repetitions of PID-32": {"reliability": "IDVER~VALI"},
    "TXA-12 as extension and root": {
        "number": "2^^2.999.5^ISO",
    },
    "the profile as the second of MSH-21": {"profile": "1^X~2.1^CISIS_CDA_HL7_V2"},
    "metadata of 1.1 with its misprint": {
        "kind": "ORU", "order": "SC", "profile": "1.1^CISIS_CDA_HL7_V1",
        "without": ("INVISIBLE_REP_LEGAUX",), "metadata": {"INVISIBLE_REPRENSANTS_LEGAUX": "N"},
    },
}  # fmt: skip

_BAD_TRAITS = '<name><family qualifier="BR">ESSAI</family><given>MARIE</given></name>'
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an event of another profile": ({"event": "T01"}, "201", "MSH-9.2"),
    "OBX-11 against the event": ({"event": "T10", "order": "NW"}, "199", "OBX(1)-11"),
    "ORC-1 against OBX-11": ({"order": "CA"}, "199", "ORC-1"),
    "ORC-1 against OBX-11 in an ORU": ({"kind": "ORU", "order": "RO"}, "199", "ORC-1"),
    "ORC-1 against OBX-11 in 2.0": (
        {"kind": "ORU", "order": "CA", "profile": "2.0^CISIS_CDA_HL7_V2"}, "199", "ORC-1",
    ),
    "an ORC-1 of no request": ({"order": "SC"}, "103", "ORC-1"),
    "an empty ORC-1": ({"order": ""}, "101", "ORC-1"),
    "no ORC": ({"without": ("ORC",)}, "100", "ORC"),
    "an OBX-11 of no request": ({"statuses": ("P",)}, "103", "OBX(1)-11"),
    "two documents treated differently": (
        {"kind": "ORU", "documents": (encoded(cda()), PDF), "statuses": ("F", "D")},
        "199", "OBX(2)-11",
    ),
    "two documents in an MDM": ({"documents": (encoded(cda()), PDF)}, "198", "OBX(2)"),
    "three documents in an ORU": (
        {"kind": "ORU", "documents": (encoded(cda()), PDF, PDF)}, "198", "OBX(3)",
    ),
    "no document": ({"documents": ("",)}, "101", "OBX(1)-5"),
    "no OBX at all": ({"without": ("OBX", "PRT")}, "100", "OBX"),
    "no TXA": ({"without": ("TXA",)}, "100", "TXA"),
    "no id in TXA": ({"number": ""}, "101", "TXA-12"),
    "T10 without a parent": ({"status": "C"}, "101", "TXA-13"),
    "a metadata that says neither": ({"metadata": {"MASQUE_PS": "X"}}, "103", "OBX(2)-5"),
    "an empty metadata": ({"metadata": {"MASQUE_PS": ""}}, "103", "OBX(2)-5"),
    "a missing metadata": ({"without": ("INVISIBLE_PATIENT",)}, "101", "OBX"),
    "hidden from the patient and sent to the patient": (
        {"metadata": {"INVISIBLE_PATIENT": "Y"}}, "199", "OBX(9)-5",
    ),
    "the same in 1.2": (
        {
            "kind": "ORU", "order": "SC", "profile": "1.2^CISIS_CDA_HL7_V1",
            "metadata": {"INVISIBLE_PATIENT": "Y"},
        },
        "199", "OBX(9)-5",
    ),
    "hidden from professionals and sent to one": (
        {"metadata": {**PS_ONLY, "MASQUE_PS": "Y"}}, "199", "OBX(2)-5",
    ),
    "to a professional alone though the patient may see it": (
        {"metadata": {"DESTMSSANTEPAT": "N"}}, "199", "OBX(3)-5",
    ),
    "hidden from representatives and sent to a professional": (
        {"metadata": {**PS_ONLY, "INVISIBLE_REP_LEGAUX": "Y"}}, "199", "OBX(4)-5",
    ),
    "a secret connection and an exchange": (
        {"metadata": {"CONNEXION_SECRETE": "Y"}}, "199", "OBX(5)-5",
    ),
    "to the patient alone and to the DMP": (
        {"metadata": {"DESTMSSANTEPS": "N"}}, "199", "OBX(7)-5",
    ),
    "the DMP without a sender": ({"participations": (DOCTOR, PATIENT)}, "100", "PRT"),
    "a sender without a number": (
        {"participations": (SENDER.replace("801234567866", ""), DOCTOR, PATIENT)}, "101", "PRT(1)-5",
    ),
    "a sender without an organization": (
        {"participations": (SENDER.replace("1120459876", ""), DOCTOR, PATIENT)}, "101", "PRT(1)-8",
    ),
    "an addressee without a mailbox": (
        {"participations": (SENDER, DOCTOR.split("^^X.400")[0], PATIENT)}, "101", "PRT(2)-15",
    ),
    "the patient without a mailbox": ({"participations": (SENDER, DOCTOR)}, "100", "PRT"),
    "the professional without a mailbox": ({"participations": (SENDER, PATIENT)}, "100", "PRT"),
    "nobody in PID-3": ({"identifiers": ""}, "101", "PID-3"),
    "an identity that is not qualified, for the DMP": ({"reliability": "PROV"}, "906", "PID-32"),
    "no reliability, for the DMP": ({"reliability": ""}, "906", "PID-32"),
    "another encoding": ({"documents": ("zz^",)}, "102", "OBX(1)-5"),
    "Base64 that stops within a byte": ({"documents": ("A",)}, "102", "OBX(1)-5"),
    "a text that is no CDA": ({"documents": (encoded(b"Compte rendu"),)}, "102", "OBX(1)-5"),
    "a PDF in the place of the CDA": ({"documents": (PDF,)}, "102", "OBX(1)-5"),
    "a hostile CDA": (
        {"documents": (encoded(b"<!DOCTYPE a [<!ENTITY b 'c'>]><ClinicalDocument/>"),)},
        "102", "OBX(1)-5",
    ),
    "a CDA without the INS": ({"documents": (encoded(cda(ins="", local="7")),)}, "903", "OBX(1)-5"),
    "the INS of somebody else": ({"documents": (encoded(cda(ins=OTHER_INS)),)}, "904", "PID-3"),
    "the INS under another root": (
        {"documents": (encoded(cda(root="1.2.250.1.213.1.4.8")),)}, "904", "PID-3",
    ),
    "no INS in PID-3, for the DMP": ({"identifiers": "7^^^X&2.999.1&ISO^PI"}, "904", "PID-3"),
    "an INS of somebody else in the second document": (
        {"kind": "ORU", "documents": (encoded(cda()), encoded(cda(ins=OTHER_INS)))}, "904", "PID-3",
    ),
    "an INS without its traits": (
        {"documents": (encoded(cda(traits=_BAD_TRAITS)),)}, "905", "OBX(1)-5",
    ),
    "another local identifier of one authority": (
        {
            "identifiers": f"{INS}^^^X&{ROOT}&ISO^INS~8^^^X&2.999.1&ISO^PI",
            "documents": (encoded(cda(local="7")),),
        },
        "199", "PID-3",
    ),
    "TXA-12 of another document": ({"number": "2.999.5.9"}, "199", "TXA-12"),
    "TXA-13 of another parent": ({"status": "C", "parent": "2.999.5.9"}, "900", "TXA-13"),
    "a replacement of nothing": (
        {"kind": "ORU", "status": "C", "documents": (encoded(cda()),)}, "900", "OBX(1)-5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_profile_takes(case: str) -> None:
    assert refused(message(**ACCEPTED[case])) is None


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_profile_refuses(case: str) -> None:
    change, code, location = REFUSED[case]
    arrival = received(message(**change))
    cause = arrival.received.refusal
    assert cause is not None
    assert (cause.protocol_code, cause.location) == (code, location), cause.detail
    assert INS not in cause.detail
    assert arrival.received.control_id == "C1"
    answer = arrival.received.answer
    assert fields(answer, "MSA", 1) == (b"AR" if code == "201" else b"AE")
    number = b"207" if code.startswith("9") else code.encode()
    said = fields(answer, "ERR", 3).split(b"^")
    assert said[0] == number
    assert said[2] == b"messageErrorCondition"
    application = fields(answer, "ERR", 5).split(b"^")
    assert application[0] == (code.encode() if code.startswith("9") else b"")


def test_the_answer_names_code_label_and_table_and_the_country() -> None:
    answer = received(message(documents=(encoded(cda(ins=OTHER_INS)),))).received.answer
    assert fields(answer, "MSH", 9) == b"ACK^T02^ACK"
    assert fields(answer, "MSH", 17) == b"FRA"
    assert fields(answer, "MSH", 18) == b"UNICODE UTF-8"
    assert fields(answer, "ERR", 2) == b"PID^1^3"
    assert fields(answer, "ERR", 4) == b"E"
    assert fields(answer, "ERR", 5).decode() == (
        "904^L'INS transmis ne correspond pas exactement^applicationErrorCondition"
    )


def test_accents_of_a_label_are_in_the_characters_of_the_answer() -> None:
    data = message(documents=(encoded(cda(ins="")),)).replace(b"UNICODE UTF-8", b"8859/15")
    answer = received(data).received.answer
    assert "INS non présent dans le document".encode("iso8859-15") in answer


def test_a_metadata_said_twice_must_say_the_same() -> None:
    data = message()
    [line] = [line for line in data.split(b"\r") if b"MASQUE_PS" in line]
    assert refused(data + line + b"\r") is None
    assert refused(data + line.replace(b"||N^", b"||Y^") + b"\r") == ("198", "OBX(12)-5")


def test_a_large_message_is_judged_by_what_stands_around_its_document() -> None:
    small = Reception(
        MllpSourceSettings(name="ris", profile_bytes_max=100), RealClock(), CdaHeaders()
    )
    assert refused(message(documents=(encoded(cda(ins=OTHER_INS)),)), small) is None
    assert refused(message(order="CA"), small) == ("199", "ORC-1")
    assert refused(message(documents=("A",)), small) == ("102", "OBX(1)-5")


def test_a_source_may_do_without() -> None:
    lenient = Reception(
        MllpSourceSettings(name="ris", profile_checks=False), RealClock(), CdaHeaders()
    )
    assert refused(message(order="CA"), lenient) is None


@pytest.mark.parametrize("profile", ["", "2.1", "2.11^IHE_FRANCE-2.11-PAM", '""', "^"])
def test_another_profile_is_not_looked_into(profile: str) -> None:
    assert refused(message(order="CA", without=("TXA",), profile=profile)) is None


def test_what_was_refused_before_keeps_its_reason() -> None:
    data = message(order="CA").replace(b"|P|2.6|", b"|P|9.9|")
    assert refused(data) == ("203", "MSH-12")


def test_a_broken_document_is_filed_as_what_it_is() -> None:
    hostile = encoded(b"<!DOCTYPE a [<!ENTITY b 'c'>]><ClinicalDocument/>")
    cause = received(message(documents=(hostile,))).received.refusal
    assert cause is not None
    assert cause.code is CauseCode.HOSTILE_CONTENT


@given(
    st.binary(max_size=60),
    st.integers(0, 3000),
    st.sampled_from(["MDM", "ORU"]),
)
def test_no_damage_makes_the_door_fail(noise: bytes, place: int, kind: str) -> None:
    data = message(kind)
    place = min(place, len(data))
    arrival = received(data[:place] + noise + data[place + len(noise) :])
    assert arrival.received.answer.startswith(b"MSH")
