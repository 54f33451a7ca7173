"""All clusters, and galaxy by galaxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from batchflow.physics.engine import Light
from batchflow.report.colour_pictures import colour_name, colours, system_of, track_of
from batchflow.report.content import Absence, Block, Picture, Section, listing
from batchflow.report.data import ReportData, fluxes_of, is_galaxy
from batchflow.report.light import RunLight
from batchflow.report.pictures import FEW, GREY, LABELS, ORANGE, Axis, new_figure, plain, scatter, span
from batchflow.report.tables import galaxy_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Panel = Callable[["Axes", str], None]

COLUMNS, ROWS = 4, 3
"""Panels of a figure."""
MOST_GALAXIES = 36
TWINS = 1.03
"""Ratio of pivot wavelengths below which two bands are the same filter of two cameras."""
NO_POSTERIOR = "This run has no posteriors (yet)."


def all_clusters(data: ReportData) -> Section:
    """Ages, masses and reddenings of all clusters, and a table of galaxies."""
    title = "All clusters"
    if data.posterior is None or not data.total:
        return Section(title, [Absence(NO_POSTERIOR)])
    blocks: list[Block] = []
    if np.isfinite(data.column("log_age_q50")).any():
        blocks.append(_overview(data))
    else:
        blocks.append(Absence("None of the clusters has a posterior: the flags below say why."))
    caption = f"Galaxies; 16-84 % is the spread of the posterior medians.{data.sampled}"
    return Section(title, [*blocks, listing(galaxy_table(data.posterior), caption)])


def by_galaxy(data: ReportData) -> Section:
    """Age and mass of each galaxy's clusters."""
    title = "Age and mass by galaxy"
    if not np.isfinite(data.column("log_age_q50")).any():
        return Section(title, [Absence("There is no posterior to draw.")])
    limits = {name: _limits(data, name) for name in ("log_age", "log_mass")}

    def panel(axes: Axes, galaxy: str) -> None:
        own = data.of_galaxy(galaxy)
        x, y = (Axis(data.column(f"{name}_q50")[own], LABELS[name], limits[name]) for name in limits)
        scatter(axes, x, y)
        if own.sum() <= FEW:
            _bars(axes, data, own)
        axes.set_title(f"{plain(galaxy)} ({data.galaxies[galaxy]:,})", fontsize=9)

    caption = (
        "Posterior medians (a density above 1500 clusters, darker where there are more; 68 % bars up to "
        "30). Look for: masses rise with age, as only bright clusters are seen; ridges at single ages come "
        "from the model's colours, not from the galaxies."
    )
    return Section(title, list(_grids(data, "age-mass", panel, caption)))


