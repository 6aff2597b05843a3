"""An operator's morning in Chromium: 500 dead letters of three causes, and the record complete."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.cli import main
from gateway.cli.output import Code
from gateway.journal import deadletters, messages, replaying
from gateway.journal.replaying import JobState
from gateway.journal.states import MessageState
from gateway.journal.values import DeadLetterFilter, MessageFilter
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.integration.faces import sites
from tests.integration.faces.house import House, running_house
from tests.integration.faces.test_command_line_with_a_gateway import Shell
from tests.integration.faces.test_console_browser import CONTRAST

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

SHOTS = os.environ.get("ECLUSE_SCREENSHOTS", "")
STRICT = sites.OVERLAY.replace("unknown: keep-and-flag", "unknown: reject")
UNKNOWN, WRONG, NOBODY = 480, 2, 18
POTASSIUM = "K^Potassium"
ALERTS = """
alerts:
  thresholds: [10, 100]
  calm_seconds: 0
  console_url: 'https://ecluse.example'
  webhooks:
    - {{name: hospital, url: 'http://127.0.0.1:{port}/told'}}
"""


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A webhook: its port, and what it was told."""
    bodies: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, bodies
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, told: tuple[int, list[dict[str, Any]]]
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("morning")
    site = sites.write_site(folder)
    (site / "chu" / "results.yaml").write_text(STRICT, encoding="utf-8")
    more = sites.configuration(site) + ALERTS.format(port=told[0])
    with running_house(folder, more=more) as made:
        made.send(hl7.admission("A1"))
        bodies = [hl7.results(f"K{n}", f"K{n}", {POTASSIUM: f"4.{n % 10}"}) for n in range(UNKNOWN)]
        bodies += [
            hl7.results(f"W{n}", f"W{n}", {"GLU^Glucose": "5.0"}, ins=hl7.WRONG_INS)
            for n in range(WRONG)
        ]
        bodies += [
            hl7.results(f"N{n}", f"N{n}", {"GLU^Glucose": "5.1"}, ins="").replace(
                f"{hl7.IPP}^^^CHU&2.999.250.1&ISO^PI".encode(), b""
            )
            for n in range(NOBODY)
        ]
        made.send(*bodies)
        made.wait()
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium is not None, "no Chromium: run `make servers`"
    # On two cores that others share, what a page makes when it is first asked for takes its time.
    playwright.expect.set_options(timeout=60_000)
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: playwright.Browser, house: House) -> Iterator[playwright.Page]:
    """A page whose every script error, refused resource and failed request fails the test."""
    context = browser.new_context(base_url=house.url, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(f"error: {error}"))
    opened.on("console", lambda said: said.type == "error" and faults.append(said.text))
    opened.on("request", lambda r: r.url.startswith((house.url, "data:"))
              or faults.append(f"asked elsewhere: {r.url}"))  # fmt: skip
    yield opened
    context.close()
    assert not faults, faults


def shot(page: playwright.Page, name: str) -> None:
    """Keep what is seen, for eyes; only where a folder for it is named."""
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def fits(page: playwright.Page) -> None:
    """Nothing wider than the window, one heading, every control named, every text readable."""
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280, page.url
    assert page.locator("h1").count() == 1
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input:not([type=hidden]),select,textarea,button')]"
        ".filter(e => !e.labels?.length && !e.textContent.trim() && !e.ariaLabel)"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == [], page.url
    assert page.evaluate(CONTRAST) == [], page.url


def told_of(alerts: list[dict[str, Any]], kind: str) -> list[str]:
    """The groups of which people were told so."""
    return [each["group"] for each in alerts if each["kind"] == kind]


def open_letters(house: House, **wanted: Any) -> int:
    with house.gateway.journal.read() as connection:
        return deadletters.count(connection, DeadLetterFilter(**wanted))


def count(house: House, state: MessageState) -> int:
    with house.gateway.journal.read() as connection:
        return messages.counts(connection).get(("lab", state), 0)


