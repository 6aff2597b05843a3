"""The console in Chromium: what a person does, without a script error or a refused resource."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from tests.integration.faces import messages as hl7
from tests.integration.faces.house import House

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

VIEWER = "chrome-extension://"
OWN_SCHEMES = ("data:", "chrome:", VIEWER)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium is not None, "no Chromium: run `make servers`"
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: playwright.Browser, house: House) -> Iterator[playwright.Page]:
    """A page whose every script error, refused resource and failed request fails the test."""
    context = browser.new_context(base_url=house.url, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(f"error: {error}"))
    opened.on("console", lambda said: said.type == "error" and faults.append(said.text))
    opened.on("dialog", lambda dialog: (faults.append("a dialog"), dialog.dismiss()))
    opened.on("request", lambda r: r.url.startswith((house.url, *OWN_SCHEMES))
              or faults.append(f"asked elsewhere: {r.url}"))  # fmt: skip
    yield opened
    context.close()
    assert not faults, faults


def test_the_flow_is_live(page: playwright.Page, house: House) -> None:
    page.goto("/")
    tile = page.locator(".tile", has_text="Received").locator("dd a")
    before = int(tile.inner_text())
    house.send(hl7.results("LIVE1", "LIVE1", {"2823-3^Potassium": "4.2"}))
    playwright.expect(tile).to_have_text(str(before + 1), timeout=10_000)
    page.get_by_role("link", name="Pause", exact=True).click()
    assert page.locator("#live").get_attribute("hx-get") is None


def test_a_messages_bytes_and_trace_come_on_demand(page: playwright.Page, house: House) -> None:
    page.goto(f"/messages/{house.number('ORU1')}")
    assert hl7.FAMILY not in page.content()
    page.get_by_text("Show the bytes").click()
    playwright.expect(page.locator(".segment").first).to_contain_text("MSH")
    assert hl7.FAMILY in page.locator("#bytes-body").inner_text()
    page.get_by_text("Explain each value").click()
    entry = page.locator(".explained:not([open])", has_text="Observation").first
    entry.locator("summary").click()
    value = page.locator(".explained[open] a", has_text="OBX").first
    playwright.expect(value).to_be_visible()
    value.click()
    target = page.locator(".field:target")
    playwright.expect(target).to_be_visible()
    assert page.url.endswith(f"/messages/{house.number('ORU1')}{value.get_attribute('href')}")


def test_a_dead_message_is_repaired_by_hand(page: playwright.Page, house: House) -> None:
    body = hl7.results("HAND1", "HAND1", {"2823-3^Potassium": "4.4"}, ins=hl7.WRONG_INS)
    assert house.send(body) == ["AA"]
    house.wait()
    page.goto("/dead")
    page.goto(f"/dead/{house.letter('HAND1')}")
    page.get_by_text("Open the message for repair").click()
    field = page.get_by_label("Message, one segment a line")
    text = field.input_value()
    assert text.splitlines()[0].startswith("MSH|")
    field.fill(text.replace(hl7.WRONG_INS, hl7.INS))
    page.get_by_label("Reason for the repair").fill("INS confirmed by phone")
    page.get_by_role("button", name="Show what changes").click()
    playwright.expect(page.get_by_text("It would be read")).to_be_visible()
    page.get_by_role("button", name="Replay the repaired copy").click()
    playwright.expect(page.get_by_role("heading", level=1)).to_have_text("1 dead letter")
    page.get_by_role("link", name="message", exact=False).last.click()
    house.wait()
    page.reload()
    playwright.expect(page.locator(".head-state .state")).to_have_text("Delivered")


def test_a_group_is_replayed_after_a_dry_run(page: playwright.Page, house: House) -> None:
    page.goto("/dead")
    card = page.locator(".group", has_text="Patient.identifier").first
    card.get_by_role("link", name="Replay…").click()
    playwright.expect(page.get_by_text("Nothing has been done yet")).to_be_visible()
    page.get_by_role("button", name="Replay").dblclick()
    # The cause was not removed: the first step fails again, and the rest stays where it is.
    playwright.expect(page).to_have_url(re.compile("/dead/replays/[0-9]+$"))
    playwright.expect(page.locator("#job .state").first).to_have_text("halted", timeout=60_000)
    playwright.expect(page.get_by_role("status")).to_contain_text("1 of 1 failed again")
    house.wait()


def test_the_record_is_found_and_its_plot_opened(page: playwright.Page) -> None:
    page.goto("/patients")
    page.get_by_label("INS, local identifier or birth name").fill(hl7.INS)
    page.get_by_role("button", name="Find").click()
    playwright.expect(page.get_by_role("heading", level=1)).to_contain_text(hl7.FAMILY)
    assert hl7.INS not in page.url
    # The PDF's frame is let in by the page's own policy and by the document's.
    # Chromium's viewer then asks for its own parts; a refused frame would ask for nothing.
    with page.expect_request(lambda asked: asked.url.startswith(VIEWER), timeout=20_000):
        page.reload()
        page.locator("iframe").scroll_into_view_if_needed()
    page.get_by_role("link", name="Glucose").first.click()
    playwright.expect(page.locator("svg.plot")).to_be_visible()
    assert page.locator("svg.plot circle").count() >= 3


def test_hostile_text_is_only_text(page: playwright.Page) -> None:
    page.goto("/patients")
    page.get_by_label("INS, local identifier or birth name").fill(hl7.IPP)
    page.get_by_role("button", name="Find").click()
    playwright.expect(page.get_by_text("<script>alert").first).to_be_visible()
    assert page.locator("svg[onload]").count() == 0


@pytest.mark.parametrize("path", ["/", "/messages", "/dead", "/held", "/patients"])
def test_pages_can_be_used_by_everyone(page: playwright.Page, path: str) -> None:
    """Keyboard first, named controls, one main heading, nothing wider than a telephone."""
    page.goto(path)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator("h1").count() == 1
    assert page.locator("html[lang=en]").count() == 1
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input:not([type=hidden]),select,textarea,button')]"
        ".filter(e => !e.labels?.length && !e.textContent.trim() && !e.ariaLabel)"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(
    page: playwright.Page, house: House, scheme: str
) -> None:
    """WCAG 2.2 AA (1.4.3): 4.5 to 1 for text of this size."""
    page.emulate_media(color_scheme=scheme)
    page.goto(f"/messages/{house.number('DEAD0')}")
    low = page.evaluate(CONTRAST)
    assert low == []


CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb('white');
  };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility()) continue;
    if (e.closest('.visually-hidden, .skip, svg, .editor-marks, :disabled')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${e.className} ${e.textContent.slice(0, 40)}`);
  }
  return low;
}"""
