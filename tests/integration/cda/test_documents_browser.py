"""Documents in Chromium: a practice's day, and narratives that try to run or fetch something."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.integration.faces.house import House, running_house
from tests.unit.cda.hostile import NARRATIVES, PNG, all_together, hostile_document

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

SHOTS = os.environ.get("ECLUSE_SHOTS")
MORE = """
  - {{name: drop, type: cda-folder, path: '{drop}', poll_seconds: 0.05, settle_seconds: 0.05, check: refuse}}
  - {{name: strict, type: cda-http, check: refuse}}
  - {{name: noted, type: cda-http, check: flag}}
"""


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Path]]:
    folder = tmp_path_factory.mktemp("practice")
    with running_house(folder, more=MORE.format(drop=folder / "drop")) as house:
        yield house, folder / "drop"


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
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


def shot(page: playwright.Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


@contextlib.contextmanager
def canary() -> Iterator[tuple[int, list[bytes]]]:
    """A listener on a port of its own, and what reached it."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    ending = threading.Event()

    def listen() -> None:
        while not ending.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    heard.append(connection.recv(200))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        ending.set()
        thread.join()
        listener.close()


def put(drop: Path, name: str, data: bytes) -> None:
    unfinished = drop / "incoming" / f"{name}.part"
    unfinished.write_bytes(data)
    unfinished.rename(drop / "incoming" / name)


def names(drop: Path, place: str) -> list[str]:
    return sorted(each.name for each in (drop / place).iterdir())


def test_a_practices_day(practice: tuple[House, Path], page: playwright.Page, shared: Path) -> None:
    """A folder of documents, two refused for reasons that anyone understands, one mended, read."""
    house, drop = practice
    corpus = shared / "corpora" / "cda"
    good = ["LDL-SES_2022.01.xml", "BIO-CR-BIO_2024.01_Electrophorese.xml", "VAC_2023.01.xml"]
    wrong_key = (
        (corpus / "LDL-EES_2022.01.xml")
        .read_bytes()
        .replace(b"279035121518989", b"279035121518988")
    )
    no_pdf = (corpus / "TLM-CR_2022.01.xml").read_bytes()
    start = no_pdf.index(b">", no_pdf.index(b'representation="B64"')) + 1
    end = no_pdf.index(b"</text>", start)
    no_pdf = no_pdf[:start] + base64.b64encode(b"<html>no</html>" * 9) + no_pdf[end:]
    for name in good:
        put(drop, name, (corpus / name).read_bytes())
    put(drop, "liaison.xml", wrong_key)
    put(drop, "telemedecine.xml", no_pdf)
    # A document stands there a moment before its reason does: it has left `incoming` when both do.
    eventually(
        lambda: len([n for n in names(drop, "refused") if n.endswith(".reason.txt")]) == 2,
        timeout=60,
    )
    eventually(lambda: len(names(drop, "accepted")) == 3, timeout=30)
    reason = (drop / "refused" / "liaison.xml.reason.txt").read_text()
    assert "Le matricule INS n'est pas valide : la clé ne correspond pas au numéro." in reason
    assert "279035121518988" not in reason
    assert (
        "Le contenu annoncé comme PDF n'est pas un PDF."
        in (drop / "refused" / "telemedecine.xml.reason.txt").read_text()
    )

    page.goto(f"{house.url}/messages?state=refused")
    assert page.locator("tbody tr").count() == 2
    page.locator("tbody tr").last.locator("a").first.click()
    page.get_by_role("link", name="Read it, with its report").click()
    playwright.expect(page.locator(".verdict")).to_contain_text("erreur")
    shot(page, "refused")

    # Mended by its author: the same identifier may come again, for what was refused was not taken.
    put(drop, "liaison.xml", (corpus / "LDL-EES_2022.01.xml").read_bytes())
    eventually(lambda: "liaison.xml" in names(drop, "accepted"), timeout=30)
    house.wait()
    page.goto(f"{house.url}/patients")
    page.locator("tbody tr a").first.click()
    assert page.locator("article.document").count() == 4
    shot(page, "record")
    page.locator("article.document", has_text="Lettre de liaison à la sortie").first.get_by_role(
        "link", name="Read", exact=True
    ).click()
    frame = page.frame_locator("iframe.rendering")
    playwright.expect(frame.locator("h1")).to_contain_text("Lettre de liaison")
    playwright.expect(frame.locator(".patient")).to_have_text("DOMINIQUE PAT-TROIS")
    playwright.expect(page.locator(".verdict-good")).to_be_visible()
    shot(page, "reading")
    page.set_viewport_size({"width": 390, "height": 800})
    shot(page, "reading-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_dropped_document_is_judged_and_shown_and_not_kept(
    practice: tuple[House, Path], page: playwright.Page, shared: Path
) -> None:
    house, _ = practice
    with house.client() as client:
        before = client.get("/api/v1/messages").text
    page.goto(f"{house.url}/documents")
    shot(page, "drop")
    page.set_input_files("#files", shared / "corpora" / "cda" / "CSE-MDE_2023.01.xml")
    page.get_by_role("button", name="Check").click()
    playwright.expect(page.locator(".verdict-bad")).to_contain_text("1 erreur")
    playwright.expect(page.frame_locator("iframe.rendering").locator("h1")).to_be_visible()
    shot(page, "dropped")
    page.goto(f"{house.url}/documents")
    page.set_input_files(
        "#files",
        [shared / "corpora" / "cda" / name for name in ("VAC_2023.01.xml", "TLM-CR_2022.01.xml")],
    )
    page.get_by_role("button", name="Check").click()
    playwright.expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="TLM-CR_2022.01.xml").click()
    playwright.expect(page.locator(".viewer iframe")).to_be_visible()
    with house.client() as client:
        assert client.get("/api/v1/messages").text == before