def test_an_operators_morning(
    page: playwright.Page, house: House, told: tuple[int, list[dict[str, Any]]]
) -> None:
    expect = playwright.expect
    assert open_letters(house) == 500
    _, alerts = told
    eventually(lambda: len(told_of(alerts, "born")) == 3, timeout=60)
    assert hl7.FAMILY not in json.dumps(alerts)
    assert hl7.WRONG_INS not in json.dumps(alerts)

    # Three groups, the largest first.
    page.goto("/dead")
    expect(page.locator(".lede")).to_contain_text(
        "500 messages could not go further, for 3 reasons"
    )
    cards = page.locator("article.group")
    expect(cards).to_have_count(3)
    assert [int(each) for each in page.locator(".group-count span:first-child").all_inner_texts()
            ] == [UNKNOWN, NOBODY, WRONG]  # fmt: skip
    fits(page)
    shot(page, "1-groups")

    # The largest is the mapping's: whose it is, a note, and the mapping is corrected.
    cards.nth(0).get_by_role("heading").get_by_role("link").click()
    page.get_by_label("Whose it is").fill("anne")
    page.get_by_role("button", name="Assign").click()
    expect(page.locator("#who .events")).to_contain_text("anne")
    page.get_by_label("Note").fill("The laboratory renamed potassium on Friday")
    page.get_by_role("button", name="Keep the note").click()
    expect(page.locator("#who .events")).to_contain_text("renamed potassium")
    fits(page)
    shot(page, "2-group")
    mapping_group = page.url
    table = house.configuration.parent / "sites" / "chu" / "terminology" / "analyses.yaml"
    table.write_text(sites.TABLE + sites.ROW, encoding="utf-8")
    why = ["--reason", "Potassium of the laboratory", "--config", str(house.configuration)]
    assert main(["mapping", "deploy", *why]) == 0

    # Replayed with a ramp; the button is pressed twice, and is one job.
    page.goto(mapping_group)
    page.get_by_role("link", name=f"Replay all {UNKNOWN}").click()
    expect(page.get_by_text("Nothing has been done yet")).to_be_visible()
    page.get_by_label("Reason").fill("Potassium is mapped now")
    page.get_by_label("First steps").fill("1, 5, 25")
    fits(page)
    shot(page, "3-replay-plan")
    page.get_by_role("button", name="Replay").dblclick()
    # The second press ends the navigation of the first: what counts is where one arrives.
    expect(page).to_have_url(re.compile("/dead/replays/[0-9]+$"))
    shot(page, "4-replay-begins")
    expect(page.locator("#job .state").first).to_have_text("done", timeout=60_000)
    expect(page.locator(".job-counts div", has_text="Delivered")).to_contain_text(str(UNKNOWN))
    fits(page)
    shot(page, "5-replay-done")
    with house.gateway.journal.read() as connection:
        (job,) = replaying.jobs(connection)
    assert (job.state, job.counts["delivered"]) == (JobState.DONE, UNKNOWN)

    # One is corrected by hand: the message is edited, the original stays.
    page.goto("/dead")
    page.locator("article.group", has_text=str(WRONG)).last.get_by_role(
        "link", name="Newest one"
    ).click()
    edited = int(page.url.rpartition("/")[2])
    page.get_by_text("Open the message for repair").click()
    field = page.get_by_label("Message, one segment a line")
    field.fill(field.input_value().replace(hl7.WRONG_INS, hl7.INS))
    page.get_by_label("Reason for the repair").fill("INS confirmed by phone")
    page.get_by_role("button", name="Show what changes").click()
    expect(page.get_by_text("It would be read")).to_be_visible()
    shot(page, "6-edit")
    page.get_by_role("button", name="Replay the repaired copy").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 dead letter")
    page.goto(f"/dead/{edited}")
    page.get_by_role("link", name="Show the difference").click()
    expect(page.locator("#changes-body .added")).to_contain_text(hl7.INS)
    fits(page)
    shot(page, "7-edited")

    # The rest is discarded, with a reason.
    page.goto("/dead")
    page.locator("article.group").first.get_by_role("link", name="Discard…").click()
    page.get_by_label("Reason").fill("Test messages of the analyser, sent without a patient")
    shot(page, "8-discard")
    page.get_by_role("button", name=f"Discard {NOBODY} dead letters").click()
    expect(page.locator(".lede")).to_contain_text(f"{NOBODY} discarded")
    page.goto("/dead")
    page.locator("article.group").first.get_by_role("heading").get_by_role("link").click()
    page.locator("input[name=ids]").first.check()
    page.get_by_role("button", name="Replay the chosen ones…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Replay 1 dead letter")
    page.goto("/dead/letters?cause=identity-invalid")
    expect(page.locator("tbody tr")).to_have_count(1)
    fits(page)
    shot(page, "9-letters")

    # The record is complete, and the audit says who did what.
    house.wait()
    assert open_letters(house) == 1
    assert count(house, MessageState.DELIVERED) == 1 + UNKNOWN + 1
    assert count(house, MessageState.DISCARDED) == NOBODY
    page.goto("/dead/audit")
    listed = page.locator(".column-main .events")
    for said in (
        "local replayed 480 dead letters", "Potassium is mapped now", "saw a replay end:",
        f"local edited the message of dead letter {edited}", "INS confirmed by phone",
        "local discarded 18 dead letters", "sent without a patient", "assigned the group",
        "renamed potassium",
    ):  # fmt: skip
        expect(listed).to_contain_text(said)
    eventually(lambda: len(told_of(alerts, "ended")) == 2, timeout=60)
    assert len(told_of(alerts, "born")) == 3, "once, however many messages"
    # Thresholds of 10 and 100: twice for 480 at the most, once for 18.
    assert len(told_of(alerts, "grown")) <= 3
    page.reload()
    expect(page.locator(".column-side")).to_contain_text("hospital: group ended")
    fits(page)
    shot(page, "10-audit")


