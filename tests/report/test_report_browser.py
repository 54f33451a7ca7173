"""The report in a real browser, from its file alone."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from report_runs import write_run

from batchflow.report.page import write_page
from batchflow.report.sections import SECTIONS
from batchflow.results.tables import open_run

pytestmark = pytest.mark.browser
OVERFLOWING = """
const wide = document.documentElement.clientWidth;
return Array.from(document.querySelectorAll("body *")).filter(e => {
  const box = e.getBoundingClientRect();
  return box.right > wide + 1 && !e.closest(".wide, figure a, .card table, pre");
}).map(e => e.tagName + " " + e.textContent.slice(0, 40));
"""
OVERLAPPING = """
const links = Array.from(document.querySelectorAll("nav a")).map(e => e.getBoundingClientRect());
return links.some((a, i) => links.some((b, j) => i < j &&
  a.left < b.right && b.left < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "run"
    run = write_run(folder, {"NGC 1": 80, "<script>document.title = 'x'</script>": 5, "M 3": 3})
    alone = tmp_path_factory.mktemp("alone") / "index.html"
    shutil.copy(write_page(open_run(run.root)), alone)
    return alone


def show(browser: Any, page: Path, width: int) -> None:
    # The window's own least width is 500 pixels: only the device's can be smaller.
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def screenshot(browser: Any, path: Path) -> bytes:
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
    content = base64.b64decode(shot["data"])
    path.write_bytes(content)
    return content


@pytest.mark.parametrize("width", [1280, 400])
def test_page_fits_and_all_of_it_is_shown(browser: Any, page: Path, width: int, tmp_path: Path) -> None:
    show(browser, page, width)
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.title == "batchflow report: made-up"
    sizes = browser.execute_script(
        "return Array.from(document.images).map(i => [i.complete, i.naturalWidth])"
    )
    assert len(sizes) >= 12
    assert all(done and natural > 200 for done, natural in sizes)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OVERFLOWING) == []
    assert not browser.execute_script(OVERLAPPING)
    place = Path(os.environ.get("BATCHFLOW_SCREENSHOTS", tmp_path))
    assert screenshot(browser, place / f"report-{width}.png").startswith(b"\x89PNG")
    assert browser.get_log("browser") == []


def test_a_click_on_a_column_sorts_it(browser: Any, page: Path) -> None:
    show(browser, page, 1280)
    read = """
    const tables = Array.from(document.querySelectorAll("table"));
    const table = tables.find(t => t.caption.textContent.startsWith("Objects"));
    const at = Array.from(table.tHead.rows[0].cells).findIndex(c => c.textContent === "efficiency");
    if (arguments[0]) table.tHead.rows[0].cells[at].querySelector("button").click();
    return Array.from(table.tBodies[0].rows).map(r => Number(r.cells[at].dataset.value));
    """
    before = browser.execute_script(read, False)
    up, down = browser.execute_script(read, True), browser.execute_script(read, True)
    assert before != up
    assert up == sorted(before)
    assert down == sorted(before, reverse=True)


def test_contents_lead_to_sections(browser: Any, page: Path) -> None:
    show(browser, page, 1280)
    pairs = browser.execute_script(
        "return Array.from(document.querySelectorAll('nav a')).map(a => [a.textContent, "
        "document.querySelector(a.getAttribute('href')).querySelector('h2').textContent])"
    )
    assert len(pairs) == len(SECTIONS)
    assert all(link == heading for link, heading in pairs)
