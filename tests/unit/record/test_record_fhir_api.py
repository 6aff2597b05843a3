"""The read API over HTTP, against what R4 says of each interaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine

from gateway.mapping.r4.checker import Checker
from gateway.mapping.serialise import dumps, loads
from record.fhir_api import fhir_router
from record.store import Record
from tests.unit.record import making
from tests.unit.record.making import INS, MemoryBlobs, document, observation, patient, replacing

PDF = b"%PDF-1.7 bytes \x00\xff"


@pytest.fixture(scope="module")
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    yield from making.made_engine("sqlite", request, tmp_path_factory)


@pytest.fixture(scope="module")
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture(scope="module")
def client(engine: Engine, blobs: MemoryBlobs) -> Iterator[TestClient]:
    record = Record(blobs, making.Ticking(), making.serialise)
    pdf, page = blobs.put(PDF), blobs.put(b"<script>alert(1)</script>")
    odd = blobs.put(b"odd")
    lost = blobs.put(b"lost")
    html = document("d2", "a", page)
    html.resource["content"][0]["attachment"]["contentType"] = "text/html"
    strange = document("d3", "a", odd)
    strange.resource["content"][0]["attachment"]["contentType"] = "application/x-bild;name=\"a b\""
    messages = [
        ("a", [patient("a"), observation("o1", "a", "7.10"), document("d1", "a", pdf)]),
        ("a", [observation("o1", "a", "7.1"), observation("o2", "a"), html, strange]),
        ("b", [patient("b"), observation("o3", "b"), document("gone", "b", lost)]),
        ("a", [replacing("d4", "a", "d1")]),
    ]
    with engine.begin() as connection:
        for number, (owner, entries) in enumerate(messages, 1):
            record.put(
                connection,
                owner,
                entries,
                message_id=number,
                sequence=number,
                source="lab",
                mapping="m@1",
            )
        record.merge(connection, "a", "b", message_id=5)
    del blobs.held[lost]

    @contextmanager
    def reading() -> Iterator[Connection]:
        with engine.connect() as connection:
            yield connection

    app = FastAPI()
    app.include_router(fhir_router(record, reading))
    with TestClient(app, base_url="http://gateway.test") as client:
        yield client


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker.load()


def get(client: TestClient, path: str, status: int = 200, **headers: str) -> Any:
    answer = client.get(
        f"/fhir/{path}", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer.json()


def refused(client: TestClient, path: str, status: int, code: str, **headers: str) -> str:
    body = get(client, path, status, **headers)
    assert body["resourceType"] == "OperationOutcome"
    (issue,) = body["issue"]
    assert (issue["severity"], issue["code"]) == ("error", code)
    return str(issue["diagnostics"])


def bundled(bundle: dict[str, Any]) -> list[str]:
    return [
        f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
        for entry in bundle.get("entry", [])
    ]


# --- read, vread, history -----------------------------------------------------------------


def test_read_gives_the_current_version_exactly(client: TestClient) -> None:
    answer = client.get("/fhir/Observation/o1")
    assert answer.status_code == 200
    assert b'"value":7.1,' in answer.content
    assert answer.headers["etag"] == 'W/"2"'
    assert answer.headers["last-modified"].startswith("Fri, 01 Mar 2024 08:00:0")
    assert answer.headers["cache-control"] == "private, no-cache"
    assert b'"value":7.10,' in client.get("/fhir/Observation/o1/_history/1").content


def test_a_version_that_the_client_has_is_not_sent_again(client: TestClient) -> None:
    for tags in ('W/"2"', '"2"', 'W/"1", W/"2"', "*"):
        answer = client.get("/fhir/Observation/o1", headers={"If-None-Match": tags})
        assert (answer.status_code, answer.content) == (304, b"")
    assert client.get("/fhir/Observation/o1", headers={"If-None-Match": 'W/"1"'}).status_code == 200


def test_history(client: TestClient, checker: Checker) -> None:
    bundle = loads(client.get("/fhir/Observation/o1/_history").content)
    assert checker.check(bundle) == []
    assert (bundle["type"], bundle["total"]) == ("history", 2)
    assert [entry["response"]["etag"] for entry in bundle["entry"]] == ['W/"2"', 'W/"1"']
    assert bundle["entry"][1]["resource"]["valueQuantity"]["value"] == "7.10"
    refused(client, "Observation/zz/_history", 404, "not-found")
    refused(client, "Observation/o1/_history?_since=2024", 400, "not-supported")
    refused(client, "Observation/o1/_history?_count=x", 400, "invalid")
    refused(client, "Observation/o1/_history?page=x", 400, "invalid")


def test_a_history_page_by_page(client: TestClient, checker: Checker) -> None:
    first = loads(client.get("/fhir/Observation/o1/_history?_count=1").content)
    assert checker.check(first) == []
    assert [entry["response"]["etag"] for entry in first["entry"]] == ['W/"2"']
    (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    second = get(client, following.removeprefix("http://gateway.test/fhir/"))
    assert (first["total"], second["total"]) == (2, 2)
    assert [entry["response"]["etag"] for entry in second["entry"]] == ['W/"1"']
    assert [link["relation"] for link in second["link"]] == ["self"]


@pytest.mark.parametrize(
    "path",
    ["Observation/zz", "Observation/o1/_history/3", "Observation/o1/_history/x",
     "Observation/o1/_history/-1", "Observation/a%00b", "Observation/" + "x" * 65],
)  # fmt: skip
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    refused(client, path, 404, "not-found")


def test_a_subsumed_patient_is_read_with_the_link(client: TestClient) -> None:
    subsumed, survivor = get(client, "Patient/b"), get(client, "Patient/a")
    assert subsumed["link"] == [{"other": {"reference": "Patient/a"}, "type": "replaced-by"}]
    assert survivor["link"] == [{"other": {"reference": "Patient/b"}, "type": "replaces"}]
    assert subsumed["meta"]["versionId"] == "2"  # so that a client's cache learns of it
    assert bundled(get(client, "Observation?patient=b&_sort=_id")) == [
        "Observation/o1", "Observation/o2", "Observation/o3",
    ]  # fmt: skip


# --- search ---------------------------------------------------------------------------------


def test_a_searchset(client: TestClient, checker: Checker) -> None:
    answer = client.get("/fhir/Observation?patient=a&_sort=_id&_count=2&_format=json")
    bundle = loads(answer.content)
    assert checker.check(bundle) == []
    assert (bundle["type"], bundle["total"]) == ("searchset", 3)
    assert bundled(bundle) == ["Observation/o1", "Observation/o2"]
    assert bundle["entry"][0]["fullUrl"] == "http://gateway.test/fhir/Observation/o1"
    assert bundle["entry"][0]["search"] == {"mode": "match"}
    links = {link["relation"]: link["url"] for link in bundle["link"]}
    assert links["self"] == ("http://gateway.test/fhir/Observation?patient=a&_sort=_id&_count=2")
    following = loads(client.get(links["next"]).content)
    assert bundled(following) == ["Observation/o3"]
    assert [link["relation"] for link in following["link"]] == ["self"]


def test_search_by_national_identifier(client: TestClient) -> None:
    bundle = get(client, f"Patient?identifier={INS}%7CINS-a")
    assert bundled(bundle) == ["Patient/a"]
    assert "entry" not in get(client, "Patient?identifier=nobody")


def test_search_by_status_sees_what_the_record_derived(client: TestClient) -> None:
    assert bundled(get(client, "DocumentReference?patient=a&status=superseded")) == [
        "DocumentReference/d1"
    ]


def test_an_unknown_parameter_is_refused_unless_lenient(client: TestClient) -> None:
    text = refused(client, "Observation?colour=red", 400, "not-supported")
    assert "colour" in text
    assert "red" not in text
    bundle = get(client, "Observation?colour=red&_id=o1", prefer="respond-async, handling=lenient")
    assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["match", "outcome"]
    assert "colour" not in bundle["link"][0]["url"]


def test_bad_values_are_refused(client: TestClient) -> None:
    for query in ("date=never", "_count=x", "page=zz", "_sort=colour", "patient=Group/1", "code="):
        refused(client, f"Observation?{query}", 400, "invalid")
    refused(client, "Observation?" + "code=a&" * 65, 400, "too-costly")
    refused(client, "Observation?code=" + "a" * 5000, 400, "too-costly")


def test_types(client: TestClient) -> None:
    refused(client, "Nonsense", 404, "not-supported")
    refused(client, "Nonsense/1", 404, "not-supported")
    refused(client, "patient/a", 404, "not-supported")
    refused(client, "Binary", 404, "not-supported")
    assert get(client, "Immunization?patient=a")["total"] == 0


def test_everything(client: TestClient, checker: Checker) -> None:
    seen: list[str] = []
    url = "/fhir/Patient/a/$everything?_count=3"
    while url:
        bundle = loads(client.get(url).content)
        assert checker.check(bundle) == []
        seen.extend(bundled(bundle))
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
    assert seen[0] == "Patient/a"
    assert len(set(seen)) == len(seen) == bundle["total"]
    assert {"Patient/b", "Observation/o3", "DocumentReference/d4"} <= set(seen)
    only = get(client, "Patient/a/$everything?_type=Observation")
    assert {name.split("/")[0] for name in bundled(only)} == {"Observation"}
    refused(client, "Patient/zz/$everything", 404, "not-found")
    refused(client, "Patient/a/$everything?start=2024", 400, "not-supported")
    refused(client, "Patient/a/$everything?_count=x", 400, "invalid")


# --- bytes ------------------------------------------------------------------------------------


def test_a_pdf_comes_byte_for_byte(client: TestClient, blobs: MemoryBlobs) -> None:
    digest = next(key for key, data in blobs.held.items() if data == PDF)
    document_ = get(client, "DocumentReference/d1")
    assert document_["content"][0]["attachment"]["url"] == f"Binary/{digest}"
    answer = client.get(f"/fhir/Binary/{digest}", headers={"Accept": "application/pdf"})
    assert answer.content == PDF
    headers = answer.headers
    assert headers["content-type"] == "application/pdf"
    assert headers["content-length"] == str(len(PDF))
    assert headers["content-disposition"] == f'inline; filename="{digest[:16]}.pdf"'
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox"
    cached = client.get(f"/fhir/Binary/{digest}", headers={"If-None-Match": headers["etag"]})
    assert (cached.status_code, cached.content) == (304, b"")


def test_a_page_is_never_shown_in_place(client: TestClient, blobs: MemoryBlobs) -> None:
    page = next(key for key, data in blobs.held.items() if data.startswith(b"<script"))
    headers = client.get(f"/fhir/Binary/{page}").headers
    assert headers["content-type"] == "text/html"  # as declared, with no charset of ours
    assert headers["content-disposition"].startswith("attachment;")
    odd = next(key for key, data in blobs.held.items() if data == b"odd")
    headers = client.get(f"/fhir/Binary/{odd}").headers
    assert headers["content-type"] == "application/octet-stream"


def test_bytes_that_are_not_there(client: TestClient) -> None:
    refused(client, "Binary/" + "a" * 64, 404, "not-found")
    refused(client, "Binary/x", 404, "not-found")
    lost = get(client, "DocumentReference/gone")["content"][0]["attachment"]["url"]
    refused(client, lost, 500, "incomplete")


# --- the rest -----------------------------------------------------------------------------------


def test_the_capability_statement_is_true(client: TestClient, checker: Checker) -> None:
    statement = get(client, "metadata")
    assert checker.check(loads(dumps(statement))) == []
    described = {item["type"]: item for item in statement["rest"][0]["resource"]}
    values = {"reference": "a", "date": "2024", "token": "x", "string": "x"}
    for name, item in described.items():
        codes = {interaction["code"] for interaction in item["interaction"]}
        if "search-type" not in codes:
            assert name == "Binary"
            continue
        for parameter in item["searchParam"]:
            get(client, f"{name}?{parameter['name']}={values[parameter['type']]}")
    assert {"Patient", "Observation", "DocumentReference", "ImagingStudy"} <= set(described)
    assert statement["fhirVersion"] == "4.0.1"


@pytest.mark.parametrize(
    ("accept", "status"),
    [("application/fhir+json", 200), ("application/json;q=0.9, text/html", 200), ("*/*", 200),
     ("text/html,application/xhtml+xml,*/*;q=0.8", 200), ("application/fhir+xml", 406)],
)  # fmt: skip
def test_formats(client: TestClient, accept: str, status: int) -> None:
    answer = client.get("/fhir/Patient/a", headers={"Accept": accept})
    assert answer.status_code == status
    assert json.loads(answer.content)["resourceType"] in ("Patient", "OperationOutcome")
    assert client.get("/fhir/Patient/a?_format=xml").status_code == 406
    assert client.get("/fhir/Patient/a?_format=application/fhir%2Bjson").status_code == 200
    assert b"\n  " in client.get("/fhir/Patient/a?_pretty=true").content


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["Patient", "Patient/a", "", "Observation/_search"])
def test_nothing_can_be_written(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"/fhir/{path}", json={})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_no_other_interaction(client: TestClient) -> None:
    refused(client, "", 404, "not-found")
    refused(client, "Patient/a/b/c/d", 404, "not-found")
    assert client.head("/fhir/Patient/a").status_code == 200
