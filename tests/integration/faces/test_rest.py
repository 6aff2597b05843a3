"""The REST API, health, metrics, and the same gate in front of everything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import APIRouter

from gateway.console.context import Console
from gateway.console.router import console_routers
from gateway.journal.states import MessageState
from gateway.mapping import Program
from gateway.model import CauseCode
from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House, running_house

API = "/api/v1"


def test_the_ledger_adds_up(http: httpx2.Client) -> None:
    status = http.get(f"{API}/status").json()
    for line in (*status["sources"].values(), status["total"]):
        assert line["received"] == line["accepted"] + line["refused"] + line["duplicates"]
        assert line["accepted"] == sum(
            line[name] for name in ("held", "unmapped", "pending", "delivered", "dead", "discarded")
        )
    assert status["held"][CauseCode.IDENTITY_AWAITED.value] >= 1


def test_messages_are_listed_filtered_and_paged(http: httpx2.Client) -> None:
    first = http.get(f"{API}/messages", params={"limit": 3}).json()
    assert len(first["items"]) == 3
    second = http.get(f"{API}/messages", params={"limit": 3, "before": first["next_before"]}).json()
    numbers = [item["id"] for item in (*first["items"], *second["items"])]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 6
    refused = http.get(f"{API}/messages", params={"state": "refused"}).json()["items"]
    (one,) = [item for item in refused if item["control_id"] == "REFUSED1"]
    assert one["cause"]["code"] == "unsupported-type"
    assert one["cause"]["do"]
    assert http.get(f"{API}/messages", params={"state": "lost"}).status_code == 422
    assert http.get(f"{API}/messages", params={"limit": 5000}).status_code == 422


def test_one_message_tells_its_life(http: httpx2.Client, house: House) -> None:
    number = house.number("ORU1")
    life = http.get(f"{API}/messages/{number}").json()
    assert life["state"] == "delivered"
    assert life["events"][0]["what"] == "received"
    assert life["deliveries"][0]["destination"] == "record"
    assert life["deliveries"][0]["attempts"][0]["outcome"] == "delivered"
    assert all("resource" not in entry for entry in life["normalised"]["entries"])
    assert hl7.FAMILY not in str(life)
    whole = http.get(f"{API}/messages/{number}", params={"resources": "true"}).json()
    assert hl7.FAMILY in str(whole)
    # A decimal keeps its digits on the way through JSON.
    text = http.get(f"{API}/messages/{number}", params={"resources": "true"}).text
    assert re.search(r'"value": ?6\.10\b', text)


def test_bytes_come_back_exactly(http: httpx2.Client, house: House) -> None:
    number = house.number("ADT1")
    answer = http.get(f"{API}/messages/{number}/bytes")
    assert answer.content == hl7.admission("ADT1")
    assert answer.headers["x-content-sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "attachment" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    "path", ["/messages/999999", "/messages/999999/bytes", "/dead-letters/999999", "/nothing"]
)
def test_what_is_not_there_is_a_json_404(http: httpx2.Client, path: str) -> None:
    answer = http.get(f"{API}{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"]


def bury(house: House, control_id: str) -> int:
    body = hl7.results(control_id, control_id, {"2823-3^K": "4.4"}, ins=hl7.WRONG_INS)
    assert house.send(body) == ["AA"]
    house.wait()
    return house.letter(control_id)


def test_dead_letters_are_listed_and_grouped(http: httpx2.Client, house: House) -> None:
    letter = house.letter("DEAD3")
    shape = http.get(f"{API}/dead-letters/{letter}").json()
    assert shape["cause"]["code"] == "identity-invalid"
    groups = http.get(f"{API}/dead-letters/groups").json()["items"]
    assert shape["group"] in {group["group"] for group in groups}
    found = http.get(f"{API}/dead-letters", params={"group": shape["group"]}).json()["items"]
    assert letter in {item["id"] for item in found}


def test_a_dry_run_says_and_does_not(http: httpx2.Client, house: House) -> None:
    letter = bury(house, "APIDRY")
    action = {"ids": [letter], "dry_run": True}
    report = http.post(f"{API}/dead-letters/replay", json=action).json()
    assert report["counts"] == {"replayed": 1}
    assert report["dry_run"] is True
    assert house.letter("APIDRY") == letter


def test_an_action_with_a_key_acts_once(http: httpx2.Client, house: House) -> None:
    letter = bury(house, "APIKEY")
    action = {"ids": [letter], "reason": "not ours", "key": f"key-{letter}"}
    first = http.post(f"{API}/dead-letters/discard", json=action).json()
    second = http.post(f"{API}/dead-letters/discard", json=action).json()
    assert first["again"] is False
    assert second["again"] is True
    assert first["items"] == second["items"]
    assert house.state(house.number("APIKEY")) is MessageState.DISCARDED


@pytest.mark.parametrize(
    "action",
    [{}, {"ids": []}, {"ids": [1], "all": True}, {"group": "x", "cause": "y"}, {"all": False},
     {"ids": ["x"]}, {"ids": [1], "rate": 3}],
)  # fmt: skip
def test_an_action_names_exactly_one_selection(
    http: httpx2.Client, action: dict[str, object]
) -> None:
    answer = http.post(f"{API}/dead-letters/replay", json=action)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_a_discard_without_a_reason_is_refused(http: httpx2.Client, house: House) -> None:
    letter = house.letter("DEAD3")
    answer = http.post(f"{API}/dead-letters/discard", json={"ids": [letter], "reason": "  "})
    assert answer.status_code == 422
    assert house.letter("DEAD3") == letter


def test_repaired_bytes_are_posted(http: httpx2.Client, house: House) -> None:
    letter = bury(house, "APIFIX")
    repaired = hl7.results("APIFIX", "APIFIX", {"2823-3^K": "4.4"})
    path = f"{API}/dead-letters/{letter}/replay"
    headers = {"Content-Type": "application/octet-stream"}
    same = hl7.results("APIFIX", "APIFIX", {"2823-3^K": "4.4"}, ins=hl7.WRONG_INS)
    refused = http.post(path, content=same, params={"reason": "r"}, headers=headers)
    assert refused.status_code == 422
    unexplained = http.post(path, content=repaired, headers=headers)
    assert unexplained.status_code == 422
    done = http.post(path, content=repaired, params={"reason": "INS confirmed"}, headers=headers)
    assert done.json()["counts"] == {"repaired": 1}
    house.wait()
    child = done.json()["items"][0]["child"]
    assert house.state(child) is MessageState.DELIVERED
    assert http.get(f"{API}/messages/{child}/bytes").content == repaired
    assert http.post(f"{API}/dead-letters/999999/replay", content=b"x", params={"reason": "r"},
                     headers=headers).status_code == 404  # fmt: skip


def test_metrics_count_and_name_nobody(http: httpx2.Client) -> None:
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.text
    for sample in (
        r'ecluse_messages_received_total\{format="hl7v2",source="lab"\} \d+',
        r'ecluse_messages\{source="lab",state="held"\} \d+',
        r'ecluse_dead_letters\{cause="identity-invalid"\} \d+',
        r'ecluse_held\{cause="identity-awaited"\} \d+',
        r'ecluse_delivery_attempts_total\{destination="record",outcome="delivered"\} \d+',
        r'ecluse_stage_duration_seconds_count\{stage="normalise"\} \d+',
        r'ecluse_stage_duration_seconds_count\{stage="intake"\} \d+',
        r'ecluse_stage_duration_seconds_count\{stage="deliver"\} \d+',
        r'ecluse_build_info\{python="[\d.]+",version="[^"]+"\} 1',
        r"ecluse_journal_up 1",
    ):
        assert re.search(sample, text), sample
    for secret in (hl7.FAMILY, hl7.INS, hl7.IPP, "ORU1", "HELD1"):
        assert secret not in text


def test_health_answers(http: httpx2.Client) -> None:
    assert http.get("/livez").text == "ok\n"
    assert http.get("/readyz").text == "ok\n"
    assert http.get("/readyz?verbose").json() == {
        "ready": True, "checks": http.get("/readyz?verbose").json()["checks"],
    }  # fmt: skip


def test_the_api_describes_itself_and_loads_nothing_from_elsewhere(http: httpx2.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert f"{API}/dead-letters/replay" in paths
    assert "/messages" not in paths, "pages are no API"
    assert http.get("/docs").status_code == 404


def test_every_answer_has_the_headers(http: httpx2.Client) -> None:
    for path in ("/", "/metrics", "/fhir/metadata", f"{API}/status", "/nothing", "/static/x"):
        headers = http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_another_host_and_another_origin_are_refused(http: httpx2.Client) -> None:
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 421
    headers = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/dead/replay", "/patients", f"{API}/dead-letters/discard", "/intake/cda"):
        assert http.post(path, headers=headers).status_code == 403


def test_a_large_form_is_refused(http: httpx2.Client) -> None:
    answer = http.post("/dead/1/repair", data={"text": "x" * (3 << 20)})
    assert answer.status_code == 413


@pytest.mark.timeout(180)
def test_with_a_token_nothing_is_open_but_health(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a token of some length\n", encoding="utf-8")
    with running_house(tmp_path, token_file=token) as house, house.client() as http:
        for path in ("/", "/messages", "/patients", "/metrics", "/fhir/Patient", "/openapi.json",
                     f"{API}/status", "/static/ecluse.css", "/no/such/page"):  # fmt: skip
            assert http.get(path).status_code == 401, path
        assert http.post("/intake/cda", content=b"<a/>").status_code == 401
        assert http.get("/livez").status_code == http.get("/readyz").status_code == 200
        assert http.get("/", auth=("j.martin", "a token of some length")).status_code == 200
        bearer = {"Authorization": "Bearer a token of some length"}
        assert http.get(f"{API}/status", headers=bearer).status_code == 200
        house.send(hl7.results("TOKEN1", "T", {"2823-3^K": "4"}, ins=hl7.WRONG_INS))
        house.wait()
        discard = {"ids": [house.letter("TOKEN1")], "reason": "a test"}
        basic = ("j.martin", "a token of some length")
        http.post(f"{API}/dead-letters/discard", json=discard, auth=basic).raise_for_status()
        settled = http.get(
            f"{API}/dead-letters", params={"resolved": "true"}, headers=bearer
        ).json()["items"]
        assert settled[0]["actor"] == "j.martin"


def paths(router: APIRouter) -> Iterator[str]:
    """The templates of a router's addresses, and of those that it includes."""
    for route in router.routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from paths(included)
        else:
            yield str(getattr(route, "path", ""))


