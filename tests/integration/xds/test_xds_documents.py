"""Documents in by ITI-41, found by ITI-18, back by ITI-43: the whole gateway, over the wire."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from adapters.cda.transmitted import CdaHeaders
from gateway.journal import messages
from gateway.journal.values import MessageFilter
from tests.eventually import eventually
from tests.http_client import HTTP
from tests.integration.doors.roads import XDS, documents, states, until_open
from tests.integration.faces.house import House, running_house
from tests.integration.xds.submissions import (
    APPENDS,
    APPROVED,
    DEPRECATED,
    LCM,
    REPLACES,
    REPOSITORY,
    RIM,
    Answer,
    ask,
    association,
    documents_request,
    fetch,
    patient_of,
    provide,
)
from tests.integration.xds.wsdl_client import WsdlClient, laid_out, schema, slots
from tests.unit.hl7.transmissions import cda

FIND = "14d4debf-8f97-4251-9a74-a90016b0af0d"
BY_REFERENCE = "12941a89-e02e-4be5-967c-ce4bfc8fe492"
GET = "5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_ALL = "10b545ea-725c-446d-9b95-8aeb444eddf3"
ASSOCIATIONS = "a7ae438b-4bc2-4642-93e9-be891f7bb155"
WITH_ASSOCIATIONS = "bab9529a-4a10-40b3-a01f-f68a615d247a"
RELATED = "d90e5407-b356-4d91-a89f-873917b4b0e6"
IMAGING = "IMG_CR_IMG_2024.01.xml"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[House]:
    """A gateway that got some documents of the corpus (``tests/integration/cda`` sends them
    all)."""
    with running_house(tmp_path_factory.mktemp("xds"), more=XDS) as running:
        until_open(running)
        for path in documents(shared)[2:7]:
            answer = provide(f"{running.url}/intake/xds", [path.read_bytes()])
            assert (answer.outcome, answer.codes) == ("Success", [])
        # By another road: its entry is what the record says.
        imaging = (shared / "corpora" / "cda" / IMAGING).read_bytes()
        HTTP.post(f"{running.url}/intake/cda/practice", content=imaging).raise_for_status()
        eventually(running.settled, timeout=180)
        yield running


@pytest.fixture(scope="module")
def url(house: House) -> str:
    return f"{house.url}/intake/xds"


@pytest.fixture(scope="module")
def imaging(shared: Path) -> bytes:
    return (shared / "corpora" / "cda" / IMAGING).read_bytes()


def unique_id(data: bytes) -> str:
    header = CdaHeaders().header(data)
    assert header is not None
    return header.identifier


def find(url: str, data: bytes, returns: str = "ObjectRef", **more: Any) -> Answer:
    parameters = {
        "PatientId": f"'{patient_of(data)}'", "Status": f"('{APPROVED}','{DEPRECATED}')", **more,
    }  # fmt: skip
    named = {f"$XDSDocumentEntry{name}": value for name, value in parameters.items()}
    return ask(url, FIND, named, returns)


def uuid_of(url: str, data: bytes) -> str:
    [found] = ask(
        url, GET, {"$XDSDocumentEntryUniqueId": f"('{unique_id(data)}')"}, "ObjectRef"
    ).ids
    return found


def test_a_document_entry_says_what_the_document_says(url: str, imaging: bytes) -> None:
    answer = ask(url, GET, {"$XDSDocumentEntryUniqueId": f"('{unique_id(imaging)}')"})
    assert answer.outcome == "Success"
    [found] = answer.body.find(f"{RIM}RegistryObjectList")
    slots = {
        each.get("name"): [value.text for value in each.iter(f"{RIM}Value")]
        for each in found.iterfind(f"{RIM}Slot")
    }
    assert slots["creationTime"] == ["20210108101700"]  # 11:17 at +01:00
    assert slots["size"] == [str(len(imaging))]
    assert slots["repositoryUniqueId"] == [REPOSITORY]
    assert slots["sourcePatientInfo"] == ["PID-5|PAT-TROIS^DOMINIQUE", "PID-7|19790328", "PID-8|F"]
    codes = [
        (each.get("nodeRepresentation"), each.findtext(f"{RIM}Slot/{RIM}ValueList/{RIM}Value"))
        for each in found.iterfind(f"{RIM}Classification")
    ]
    assert ("18748-4", "2.16.840.1.113883.6.1") in codes  # typeCode
    assert ("31", "1.2.250.1.213.1.1.4.1") in codes  # classCode
    assert ("ACQH004", "1.2.250.1.215.300.1") in codes  # of eventCodeList
    identifiers = [each.get("value") for each in found.iterfind(f"{RIM}ExternalIdentifier")]
    assert identifiers == [patient_of(imaging), unique_id(imaging)]


def test_documents_are_found_by_what_is_said_of_them(url: str, imaging: bytes) -> None:
    mine = uuid_of(url, imaging)
    everything = set(find(url, imaging).ids)
    assert mine in everything
    assert len(everything) > 3
    narrow = find(url, imaging, TypeCode="('18748-4^^2.16.840.1.113883.6.1')").ids
    assert mine in narrow
    assert set(narrow) < everything
    assert mine in find(url, imaging, ClassCode="('31^^1.2.250.1.213.1.1.4.1','99^^x')").ids
    assert mine not in find(url, imaging, ClassCode="('31^^other')").ids
    # From is included, To is not; a day is its first second.
    assert mine in find(url, imaging, CreationTimeFrom="20210108101700").ids
    assert mine not in find(url, imaging, CreationTimeTo="20210108101700").ids
    assert (
        mine in find(url, imaging, ServiceStartTimeFrom="20210108", ServiceStartTimeTo="2022").ids
    )
    assert mine in find(url, imaging, AuthorPerson="('801234560801%')").ids
    assert mine not in find(url, imaging, AuthorPerson="('_01234560801')").ids
    # Two slots must both hold, two values of one are alternatives.
    event = ["('ACQH004^^1.2.250.1.215.300.1')", "('LCQH001^^1.2.250.1.215.300.1')"]
    assert mine in find(url, imaging, EventCodeList=event).ids
    assert mine not in find(url, imaging, EventCodeList=[*event, "('X^^Y')"]).ids
    assert find(url, imaging, Type="('urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248')").ids == []
    assert find(url, imaging, PatientId="'1^^^&1.2.3&ISO'").ids == []
    order = "984375862^^^&1.2.250.1.748.12345678.12&ISO^urn:ihe:iti:xds:2013:order"
    parameters = {
        "$XDSDocumentEntryPatientId": f"'{patient_of(imaging)}'",
        "$XDSDocumentEntryStatus": f"('{APPROVED}')",
        "$XDSDocumentEntryReferenceIdList": f"('{order}')",
        "$Other": "'passed over'",
    }
    assert mine in ask(url, BY_REFERENCE, parameters, "ObjectRef").ids
    parameters["$XDSDocumentEntryReferenceIdList"] = "('1^^^&1.2.3&ISO^urn:x')"
    assert ask(url, BY_REFERENCE, parameters, "ObjectRef").ids == []


def test_a_document_that_replaces_another(house: House, url: str) -> None:
    old, new = cda(document="2.999.6.1"), cda(document="2.999.6.2", replaces="2.999.6.1")
    assert provide(url, [old]).outcome == "Success"
    house.wait()
    target = uuid_of(url, old)
    answer = provide(url, [new], association("Document1", target, REPLACES))
    assert (answer.outcome, answer.codes) == ("Success", [])
    house.wait()
    [entry] = ask(url, GET, {"$XDSDocumentEntryEntryUUID": f"('{target}')"}).body.iter(
        f"{RIM}ExtrinsicObject"
    )
    assert entry.get("status") == DEPRECATED
    answer = ask(url, WITH_ASSOCIATIONS, {"$XDSDocumentEntryUniqueId": "('2.999.6.2')"})
    [relation] = [
        each
        for each in answer.body.iter(f"{RIM}Association")
        if each.get("associationType") == REPLACES  # the other is the membership of its set
    ]
    assert (relation.get("sourceObject"), relation.get("targetObject")) == (
        uuid_of(url, new), target,
    )  # fmt: skip
    near = ask(url, ASSOCIATIONS, {"$uuid": f"('{target}')"}, "ObjectRef").ids
    assert relation.get("id") in near
    related = {"$XDSDocumentEntryUniqueId": "'2.999.6.2'", "$AssociationTypes": f"('{REPLACES}')"}
    assert set(ask(url, RELATED, related, "ObjectRef").ids) == {
        target, uuid_of(url, new), relation.get("id"),
    }  # fmt: skip
    everything = {
        "$patientId": f"'{patient_of(new)}'", "$XDSFolderStatus": f"('{APPROVED}')",
        "$XDSDocumentEntryStatus": f"('{APPROVED}','{DEPRECATED}')",
        "$XDSSubmissionSetStatus": f"('{APPROVED}')",
    }  # fmt: skip
    assert {target, relation.get("id")} < set(ask(url, GET_ALL, everything, "ObjectRef").ids)
    # Deprecated documents can be fetched, and nothing can replace them again.
    assert fetch(url, (REPOSITORY, "2.999.6.1")).parts == {"document1@ecluse": old}
    third = cda(document="2.999.6.3", replaces="2.999.6.1")
    refused = provide(url, [third], association("Document1", target, REPLACES))
    assert refused.codes == ["XDSRegistryDeprecatedDocumentError"]
    # What stands in the metadata alone is an association of the registry.
    alone = cda(document="2.999.6.5")
    answer = provide(url, [alone], association("Document1", uuid_of(url, new), APPENDS))
    assert (answer.outcome, answer.codes) == ("Success", [])
    house.wait()
    related = {"$XDSDocumentEntryUniqueId": "'2.999.6.5'", "$AssociationTypes": f"('{APPENDS}')"}
    assert {uuid_of(url, alone), uuid_of(url, new)} < set(
        ask(url, RELATED, related, "ObjectRef").ids
    )
    # A replacement deprecates in the registry; that the record goes by the document is said.
    other = cda(document="2.999.6.6")
    answer = provide(url, [other], association("Document1", uuid_of(url, alone), REPLACES))
    assert (answer.outcome, answer.codes) == ("Success", ["PartialReplaceContentNotProcessed"])
    house.wait()
    assert statuses(url, alone, other) == {"2.999.6.5": DEPRECATED, "2.999.6.6": APPROVED}
    unknown = association("Document1", "urn:uuid:00000000-0000-4000-8000-000000000000", APPENDS)
    assert provide(url, [third], unknown).codes == ["XDSRepositoryMetadataError"]
    other = cda(document="2.999.6.4", ins="188102B17295264")
    strange = association("Document1", uuid_of(url, new), REPLACES)
    assert provide(url, [other], strange).codes == ["XDSPatientIdDoesNotMatch"]


def received(house: House, control_id: str) -> int:
    """How many messages have this id."""
    with house.gateway.journal.read() as connection:
        return len(messages.page(connection, MessageFilter(control_id=control_id), limit=9))


def statuses(url: str, *documents: bytes) -> dict[str, str]:
    """The availabilityStatus of documents by their uniqueIds."""
    wanted = ",".join(f"'{unique_id(each)}'" for each in documents)
    answer = ask(url, GET, {"$XDSDocumentEntryUniqueId": f"({wanted})"})
    return {
        each.findall(f"{RIM}ExternalIdentifier")[-1].get("value"): each.get("status")
        for each in answer.body.iter(f"{RIM}ExtrinsicObject")
    }


def test_a_unique_id_comes_again_with_the_same_bytes_only(house: House, url: str) -> None:
    document = cda(document="2.999.7.1")
    for _ in range(2):  # once more after the record has it
        assert provide(url, [document]).outcome == "Success"
        other = provide(url, [document.replace(b"ESSAI", b"AUTRE")])
        assert (other.outcome, other.codes) == ("Failure", ["XDSNonIdenticalHash"])
        house.wait()
    house_road = cda(document="2.999.7.2")
    HTTP.post(f"{house.url}/intake/cda/practice", content=house_road).raise_for_status()
    house.wait()
    changed = provide(url, [house_road.replace(b"ESSAI", b"AUTRE")])
    assert changed.codes == ["XDSNonIdenticalHash"]
    assert provide(url, [house_road]).outcome == "Success"
    assert fetch(url, (REPOSITORY, "2.999.7.2")).parts == {"document1@ecluse": house_road}


def test_a_submission_set_comes_again_with_the_same_documents_only(house: House, url: str) -> None:
    one, two = cda(document="2.999.11.1"), cda(document="2.999.11.2")
    assert provide(url, [one], set_id="2.999.11").outcome == "Success"
    other = provide(url, [two], set_id="2.999.11")
    assert (other.outcome, other.codes) == ("Failure", ["XDSDuplicateUniqueIdInRegistry"])
    # An answer was lost: the sender cannot know, and nothing is doubled.
    assert provide(url, [one], set_id="2.999.11").outcome == "Success"
    assert provide(url, [two]).outcome == "Success"
    house.wait()
    assert "2.999.11.1" in states(house, "documents")
    assert received(house, "2.999.11.1") == 1


def test_what_cannot_be_fetched_does_not_keep_back_the_rest(url: str, imaging: bytes) -> None:
    mine = unique_id(imaging)
    answer = fetch(url, (REPOSITORY, mine), (REPOSITORY, "2.999.404"), ("2.999.405", mine))
    assert answer.outcome == "PartialSuccess"
    assert answer.codes == ["XDSDocumentUniqueIdError", "XDSUnknownRepositoryId"]
    assert list(answer.parts.values()) == [imaging]
    # An entryUUID is no uniqueId.
    assert fetch(url, (REPOSITORY, uuid_of(url, imaging))).codes == ["XDSDocumentUniqueIdError"]
    assert fetch(url).outcome == "Failure"


def test_the_messages_say_where_they_came_from(house: House, url: str) -> None:
    documents = [cda(document="2.999.8.1"), cda(document="2.999.8.2")]
    assert provide(url, documents, set_id="2.999.8").outcome == "Success"
    with house.gateway.journal.read() as connection:
        message = messages.get(connection, house.number("2.999.8.2"))
    assert message is not None
    said = message.attributes
    assert (said["transaction"], said["submission_set"]) == ("ITI-41", "2.999.8")
    assert (said["document_entry"], said["file_message"]) == ("Document2", "2 of 2")
    assert said["soap_message"] == "urn:uuid:1"


def test_a_client_made_of_ihes_own_wsdls(
    house: House, url: str, shared: Path, tmp_path: Path
) -> None:
    folder = laid_out(shared / "corpora" / "xds" / "generic", tmp_path, spelled_out=True)
    client = WsdlClient(folder, url)
    data = cda(document="2.999.9.1")
    submitted = etree.fromstring(documents_request([data])[0]).find(f".//{LCM}SubmitObjectsRequest")
    provide_ = client["iti41.wsdl"]["DocumentRepository_ProvideAndRegisterDocumentSet-b"]
    answer = provide_(_value_1=submitted, Document=[{"id": "Document1", "_value_1": data}])
    assert answer.status.endswith(":Success"), answer.RegistryErrorList
    house.wait()
    query = client["iti18.wsdl"]["DocumentRegistry_RegistryStoredQuery"]
    found = query(
        # Of whole objects zeep loses what their parts inherit; the schemas judge those.
        ResponseOption={"returnType": "ObjectRef", "returnComposedObjects": True},
        AdhocQuery={"id": f"urn:uuid:{FIND}", "Slot": slots({
            "$XDSDocumentEntryPatientId": f"'{patient_of(data)}'",
            "$XDSDocumentEntryStatus": f"('{APPROVED}')",
        })},
    )  # fmt: skip
    assert found.status.endswith(":Success")
    ids = [each["ObjectRef"].id for each in found.RegistryObjectList._value_1]
    assert uuid_of(url, data) in ids
    retrieve = client["iti43.wsdl"]["DocumentRepository_RetrieveDocumentSet"]
    request = {"RepositoryUniqueId": REPOSITORY, "DocumentUniqueId": "2.999.9.1"}
    fetched = retrieve(DocumentRequest=[request])
    client.close()
    [document] = fetched.DocumentResponse
    assert (document.Document, document.mimeType) == (data, "text/xml")


def test_answers_are_valid_by_ihes_own_schemas(
    url: str, imaging: bytes, shared: Path, tmp_path: Path
) -> None:
    judge = schema(shared / "corpora" / "xds" / "generic", tmp_path)
    patient = f"'{patient_of(imaging)}'"
    everything = {
        "$patientId": patient, "$XDSFolderStatus": "('x')", "$XDSSubmissionSetStatus": "('x')",
        "$XDSDocumentEntryStatus": f"('{APPROVED}','{DEPRECATED}')",
    }  # fmt: skip
    for answer in (
        ask(url, GET_ALL, everything), ask(url, GET_ALL, everything, "ObjectRef"),
        ask(url, FIND, {}), provide(url, [cda(document="2.999.10.1")]),
        fetch(url, (REPOSITORY, "2.999.404")), fetch(url, (REPOSITORY, unique_id(imaging))),
    ):  # fmt: skip
        judge.assertValid(etree.fromstring(etree.tostring(included(answer))))


def included(answer: Answer) -> etree._Element:
    """The body with its parts in place of what points to them, as XOP has it."""
    for each in answer.body.iter("{http://www.w3.org/2004/08/xop/include}Include"):
        holder = each.getparent()
        holder.text = base64.b64encode(answer.parts[each.get("href").removeprefix("cid:")])
        holder.remove(each)
    return answer.body
