"""ZAM^Z01 over the return link: who asked hears how the deposit in the record ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.return_listener import ReturnListener, part
from tests.eventually import eventually
from tests.integration.faces.house import House, running_house
from tests.integration.french.sending import accept, answers, told
from tests.integration.french.test_documents import (
    FIRST,
    document,
    identifiers,
    report,
    request,
    someone,
)
from tests.servers import free_port
from tests.unit.hl7.transmissions import DOCTOR, PATIENT, SENDER, encoded


@dataclass
class Laboratory:
    """A gateway whose sender has a listener of its own."""

    house: House
    back: ReturnListener

    def of(self, control_id: str) -> list[bytes]:
        return [each for each in self.back.taken if part(each, "OBX", 4) == control_id]


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    back = ReturnListener(free_port())
    back.start()
    linked = f", return_link: '127.0.0.1:{back.port}', business_acknowledgements: true, profile_bytes_max: 2048"
    with running_house(tmp_path_factory.mktemp("zam"), lab=linked) as house:
        yield Laboratory(house, back)
    back.stop()


WANTED = {"ACK_RECEPTION": "Y"}


@pytest.mark.parametrize("profile", ["2.1^CISIS_CDA_HL7_V2", "2.0^CISIS_CDA_HL7_V2"])
def test_a_deposit_is_told(laboratory: Laboratory, profile: str) -> None:
    who = someone(61 if profile.startswith("2.1") else 62)
    number = f"{FIRST}.{who.ipp[3:]}"
    name = f"ZAM{who.ipp[3:]}"
    accept(
        laboratory.house,
        request(who, kind="ORU", documents=(encoded(report(who, number)),), control_id=name,
                profile=profile, metadata=WANTED),
    )  # fmt: skip
    [told_later] = eventually(lambda: laboratory.of(name), timeout=30)
    earlier = profile.startswith("2.0")
    lines = told_later.decode().rstrip("\r").split("\r")
    assert [line[:3] for line in lines] == ["MSH", "EVN", "OBX"]
    header = lines[0].split("|")
    assert header[2:6] == ["PFI", "CHU", "RIS", "CHU"]
    assert header[8:12] == ["ZAM^Z01^ZAM_Z01", header[9], "P", "2.6"]
    assert header[16:] == ["FRA", "UNICODE UTF-8", "", "", profile]
    assert lines[2] == (
        f"OBX|1|CWE|ACK_RECEPTION_DMP^Accusé de réception DMP^AckMetierZAM|{name}|"
        f"Y^^{'HL70136' if earlier else 'expandedYes-NoIndicator'}||||||F"
    )


def test_what_cannot_be_in_the_record_is_told_with_a_reason(laboratory: Laboratory) -> None:
    who = someone(63)
    # Told at the door: nothing follows.
    wrong = request(who, kind="MDM", status="F", event="T10", control_id="ZAM63", metadata=WANTED)
    # Found out later: the document is larger than what is looked into at the door.
    lost = request(who, documents=(encoded(b"<ClinicalDocument>" + b" " * 3000),),
                   number=f"{FIRST}.66", control_id="ZAM66", metadata=WANTED)  # fmt: skip
    first, second = answers(laboratory.house, wrong, lost)
    assert told(first)[0] == "AE"
    assert told(second)[0] == "AA"
    [later] = eventually(lambda: laboratory.of("ZAM66"), timeout=30)
    assert part(later, "OBX", 5) == "N^^expandedYes-NoIndicator"
    assert part(later, "ERR", 3) == "207^Application internal error^messageErrorCondition"
    assert part(later, "ERR", 5) == "906^Autre erreur applicative^applicationErrorCondition"
    assert laboratory.of("ZAM63") == []


def test_nobody_is_told_who_did_not_ask(laboratory: Laboratory) -> None:
    who = someone(64)
    for number, metadata in enumerate(({}, {"ACK_RECEPTION": "N"})):
        name = f"ZAM64{number}"
        document = f"{FIRST}.64.{number}"
        accept(
            laboratory.house,
            request(who, kind="ORU", documents=(encoded(report(who, document)),),
                    control_id=name, metadata=metadata),
        )  # fmt: skip
    with laboratory.house.gateway.journal.read() as connection:
        owed = connection.exec_driver_sql(
            "SELECT count(*) FROM application_acknowledgement a JOIN message m"
            " ON m.id = a.message_id WHERE m.control_id LIKE 'ZAM64%'"
        ).scalar_one()
    assert owed == 0


OTHER_SENDER = SENDER.replace("1120459876", "1120459999").replace("801234567866", "801234567000")
IN_ENHANCED_MODE = {"|P|2.6|||||": "|P|2.6|||AL|AL|", "|P|2.5|||||": "|P|2.5|||AL|AL|"}


def enhanced(body: bytes) -> bytes:
    text = body.decode()
    for plain, asking in IN_ENHANCED_MODE.items():
        text = text.replace(plain, asking)
    return text.encode()


@pytest.mark.parametrize("status", ["C", "D"])
def test_somebody_else_may_neither_replace_nor_delete(laboratory: Laboratory, status: str) -> None:
    house, who = laboratory.house, someone(67 if status == "C" else 68)
    one, two = f"{FIRST}.{who.ipp[3:]}", f"2.999.78.{who.ipp[3:]}"
    accept(house, request(who, documents=(encoded(report(who, one)),), number=one,
                          control_id=f"OWN{status}"))  # fmt: skip
    number, parent = (two, one) if status == "C" else (one, "")
    mailbox = PATIENT.replace("279035121518989", who.ins)
    changes = {"status": status, "number": number, "parent": parent,
               "documents": (encoded(report(who, number, replaces=parent)),)}  # fmt: skip
    wrong = request(who, **changes, participations=(OTHER_SENDER, DOCTOR, mailbox),
                    control_id=f"ELSE{status}", metadata=WANTED)  # fmt: skip
    [answer] = answers(house, wrong)
    assert told(answer)[0] == "AA"  # who asks is known there, who wrote it only in the record
    [later] = eventually(lambda: laboratory.of(f"ELSE{status}"), timeout=30)
    assert part(later, "OBX", 5) == "N^^expandedYes-NoIndicator"
    assert part(later, "ERR", 5).split("^")[::2] == ["901", "applicationErrorCondition"]
    assert document(house, who, one)["status"] == "current"
    # The same from its author is done.
    accept(house, request(who, **changes, control_id=f"AGAIN{status}"))
    after = {"C": "superseded", "D": "entered-in-error"}
    assert document(house, who, one)["status"] == after[status]


def test_an_ins_that_is_not_the_one_held_here(laboratory: Laboratory) -> None:
    """904; and an application acknowledgement where nobody asked for a business one."""
    house, known, other = laboratory.house, someone(69), someone(70)
    number = f"{FIRST}.69"
    accept(house, request(known, documents=(encoded(report(known, number)),), number=number,
                          control_id="KNOWN69"))  # fmt: skip
    # A good INS beside the local number of somebody else.
    mixed = identifiers(other).split("~")[0] + "~" + identifiers(known).split("~")[1]
    text = report(other, f"{FIRST}.70").replace(other.ipp.encode(), known.ipp.encode())
    for control_id, metadata in (("MIXED1", WANTED), ("MIXED2", {})):
        body = request(other, identifiers=mixed, documents=(encoded(text),), number=f"{FIRST}.70",
                       control_id=control_id, metadata=metadata)  # fmt: skip
        [answer] = answers(house, enhanced(body))
        assert told(answer)[0] == "CA"

    [business] = eventually(lambda: laboratory.of("MIXED1"), timeout=30)
    assert part(business, "ERR", 5).split("^")[::2] == ["904", "applicationErrorCondition"]

    def given() -> list[bytes]:
        return [each for each in laboratory.back.taken if part(each, "MSA", 2) == "MIXED2"]

    [application] = eventually(given, timeout=30)
    assert part(application, "MSH", 9) == "ACK^T02^ACK"
    assert part(application, "MSA", 1) == "AE"
    assert part(application, "ERR", 3).split("^")[0] == "207"
    assert part(application, "ERR", 5).split("^")[::2] == ["904", "applicationErrorCondition"]
    assert laboratory.of("MIXED2") == []
