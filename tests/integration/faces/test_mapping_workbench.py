"""An engineer's day in Chromium: a code that is unknown, a row, its effect, and the record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.journal import messages
from tests.eventually import eventually
from tests.integration.faces import messages as hl7
from tests.integration.faces import sites
from tests.integration.faces.house import House, running_house
from tests.integration.faces.test_console_browser import CONTRAST

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

POTASSIUM, GLUCOSE = "K^Potassium", "GLU^Glucose"
SHOTS = os.environ.get("ECLUSE_SCREENSHOTS", "")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("workbench")
    with running_house(folder, more=sites.configuration(sites.write_site(folder))) as made:
        made.send(
            hl7.admission("A1"),
            hl7.results("R1", "O1", {GLUCOSE: "5.0", POTASSIUM: "4.10"}),
            hl7.results("R2", "O2", {POTASSIUM: "4.2"}),
        )
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_can_be_used_by_everyone(
    page: playwright.Page, house: House, scheme: str, width: int
) -> None:
    """Nothing wider than the window, every control named, every text readable."""
    draft = house.gateway.drafts.begin("a test")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    number = house.number("R1")
    for name, path in {
        "mappings": "/mappings",
        "reprocess": "/mappings/reprocess?source=lab&look=true",
        "draft": f"/mappings/drafts/{draft}?message={number}",
        "shipped": f"/mappings/drafts/{draft}?file=base/hl7/results.yaml&line=20",
    }.items():
        page.goto(path)
        if name == "draft":
            playwright.expect(page.locator(".explained[open] .value").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("h1").count() == 1
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]),select,textarea,button')]"
            ".filter(e => !e.labels?.length && !e.textContent.trim() && !e.ariaLabel)"
            ".map(e => e.outerHTML)"
        )
        assert unnamed == []
        assert page.evaluate(CONTRAST) == []
        shot(page, f"{name}-{width}-{scheme}")
    house.gateway.drafts.drop(draft)


def codes(house: House, control_id: str) -> list[list[str]]:
    with house.gateway.journal.read() as connection:
        kept = messages.normalised(connection, house.number(control_id))
        assert kept is not None
        found = []
        for entry in kept.entries:
            kind, _, name = entry.reference.partition("/")
            if kind == "Observation":
                stored = house.gateway.record.read(connection, kind, name)
                assert stored is not None
                found.append([each["code"] for each in stored.resource["code"]["coding"]])
    return found


def test_an_engineers_day(page: playwright.Page, house: House) -> None:
    expect = playwright.expect
    assert codes(house, "R1") == [["2345-7", "GLU"], ["K"]]
    page.goto("/mappings")
    shot(page, "1-mappings")
    page.get_by_role("button", name="Edit a draft").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(
        "Draft over the files at the start"
    )

    # The coverage of yesterday's messages names the code that no table has.
    page.locator("#last").get_by_label("Source").select_option("lab")
    page.get_by_role("button", name="Coverage").click()
    row = page.locator("#many tr", has_text="chu/analyses")
    expect(row).to_contain_text("K")
    shot(page, "2-coverage")
    row.get_by_role("link", name="sites/chu/terminology/analyses.yaml").click()

    # The message beside the file, and where a value comes from.
    expect(page.locator("#message-body .segment").first).to_contain_text("MSH")
    expect(page.locator("#entries-body")).to_contain_text("unknown code")
    observation = page.locator('.explained:has(summary strong:text-is("Observation"))').last
    value = observation.locator("li", has_text="code.coding[0].code").locator(".value")
    value.click()
    expect(page.locator("#explained")).to_contain_text("OBX-3")
    expect(page.locator(".field.lit").first).to_be_visible()
    shot(page, "3-explained")
    page.get_by_placeholder("Observation[0].bodySite").fill("Observation[0].bodySite")
    page.get_by_role("button", name="Where from, or why absent?").click()
    expect(page.locator("#explained .explained-said")).to_contain_text("No value stands there")
    expect(page.locator("#explained .tried li").first).to_contain_text("OBX-20")
    shot(page, "4-absent")

    # A wrong row is marked where it is wrong, and cannot be deployed.
    editor = page.locator("#text")
    good = editor.input_value()
    editor.fill(good + sites.WRONG)
    finding = page.locator(".finding", has_text="kode")
    expect(finding).to_be_visible()
    expect(page.locator(".squiggle")).to_have_text("kode")
    expect(page.locator("[data-deploy]")).to_be_disabled()
    finding.get_by_role("link").click()
    expect(page.locator("[data-place]")).to_contain_text("Line 8")
    expect(page.locator("[data-finding]")).to_contain_text("kode")
    shot(page, "5-error")

    editor.fill(good + sites.ROW)
    expect(page.locator("#check .state")).to_have_text("No errors")
    expect(page.locator("#entries-body")).to_contain_text("2823-3")

    # The difference is the potassium's code and nothing else.
    page.locator("#last").get_by_label("Source").select_option("lab")
    page.get_by_role("button", name="Differences to what is in force").click()
    counts = page.locator("#many .job-counts")
    expect(counts.locator("div", has_text="Facts changed")).to_contain_text("2")
    expect(counts.locator("div", has_text="Facts new")).to_contain_text("0")
    assert {each.split("[")[0].split(".")[0] for each in
            page.locator("#many .diff td:first-child").all_text_contents()} == {"code"}  # fmt: skip
    shot(page, "6-diff")

    page.get_by_label("Reason").fill("Potassium of the laboratory")
    page.get_by_role("button", name="Deploy", exact=True).click(timeout=90_000)
    expect(page.get_by_role("status").first).to_contain_text("Version 2 is in force")
    shot(page, "7-deployed")
    house.send(hl7.results("R3", "O3", {POTASSIUM: "4.3"}))
    house.wait()
    assert codes(house, "R3") == [["2823-3", "K"]]

    # What is in the record follows when it is told to.
    page.get_by_role("link", name="reprocess", exact=True).click()
    page.get_by_label("Source").select_option("lab")
    page.get_by_role("button", name="See what would change").click()
    expect(page.locator(".tile", has_text="Would change")).to_contain_text("2")
    shot(page, "8-dry-run")
    page.get_by_label("Reason").fill("Potassium of the laboratory")
    page.get_by_role("button", name="Reprocess 4 messages").click()
    expect(page.locator("#job .state")).to_have_text("done")
    shot(page, "9-reprocessed")
    house.wait()
    eventually(lambda: codes(house, "R1") == [["2345-7", "GLU"], ["2823-3", "K"]])
    assert codes(house, "R2") == [["2823-3", "K"]]

    # And the way back.
    page.goto("/mappings")
    page.get_by_role("link", name="Go back to 1…").first.click()
    expect(page.locator(".file-changes")).to_contain_text("analyses.yaml")
    page.get_by_label("Reason").fill("It was another potassium")
    shot(page, "10-rollback")
    page.get_by_role("button", name="Go back to version 1").click()
    expect(page.get_by_role("status").first).to_contain_text("Version 1 is in force")
    shot(page, "11-history")
