"""The shipped HL7 v2 mappings where a test beside them cannot say it."""

from __future__ import annotations

import pytest

from adapters.hl7.language import Hl7Language, Hl7Reader
from gateway.deployment.loading import checked_mappings
from gateway.mapping import Library, MappingContext, packaged_mappings
from gateway.model import Format, Mapped, Payload

MSH = r"MSH|^~\&|LAB|{facility}|ECLUSE|X|20240101||ORU^R01^ORU_R01|{number}|P|{version}"
PID = "PID|1||1^^^LAB^MR||ESSAI^M||1990"
OBR = "OBR|1||123^{namespace}|1^Bilan^L|||20240101||||||||||||||||||{status}"


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load(
        [packaged_mappings()], {Format.HL7V2: Hl7Language()}, checked=checked_mappings()
    )


def mapped(library: Library, *lines: str, source: str = "labo", **authorities: str) -> Mapped:
    data = "\r".join(lines).encode() + b"\r"
    root = Hl7Reader().read([Payload.from_bytes(data)])
    program = library.match(root, Format.HL7V2)
    assert program is not None
    return program.run(root, MappingContext("Europe/Paris", authorities, source))


def report(library: Library, source: str = "labo", namespace: str = "LAB", **more: str) -> str:
    result = mapped(
        library,
        MSH.format(facility="F", number="1", version="2.5"),
        PID,
        OBR.format(namespace=namespace, status="F"),
        "OBX|1|NM|2^K^L||7.0|mg/dL|1.0-9.0||||F",
        source=source,
        **more,
    )
    return next(
        e.reference for e in result.entries if e.resource["resourceType"] == "DiagnosticReport"
    )


def test_two_laboratories_may_both_have_an_order_123(library: Library) -> None:
    assert report(library, source="nord") != report(library, source="sud")
    assert report(library, namespace="LAB-A") != report(library, namespace="LAB-B")
    assert report(library, source="nord", LAB="1.2.250.1.999") == report(
        library, source="sud", LAB="1.2.250.1.999"
    )


@pytest.mark.parametrize(
    "version", ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "9.9"]
)
def test_results_of_every_version_are_read(library: Library, version: str) -> None:
    result = mapped(
        library,
        MSH.format(facility="F", number="1", version=version),
        PID,
        OBR.format(namespace="LAB", status="F"),
        "OBX|1|NM|2^K^L||7.0|mg/dL|1.0-9.0||||F",
    )
    kinds = [entry.resource["resourceType"] for entry in result.entries]
    assert kinds == ["Patient", "Observation", "DiagnosticReport"]


def test_several_patients_in_one_message_keep_their_own_results(library: Library) -> None:
    other = PID.replace("1^^^LAB", "2^^^LAB")
    result = mapped(
        library,
        MSH.format(facility="F", number="1", version="2.5"),
        PID,
        OBR.format(namespace="LAB", status="F"),
        "OBX|1|NM|2^K^L||7.0|mg/dL|||||F",
        other,
        OBR.format(namespace="LAB", status="F").replace("123^", "124^"),
        "OBX|1|NM|2^K^L||8.0|mg/dL|||||F",
    )
    by_kind: dict[str, list[dict]] = {}
    for entry in result.entries:
        by_kind.setdefault(entry.resource["resourceType"], []).append(entry.resource)
    patients = [f"Patient/{found['id']}" for found in by_kind["Patient"]]
    assert len(set(patients)) == 2
    assert [found["subject"]["reference"] for found in by_kind["Observation"]] == patients


def test_a_deleted_document_is_handed_over_to_be_withdrawn(library: Library) -> None:
    cda = "PENsaW5pY2FsRG9jdW1lbnQgeG1sbnM9InVybjpobDctb3JnOnYzIj48aWQgcm9vdD0iMS4yLjI1MC4xLjk5OS41Ii8+PC9DbGluaWNhbERvY3VtZW50Pg=="
    result = mapped(
        library,
        r"MSH|^~\&|RIS|X|PFI|X|202106060931||MDM^T04^MDM_T02|017|P|2.6|||||FRA|UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2",
        "EVN||20211005152908",
        PID,
        "TXA|1|18748-4|TEXT|202212160932||||||||1.2.250.1.999.5",
        f"OBX|1|ED|18748-4^CR^LN||^TEXT^XML^Base64^{cda}||||||D",
    )
    [document] = result.embedded
    assert document.overlay["status"] == "entered-in-error"


def test_a_deleted_document_that_is_no_cda_has_the_id_of_the_first_one(library: Library) -> None:
    def sent(event: str, status: str) -> dict:
        result = mapped(
            library,
            rf"MSH|^~\&|RIS|X|PFI|X|202106060931||MDM^{event}^MDM_T02|017|P|2.6|||||FRA|UNICODE UTF-8|||2.1^CISIS_CDA_HL7_V2",
            "EVN||20211005152908",
            PID,
            "TXA|1|18748-4|TEXT|202212160932||||||||1.2.250.1.999.5",
            f"OBX|1|ED|18748-4^CR^LN||^AP^PDF^Base64^JVBERi0xLjQK||||||{status}",
        )
        kinds = {entry.resource["resourceType"]: entry.resource for entry in result.entries}
        return kinds["DocumentReference"]

    first, deleted = sent("T02", "F"), sent("T04", "D")
    assert (first["status"], deleted["status"]) == ("current", "entered-in-error")
    assert first["id"] == deleted["id"]


def test_a_message_without_a_patient_still_gives_its_results(library: Library) -> None:
    result = mapped(
        library,
        MSH.format(facility="F", number="1", version="2.5"),
        OBR.format(namespace="LAB", status="F"),
        "OBX|1|NM|2^K^L||7.0|mg/dL|||||F",
    )
    assert [e.resource["resourceType"] for e in result.entries] == [
        "Observation",
        "DiagnosticReport",
    ]
    assert all("subject" not in entry.resource for entry in result.entries)