def colours_by_galaxy(data: ReportData) -> Section:
    """Colours of each galaxy's clusters, with the model's track."""
    title = "Colours by galaxy"
    table, light = data.catalogue, data.light
    if table is None or not table.num_rows:
        return Section(title, [Absence("This run has no catalogue: there are no colours to draw.")])
    if light is None:
        return Section(title, [Absence("This run has no model whose colours could be drawn.")])
    shown = {name: found for name in data.galaxies if (found := _Colours.of(data, light, name)) is not None}
    if not shown:
        return Section(
            title, [Absence("No galaxy has three bands with fluxes: there are no two colours to draw.")]
        )
    limits = [
        span(np.concatenate([item.everything(i) for item in shown.values()]), 0.05, 0.5) for i in (0, 1)
    ]

    def panel(axes: Axes, galaxy: str) -> None:
        own = shown.get(galaxy)
        if own is None:
            axes.text(0.5, 0.5, "fewer than\nthree bands", ha="center", va="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[], title=plain(galaxy))
            return
        own.draw(axes, (limits[0], limits[1]))
        axes.set_title(f"{plain(galaxy)} ({data.galaxies[galaxy]:,})", fontsize=9)

    caption = (
        "Colours [mag], blue upwards, with the model's track at E(B-V) = 0 (line; dots at log age 6, 7, 8, "
        "9, 10 from the open dot on) and what E(B-V) = 0.3 does at log age 7 (arrow). Look for: clusters "
        "lie along the track or down the arrow from it. Many on the other side: a zero point, the "
        "photometry or the model is off."
    )
    return Section(title, list(_grids(data, "colours", panel, caption)))


class _Colours:
    """Two colours of a galaxy's clusters, red across and blue up."""

    def __init__(self, fluxes: Floats, bands: tuple[str, ...], light: Light, point: dict[str, float]) -> None:
        self.bands, self.light, self.point = bands, light, point
        self.pairs = ((bands[-2], bands[-1]), (bands[0], bands[1]))
        self.points = [colours(fluxes, light.bands, *pair) for pair in self.pairs]
        self.track = track_of(light, point, self.pairs)

    @classmethod
    def of(cls, data: ReportData, light: RunLight, galaxy: str) -> _Colours | None:
        """Of a galaxy's own bands, one for each wavelength; None with fewer than three."""
        table = data.catalogue
        if table is None:
            return None
        fluxes = fluxes_of(table, light.bands)[is_galaxy(table, galaxy)]
        counts = dict(zip(light.bands, (fluxes > 0).sum(axis=0).tolist(), strict=True))
        bands = _apart(sorted(filter(counts.get, counts), key=light.pivots.__getitem__), counts, light.pivots)
        return cls(fluxes, bands, light.fluxes, light.middle()) if len(bands) > 2 else None

    def everything(self, i: int) -> Floats:
        """All values along an axis."""
        return np.concatenate([self.points[i], self.track.line[i], self.track.arrow[i]])

    def draw(self, axes: Axes, limits: tuple[tuple[float, float], tuple[float, float]]) -> None:
        """Clusters, track, arrow; the blue colour upwards."""
        red, blue = (Axis(self.points[i], colour_name(*self.pairs[i]), limits[i]) for i in (0, 1))
        scatter(axes, red, blue, color=GREY)
        axes.plot(*self.track.line, color=ORANGE, lw=1.5)
        axes.plot(*self.track.marked, "o", color=ORANGE, ms=4)
        axes.plot(*self.track.marked[:, :1], "o", color=ORANGE, mfc="white", ms=5)
        tail, head = self.track.arrow.T
        axes.annotate("", head, xytext=tail, arrowprops={"arrowstyle": "->", "color": "k", "lw": 1.2})
        axes.set_ylim(limits[1][::-1])
        axes.set_xlabel(f"{red.label} [{system_of(*self.pairs[0])}]", fontsize=7)
        axes.set_ylabel(f"{blue.label} [{system_of(*self.pairs[1])}]", fontsize=7)


def _apart(bands: list[str], counts: dict[str, int], pivots: Mapping[str, float]) -> tuple[str, ...]:
    """Bands in order of wavelength, less those that another camera has as well: their colour is none."""
    kept: list[str] = []
    for band in bands:
        if not kept or pivots[band] > TWINS * pivots[kept[-1]]:
            kept.append(band)
        elif counts[band] > counts[kept[-1]]:
            kept[-1] = band
    return tuple(kept)


def _overview(data: ReportData) -> Picture:
    from matplotlib.ticker import LogLocator

    figure = new_figure(9.6, 4.0)
    left, right = figure.subplots(1, 2)
    age = Axis(data.column("log_age_q50"), LABELS["log_age"], _limits(data, "log_age"))
    for axes, name in ((left, "log_mass"), (right, "ebv")):
        scatter(axes, age, Axis(data.column(f"{name}_q50"), LABELS[name], _limits(data, name)))
        if axes.collections:
            ticks = LogLocator(subs=(1, 2, 5))
            bar = figure.colorbar(axes.collections[0], ax=axes, ticks=ticks, format="{x:g}")
            bar.set_label("clusters in a cell")
            bar.minorticks_off()
    caption = (
        "Posterior medians of all clusters, in the range of the prior. Look for: nothing piles up at an "
        f"edge of the frame, which would mean that the prior ends where the data do not.{data.sampled}"
    )
    return Picture("all-clusters", figure, "Mass and reddening against age, all clusters.", caption)


def _limits(data: ReportData, name: str) -> tuple[float, float]:
    if name not in data.boxes:
        return span(data.column(f"{name}_q50"))
    low, high = data.boxes[name]
    margin = 0.02 * (high - low)
    return low - margin, high + margin


def _bars(axes: Axes, data: ReportData, own: NDArray[np.bool_]) -> None:
    middle = [data.column(f"{name}_q50")[own] for name in ("log_age", "log_mass")]
    reach = [
        np.abs([data.column(f"{name}_q16")[own] - at, data.column(f"{name}_q84")[own] - at])
        for name, at in zip(("log_age", "log_mass"), middle, strict=True)
    ]
    known = np.isfinite(middle[0])
    errors = [each[:, known] for each in reach]
    axes.errorbar(
        middle[0][known], middle[1][known], errors[1], errors[0], fmt="none", ecolor=GREY, lw=0.7, zorder=0
    )


def _grids(data: ReportData, name: str, panel: Panel, caption: str) -> Iterator[Block]:
    """Figures of a dozen panels each, a panel a galaxy, the richest first."""
    names = list(data.galaxies)
    drawn = names[:MOST_GALAXIES]
    for start in range(0, len(drawn), COLUMNS * ROWS):
        yield _grid(
            drawn[start : start + COLUMNS * ROWS], f"{name}-{start // (COLUMNS * ROWS) + 1}", panel, caption
        )
        caption = "The same of further galaxies, with fewer clusters. Look for the same."
    if len(names) > len(drawn):
        yield Absence(f"{len(names) - len(drawn)} further galaxies with fewer clusters are not drawn.")


def _grid(names: list[str], name: str, panel: Panel, caption: str) -> Picture:
    columns = min(COLUMNS, max(len(names), 2))
    rows = -(-len(names) // columns)
    figure = new_figure(2.45 * columns, 0.2 + 2.35 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for i, (axes, galaxy) in enumerate(zip(panels, names, strict=False)):
        panel(axes, galaxy)
        axes.tick_params(labelsize=8)
        _outer_labels(
            axes, first=i % columns == 0, last=i + columns >= len(names), shared=name.startswith("age")
        )
    shown = ", ".join(plain(galaxy).replace("\\$", "$") for galaxy in names)
    return Picture(name, figure, f"A panel for each galaxy: {shown}.", caption)


def _outer_labels(axes: Axes, first: bool, last: bool, shared: bool) -> None:
    """Where all panels have the same axes, their names stand at the left and below alone."""
    if shared:
        axes.xaxis.label.set_visible(last)
        axes.yaxis.label.set_visible(first)
