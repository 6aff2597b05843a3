"""An exam as a manifest, or the first thing that is wanting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from adapters.dicom.manifest import (
    Issued,
    Issuer,
    Manifest,
    ManifestInstance,
    ManifestSeries,
    Request,
)
from adapters.dicom.study_contents import StudyContents
from gateway.manifest_settings import ManifestSettings
from gateway.manifests.composing import Exam, Gone, Wanting, compose
from gateway.model import Identifier

STUDY = "1.2.826.0.1.3680043.9.63"
FRENCH = ManifestSettings(profile="drim-m", retrieve_url="https://wado.example/rs")
AUSTRIAN = ManifestSettings(
    profile="elga", retrieve_ae_title="ARCHIVE", retrieve_location_uid="1.2.40.0.34"
)
EUROPEAN = ManifestSettings(profile="mado", retrieve_url="https://wado.example/rs")
INS = Identifier(system="urn:oid:1.2.250.1.213.1.4.10", value="279035121518989", type="INS")
LOCAL = Identifier(system="urn:oid:1.2.3.9", value="4711", type="PI")
PATIENT = {
    "resourceType": "Patient",
    "name": [
        {"use": "usual", "family": "PAT-QUATRE", "given": ["DOMINIQUE"]},
        {"use": "official", "family": "PAT-TROIS", "given": ["DOMINIQUE", "MARIE"]},
    ],
    "gender": "female",
    "birthDate": "1979-03-28",
    "extension": [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace",
            "valueAddress": {"extension": [{"url": "u", "valueCoding": {"code": "51215"}}]},
        }
    ],
}
CONTENTS = StudyContents(
    study=STUDY,
    patient=Issued("4711"),
    series=(
        ManifestSeries(
            uid=f"{STUDY}.1",
            modality="CT",
            instances=(ManifestInstance(uid=f"{STUDY}.1.1", sop_class="1.2.840.10008.5.1"),),
        ),
    ),
    date="20260702",
    time="101500",
    offset="",
    study_id="",
    description="TDM",
    referrer="",
    requests=(Request(accession=Issued("A1")),),
    moments=("20260702101500",),
    rejected=0,
    reason="",
    conflicts=(),
)


def document(
    number: str = "A1",
    *,
    issuer: str = "1.2.3.7",
    study: str = "",
    root: str = "1.2.3.100",
    status: str = "current",
    date: str = "2026-07-03T12:00:00+02:00",
) -> dict[str, Any]:
    """The entry of a CDA report as the mappings make it."""
    related: list[dict[str, Any]] = [
        {"type": "ServiceRequest", "identifier": {"system": "urn:oid:1.2.3.8", "value": "P1"}},
        {"identifier": {"system": f"urn:oid:{issuer}", "value": number}},
    ]
    if study:
        found = {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}
        related.append({"type": "ImagingStudy", "identifier": found})
    return {
        "resourceType": "DocumentReference",
        "status": status,
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{root}"},
        "date": date,
        "content": [{"attachment": {"contentType": "text/xml"}}],
        "context": {"related": related},
    }


def exam(*documents: dict[str, Any], contents: StudyContents = CONTENTS, **changed: Any) -> Exam:
    given = {"patient": PATIENT, "identifiers": (INS, LOCAL), **changed}
    return Exam(contents=contents, documents=documents, **given)


def made(asked: Exam, settings: ManifestSettings = FRENCH) -> Manifest:
    found = compose(asked, settings)
    assert isinstance(found, Manifest), found
    return found


def wanting(asked: Exam, settings: ManifestSettings = FRENCH) -> tuple[str, bool]:
    found = compose(asked, settings)
    assert isinstance(found, Wanting), found
    return found.cause, found.stopped


def test_a_french_manifest_has_the_national_identity_and_what_the_report_says() -> None:
    manifest = made(exam(document()))
    assert manifest.patient.identifier == Issued(
        INS.value, Issuer("ASIP-SANTE-INS-NIR", "1.2.250.1.213.1.4.10")
    )
    assert manifest.patient.name == "PAT-TROIS^DOMINIQUE"
    assert manifest.patient.other_names == ("PAT-QUATRE^DOMINIQUE",)
    assert (manifest.patient.birth_date, manifest.patient.sex) == ("19790328", "F")
    assert manifest.patient.birth_place == "51215"
    (request,) = manifest.requests
    assert request.accession == Issued("A1", Issuer("", "1.2.3.7"))
    assert request.placer == Issued("P1", Issuer("", "1.2.3.8"))
    assert [each.identifier for each in manifest.reports] == ["1.2.3.100"]
    # The study's day is in summer, and says no offset itself; the report came last.
    assert manifest.offset == "+0200"
    assert manifest.at == datetime(2026, 7, 3, 10, 0, tzinfo=UTC)


def test_it_waits_for_what_the_dialect_demands_and_says_for_what() -> None:
    assert wanting(exam()) == ("the study's report has not come", False)
    assert wanting(exam(document(status="superseded")))[0] == "the study's report has not come"
    assert wanting(exam(document(), identifiers=(LOCAL,))) == (
        "the patient's INS is not known",
        False,
    )
    unknown = exam(contents=replace(CONTENTS, requests=()))
    cause, stopped = wanting(unknown, EUROPEAN)
    assert cause.startswith("neither the images nor a report names an accession number")
    assert not stopped
    cause, stopped = wanting(exam(), EUROPEAN)
    assert cause.startswith("nobody says who issued the accession number")
    assert not stopped
    told = EUROPEAN.model_copy(update={"accession_issuer": "1.2.3.4"})
    assert made(exam(), told).requests[0].accession.issuer.universal == "1.2.3.4"


def test_contradictions_stop_it() -> None:
    own = replace(CONTENTS, requests=(Request(accession=Issued("A1", Issuer("", "9.9"))),))
    named = document(study=STUDY)
    cause, stopped = wanting(exam(named, contents=own))
    assert cause == "the report and the images name two issuers of one accession number"
    assert stopped
    other = document("B7", study=STUDY)
    cause, stopped = wanting(exam(other))
    assert cause == "the report names the study, and another accession number"
    assert stopped
    torn = replace(CONTENTS, conflicts=("two issuers",))
    assert wanting(exam(document(), contents=torn)) == ("two issuers", True)
    second = Identifier(system=INS.system, value="188102B17295264", type="INS")
    assert wanting(exam(document(), identifiers=(INS, second)))[1]
    assert wanting(exam(document(), identifiers=(INS, second), own=(INS, second)))[1]
    # Of a patient who was merged into this one.
    merged = made(exam(document(), identifiers=(INS, second, LOCAL), own=(INS, LOCAL)))
    assert merged.patient.identifier.value == INS.value
    endless = replace(CONTENTS, requests=(Request(accession=Issued("A" * 17)),))
    assert wanting(exam(document("A" * 17), contents=endless))[1]
    numbered = replace(CONTENTS, requests=(Request(accession=Issued("A" * 17)),))
    assert wanting(exam(contents=numbered), AUSTRIAN)[1]


def test_a_report_of_several_studies_counts_for_each_and_one_of_another_for_none() -> None:
    both = document(study=STUDY)
    both["context"]["related"].append(
        {"type": "ImagingStudy", "identifier": {"value": f"urn:oid:{STUDY}.99"}}
    )
    assert made(exam(both)).reports
    assert wanting(exam(document(study=f"{STUDY}.99")))[0] == "the study's report has not come"
    # The same number of another authority is another exam's.
    own = replace(CONTENTS, requests=(Request(accession=Issued("A1", Issuer("", "9.9"))),))
    assert wanting(exam(document(), contents=own))[0] == "the study's report has not come"


def test_without_an_accession_number_in_the_images_the_report_gives_it() -> None:
    bare = replace(CONTENTS, requests=())
    manifest = made(exam(document(study=STUDY), contents=bare))
    assert manifest.requests[0].accession == Issued("A1", Issuer("", "1.2.3.7"))


def test_elsewhere_the_patient_is_named_as_the_images_name_them() -> None:
    told = EUROPEAN.model_copy(update={"accession_issuer": "1.2.3.4"})
    assert made(exam(), told).patient.identifier == Issued("4711", Issuer("", "1.2.3.9"))
    own = replace(CONTENTS, patient=Issued("4711", Issuer("HOP", "1.2.3.10")))
    assert made(exam(contents=own), told).patient.identifier.issuer == Issuer("HOP", "1.2.3.10")


def test_a_result_without_a_document_is_a_report_too() -> None:
    result = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "issued": "2026-07-04T08:00:00Z",
        "identifier": [{"system": "urn:oid:1.2.3.7", "value": "A1"}],
    }
    manifest = made(exam(result))
    assert manifest.at == datetime(2026, 7, 4, 8, 0, tzinfo=UTC)
    assert [each.identifier for each in manifest.reports] == [""]
    assert wanting(exam({**result, "status": "cancelled"}))[0] == "the study's report has not come"


def test_a_study_of_which_all_is_rejected_has_a_manifest_no_more() -> None:
    empty = replace(CONTENTS, series=(), rejected=1, reason="113037")
    # Whatever else is wanting: there is no report, and nobody issued the accession number.
    found = compose(exam(contents=replace(empty, conflicts=("two issuers",))), FRENCH)
    assert isinstance(found, Gone)
    assert found.reason == "113037"
    none = replace(CONTENTS, series=())
    assert wanting(exam(contents=none))[0].startswith("no instance of the study is here")