def test_hostile_narratives_run_nothing_and_fetch_nothing(
    practice: tuple[House, Path], page: playwright.Page, tmp_path: Path
) -> None:
    """Each in the console's frame, alone in a tab, and saved to a file: no listener hears it."""
    house, _ = practice
    asked: list[str] = []
    dialogs: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    with canary() as (port, heard):
        document = tmp_path / "hostile.xml"
        narrative = all_together().replace("CANARY", f"127.0.0.1:{port}")
        document.write_bytes(hostile_document(narrative))
        page.goto(f"{house.url}/documents")
        page.set_input_files("#files", document)
        page.get_by_role("button", name="Check").click()
        frame = page.frame_locator("iframe.rendering")
        playwright.expect(frame.locator("section").last).to_be_attached()
        playwright.expect(page.locator(".verdict")).to_be_visible()
        page.goto(f"{page.url}/rendering")
        assert page.locator("section").count() == len(NARRATIVES) + 1
        assert page.evaluate("document.querySelectorAll('script,svg,iframe,object').length") == 0
        assert page.evaluate("window.ran === undefined")
        shot(page, "hostile")
        saved = tmp_path / "hostile.html"
        saved.write_text(page.content())
        page.goto(saved.as_uri())
        assert page.evaluate("window.ran === undefined")
        assert not heard
        assert dialogs == []
    foreign = [url for url in asked
               if not url.startswith((house.url, "file://", "data:image/png", "about:"))]  # fmt: skip
    assert foreign == []


def test_pictures_of_a_document_are_shown(
    practice: tuple[House, Path], page: playwright.Page, tmp_path: Path
) -> None:
    house, _ = practice
    document = tmp_path / "picture.xml"
    document.write_bytes(
        hostile_document(
            '<renderMultiMedia referencedObject="m1"><caption>A picture</caption></renderMultiMedia>',
            media=PNG,
        )
    )
    page.goto(f"{house.url}/documents")
    page.set_input_files("#files", document)
    page.get_by_role("button", name="Check").click()
    image = page.frame_locator("iframe.rendering").locator("img")
    playwright.expect(image).to_be_visible()
    assert image.evaluate("each => each.naturalWidth") == 1


def test_a_source_over_http_refuses_with_reasons_and_another_only_notes_them(
    practice: tuple[House, Path], shared: Path
) -> None:
    house, _ = practice
    wrong = (
        (shared / "corpora" / "cda" / "VAC-NOTE_2023.01.xml")
        .read_bytes()
        .replace(b"279035121518989", b"279035121518988")
    )
    headers = {"content-type": "application/xml"}
    with house.client() as client:
        refused = client.post("/intake/cda/strict", content=wrong, headers=headers)
        assert refused.status_code == 422
        said = refused.json()
        assert (said["cause"], said["location"]) == (
            "profile-violated", "/ClinicalDocument/recordTarget/patientRole/id[1]/@extension",
        )  # fmt: skip
        assert said["detail"] == "1 error; the first is of rule INS-CLE (Écluse)"
        (reason,) = said["reasons"]
        assert reason.startswith("Le matricule INS n'est pas valide")
        assert "279035121518988" not in refused.text
        noted = client.post("/intake/cda/noted", content=wrong, headers=headers)
        assert noted.status_code == 201
        page = client.get(f"/messages/{noted.json()['message_id']}").text
        assert "errors: 1, warnings: 1" in page
        # Another document under the identifier of one that was taken.
        other = client.post("/intake/cda/noted", content=wrong + b"\n", headers=headers)
        assert other.status_code == 422
        assert (other.json()["cause"], other.json()["location"]) == (
            "control-id-reused", "/ClinicalDocument/id",
        )  # fmt: skip
        again = client.post("/intake/cda/noted", content=wrong, headers=headers)
        assert (again.status_code, again.json()["disposition"]) == (200, "duplicate")


def test_a_document_of_another_record_does_not_exist(practice: tuple[House, Path]) -> None:
    house, _ = practice
    with house.client() as client:
        found = client.get("/fhir/DocumentReference?_count=1").json()["entry"][0]["resource"]
        for path in (f"/documents/record/nobody/{found['id']}", "/documents/dropped/none/rendering",
                     "/documents/messages/99999", "/documents/messages/x/pdf/0"):  # fmt: skip
            assert client.get(path).status_code == 404, path
        patient = found["subject"]["reference"].partition("/")[2]
        answer = client.get(f"/documents/record/{patient}/{found['id']}/rendering")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