def test_no_address_fails_for_a_number_that_no_database_holds(
    http: httpx2.Client, house: House
) -> None:
    too_much = "9" * 30
    routers = console_routers(Console(house.gateway))
    of_console = [path for router in routers for path in paths(router)]
    of_programs = [
        path for path, ways in http.get("/openapi.json").json()["paths"].items() if "get" in ways
    ]
    asked = {"before": too_much, "after": too_much, "version": too_much, "find": "²"}
    paged = ("/messages", "/dead-letters", "/log", f"{API}/messages", f"{API}/dead-letters")
    for path in (*of_console, *of_programs):
        if "{" not in path and path not in paged:
            continue
        address = re.sub(r"\{[^}]*\}", too_much, path)
        answer = http.get(address, params=asked)
        assert answer.status_code < 500, (path, answer.status_code)
    for body in ({"ids": [int(too_much)]}, {"ids": [-1]}):
        assert http.post(f"{API}/dead-letters/replay", json=body).status_code == 422


def test_looking_at_the_mappings_compiles_none(http: httpx2.Client, house: House) -> None:
    """They are compiled when a message needs them: all together take a minute."""
    rules = Program.rules.fget
    assert rules is not None
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "rules", property(lambda one: asked.append(one.name) or rules(one)))
        assert http.get("/mappings").status_code == 200
    assert asked == []
