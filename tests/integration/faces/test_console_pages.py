"""Every page of the console has something on it, and no patient where none may be."""

from __future__ import annotations

import re

import httpx2
import pytest

from gateway.journal import patients
from gateway.journal.values import Patient
from gateway.model import Identifier
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House

NAMELESS = ("/", "/flow/live", "/messages", "/dead", "/held", "/studies", "/patients")


@pytest.fixture
def patient(house: House) -> Patient:
    ins = Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value=hl7.INS)
    with house.gateway.journal.read() as connection:
        found = patients.get(connection, patients.patient_id(ins))
    assert found is not None
    return found


def body(http: httpx2.Client, path: str, status: int = 200) -> str:
    answer = http.get(path)
    assert answer.status_code == status, answer.text
    text: str = answer.text
    # A template that prints an object prints its brackets; a hostile value would run.
    assert "<script>alert" not in text
    assert "<svg onload" not in text
    assert not re.search(r"&lt;[a-z_.]+ object at", text)
    return text


@pytest.mark.parametrize("path", NAMELESS)
def test_pages_of_the_flow_name_no_patient(http: httpx2.Client, path: str) -> None:
    text = body(http, path)
    for secret in (hl7.FAMILY, hl7.GIVEN, hl7.INS, hl7.IPP, hl7.OTHER_IPP, "1985"):
        assert secret not in text


def test_a_messages_page_shows_bytes_only_when_asked(http: httpx2.Client, house: House) -> None:
    number = house.number("ORU1")
    text = body(http, f"/messages/{number}")
    assert hl7.FAMILY not in text
    assert "ORU1" in text
    assert "hl7.oru_r01" in text
    for stage in ("Intake", "Reading", "Identity", "Permission", "Routing", "Delivery"):
        assert stage in text
    shown = body(http, f"/messages/{number}/bytes")
    assert hl7.FAMILY in shown
    assert 'title="PID-5"' in shown


def test_flow_counts_what_came(http: httpx2.Client) -> None:
    text = body(http, "/flow/live")
    assert "lab" in text
    assert "Dead letters" in text
    assert re.search(r'<a href="/dead">\d+</a>', text)
    assert "HL7 v2 over MLLP" in text


def test_a_trace_names_rule_and_place_of_each_value(http: httpx2.Client, house: House) -> None:
    text = body(http, f"/messages/{house.number('ORU1')}/trace")
    assert re.search(r"hl7/\w+\.yaml:\d+:\d+", text)
    assert "6.10" in text
    assert 'href="#f-OBX-1-' in text


def test_a_dead_message_says_where_it_stands_and_what_to_do(
    http: httpx2.Client, house: House
) -> None:
    text = body(http, f"/messages/{house.number('DEAD0')}")
    assert "chamber-dead" in text
    assert "What to do." in text
    trace = body(http, f"/messages/{house.number('DEAD0')}/trace")
    assert "Element" in trace or "notice-dead" in trace


def test_a_held_message_shows_the_end_of_what_it_waits_for(http: httpx2.Client) -> None:
    text = body(http, "/held")
    assert hl7.OTHER_IPP[-3:] in text
    assert "under an hour" in text


def test_messages_are_filtered_paged_and_found(http: httpx2.Client, house: House) -> None:
    assert "ORU1" not in body(http, "/messages?state=dead")
    assert "DEAD1" in body(http, "/messages?state=dead")
    assert "No message matches" in body(http, "/messages?source=nobody")
    assert "HELD1" in body(http, "/messages?find=HELD1")
    number = house.number("HELD1")
    found = http.get(f"/messages?find={number}", follow_redirects=False)
    assert found.status_code == 303
    assert found.headers["location"] == f"/messages/{number}"
    assert f">{number}</a>" not in body(http, f"/messages?before={number}")


