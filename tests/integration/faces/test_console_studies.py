"""A study that was stored over DICOMweb, in the console: its series, a frame, its windows."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.dicom.objects import CT, EXPLICIT, STUDY, element, file_head
from tests.integration.dicom.web import multipart
from tests.integration.faces.house import House, running_house

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
SIDE = 32


def slice_of(number: int) -> bytes:
    """A small CT slice that says how it is to be shown."""
    uid = f"{STUDY}.1.{number}"
    short = struct.Struct("<H")
    body = b"".join([
        element(0x00080016, "UI", CT), element(0x00080018, "UI", uid),
        element(0x00080020, "DA", "20260301"), element(0x00080060, "CS", "CT"),
        element(0x00081030, "LO", "Thorax <b>"), element(0x0008103E, "LO", "Lung"),
        element(0x00100010, "PN", "Exemple^Emilie"), element(0x00100020, "LO", "P1"),
        element(0x0020000D, "UI", STUDY), element(0x0020000E, "UI", f"{STUDY}.1"),
        element(0x00200011, "IS", "1"), element(0x00200013, "IS", str(number)),
        element(0x00280002, "US", short.pack(1)), element(0x00280004, "CS", "MONOCHROME2"),
        element(0x00280010, "US", short.pack(SIDE)), element(0x00280011, "US", short.pack(SIDE)),
        *(element(0x00280000 + n, "US", short.pack(v))
          for n, v in ((0x100, 16), (0x101, 16), (0x102, 15), (0x103, 0))),
        element(0x00281050, "DS", "500"), element(0x00281051, "DS", "1000"),
        element(0x7FE00010, "OW", b"".join(short.pack(n) for n in range(SIDE * SIDE))),
    ])  # fmt: skip
    return file_head(CT, uid, EXPLICIT) + body


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("pictures")
    with running_house(
        folder, more="  - {name: pacs, type: dicomweb, free_bytes_min: 0}\n"
    ) as made:
        kind, body = multipart([slice_of(number) for number in (1, 2, 3)])
        with made.client() as client:
            answer = client.post(
                "/dicomweb/pacs/studies", content=body, headers={"Content-Type": kind}
            )
        assert answer.status_code == 200
        yield made


@pytest.fixture
def page(house: House) -> Iterator[playwright.Page]:
    """A page whose every script error and refused resource fails the test."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium is not None, "no Chromium: run `make servers`"
    faults: list[str] = []
    # On two cores that others share, what a page makes when it is first asked for takes its time.
    playwright.expect.set_options(timeout=60_000)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(base_url=house.url)
        opened.on("pageerror", lambda error: faults.append(f"error: {error}"))
        opened.on("console", lambda said: said.type == "error" and faults.append(said.text))
        yield opened
        browser.close()
    assert not faults, faults


def test_a_study_is_looked_through_frame_by_frame(page: playwright.Page) -> None:
    page.goto("/studies")
    page.get_by_role("link", name=STUDY, exact=True).click()
    assert page.get_by_role("heading", level=1).inner_text() == "Thorax <b>"
    picture = page.locator(".thumbnail img")
    playwright.expect(picture).to_have_js_property("complete", value=True, timeout=60_000)
    assert picture.evaluate("image => image.naturalWidth") == 160
    page.get_by_role("link", name="Lung").click()
    frame = page.locator("#frame")
    playwright.expect(frame.get_by_role("heading", level=2)).to_have_text("1 of 3")
    frame.get_by_role("link", name="Next").click()
    playwright.expect(frame.get_by_role("heading", level=2)).to_have_text("2 of 3", timeout=60_000)
    playwright.expect(frame).to_contain_text("window 500.0 / 1000.0")
    frame.get_by_role("link", name="Bone").click()
    playwright.expect(frame).to_contain_text("window 400.0 / 1800.0", timeout=60_000)
    shown = frame.locator("img")
    playwright.expect(shown).to_have_js_property("naturalWidth", 768, timeout=60_000)
    frame.get_by_label("Go to").fill("3")
    frame.get_by_role("button", name="Show").click()
    playwright.expect(frame.get_by_role("heading", level=2)).to_have_text("3 of 3", timeout=60_000)
    assert frame.locator("[rel=next]").count() == 0


def test_addresses_that_name_nothing_say_so(house: House) -> None:
    with house.client() as client:
        for path, status in (
            ("/studies/1.2.3", 404), ("/studies/none", 404), (f"/studies/{STUDY}/series/1.2", 404),
            (f"/studies/{STUDY}/series/{STUDY}.1?place=99", 200),
            (f"/studies/{STUDY}/series/{STUDY}.1/picture?place=99", 404),
            (f"/studies/{STUDY}/series/{STUDY}.1/picture?window=x", 200),
            (f"/dicomweb/studies/{STUDY}/metadata", 200), ("/dicomweb/nobody/studies", 404),
        ):  # fmt: skip
            assert client.get(path).status_code == status, path
        metrics = client.get("/metrics").text
        assert 'ecluse_source_events_total{event="store-0000",source="pacs"} 3.0' in metrics
        other = {"Origin": "https://elsewhere.example"}
        assert client.post("/dicomweb/studies", content=b"", headers=other).status_code == 403
