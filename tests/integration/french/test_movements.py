"""IHE PAM France through a real socket: movements and their undoing, identity, permission."""

from __future__ import annotations

from typing import Any

from gateway.demo.people import TEST_ROOT
from gateway.ins import key
from gateway.journal.states import MessageState
from tests.integration.faces.house import House
from tests.integration.french.sending import accept, answers, found, of_patient, told

HEADER = (
    "MSH|^~\\&|GAM|CHU|PFI|CHU|{time}||ADT^{event}^{structure}|{control_id}|P|2.5^FRA^2.11"
    "|||||FRA|UNICODE UTF-8|FR||2.11^IHE_FRANCE-2.11-PAM"
)


def ins_of(number: int) -> str:
    body = f"1800675{number:06d}"
    return body + key(body)


def adt(
    control_id: str,
    event: str,
    who: int,
    *segments: str,
    time: str = "20260110120000",
    ins: bool = True,
    reliability: str = "VALI",
    visit: str = "",
    structure: str = "ADT_A01",
    merged: int | None = None,
) -> bytes:
    """One message of PAM France about a patient known by INS and IPP."""
    identifiers = f"P{who}^^^CHU&2.999.60&ISO^PI"
    if ins:
        identifiers += f"~{ins_of(who)}^^^ASIP-SANTE-INS-NIR&{TEST_ROOT}&ISO^INS"
    lines = [
        HEADER.format(time=time, event=event, structure=structure, control_id=control_id),
        f"EVN||{time}",
        f"PID|1||{identifiers}||ESSAI^JEAN^JEAN^^^^L||19800101|M{'|' * 24}{reliability}",
    ]
    if merged is not None:
        lines.append(f"MRG|P{merged}^^^CHU&2.999.60&ISO^PI")
    stay = f"PV1|1|I|CHIR^12^1^CHU{'|' * 16}{visit}^^^CHU&2.999.61&ISO^VN{'|' * 25}20260110080000"
    lines.append(stay if visit else "PV1|1|N")
    return "\r".join([*lines, *segments, ""]).encode()


def movement(number: str, action: str, *, historic: str = "N", event: str = "") -> str:
    return f"ZBE|{number}^CHU^2.999.62^ISO|20260110090000||{action}|{historic}|{event}|||H"


def encounters(house: House, who: int) -> dict[str, dict[str, Any]]:
    """A patient's visits and movements by their first identifier."""
    kept = of_patient(house, "Encounter", ins_of(who), TEST_ROOT)
    return {each["identifier"][0]["value"]: each for each in kept}


def test_a_discharge_and_its_cancellation(house: House) -> None:
    accept(
        house,
        adt("D1", "A01", 1, movement("M1", "INSERT"), visit="V1"),
        adt("D2", "A03", 1, movement("M2", "INSERT"), visit="V1", time="20260111120000"),
    )
    stay = encounters(house, 1)
    assert stay["V1"]["status"] == "finished"
    assert stay["V1"]["period"]["end"] == "2026-01-10T09:00:00+01:00"
    assert stay["M2"]["status"] == "finished"
    assert stay["M2"]["partOf"]["reference"] == f"Encounter/{stay['V1']['id']}"
    accept(
        house,
        adt("D3", "A13", 1, movement("M2", "CANCEL", event="A03"), visit="V1",
            time="20260112120000"),
    )  # fmt: skip
    stay = encounters(house, 1)
    assert stay["V1"]["status"] == "in-progress"
    assert "end" not in stay["V1"]["period"]
    assert (stay["M1"]["status"], stay["M2"]["status"]) == ("in-progress", "cancelled")


def test_an_admission_that_is_taken_back(house: House) -> None:
    accept(
        house,
        adt("A1", "A01", 2, movement("M11", "INSERT"), visit="V2"),
        adt("A2", "A11", 2, movement("M11", "CANCEL", event="A01"), visit="V2",
            structure="ADT_A09"),
    )  # fmt: skip
    stay = encounters(house, 2)
    assert {each["status"] for each in stay.values()} == {"cancelled"}
    assert len(stay) == 2


def test_a_historic_movement_does_not_move_the_patient(house: House) -> None:
    accept(house, adt("H1", "A01", 3, movement("M21", "INSERT"), visit="V3"))
    before = encounters(house, 3)["V3"]
    accept(
        house,
        adt("H2", "A02", 3, movement("M20", "INSERT", historic="Y"), visit="V3",
            structure="ADT_A02"),
        adt("H3", "Z99", 3, movement("M20", "UPDATE", historic="Y", event="A02"), visit="V3"),
    )  # fmt: skip
    after = encounters(house, 3)
    assert after["V3"]["meta"]["versionId"] == before["meta"]["versionId"]
    assert after["M20"]["status"] == "finished"


def test_an_ins_counts_once_the_identity_is_qualified(house: House) -> None:
    accept(house, adt("Q1", "A28", 4, reliability="PROV", structure="ADT_A05"))
    assert house.state(house.number("Q1")) is MessageState.HELD
    assert found(house, "Patient", identifier=f"urn:oid:{TEST_ROOT}|{ins_of(4)}") == []
    accept(house, adt("Q2", "A31", 4, structure="ADT_A05"))
    assert house.state(house.number("Q1")) is MessageState.DELIVERED
    [patient] = found(house, "Patient", identifier=f"urn:oid:{TEST_ROOT}|{ins_of(4)}")
    national = [each for each in patient["identifier"] if each["system"].endswith("1.4.10")]
    assert "use" not in national[0]


def test_a_merge_leads_the_former_number_to_the_patient(house: House) -> None:
    accept(
        house,
        adt("G1", "A28", 5, structure="ADT_A05"),
        adt("G2", "A40", 5, merged=55, structure="ADT_A39"),
        adt("G3", "A31", 55, ins=False, structure="ADT_A05"),
        adt("G4", "A47", 5, merged=56, structure="ADT_A30"),
        adt("G5", "A31", 56, ins=False, structure="ADT_A05"),
    )
    for control_id in ("G3", "G5"):
        assert house.state(house.number(control_id)) is MessageState.DELIVERED


def test_an_opposition_is_refused_at_the_door_and_withdrawn(house: House) -> None:
    accept(house, adt("Z1", "A01", 6, "ZFA|ACTIF|20260101|||||||INO|20260101|IC|20260101"))
    accept(house, adt("Z2", "A08", 6, "ZFA|ACTIF|20260101|||||||IO|20260102|INC|20260102"))
    [answer] = answers(house, adt("Z3", "A02", 6, structure="ADT_A02"))
    assert told(answer)[0] == "AE"
    accept(house, adt("Z4", "A08", 6, "ZFA|FERME|20260101|20260103||||||INO|20260103|NA"))
    [answer] = answers(house, adt("Z5", "A02", 6, structure="ADT_A02"))
    assert told(answer)[0] == "AE"
    accept(house, adt("Z6", "A08", 6, "ZFA|ACTIF|20260104|||||||INO|20260104|INC|20260104"))
    accept(house, adt("Z7", "A02", 6, structure="ADT_A02"))
    consents = of_patient(house, "Consent", ins_of(6), TEST_ROOT)
    said = {
        each["category"][0]["coding"][0]["code"]: each["provision"]["type"] for each in consents
    }
    assert said == {"feeding": "permit", "record": "permit", "consultation": "deny"}
