"""How far the posteriors can be trusted: efficiency, predictive checks, flags, the worst objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from batchflow.report.content import Absence, Block, Listing, Paragraph, Picture, Section, listing
from batchflow.report.data import ReportData
from batchflow.report.one_cluster import flag_names
from batchflow.report.pictures import BLUE, GREY, new_figure
from batchflow.report.tables import coverage_table
from batchflow.results.flags import count_flags, flag_meanings

EACH = 10
"""Objects listed for each way of being bad."""
INFERRED = "isfinite(log_age_q50)"
NO_POSTERIOR = "This run has no posteriors (yet)."
COLUMNS = (
    *("galaxy", "object_id", "n_bands", "efficiency", "ppc_chi2", "ppc_pvalue", "ood_pvalue", "n_modes"),
    *("log_age_q16", "log_age_q84", "published_log_age", "flags"),
)
HEAD = (
    *("worst in", "galaxy", "object", "bands", "efficiency", "chi2", "ppc p", "ood p", "modes"),
    *("log age, 68 %", "published", "flags"),
)
REASONS = {
    "efficiency": "efficiency",
    "fit (ppc p)": "ppc_pvalue",
    "colours (ood p)": "ood_pvalue",
    "published age": "-abs(log_age_q50 - published_log_age)",
}
"""Why an object is listed, and what it is ordered by."""


def trust(data: ReportData) -> Section:
    """Distributions of efficiency and of the p-values."""
    title = "Trust"
    if not data.total:
        return Section(title, [Absence(NO_POSTERIOR)])
    panels = {
        "efficiency": ("efficiency (effective draws / draws)", "not certified"),
        "ppc_pvalue": ("posterior predictive p-value", "no predictive check"),
        "ood_pvalue": ("out-of-distribution p-value", "not measured"),
    }
    figure = new_figure(9.6, 3.2)
    for axes, (name, (label, absent)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        values = data.column(name)
        values = values[np.isfinite(values)]
        axes.set(xlabel=label, xlim=(0, 1))
        if not values.size:
            axes.text(0.5, 0.5, absent, ha="center", va="center", transform=axes.transAxes)
            axes.set_yticks([])
            continue
        axes.hist(np.clip(values, 0, 1), bins=np.linspace(0, 1, 41), color=BLUE)
        if name != "efficiency":
            axes.axhline(values.size / 40, color=GREY, lw=1, ls="--")
        axes.set_ylabel("clusters")
    caption = (
        "Left: the certificate of each posterior; look for few clusters near zero. Middle and right: how "
        "probable a worse fit, or a stranger cluster, would be if the model were right; look for even bars "
        "at the dashed line. A spike at zero are clusters that no model fits, or unlike all mocks; a slope "
        f"to the right says that errors are overstated.{data.sampled}"
    )
    alt = "Histograms of efficiency, posterior predictive p-value and out-of-distribution p-value."
    blocks: list[Block] = [Picture("trust", figure, alt, caption)]
    surveys = coverage_table(data.description)
    outside = surveys.filter(pc.greater(surveys["outside"], 0)) if surveys.num_rows else surveys
    if outside.num_rows:
        blocks.append(listing(outside, "Clusters outside what the network was trained on, by survey."))
    elif surveys.num_rows:
        blocks.append(Paragraph("No cluster of any survey lies outside what the network was trained on."))
    return Section(title, blocks)


def flags(data: ReportData) -> Section:
    """How many clusters carry each flag, and what it means."""
    title = "Flags"
    if not data.total:
        return Section(title, [Absence(NO_POSTERIOR)])
    meanings = flag_meanings()
    counted = count_flags(data.folder.root).to_pylist()
    rows = tuple(
        (row["flag"], row["all"], f"{100 * row['share']:.3g} %", _most(row), meanings.get(row["flag"], ""))
        for row in counted
        if row["flag"] != "clusters"
    )
    head = ("flag", "clusters", "share", "most in", "meaning")
    caption = "Flags; a cluster may carry several. Most in: the galaxies with the most such clusters."
    return Section(title, [Listing(caption, head, rows)])


def worst_objects(data: ReportData) -> Section:
    """A table of the objects that most need a look."""
    title = "Worst objects"
    if not data.total:
        return Section(title, [Absence(NO_POSTERIOR)])
    rows = [row for reason, order in REASONS.items() for row in _worst(data, reason, order)]
    if not rows:
        return Section(title, [Absence("No cluster has a posterior that could be bad.")])
    head = (
        f"The {EACH} worst of each kind: lowest efficiency, lowest posterior predictive p-value (no model "
        "fits), lowest out-of-distribution p-value (unlike all mocks), farthest from the published age. A "
        "click on a column's name sorts. A published value that differs may be the wrong one, and an "
        "object unlike the mocks may be no cluster."
    )
    return Section(title, [Paragraph(head), Listing("Objects that most need a look.", HEAD, tuple(rows))])


def _worst(data: ReportData, reason: str, order: str) -> list[tuple[object, ...]]:
    known = data.run.table("posterior").dataset.schema.names
    columns = ", ".join(name if name in known else f"NULL AS {name}" for name in COLUMNS)
    # The words are this module's own; nothing of a catalogue is among them.
    found = data.run.query(
        f"SELECT {columns}, {order} AS measure FROM posterior "  # noqa: S608
        f"WHERE isfinite(measure) AND {INFERRED} "
        f"ORDER BY measure, galaxy, object_id LIMIT {EACH}"
    )
    return [_listed(reason, row) for row in found.to_pylist()]


def _listed(reason: str, row: dict[str, Any]) -> tuple[object, ...]:
    *first, low, high, published, bits = (row[name] for name in COLUMNS)
    return reason, *first, f"{low:.2f} - {high:.2f}", published, flag_names(int(bits or 0))


def _most(row: dict[str, Any]) -> str:
    """The galaxies that most often have a flag."""
    counts = {name: n for name, n in row.items() if name not in ("flag", "bit", "all", "share") and n}
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]
    more = ", ..." if len(counts) > 3 else ""
    return ", ".join(f"{name} {n:,}" for name, n in first) + more