def test_every_page_of_the_desk_fits_a_telephone_in_the_dark(
    page: playwright.Page, house: House
) -> None:
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 900})
    with house.gateway.journal.read() as connection:
        letter = deadletters.page(connection, DeadLetterFilter(resolved=None), limit=1)[0]
        (job,) = replaying.jobs(connection)
    for name, path in {
        "groups": "/dead", "group": f"/dead/groups/{letter.fingerprint}",
        "letters": "/dead/letters?settled=true", "letter": f"/dead/{letter.id}",
        "replays": "/dead/replays", "replay": f"/dead/replays/{job.id}",
        "items": f"/dead/replays/{job.id}/letters?state=delivered", "audit": "/dead/audit",
        "past": f"/dead/groups/{job.fingerprint}",
    }.items():  # fmt: skip
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert page.evaluate(CONTRAST) == [], path
        shot(page, f"dark-{name}")


def test_an_export_is_a_folder_for_a_ticket(house: House) -> None:
    with house.gateway.journal.read() as connection:
        letter = deadletters.page(
            connection, DeadLetterFilter(resolved=True, code="identity-invalid")
        )[0]
        message = messages.page(connection, MessageFilter(control_id="K1"), limit=1)[0]
    with house.client() as client:
        whole = client.get(f"/api/v1/dead-letters/export?ids={letter.id}")
        closed = client.get(f"/api/v1/dead-letters/export?ids={letter.id}&deidentify=true")
        assert client.get("/api/v1/dead-letters/export?ids=99999999").status_code == 404
        assert client.get("/api/v1/dead-letters/export").status_code == 422
    assert whole.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
        names = archive.namelist()
        body = archive.read(f"dead-letters/{letter.id}/message.hl7")
        told = json.loads(archive.read(f"dead-letters/{letter.id}/letter.json"))
    assert f"dead-letters/{letter.id}/trace.json" in names
    assert "dead-letters/README.txt" in names
    assert hl7.FAMILY.encode() in body
    assert told["cause"]["code"] == "identity-invalid"
    assert told["events"]
    with zipfile.ZipFile(io.BytesIO(closed.content)) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
        assert b"De-identified" in archive.read("dead-letters/README.txt")
    for secret in (hl7.FAMILY, hl7.GIVEN, hl7.WRONG_INS, hl7.IPP, "19850314", letter.reason):
        assert secret.encode() not in everything
    assert message.control_id not in ("", None)


