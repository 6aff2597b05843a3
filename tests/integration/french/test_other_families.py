"""Every family of HL7 v2 through a real socket into the record, and read there as FHIR."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.demo.people import TEST_ROOT
from gateway.ins import key
from gateway.journal import messages
from gateway.journal.states import MessageState
from gateway.journal.values import MessageFilter
from tests.integration.faces.house import House
from tests.integration.french.sending import accept, answers, of_patient, told


def ins_of(number: int) -> str:
    body = f"2790335{number:06d}"
    return body + key(body)


def message(kind: str, control_id: str, who: int, *segments: str, front: bool = False) -> bytes:
    """One message about a patient known by INS; ``front``: the segments stand before PID."""
    pid = (
        f"PID|1||P{who}^^^CHU&2.999.70&ISO^PI~{ins_of(who)}^^^ASIP-SANTE-INS-NIR&{TEST_ROOT}&ISO"
        f"^INS||ESSAI^MARIE^MARIE^^^^L||19790328|F"
    )
    head = f"MSH|^~\\&|DPI|CHU|PFI|CHU|20260110120000||{kind}|{control_id}|P|2.5.1"
    lines = [head, *segments[:1], pid, *segments[1:]] if front else [head, pid, *segments]
    return "\r".join([*lines, ""]).encode()


VISIT = f"PV1|1|I|CHIR^12^1^CHU{'|' * 16}W1^^^CHU&2.999.71&ISO^VN"


def kept(house: House, kind: str, who: int) -> list[dict[str, Any]]:
    return of_patient(house, kind, ins_of(who), TEST_ROOT)


def test_an_order_its_result_and_its_appointment_meet(house: House) -> None:
    """The order of ORM is the one of OML and of the result; the visit the one of SIU."""
    accept(
        house,
        message("OML^O21^OML_O21", "F1", 1, VISIT, "ORC|NW|D-1^DPI",
                "OBR|1|D-1^DPI||2339-0^Glucose^LN", "SPM|1|T-1&DPI||SER^Serum^HL70487"),
        message("ORU^R01^ORU_R01", "F2", 1, VISIT, "ORC|RE|D-1^DPI|L-1^SGL",
                "OBR|1|D-1^DPI|L-1^SGL|GLU^Glyc^L|||20260110100000||||||||||||||||||F",
                "OBX|1|NM|2339-0^Glucose^LN||1.10|g/L||||||F"),
        message("SIU^S12^SIU_S12", "F3", 1,
                "SCH||A-1^AGENDA|||||C^C^L||20|MIN|^^^20260112140000", VISIT, "RGS|1",
                "AIS|1||CARDIO^Consultation^L", front=True),
    )  # fmt: skip
    [order] = kept(house, "ServiceRequest", 1)
    [report] = kept(house, "DiagnosticReport", 1)
    [appointment] = kept(house, "Appointment", 1)
    assert order["status"] == "active", "the order's own word stays over the result's"
    assert report["basedOn"][0]["reference"] == f"ServiceRequest/{order['id']}"
    assert len(kept(house, "Encounter", 1)) == 1
    assert len(kept(house, "Specimen", 1)) == 1
    assert appointment["end"].startswith("2026-01-12T14:20")
    accept(
        house,
        message("ORM^O01", "F4", 1, "ORC|CA|D-1^DPI"),
        message("SIU^S15^SIU_S12", "F5", 1,
                "SCH||A-1^AGENDA|||||C^C^L||20|MIN|^^^20260112140000", front=True),
    )  # fmt: skip
    assert [each["status"] for each in kept(house, "ServiceRequest", 1)] == ["revoked"]
    assert [each["status"] for each in kept(house, "Appointment", 1)] == ["cancelled"]


FAMILIES = {
    "OMG": (message("OMG^O19^OMG_O19", "G1", 2, "ORC|NW|O-1^DPI", "OBR|1|O-1^DPI||X^X^L"),
            2, ("ServiceRequest",)),
    "OMI": (message("OMI^O23^OMI_O23", "G2", 3, "ORC|NW|O-2^DPI", "OBR|1|O-2^DPI||CT^CT^L"),
            3, ("ServiceRequest",)),
    "OML O33": (message("OML^O33^OML_O33", "G3", 4, "SPM|1|T-3&DPI||SER", "ORC|NW|O-3^DPI",
                        "OBR|1|O-3^DPI||X^X^L"), 4, ("ServiceRequest", "Specimen")),
    "OUL": (message("OUL^R22^OUL_R22", "G4", 5, "SPM|1|T-4&DPI||SER",
                    "OBR|1|O-4^DPI|L-4^SGL|X^X^L|||||||||||||||||||||F",
                    "OBX|1|NM|G^G^L||75|g||||||F"),
            5, ("DiagnosticReport", "Observation", "Specimen")),
    "ORU R30": (message("ORU^R30^ORU_R30", "G5", 6, "ORC|NW||B-1^POC",
                        "OBR|1||B-1^POC|X^X^L|||||||||||||||||||||F", "OBX|1|NM|G^G^L||75|g||||||F"),
                6, ("DiagnosticReport", "Observation")),
    "VXU": (message("VXU^V04^VXU_V04", "G6", 7, "ORC|RE||V-1^PMI",
                    "RXA|0|1|20260106||08^Hep B^CVX|0.5|mL^^UCUM"), 7, ("Immunization",)),
    "RDE": (message("RDE^O11^RDE_O11", "G7", 8, "ORC|NW|M-1^DPI",
                    "RXE||34009^Doliprane^CIP|1||cp^cp"), 8, ("MedicationRequest",)),
    "RDS": (message("RDS^O13^RDS_O13", "G8", 9, "ORC|RE|M-2^DPI",
                    "RXD|1|34009^Doliprane^CIP|20260106105500|30|cp"),
            9, ("MedicationDispense", "MedicationRequest")),
    "RAS": (message("RAS^O17^RAS_O17", "G9", 10, "ORC|RE|M-3^DPI",
                    "RXA|0|1|20260106080000||34009^Doliprane^CIP|1|cp"),
            10, ("MedicationAdministration", "MedicationRequest")),
    "PPR": (message("PPR^PC1^PPR_PC1", "G10", 11, "PRB|AD|20260106|E11^D^I10|P-1^DPI",
                    "GOL|AD|20260106|H^HbA1c^L|G-1^DPI"), 11, ("Condition", "Goal")),
    "REF": (message("REF^I12^REF_I12", "G11", 12, "RF1|P|S|CARD^Cardio^L|||R-1^MG",
                    "DG1|1||R06.0^D^I10|||W", front=True), 12, ("ServiceRequest", "Condition")),
    "ADT A60": (message("ADT^A60^ADT_A60", "G12", 13, "PV1|1|N",
                        "IAM|1|DA|J01C^P^ATC|SV||A|AL-1^DPI"), 13, ("AllergyIntolerance",)),
    "ADT A01": (message("ADT^A01^ADT_A01", "G13", 14, VISIT.replace("W1", "W2"),
                        "AL1|1|DA|J01C^P^ATC|SV|U", "DG1|1||E11^D^I10|||A",
                        "PR1|1||HHFA001^Appendicectomie^CCAM||20260109",
                        "IN1|1|AMO^AMO|75^^^CPAM|CPAM"), 14,
                ("Encounter", "AllergyIntolerance", "Condition", "Procedure", "Coverage")),
    "ADT A44": (message("ADT^A44^ADT_A43", "G14", 15,
                        "MRG|P98^^^CHU&2.999.70&ISO^PI||D-15^^^CHU&2.999.72&ISO^AN"),
                15, ("Account",)),
    "MDM": (message("MDM^T02^MDM_T02", "G15", 16, "PV1|1|N",
                    "TXA|1|CN|TX|20260106||||||||DOC-1^DPI|||||AU", "OBX|1|TX|T^T^L||texte||||||F"),
            16, ("DocumentReference",)),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_reaches_the_record(house: House, family: str) -> None:
    body, who, kinds = FAMILIES[family]
    accept(house, body)
    for kind in kinds:
        assert len(kept(house, kind, who)) == 1, kind


def test_a_visit_moves_to_the_patient_whom_it_is_about(house: House) -> None:
    visit = VISIT.replace("W1", "W20")
    accept(house, message("ADT^A01^ADT_A01", "H1", 20, visit))
    assert len(kept(house, "Encounter", 20)) == 1
    merge = "MRG|P20^^^CHU&2.999.70&ISO^PI||||W20^^^CHU&2.999.71&ISO^VN"
    accept(house, message("ADT^A45^ADT_A45", "H2", 21, merge, visit))
    assert kept(house, "Encounter", 20) == []
    assert len(kept(house, "Encounter", 21)) == 1


def test_a_deleted_visit_is_marked_and_stays(house: House) -> None:
    """A23 (chapter 3, 3.3.23): the record keeps the visit and its former versions."""
    visit = VISIT.replace("W1", "W50")
    accept(house, message("ADT^A01^ADT_A01", "L1", 50, visit))
    [before] = kept(house, "Encounter", 50)
    assert before["status"] == "in-progress"
    accept(house, message("ADT^A23^ADT_A21", "L2", 50, visit))
    [after] = kept(house, "Encounter", 50)
    assert (after["id"], after["status"]) == (before["id"], "entered-in-error")
    with house.client() as client:
        history = client.get(f"/fhir/Encounter/{after['id']}/_history").json()
    statuses = [entry["resource"]["status"] for entry in history["entry"]]
    assert statuses == ["entered-in-error", "in-progress"]


def test_a_swap_of_beds_waits_and_changes_nobody(house: House) -> None:
    """A17 speaks of two patients, and what is delivered is one patient's."""
    accept(house, message("ADT^A01^ADT_A01", "N1", 51, VISIT.replace("W1", "W51")))
    [before] = kept(house, "Encounter", 51)
    other = "PID|2||P52^^^CHU&2.999.70&ISO^PI||ESSAI^PAUL"
    second = VISIT.replace("W1", "W52").replace("^12^1^", "^13^1^")
    accept(house, message("ADT^A17^ADT_A17", "N2", 51, VISIT.replace("W1", "W51"), other, second))
    assert house.state(house.number("N2")) is MessageState.UNMAPPED
    assert kept(house, "Encounter", 51) == [before]


def test_two_files_are_linked_and_nobody_is_merged(house: House) -> None:
    second = "PID|2||P31^^^CHU&2.999.70&ISO^PI||ESSAI^MARY"
    accept(house, message("ADT^A24^ADT_A24", "K1", 30, "PV1|1|N", second, "PV1|2|N"))
    [linkage] = kept(house, "Linkage", 30)
    assert linkage["active"] is True
    accept(house, message("ADT^A37^ADT_A37", "K2", 30, "PV1|1|N", second, "PV1|2|N"))
    [linkage] = kept(house, "Linkage", 30)
    assert linkage["active"] is False


def test_a_message_that_no_mapping_takes_waits(house: House) -> None:
    [answer] = answers(house, message("DFT^P03^DFT_P03", "U1", 40, "FT1|1|||20260110||CG|X^X^L"))
    assert told(answer) == ("AA", "", "")
    house.wait()
    with house.gateway.journal.read() as connection:
        newest = messages.page(connection, MessageFilter(), limit=1)[0]
    assert newest.state is MessageState.UNMAPPED
