"""Pictures of a catalogue: errors with the noise model over them, colours with the model's tracks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.error_panels import dot, error_panels
from batchflow.catalogue.statistics import Description
from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.physics.engine import Engine, open_engine
from batchflow.report.colour_pictures import colours
from batchflow.settings.model import ModelSettings
from batchflow.shards import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Pair = tuple[str, str]

SUFFIXES = (".png", ".pdf", ".svg")
PANELS = 5
"""Panels of errors in a row at most."""
LEAST_SIGNAL = 5.0
"""Signal-to-noise ratio that a cluster needs in every band of a colour-colour panel."""
REDDENINGS = (0.0, 0.5, 1.0)
"""E(B-V) [mag] of the tracks."""
ARROW = 0.3
"""E(B-V) [mag] of the arrow."""
MARKED_AGES = (6, 7, 8, 9, 10)
ROLES = {"NUV": (2000, 3000), "U": (3000, 3900), "B": (3900, 5000), "V": (5000, 6500), "I": (7400, 9500)}
"""Pivot wavelengths [AA] of the bands that colours are made of."""
WANTED = (
    ((("U", "B"), ("V", "I")), (("U", "B"), ("B", "I")), (("B", "V"), ("V", "I"))),
    ((("NUV", "U"), ("B", "V")), (("NUV", "U"), ("U", "B")), (("NUV", "U"), ("U", "I"))),
)
"""For each panel, the colours (vertical, horizontal) to draw: the first that the bands allow."""


def draw_catalogue(path: Path, found: Description, model: ModelSettings) -> Path:
    """Draw a catalogue's errors and colours.

    Parameters
    ----------
    path : Path
        The picture: PNG, PDF or SVG by its extension.
    found : Description
        The catalogue.
    model : ModelSettings
        Whose tracks are drawn.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    UserError
        When the extension is another.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--plot {path}: expected a name that ends with {', '.join(SUFFIXES)}")
    buffer = io.BytesIO()
    kind = path.suffix.lower().removeprefix(".")
    catalogue_figure(found, model).savefig(buffer, format=kind, dpi=130)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())
    return path


