"""Age and mass distributions of the galaxies, where `batchflow population` inferred them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchflow.arrow import numbers
from batchflow.report.content import Absence, Picture, Section
from batchflow.report.data import ReportData, is_galaxy
from batchflow.report.pictures import BLUE, LABELS, new_figure, plain
from batchflow.results.population import NOTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Populations"
MOST_GALAXIES = 6
BANDS = (("q02", "q97", 0.2, "95 %"), ("q16", "q84", 0.35, "68 %"))


def populations(data: ReportData) -> Section:
    """Shares of clusters by age and mass, the richest galaxies first."""
    table = data.table("population")
    if table is None or not table.num_rows:
        lacking = (
            "Populations have not been inferred: `batchflow population RUN` folds all posteriors into them."
        )
        return Section(TITLE, [Absence(lacking)])
    counts = dict(zip(table["galaxy"].to_pylist(), table["n_clusters"].to_pylist(), strict=True))
    names = sorted(counts, key=lambda name: (-counts[name], name))
    parameters = pc.unique(table["parameter"]).to_pylist()
    shown = names[:MOST_GALAXIES]
    figure = new_figure(4.8 * len(parameters), 0.3 + 2.3 * len(shown))
    panels = figure.subplots(len(shown), len(parameters), squeeze=False)
    for row, galaxy in zip(panels, shown, strict=True):
        own = table.filter(pa.array(is_galaxy(table, galaxy)))
        for axes, parameter in zip(row, parameters, strict=True):
            _draw(axes, own.filter(pc.equal(own["parameter"], parameter)).sort_by("low"), parameter)
            axes.set_title(f"{plain(galaxy)} ({counts[galaxy]:,})", fontsize=9)
    panels[0, 0].legend(fontsize=7)
    caption = (
        f"Share of clusters per dex, every posterior folded in; {NOTE}. Dotted: posterior medians, counted, "
        "which errors spread and pile up. Look for: where the dotted line leaves the bands, medians mislead."
    )
    if len(names) > len(shown):
        more = len(names) - len(shown)
        caption += f" {more} further galaxies: population of `batchflow query`, and population/*.png."
    alt = "Distributions of age and mass of the clusters of each galaxy."
    return Section(TITLE, [Picture("populations", figure, alt, caption)])


def _draw(axes: Axes, rows: pa.Table, parameter: str) -> None:
    edges = np.append(numbers(rows, "low"), numbers(rows, "high")[-1:])
    for low, high, alpha, label in BANDS:
        axes.stairs(
            numbers(rows, high),
            edges,
            baseline=numbers(rows, low),
            fill=True,
            color=BLUE,
            alpha=alpha,
            lw=0,
            label=label,
        )
    axes.stairs(numbers(rows, "q50"), edges, baseline=None, color=BLUE, lw=1.5, label="median")
    axes.stairs(numbers(rows, "medians"), edges, baseline=None, color="k", ls=":", lw=1, label="counted")
    axes.set(xlabel=LABELS.get(parameter, parameter), ylabel="share per dex", xlim=edges[[0, -1]])
    axes.set_ylim(bottom=0)
