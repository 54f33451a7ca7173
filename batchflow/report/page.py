"""The report as one page: every section rendered, every picture in it and beside it."""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from batchflow.report.content import Absence, Section
from batchflow.report.data import ReportData
from batchflow.report.pictures import DPI, png
from batchflow.report.plan import PAGE
from batchflow.report.sections import SECTIONS, SectionMaker
from batchflow.report.sections.what_ran import file_date
from batchflow.results.tables import Run
from batchflow.shards import write_bytes, write_text

LOG = logging.getLogger("batchflow")
PICTURES = "pictures"
"""Folder of the PNG files, beside the page."""

SCRIPT = """
document.querySelectorAll("thead th").forEach(function (th) {
  var button = document.createElement("button");
  button.type = "button";
  button.textContent = th.textContent;
  th.replaceChildren(button);
  button.addEventListener("click", function () {
    var body = th.closest("table").tBodies[0], up = th.getAttribute("aria-sort") !== "ascending";
    var key = function (row) {
      var cell = row.cells[th.cellIndex], value = cell.dataset.value;
      return value === undefined ? cell.textContent : Number(value);
    };
    var rows = Array.from(body.rows).sort(function (a, b) {
      var x = key(a), y = key(b), both = typeof x === "number" && typeof y === "number";
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      return (up ? 1 : -1) * (both ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true}));
    });
    th.parentNode.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  });
});
"""
"""Sorts a table by a column; the page can be read without."""


@dataclass(frozen=True)
class _Image:
    content: bytes
    width: int
    height: int

    @property
    def base64(self) -> str:
        return base64.b64encode(self.content).decode()


def write_page(run: Run, makers: tuple[SectionMaker, ...] = SECTIONS) -> Path:
    """Write the report of a run: ``report/index.html`` and ``report/pictures/*.png``.

    Parameters
    ----------
    run : Run
        From `open_run`, as far as it has got.
    makers : tuple of callable
        The sections, in order.

    Returns
    -------
    Path
        The page; it needs no other file. A report that is there stays until the new one is whole.

    Raises
    ------
    UserError
        When the file system refuses.
    """
    data = ReportData(run)
    sections = [_made(maker, data) for maker in makers]
    images = {item.name: _draw(item.figure) for section in sections for item in section.pictures}
    text = _render(data, sections, images)
    folder = run.folder.report / PICTURES
    for name, image in images.items():
        write_bytes(folder / f"{name}.png", image.content)
    write_text(run.folder.report / PAGE, text)
    for old in folder.glob("*.png"):
        if old.stem not in images:
            old.unlink(missing_ok=True)
    return run.folder.report / PAGE


def _made(maker: SectionMaker, data: ReportData) -> Section:
    """A section; one that fails says so, and the rest of the page is made."""
    try:
        return maker(data)
    except Exception as error:
        title = maker.__name__.replace("_", " ").capitalize()
        LOG.exception("report: %s", title)
        return Section(title, [Absence(f"This part could not be made: {type(error).__name__}: {error}")])


def _draw(figure: object) -> _Image:
    content = png(figure)  # type: ignore[arg-type]  # matplotlib is imported late
    # Width and height stand at a fixed place of every PNG file (its header, IHDR).
    width, height = (int.from_bytes(content[place : place + 4], "big") for place in (16, 20))
    return _Image(content, width * 96 // DPI, height * 96 // DPI)


def _render(data: ReportData, sections: list[Section], images: dict[str, _Image]) -> str:
    name = data.job.name if data.job is not None else data.folder.root.name
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=f"batchflow report: {name}",
            date=file_date(data),
            sections=sections,
            images=images,
            folder=PICTURES,
            script=Markup(SCRIPT),  # noqa: S704 - ours, without a catalogue's words
            script_sha256=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        )
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("batchflow.report", "."), autoescape=True, undefined=StrictUndefined
    )
    found.globals.update(
        kinds=lambda block: type(block).__name__,
        is_number=_is_number,
        numeric=lambda block, i: any(_is_number(row[i]) for row in block.rows),
        markdown=_markdown,
    )
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN


def _markdown(text: str) -> Markup:
    """Markdown as HTML: raw HTML in it is escaped, links and images stay text; headings below the page's."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.disable(["link", "image", "autolink", "html_block", "html_inline"])
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    return Markup(reader.renderer.render(tokens, reader.options, {}))  # noqa: S704 - the reader escapes