def catalogue_figure(found: Description, model: ModelSettings) -> Figure:
    """The picture as a matplotlib figure.

    Parameters
    ----------
    found : Description
        The catalogue.
    model : ModelSettings
        Whose tracks are drawn.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a band, then up to two colour-colour panels.
    """
    from matplotlib.figure import Figure

    engine = _embedded(model, found.noise.bands)
    pivots = dict(zip(engine.bands, engine.describe()["pivots_AA"], strict=True))
    bands = sorted(found.noise.bands, key=lambda band: pivots[band])
    rows = -(-len(bands) // PANELS)
    columns = -(-len(bands) // rows)
    # A Figure of its own, without pyplot: no display, no global state.
    figure = Figure(figsize=(max(3.1 * columns, 11), 3.1 * rows + 5.6), layout="constrained")
    areas: Any = figure.subfigures(2, 1, height_ratios=(3.1 * rows, 5.6))
    upper, lower = areas
    error_panels(upper, found, bands, columns)
    measured = {band.band: band.measured for band in found.bands}
    _colour_panels(lower, found, engine, colour_pairs({band: pivots[band] for band in bands}, measured))
    return figure


def colour_pairs(pivots: Mapping[str, float], measured: Mapping[str, int]) -> list[tuple[Pair, Pair]]:
    """Colours to draw against each other.

    Parameters
    ----------
    pivots : mapping of str to float
        Pivot wavelength of each band [AA].
    measured : mapping of str to int
        Clusters that each band has: of two alike the better one is taken.

    Returns
    -------
    list of ((blue, red), (blue, red))
        Bands of the vertical and of the horizontal colour, by panel; empty with fewer than three bands.
    """
    chosen: dict[str, str] = {}
    for role, (low, high) in ROLES.items():
        own = [band for band, pivot in pivots.items() if low <= pivot < high]
        if own:
            chosen[role] = max(own, key=lambda band: measured[band])
    found = [_first_possible(choices, chosen) for choices in WANTED]
    pairs = [pair for pair in found if pair is not None]
    order = sorted(pivots, key=lambda band: pivots[band])
    return pairs or ([((order[0], order[1]), (order[-2], order[-1]))] if len(order) > 2 else [])


def _first_possible(choices: Sequence[tuple[Pair, Pair]], chosen: dict[str, str]) -> tuple[Pair, Pair] | None:
    for vertical, horizontal in choices:
        if all(role in chosen for role in (*vertical, *horizontal)):
            return (chosen[vertical[0]], chosen[vertical[1]]), (chosen[horizontal[0]], chosen[horizontal[1]])
    return None


def _embedded(model: ModelSettings, bands: Sequence[str]) -> Engine:
    """The job's engine where it is the embedded one, else that with the same metallicity."""
    if model.engine == "embedded":
        return open_engine(model)
    return open_engine(ModelSettings(bands=tuple(bands), metallicity=model.metallicity))


def _colour_panels(area: Any, found: Description, engine: Engine, pairs: Sequence[tuple[Pair, Pair]]) -> None:
    if not pairs:
        area.text(0.5, 0.5, "fewer than three bands: no colours to draw", ha="center")
        return
    panels = area.subplots(1, len(pairs), squeeze=False)[0]
    for panel, (vertical, horizontal) in zip(panels, pairs, strict=True):
        _colours(panel, found, engine, vertical, horizontal)


def _colours(axes: Axes, found: Description, engine: Engine, vertical: Pair, horizontal: Pair) -> None:
    """A colour-colour panel: clusters, tracks at three reddenings, the arrow of reddening."""
    x, y, sizes = _points(found, vertical, horizontal)
    axes.plot(x, y, ".", ms=dot(x), color="0.6", alpha=0.6, zorder=1)
    tracks = [_track(axes, engine, ebv, vertical, horizontal) for ebv in REDDENINGS]
    _limits(axes, x, y, tracks[0])
    _arrow(axes, engine, vertical, horizontal)
    if len(x):
        _median_error(axes, sizes)
    system = "Vega" if all(band in AB_MINUS_VEGA for band in (*vertical, *horizontal)) else "AB"
    labels = [f"{' - '.join(pair)} [mag, {system}]" for pair in (horizontal, vertical)]
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.set_title(
        f"{len(x):,} clusters with S/N > {LEAST_SIGNAL:g} in these bands; log age at E(B-V) = 0", fontsize=9
    )
    axes.legend(fontsize=8, loc="upper right")


def _median_error(axes: Axes, sizes: tuple[float, float]) -> None:
    """A cross of the clusters' median errors, in the lower left corner."""
    x, y = _data_place(axes, (0.1, 0.1))
    axes.errorbar([x], [y], xerr=[sizes[0]], yerr=[sizes[1]], color="0.3", lw=1, capsize=2, zorder=4)
    axes.annotate("median error", (x, y), xytext=(8, 6), textcoords="offset points", fontsize=7, color="0.3")


def _data_place(axes: Axes, fraction: tuple[float, float]) -> tuple[float, float]:
    """Where a fraction of the panel lies in its data's coordinates."""
    x, y = axes.transData.inverted().transform(axes.transAxes.transform(fraction))
    return float(x), float(y)


def _points(
    found: Description, vertical: Pair, horizontal: Pair
) -> tuple[Floats, Floats, tuple[float, float]]:
    """Colours of the clusters that have them well, and their median errors."""
    bands = found.noise.bands
    kept = [sample.kept for sample in found.samples.values()]
    flux, error = (
        np.concatenate([np.where(rows.detected, getattr(rows, name), np.nan) for rows in kept])
        for name in ("flux", "error")
    )
    used = [bands.index(band) for band in (*vertical, *horizontal)]
    with np.errstate(invalid="ignore"):
        good = (flux[:, used] > LEAST_SIGNAL * error[:, used]).all(axis=1)
    relative = 1.0857 * error[good] / flux[good]
    sizes = [
        float(np.median(np.hypot(*(relative[:, bands.index(band)] for band in pair)))) if good.any() else 0.0
        for pair in (horizontal, vertical)
    ]
    x, y = (colours(flux[good], bands, *pair) for pair in (horizontal, vertical))
    return x, y, (sizes[0], sizes[1])


def _model_colours(engine: Engine, ages: Floats, ebv: float, *pairs: Pair) -> list[Floats]:
    middle = {name: (box[0] + box[1]) / 2 for name, box in engine.limits.items()}
    fluxes = engine.fluxes(middle | {"log_age": ages, "ebv": ebv})
    return [colours(fluxes, engine.bands, *pair) for pair in pairs]


def _track(axes: Axes, engine: Engine, ebv: float, vertical: Pair, horizontal: Pair) -> tuple[Floats, Floats]:
    from matplotlib.patheffects import withStroke

    low, high = engine.limits["log_age"]
    ages = np.linspace(max(low, 6.0), min(high, 10.14), 300)
    x, y = _model_colours(engine, ages, ebv, horizontal, vertical)
    shade = {REDDENINGS[0]: "C3", REDDENINGS[1]: "C1", REDDENINGS[2]: "goldenrod"}[ebv]
    axes.plot(x, y, color=shade, lw=1.5, label=f"E(B-V) = {ebv:g}", zorder=3)
    marks = np.array([age for age in MARKED_AGES if low <= age <= high], dtype=float)
    mark_x, mark_y = _model_colours(engine, marks, ebv, horizontal, vertical)
    axes.plot(mark_x, mark_y, "o", ms=4, color=shade, mec="w", mew=0.5, zorder=3)
    if ebv == REDDENINGS[0]:
        for age, *place in zip(marks, mark_x, mark_y, strict=True):
            axes.annotate(
                f"{age:.0f}", (place[0], place[1]), xytext=(-4, 5), textcoords="offset points",
                fontsize=9, color=shade, ha="right", zorder=5,
                path_effects=[withStroke(linewidth=2.5, foreground="w")],
            )  # fmt: skip
    return x, y


def _limits(axes: Axes, x: Floats, y: Floats, track: tuple[Floats, Floats]) -> None:
    """Show all but the farthest points, and the whole track without reddening; blue is up."""
    spans = []
    for points, line in ((x, track[0]), (y, track[1])):
        ends = [*(np.quantile(points, (0.005, 0.995)) if len(points) else ()), line.min(), line.max()]
        margin = 0.08 * (max(ends) - min(ends))
        spans.append((min(ends) - margin, max(ends) + margin))
    axes.set(xlim=spans[0], ylim=spans[1][::-1])


def _arrow(axes: Axes, engine: Engine, vertical: Pair, horizontal: Pair) -> None:
    """Direction and length of reddening, in a free corner."""
    ends = [_model_colours(engine, np.array([7.0]), ebv, horizontal, vertical) for ebv in (0.0, ARROW)]
    step = [float(ends[1][i][0] - ends[0][i][0]) for i in (0, 1)]
    start = _data_place(axes, (0.55, 0.95))
    stop = (start[0] + step[0], start[1] + step[1])
    axes.annotate("", stop, xytext=start, arrowprops={"arrowstyle": "->", "color": "C0", "lw": 1.6})
    axes.annotate(
        f"E(B-V) = {ARROW:g}", start, xytext=(-4, -2), textcoords="offset points", ha="right",
        fontsize=8, color="C0",
    )  # fmt: skip