def test_the_record_shows_the_patient_and_the_results(
    http: httpx2.Client, patient: Patient
) -> None:
    text = body(http, f"/patients/{patient.id}")
    for shown in (hl7.FAMILY, hl7.GIVEN, "née le", "14\u00a0mars\u00a01985", "INS-NIR de test",
                  "2\u00a085\u00a003\u00a069\u00a0382\u00a0017\u00a097", "Glucose", "4,70",
                  "3,90 – 5,50", "corrigé", "LOINC 2345-7"):  # fmt: skip
        assert shown in text, shown
    assert "<svg viewBox" in text
    assert "&lt;script&gt;" in text


def test_a_document_is_shown_and_comes_back_byte_for_byte(
    http: httpx2.Client, patient: Patient
) -> None:
    text = body(http, f"/patients/{patient.id}")
    assert "Compte rendu de consultation" in text
    frame = re.search(r'<iframe src="(/fhir/Binary/[0-9a-f]{64})#', text)
    assert frame is not None
    answer = http.get(frame.group(1))
    assert answer.content == hl7.PDF
    assert answer.headers["content-type"] == "application/pdf"
    assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]


def test_an_analyte_has_its_course_and_its_replaced_value(
    http: httpx2.Client, patient: Patient
) -> None:
    path = f"/patients/{patient.id}/analyte?code=http%3A%2F%2Floinc.org%7C2345-7"
    text = body(http, path)
    assert 'class="plot"' in text
    assert "plot-old" in text
    for value in ("6,10", "5,0", "4,70"):
        assert value in text


def test_an_entry_shows_its_versions_and_what_changed(
    http: httpx2.Client, patient: Patient
) -> None:
    record = body(http, f"/patients/{patient.id}")
    link = re.search(r'class="corrected" href="([^"]+)"', record)
    assert link is not None
    text = body(http, link.group(1))
    assert "2 versions" in text
    assert 'class="removed">5.0<' in text
    assert 'class="added">4.70<' in text


def test_one_patients_entry_is_not_under_another(
    http: httpx2.Client, house: House, patient: Patient
) -> None:
    other = Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value="141092A00403339")
    with house.gateway.journal.write() as connection:
        stranger = patients.ensure(connection, other)
    record = body(http, f"/patients/{patient.id}")
    link = re.search(rf"/patients/{patient.id}(/entry/Observation/[^\"]+)", record)
    assert link is not None
    assert body(http, f"/patients/{patient.id}{link.group(1)}")
    body(http, f"/patients/{stranger.id}{link.group(1)}", status=404)
    analyte = "/analyte?code=http%3A%2F%2Floinc.org%7C2345-7"
    body(http, f"/patients/{stranger.id}{analyte}", status=404)


@pytest.mark.parametrize(
    "find", [hl7.INS, hl7.INS[:13], f" {hl7.INS[:1]} {hl7.INS[1:]}", hl7.IPP, hl7.FAMILY.lower()]
)
def test_a_patient_is_found_by_ins_identifier_or_name(
    http: httpx2.Client, patient: Patient, find: str
) -> None:
    answer = http.post("/patients", data={"find": find}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/patients/{patient.id}"


def test_nobody_is_found_by_nothing(http: httpx2.Client) -> None:
    for find in ("", "no such person", "999999"):
        answer = http.post("/patients", data={"find": find})
        assert answer.status_code == 200
        assert hl7.FAMILY not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/messages/999999", "/messages/999999/bytes", "/dead/999999", "/patients/nobody",
     "/dead/groups/nothing", "/dead/operations/none", "/no/such/page", "/static/../pages.py",
     "/static/base.html", "/patients/nobody/entry/Observation/1"],
)  # fmt: skip
def test_what_is_not_there_is_404(http: httpx2.Client, path: str) -> None:
    assert http.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/messages/seven", "/messages?before=x", "/dead/x"])
def test_what_is_not_understood_is_422_without_its_value(http: httpx2.Client, path: str) -> None:
    assert http.get(path).status_code == 422


def test_static_files_are_ours_and_kept(http: httpx2.Client) -> None:
    page = body(http, "/")
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = http.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert not re.search(r'(?:href|src)="(?:https?:)?//', page), "nothing comes from elsewhere"
    assert " style=" not in page
    assert " onclick=" not in page
