"""Structured reports and encapsulated documents, stored by DCMTK, arrive in the record."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.dicom.notation import study_files
from gateway.demo.documents import cda_laboratory_report, pdf_letter
from gateway.demo.people import CAMILLE, TEST_ROOT
from gateway.demo.study import STUDY_UID, ct_study
from tests.acceptance.gateway_process import HTTP, GatewayProcess
from tests.eventually import eventually

pytestmark = pytest.mark.acceptance

CDA = cda_laboratory_report(CAMILLE)
PDF = pdf_letter("Compte rendu", ("Scanner thoracique", "Nodule de 12,5 mm"))
PDF = PDF + b"\n" * (1 - len(PDF) % 2)  # an odd length, so that DICOM has to pad it

WHO = f"""
PatientName = {CAMILLE.family}^{CAMILLE.given}
PatientID = {CAMILLE.ins}
IssuerOfPatientID = ASIP-SANTE-INS-NIR
IssuerOfPatientIDQualifiersSequence(1).UniversalEntityID = {TEST_ROOT}
IssuerOfPatientIDQualifiersSequence(1).UniversalEntityIDType = ISO
PatientBirthDate = {CAMILLE.birth_date}
PatientSex = {CAMILLE.sex}
StudyDate = 20261120
StudyTime = 101500
ContentDate = 20261120
ContentTime = 113000
TimezoneOffsetFromUTC = +0100
"""
REPORT = f"""{WHO}
SOPClassUID = 1.2.840.10008.5.1.4.1.1.88.33
SOPInstanceUID = {STUDY_UID}.9.1
StudyInstanceUID = {STUDY_UID}
SeriesInstanceUID = {STUDY_UID}.9
SeriesNumber = 9
Modality = SR
CompletionFlag = COMPLETE
VerificationFlag = VERIFIED
ValueType = CONTAINER
ConceptNameCodeSequence(1).CodeValue = 126000
ConceptNameCodeSequence(1).CodingSchemeDesignator = DCM
ConceptNameCodeSequence(1).CodeMeaning = Imaging Measurement Report
> HAS CONCEPT MOD | CODE | DCM 121049 Language | RFC5646 fr-FR French
> CONTAINS | CONTAINER | DCM 125007 Measurement Group
>> CONTAINS | CODE | DCM 121071 Finding | SCT 427359005 Solitary nodule of lung
>> CONTAINS | NUM | SCT 410668003 Length | 12.50 | UCUM mm millimeter
"""
DOCUMENT = f"""{WHO}
Modality = DOC
StudyInstanceUID = {STUDY_UID}.77
SeriesInstanceUID = {STUDY_UID}.77.1
"""


def document(number: int, sop_class: str, media_type: str, data: bytes) -> str:
    return DOCUMENT + (
        f"SOPClassUID = 1.2.840.10008.5.1.4.1.1.104.{sop_class}\n"
        f"SOPInstanceUID = {STUDY_UID}.77.1.{number}\n"
        f"DocumentTitle = Document {number}\n"
        f"MIMETypeOfEncapsulatedDocument = {media_type}\n"
        f"EncapsulatedDocument = base64:{base64.b64encode(data).decode()}\n"
    )


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(tmp_path_factory.mktemp("reports"))
    running.start()
    yield running
    assert running.stop() == 0, running.log_tail()


def found(gateway: GatewayProcess, kind: str) -> list[dict[str, Any]]:
    patients = gateway.get("/fhir/Patient", identifier=f"urn:oid:{TEST_ROOT}|{CAMILLE.ins}")
    if not patients.get("entry"):
        return []
    patient = patients["entry"][0]["resource"]["id"]
    bundle = gateway.get(f"/fhir/{kind}", patient=patient, _count="200")
    return [entry["resource"] for entry in bundle.get("entry", [])]


def store(gateway: GatewayProcess, *files: Path) -> None:
    storescu = shutil.which("storescu")
    assert storescu, "DCMTK is missing: run `make servers`"
    target = ["-aec", "ECLUSE", "127.0.0.1", str(gateway.dicom_port)]
    command = [storescu, "-R", *target, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr, done.stderr


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(study_files(text)[0].open().read())
    return path


def binary(gateway: GatewayProcess, attachment: dict[str, Any]) -> bytes:
    url = f"{gateway.url}/fhir/{attachment['url'].split('/fhir/')[-1]}"
    return HTTP.get(url, headers={"Accept": "*/*"}).content


def test_a_study_with_its_report_is_one_study_and_the_report_s_entries(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    images = []
    for number, image in enumerate(ct_study(CAMILLE, slices=2)):
        images.append(tmp_path / f"{number}.dcm")
        image.save_as(images[-1], enforce_file_format=True)
    store(gateway, *images, written(tmp_path, "sr.dcm", REPORT))
    eventually(lambda: bool(found(gateway, "DiagnosticReport")), timeout=60)

    (study,) = found(gateway, "ImagingStudy")
    assert [series["modality"]["code"] for series in study["series"]] == ["CT", "SR"]
    assert study["numberOfInstances"] == 3
    (report,) = found(gateway, "DiagnosticReport")
    assert report["status"] == "final"
    assert report["imagingStudy"][0]["reference"].endswith(study["id"])
    by_code = {each["code"]["text"]: each for each in found(gateway, "Observation")}
    length = by_code["Length"]
    assert str(length["valueQuantity"]["value"]) in ("12.50", "12.5")
    assert length["valueQuantity"]["code"] == "mm"
    group = by_code["Measurement Group"]
    assert group["hasMember"][0]["reference"].endswith(length["id"])
    assert group["valueCodeableConcept"]["coding"][0]["code"] == "427359005"
    (page,) = found(gateway, "DocumentReference")
    html = binary(gateway, page["content"][0]["attachment"]).decode("utf-8")
    assert "12.50 mm" in html
    assert '<html lang="fr-fr">' in html
    assert report["presentedForm"][0]["hash"] == page["content"][0]["attachment"]["hash"]

    # The report again, alone: a later round of the same study changes nothing.
    before = {each["id"] for each in found(gateway, "Observation")}
    store(gateway, tmp_path / "sr.dcm")
    eventually(gateway.settled, timeout=60)
    assert {each["id"] for each in found(gateway, "Observation")} == before


def test_an_encapsulated_pdf_is_a_document_and_an_encapsulated_cda_the_same_as_by_http(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    def identifiers() -> set[str]:
        return {each["masterIdentifier"]["value"] for each in found(gateway, "DocumentReference")}

    pdf = written(tmp_path, "pdf.dcm", document(1, "1", "application/pdf", PDF))
    cda = written(tmp_path, "cda.dcm", document(2, "2", "text/xml", CDA))
    store(gateway, pdf, cda)
    wanted = f"urn:oid:{STUDY_UID}.77.1.1"
    eventually(lambda: wanted in identifiers(), timeout=60)
    eventually(gateway.settled, timeout=60)
    by_id = {
        each["masterIdentifier"]["value"]: each for each in found(gateway, "DocumentReference")
    }
    kept = by_id[wanted]["content"][0]["attachment"]
    assert kept["contentType"] == "application/pdf"
    assert binary(gateway, kept) == PDF
    assert f"urn:oid:{STUDY_UID}.77.1.2" not in by_id

    # The CDA is the document that it is by any way: by HTTP it comes a second time.
    before = {kind: {each["id"] for each in found(gateway, kind)} for kind in KINDS}
    taken = {
        each["content"][0]["attachment"]["url"].rpartition("/")[2]
        for each in found(gateway, "DocumentReference")
    }
    assert hashlib.sha256(CDA).hexdigest() in taken
    posted = tmp_path / "report.xml"
    posted.write_bytes(CDA)
    sent = gateway.command("send", str(posted), "--to", gateway.url, "--json")
    assert {each["code"] for each in sent["messages"]} <= {"200", "201"}
    eventually(gateway.settled, timeout=60)
    assert {kind: {each["id"] for each in found(gateway, kind)} for kind in KINDS} == before


KINDS = ("DocumentReference", "DiagnosticReport", "Observation", "Specimen")
