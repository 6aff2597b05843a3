"""What was submitted is what is given back: entries, submission sets, folders, associations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lxml import etree

from tests.integration.doors.roads import XDS, until_open
from tests.integration.faces.house import House, running_house
from tests.integration.xds.submissions import (
    APPENDS,
    APPROVED,
    DEPRECATED,
    REPLACES,
    REPOSITORY,
    RIM,
    Answer,
    Part,
    ask,
    association,
    coded,
    entry,
    envelope,
    external,
    included,
    packed,
    patient_of,
    post,
    slot,
    submission_set,
    submit,
)
from tests.unit.hl7.transmissions import cda

FIND = "14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_SETS = "f26abbcb-ac74-4422-8a30-edb644bbc1a9"
FIND_FOLDERS = "958f3006-baad-4929-a4de-ff1114824431"
GET = "5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_ALL = "10b545ea-725c-446d-9b95-8aeb444eddf3"
GET_FOLDERS = "5737b14c-8a1a-4539-b659-e03a34a5e1e4"
GET_SETS = "51224314-5390-4169-9b91-b1980040715a"
SET_AND_CONTENTS = "e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
FOLDER_AND_CONTENTS = "b909a503-523d-4517-8acf-8e5834dfc4c7"
FOLDERS_OF = "10cae35a-c7f9-4cf5-b61e-fc3278ffb578"
ENTRY_ID = "urn:uuid:0b6a1d2e-5a1c-4a52-9a53-6f6d3e0c9a01"
FOLDER_ID = "urn:uuid:0b6a1d2e-5a1c-4a52-9a53-6f6d3e0c9a02"
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
ONE = cda(document="2.999.20.1")
PATIENT = patient_of(ONE)
SAID = (
    slot("urn:example:own", "one", "two")
    + '<rim:Name><rim:LocalizedString xml:lang="fr-FR" value="Bilan &amp; suites"/></rim:Name>'
    '<rim:Description><rim:LocalizedString value="Relu par le laboratoire"/></rim:Description>'
)
AUTHOR = (
    '<rim:Classification id="au" classifiedObject="x" nodeRepresentation="" '
    'classificationScheme="urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d">'
    + slot("authorPerson", "801234560999^MARTIN^Anne^^^^^^&1.2.250.1.71.4.2.1&ISO")
    + slot("authorSpecialty", "BIOLOGIE")
    + "</rim:Classification>"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running_house(tmp_path_factory.mktemp("registry"), more=XDS) as running:
        until_open(running)
        yield running


@pytest.fixture(scope="module")
def url(house: House) -> str:
    return f"{house.url}/intake/xds"


def described(name: str, data: bytes, **changes: Any) -> str:
    """An entry with a title, comments, an author and a slot that the standard does not know."""
    made = entry(name, data, **changes)
    at = made.index("<rim:Classification")
    return made[:at] + SAID + AUTHOR + made[at:]


def folder(name: str, number: int, patient: str = PATIENT, code: str = "suivi") -> str:
    return (
        f'<rim:RegistryPackage id="{name}"><rim:Name><rim:LocalizedString value="Suivi"/></rim:Name>'
        + coded("1ba97051-7806-41a8-a48b-8fce7af683c5", code, "2.999.8", of=name)
        + external("75df8f67-9973-4fbe-a900-df66cefecc5a", f"2.999.30.{number}")
        + external("f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a", patient)
        + "</rim:RegistryPackage>"
        f'<rim:Classification id="n{number}" classifiedObject="{name}" '
        'classificationNode="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"/>'
    )


def send(url: str, *objects: str, documents: dict[str, bytes] | None = None,
         set_id: str = "", patient: str = PATIENT) -> Answer:  # fmt: skip
    given = documents or {}
    body = submit(
        *objects, submission_set(patient, unique_id=set_id),
        *(association("Set", name) for name in given),
        documents=[included(name) for name in given],
    )  # fmt: skip
    return post(url, packed(envelope(body), [Part(*each) for each in given.items()]))


@pytest.fixture(scope="module")
def submitted(house: House, url: str) -> None:
    """A document with all that can be said of it, in a folder."""
    answer = send(
        url, described(ENTRY_ID, ONE), folder(FOLDER_ID, 1), association("Set", FOLDER_ID),
        f'<rim:Association id="in" associationType="{HAS_MEMBER}" sourceObject="{FOLDER_ID}" '
        f'targetObject="{ENTRY_ID}"/>',
        association("Set", "in"), documents={ENTRY_ID: ONE}, set_id="2.999.40.1",
    )  # fmt: skip
    assert (answer.outcome, answer.codes) == ("Success", [])
    house.wait()


def slots_of(element: etree._Element) -> dict[str, list[str]]:
    return {
        each.get("name"): [value.text for value in each.iter(f"{RIM}Value")]
        for each in element.iterfind(f"{RIM}Slot")
    }


def kinds(answer: Answer) -> list[tuple[str, str]]:
    return [
        (etree.QName(each).localname, each.get("id"))
        for each in answer.body.find(f"{RIM}RegistryObjectList")
    ]


@pytest.mark.usefixtures("submitted")
def test_an_entry_is_given_back_as_it_was_submitted(url: str) -> None:
    answer = ask(url, GET, {"$XDSDocumentEntryUniqueId": "('2.999.20.1')"})
    [found] = answer.body.find(f"{RIM}RegistryObjectList")
    assert (found.get("id"), found.get("lid"), found.get("status")) == (
        ENTRY_ID, ENTRY_ID, APPROVED,
    )  # fmt: skip
    said = slots_of(found)
    assert said["creationTime"] == ["20240101120000"]  # the metadata's, not the header's
    assert said["urn:example:own"] == ["one", "two"]
    assert (said["repositoryUniqueId"], said["size"]) == ([REPOSITORY], [str(len(ONE))])
    assert found.find(f"{RIM}Name/{RIM}LocalizedString").get("value") == "Bilan & suites"
    assert found.find(f"{RIM}Description/{RIM}LocalizedString").get("value").startswith("Relu")
    assert found.find(f"{RIM}VersionInfo").get("versionName") == "1"
    author = found.find(f"{RIM}Classification")
    assert slots_of(author)["authorSpecialty"] == ["BIOLOGIE"]
    codes = [each.get("nodeRepresentation") for each in found.iterfind(f"{RIM}Classification")]
    assert "urn:ihe:x" in codes
    assert all(each.get("classifiedObject") == ENTRY_ID
               for each in found.iterfind(f"{RIM}Classification"))  # fmt: skip
    # And found by what was submitted, from the source's own UUID on.
    assert ask(url, GET, {"$XDSDocumentEntryEntryUUID": f"('{ENTRY_ID}')"}, "ObjectRef").ids == [
        ENTRY_ID
    ]
    asked = {"$XDSDocumentEntryPatientId": f"'{PATIENT}'",
             "$XDSDocumentEntryStatus": f"('{APPROVED}')"}  # fmt: skip
    for name, wanted, other in (
        ("FormatCode", "('urn:ihe:x^^1.3.6.1.4.1.19376.1.2.3')", "('urn:ihe:y^^1.2')"),
        ("AuthorPerson", "('%MARTIN%')", "('%DURAND%')"),
        ("PracticeSettingCode", "('ETABLISSEMENT')", "('x')"),
    ):
        parameter = f"$XDSDocumentEntry{name}"
        assert ask(url, FIND, {**asked, parameter: wanted}, "ObjectRef").ids == [ENTRY_ID], name
        assert ask(url, FIND, {**asked, parameter: other}, "ObjectRef").ids == [], name


@pytest.mark.usefixtures("submitted")
def test_submission_sets_are_found_and_given_back(url: str) -> None:
    asked = {"$XDSSubmissionSetPatientId": f"'{PATIENT}'",
             "$XDSSubmissionSetStatus": f"('{APPROVED}')"}  # fmt: skip
    for more, number in (
        ({}, 1), ({"SourceId": "('2.999.5')"}, 1), ({"SourceId": "('2.999.6')"}, 0),
        ({"SubmissionTimeFrom": "20240102"}, 1), ({"SubmissionTimeTo": "20240102120000"}, 0),
        ({"ContentType": "('04^^1.2.250.1.213.2.2')"}, 1), ({"ContentType": "('05^^x')"}, 0),
        ({"Status": f"('{DEPRECATED}')"}, 0),
    ):  # fmt: skip
        named = {f"$XDSSubmissionSet{name}": value for name, value in more.items()}
        found = ask(url, FIND_SETS, {**asked, **named}, "ObjectRef").ids
        of_one = [each for each in found if each in sets_of(url, ENTRY_ID)]
        assert len(of_one) == number, more
    answer = ask(url, SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": "'2.999.40.1'"})
    package = answer.body.find(f"{RIM}RegistryObjectList/{RIM}RegistryPackage")
    assert slots_of(package)["submissionTime"] == ["20240102120000"]
    nodes = [each.get("classificationNode") for each in package.iterfind(f"{RIM}Classification")]
    assert "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd" in nodes
    made = kinds(answer)
    assert ("ExtrinsicObject", ENTRY_ID) in made
    assert ("RegistryPackage", FOLDER_ID) in made
    assert len([kind for kind, _ in made if kind == "Association"]) == 4


def sets_of(url: str, uuid: str) -> list[str]:
    """The submission sets in which something was registered."""
    answer = ask(url, GET_SETS, {"$uuid": f"('{uuid}')"})
    return [name for kind, name in kinds(answer) if kind == "RegistryPackage"]


@pytest.mark.usefixtures("submitted")
def test_folders_grow_and_say_when(house: House, url: str) -> None:
    asked = {"$XDSFolderEntryUUID": f"('{FOLDER_ID}')"}
    [first] = ask(url, GET_FOLDERS, asked).body.find(f"{RIM}RegistryObjectList")
    made = slots_of(first)["lastUpdateTime"]
    # Metadata alone: a document that is there already goes into a folder that is there already.
    other = cda(document="2.999.20.2")
    answer = send(url, entry("Document1", other), documents={"Document1": other})
    assert answer.outcome == "Success"
    house.wait()
    [uuid] = ask(url, GET, {"$XDSDocumentEntryUniqueId": "('2.999.20.2')"}, "ObjectRef").ids
    link = (f'<rim:Association id="in" associationType="{HAS_MEMBER}" sourceObject="{FOLDER_ID}" '
            f'targetObject="{uuid}"/>')  # fmt: skip
    answer = send(url, link, association("Set", "in"), set_id="2.999.40.2")
    assert (answer.outcome, answer.codes) == ("Success", [])
    assert send(url, link, association("Set", "in"), set_id="2.999.40.2").outcome == "Success"
    contents = kinds(ask(url, FOLDER_AND_CONTENTS, {"$XDSFolderUniqueId": "'2.999.30.1'"}))
    assert {name for kind, name in contents if kind == "ExtrinsicObject"} == {ENTRY_ID, uuid}
    [again] = ask(url, GET_FOLDERS, asked).body.find(f"{RIM}RegistryObjectList")
    assert slots_of(again)["lastUpdateTime"] >= made
    assert ask(url, FOLDERS_OF, {"$XDSDocumentEntryEntryUUID": f"'{uuid}'"}, "ObjectRef").ids == [
        FOLDER_ID
    ]
    # What replaces a document of a folder is in that folder.
    newer = cda(document="2.999.20.3", replaces="2.999.20.2")
    answer = send(url, entry("Document1", newer), association("Document1", uuid, REPLACES),
                  documents={"Document1": newer})  # fmt: skip
    assert (answer.outcome, answer.codes) == ("Success", [])
    house.wait()
    contents = kinds(ask(url, FOLDER_AND_CONTENTS, {"$XDSFolderEntryUUID": f"'{FOLDER_ID}'"}))
    assert len([kind for kind, _ in contents if kind == "ExtrinsicObject"]) == 3
    find = {"$XDSFolderPatientId": f"'{PATIENT}'", "$XDSFolderStatus": f"('{APPROVED}')"}
    assert ask(url, FIND_FOLDERS, {**find, "$XDSFolderCodeList": "('suivi^^2.999.8')"},
               "ObjectRef").ids == [FOLDER_ID]  # fmt: skip
    for name, value in (("CodeList", "('other^^2.999.8')"), ("LastUpdateTimeTo", "2020")):
        assert ask(url, FIND_FOLDERS, {**find, f"$XDSFolder{name}": value}, "ObjectRef").ids == []


@pytest.mark.usefixtures("submitted")
def test_what_a_registry_cannot_take(url: str) -> None:
    nobody = "urn:uuid:00000000-0000-4000-8000-000000000000"
    stranger = cda(document="2.999.20.9", ins="188102B17295264")
    theirs = patient_of(stranger)
    two = cda(document="2.999.20.4")
    doc = {"Document1": two}
    cases = {
        "a member that nobody has": (association("Set", nobody), "XDSRepositoryMetadataError"),
        "a membership of a document": (
            association(ENTRY_ID, FOLDER_ID), "XDSRepositoryMetadataError"),
        "an association of another type": (
            association("Document1", ENTRY_ID, "urn:x"), "XDSRepositoryMetadataError"),
        "the uniqueId of another folder": (
            folder("F", 1) + association("Set", "F"), "XDSDuplicateUniqueIdInRegistry"),
        "the entryUUID of another folder": (
            folder(FOLDER_ID, 7) + association("Set", FOLDER_ID), "XDSRepositoryMetadataError"),
        "a folder outside the set": (folder("F", 7), "XDSRepositoryMetadataError"),
        "a folder of another patient": (
            folder("F", 7, theirs) + association("Set", "F"), "XDSPatientIdDoesNotMatch"),
    }  # fmt: skip
    for name, (more, code) in cases.items():
        answer = send(url, entry("Document1", two), more, documents=doc)
        assert (answer.outcome, answer.codes) == ("Failure", [code]), name
    # A UUID that another document has.
    answer = send(url, entry(ENTRY_ID, two), documents={ENTRY_ID: two})
    assert answer.codes == ["XDSRepositoryMetadataError"]
    for more in (association(FOLDER_ID, "Document1"), association("Document1", ENTRY_ID, APPENDS)):
        answer = send(url, entry("Document1", stranger), more, patient=theirs,
                      documents={"Document1": stranger})  # fmt: skip
        assert answer.codes == ["XDSPatientIdDoesNotMatch"]
    large = slot("urn:example:own", "x" * 300_000)
    huge = entry("Document1", two).replace("<rim:Slot", f"{large}<rim:Slot", 1)
    assert send(url, huge, documents=doc).outcome == "Failure"
    assert ask(url, GET, {"$XDSDocumentEntryUniqueId": "('2.999.20.4')"}, "ObjectRef").ids == []


@pytest.mark.usefixtures("submitted")
def test_everything_of_a_patient(url: str) -> None:
    asked = {"$patientId": f"'{PATIENT}'", "$XDSDocumentEntryStatus": f"('{APPROVED}')",
             "$XDSSubmissionSetStatus": f"('{APPROVED}')",
             "$XDSFolderStatus": f"('{APPROVED}')"}  # fmt: skip
    made = kinds(ask(url, GET_ALL, asked))
    assert {("ExtrinsicObject", ENTRY_ID), ("RegistryPackage", FOLDER_ID)} < set(made)
    assert {("RegistryPackage", each) for each in sets_of(url, ENTRY_ID)} < set(made)
    none = {**asked, "$XDSFolderStatus": f"('{DEPRECATED}')"}
    assert ("RegistryPackage", FOLDER_ID) not in kinds(ask(url, GET_ALL, none))