def test_the_desk_over_rest(house: House) -> None:
    """What the pages do, a program does."""
    with house.client() as client:
        base = "/api/v1/dead-letters"
        groups = client.get(f"{base}/groups").json()["items"]
        assert groups[0]["by_source"] == {"lab": 1}
        assert sum(groups[0]["trend"]) >= 1
        name = groups[0]["group"]
        assert client.post(f"{base}/groups/{name}/assign", json={"text": "bob"}).status_code == 200
        assert client.post(f"{base}/groups/{name}/notes", json={"text": " "}).status_code == 422
        assert client.post(f"{base}/groups/none/notes", json={"text": "x"}).status_code == 404
        shown = client.get(f"{base}/groups/{name}").json()
        assert (shown["assignee"], shown["actions"][0]["what"]) == ("bob", "assign")
        bad = {"group": name, "ramp": [0]}
        assert client.post(f"{base}/jobs", json=bad).status_code == 422
        wanted = {"group": name, "ramp": [1], "key": "rest-1", "reason": "again"}
        first = client.post(f"{base}/jobs", json=wanted)
        second = client.post(f"{base}/jobs", json=wanted)
        assert (first.status_code, second.status_code) == (201, 200)
        number = first.json()["id"]
        assert second.json()["id"] == number

        def ended() -> bool:
            return bool(client.get(f"{base}/jobs/{number}").json()["counts"].get("failed"))

        eventually(ended, timeout=60)
        items = client.get(f"{base}/jobs/{number}/items").json()["items"]
        assert [each["state"] for each in items] == ["failed"]
        assert client.post(f"{base}/jobs/{number}/sing").status_code == 404
        assert client.post(f"{base}/jobs/9999/pause").status_code == 409
        audit = client.get(f"{base}/audit?limit=2").json()["items"]
        assert [each["job"] for each in audit] == [number, number]
        causes = client.get(f"{base}/causes").json()["items"]
        assert {"code", "title", "means", "do", "exit"} <= set(causes[0])
        tried = client.post(f"{base}/alerts/test").json()["channels"]
        assert tried == {"hospital": {"sent": True, "answer": "204"}}
        assert client.get(f"{base}/alerts").json()["items"][0]["state"] == "sent"
        found = client.get(f"{base}/{letter_of(client)}").json()
        assert found["actions"]


def letter_of(client: httpx2.Client) -> int:
    """The number of the newest open dead letter."""
    return int(client.get("/api/v1/dead-letters").json()["items"][0]["id"])


def test_the_desk_from_the_command_line(
    house: House, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ecluse = Shell(capsys, house.configuration)
    (group,) = ecluse.json("dead", "groups")
    name, number = group["group"], str(group["sample_id"])
    assert "lab 1" in ecluse("dead", "groups")
    ecluse("dead", "assign", "carl", "--group", name)
    ecluse("dead", "assign", "carl", "--letter", number)
    ecluse("dead", "note", "the ward is asked", "--letter", number)
    ecluse("dead", "note", "x", code=Code.USAGE)
    assert [str(each["id"]) for each in ecluse.json("dead", "list", "--assignee", "carl")] == [
        number
    ]
    shown = ecluse("dead", "show", number)
    assert "the ward is asked" in shown
    assert "Who did what" in shown
    told = ecluse.json(
        "dead", "replay", "--group", name, "--ramp", "1", "--rate", "50", "--key", "cli-1"
    )
    again = ecluse.json(
        "dead", "replay", "--group", name, "--ramp", "1", "--rate", "50", "--key", "cli-1"
    )
    assert again["id"] == told["id"]
    job = str(told["id"])

    def ended() -> bool:
        return ecluse.json("dead", "jobs", "show", job)["state"] in ("done", "halted")

    eventually(ended, timeout=60)
    assert "10 % failures" in ecluse("dead", "jobs", "show", job)
    assert job in ecluse("dead", "jobs", "list")
    ecluse("dead", "jobs", "pause", job, code=Code.FAILED)
    ecluse("dead", "replay", "--group", name, "--ramp", "one", code=Code.USAGE)
    number = str(ecluse.json("dead", "groups")[0]["sample_id"])
    ecluse("dead", "edit", number, "--show-entries", code=Code.FAILED)
    assert "no entries were made of it" in ecluse.err
    archive = tmp_path / "ticket.zip"
    ecluse("dead", "export", number, "-o", str(archive), "--deidentify")
    assert "is written, de-identified" in ecluse.err
    assert zipfile.is_zipfile(archive)
    ecluse("dead", "export", number, "-o", str(archive), code=Code.USAGE)
    ecluse("dead", "export", "99999999", "-o", str(tmp_path / "none.zip"), code=Code.FAILED)
    assert "the ward is asked" in ecluse("dead", "audit")
    assert "hospital" in ecluse("dead", "alerts")
    assert "204" in ecluse("dead", "alerts", "--test")
    corrected = tmp_path / "corrected.hl7"
    with house.gateway.journal.read() as connection:
        letter = deadletters.get(connection, int(number))
        assert letter is not None
        message = messages.get(connection, letter.message_id)
    assert message is not None
    assert message.body is not None
    corrected.write_bytes(message.body.replace(hl7.WRONG_INS.encode(), hl7.INS.encode()))
    edited = ecluse.json(
        "dead", "edit", number, "--message", str(corrected), "--reason", "asked the ward"
    )
    assert edited["counts"] == {"repaired": 1}
    house.wait()
    assert ecluse.json("dead", "groups") == []
