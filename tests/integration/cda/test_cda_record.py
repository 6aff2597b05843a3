"""Documents of every family, from a real HTTP client through the gateway into the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.cda.language import CdaLanguage, CdaReader
from gateway.deployment.loading import checked_mappings
from gateway.mapping.library import Library
from gateway.mapping.running import MappingContext
from gateway.model import Format, Payload
from tests.integration.faces.house import House, running_house
from tests.integration.french.sending import found

FAMILIES = {
    "BIO-CR-BIO_2024.01_TSH_1.xml": ("DiagnosticReport", "Observation"),
    "IMG_CR_IMG_2024.01.xml": ("DiagnosticReport", "ImagingStudy", "MedicationAdministration"),
    "VSM_1.4_2022.01.xml": ("Condition", "AllergyIntolerance", "FamilyMemberHistory"),
    "VAC_2023.01.xml": ("Immunization",),
    "IPS-FR_2024.01.xml": ("ImmunizationRecommendation", "Device", "DeviceUseStatement"),
    "eP-MED-DM_2024.01_PosoStruct.xml": ("MedicationRequest", "DeviceRequest"),
    "eDISP-MED_2024.01.xml": ("MedicationDispense",),
    "LDL-SES_2022.01.xml": ("Encounter", "ServiceRequest", "MedicationStatement"),
    "CSE-CS8_2025.01.xml": ("Coverage", "RelatedPerson"),
    "CARD-F-PRC-AVK_2022.01.xml": ("Goal",),
    "TLM-CR_2022.01.xml": (),
}


def document(shared: Path, name: str) -> bytes:
    """A document of the corpus, with what the gateway refuses to believe put right.

    The corpus gives patients of different INS the same local identifier, and one an INS
    whose key is wrong.
    """
    data = (shared / "corpora" / "cda" / name).read_bytes()
    if b'root="1.2.250.1.213.1.4.10"' not in data:
        data = data.replace(b'"1234567890121"', b'"1234567890122"')
    return data.replace(b'"221042545611404"', b'"221042545611483"')


@pytest.fixture(scope="module")
def library(repository: Path) -> Library:
    return Library.load(
        [repository / "mappings"], {Format.CDA: CdaLanguage()}, checked=checked_mappings()
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[House]:
    with running_house(tmp_path_factory.mktemp("house")) as house:
        with house.client() as client:
            for name in FAMILIES:
                sent = client.post("/intake/cda/practice", content=document(shared, name))
                assert sent.status_code == 201, (name, sent.text)
        house.wait()
        yield house


@pytest.mark.parametrize("name", FAMILIES)
def test_a_document_is_in_its_patients_record(
    name: str, house: House, library: Library, shared: Path
) -> None:
    """With the very identifiers that the mapping gives it anywhere else."""
    root = CdaReader().read([Payload.from_bytes(document(shared, name))])
    program = library.match(root, Format.CDA)
    assert program is not None
    made = program.run(root, MappingContext(zone="Europe/Paris", source="elsewhere")).entries
    (identifier, *_) = next(
        entry.resource["identifier"]
        for entry in made
        if entry.resource["resourceType"] == "Patient"
    )
    (patient,) = found(house, "Patient", identifier=f"{identifier['system']}|{identifier['value']}")
    kinds = ("DocumentReference", *FAMILIES[name], *(("Composition",) if FAMILIES[name] else ()))
    for kind in kinds:
        wanted = {e.resource["id"] for e in made if e.resource["resourceType"] == kind}
        kept = {each["id"] for each in found(house, kind, patient=f"Patient/{patient['id']}")}
        assert wanted, (name, kind)
        assert wanted <= kept, (name, kind)
