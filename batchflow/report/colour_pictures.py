"""Colour-colour pictures: the model's track, what reddening does, and clusters under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchflow.physics.bands import AB_MINUS_VEGA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect

Floats = NDArray[np.float64]
Point = dict[str, float]

MARKED_AGES = (6.0, 7.0, 8.0, 9.0, 10.0)
ARROW = 0.3
"""E(B-V) [mag] that the arrow in the colours stands for."""
OUTLIERS = (0.5, 99.5)
"""Percentiles of the catalogue's colours that the frame shows at least."""
AB_ZERO = 3.631e6
"""Flux density of magnitude 0 in the AB system [mJy]."""


class Light(Protocol):
    """What gives band fluxes: an engine, or a flux table."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the fluxes' columns."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that `fluxes` needs."""

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter, in its unit."""

    def fluxes(self, parameters: Mapping[str, ArrayLike], /) -> Floats:
        """Flux densities [mJy] at 10 pc for 1 Msun formed, shape (n, n_bands)."""


def colours(fluxes: Floats, bands: Sequence[str], first: str, second: str) -> Floats:
    """A colour from flux densities.

    Parameters
    ----------
    fluxes : ndarray, shape (n, n_bands)
        Flux densities [mJy].
    bands : sequence of str
        Their bands.
    first, second : str
        The colour is first less second.

    Returns
    -------
    ndarray, shape (n,)
        [mag], in the Vega system where both zero points are known, else AB; NaN without two positive
        fluxes.
    """
    zero = {band: AB_MINUS_VEGA[band] if _vega(first, second) else 0.0 for band in (first, second)}
    positive = np.where(fluxes > 0, fluxes, np.nan)
    magnitude = {
        band: -2.5 * np.log10(positive[:, list(bands).index(band)] / AB_ZERO) - zero[band]
        for band in (first, second)
    }
    return np.asarray(magnitude[first] - magnitude[second])


def _vega(*bands: str) -> bool:
    return all(band in AB_MINUS_VEGA for band in bands)


def draw_colours(axes: Axes, engine: Light, point: Point, bands: Sequence[str], clusters: Floats) -> None:
    """Draw the colour of the first two bands against that of the last two.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    engine : Light
        Whose track is drawn.
    point : dict of str to float
        Parameters that stay as they are along the track.
    bands : sequence of str
        Four bands; the middle two may be one.
    clusters : ndarray, shape (n_clusters, n_bands)
        Flux densities [mJy] in the engine's bands.
    """
    blue, red = (bands[0], bands[1]), (bands[-2], bands[-1])
    points = None
    if len(clusters):
        points = np.array([colours(clusters, engine.bands, *pair) for pair in (red, blue)])
    if points is not None:
        size = 2 if points.shape[1] > 500 else 4
        axes.plot(*points, ".", ms=size, color="0.65", zorder=1, label="catalogue")
    ages = np.linspace(max(engine.limits["log_age"][0], 6.0), min(engine.limits["log_age"][1], 10.14), 400)
    track = _track(engine, point | {"ebv": 0.0}, ages)
    line = np.array([colours(track, engine.bands, *pair) for pair in (red, blue)])
    axes.plot(*line, color="tab:red", lw=1.5, label="model, E(B-V) = 0")
    low, high = engine.limits["log_age"]
    marked = np.array([age for age in MARKED_AGES if low <= age <= high])
    x, y = line_at = [
        colours(_track(engine, point | {"ebv": 0.0}, marked), engine.bands, *pair) for pair in (red, blue)
    ]
    axes.plot(*line_at, "o", color="tab:red", ms=4)
    for age, *place in zip(marked, x, y, strict=True):
        axes.annotate(
            f"{age:g}", (place[0], place[1]), xytext=(5, 4), textcoords="offset points", fontsize=9, zorder=4
        ).set_path_effects(_halo())
    tip = _arrow(axes, engine, point, (red, blue))
    _frame(axes, np.column_stack([line, tip]), points)
    system = "Vega" if _vega(*blue, *red) else "AB"
    axes.set(xlabel=_pair(*red), ylabel=_pair(*blue), title=f"colours [mag, {system}]; log age marked")
    axes.invert_yaxis()
    axes.legend(fontsize=8)


def _frame(axes: Axes, line: Floats, points: Floats | None) -> None:
    """Show the whole track, and the catalogue but for its outliers."""
    for values, seen, limit in zip(line, points if points is not None else line, ("x", "y"), strict=True):
        known = seen[np.isfinite(seen)]
        edges = np.percentile(known, OUTLIERS) if known.size else values
        low, high = min(values.min(), edges.min()), max(values.max(), edges.max())
        margin = 0.08 * (high - low)
        axes.set(**{f"{limit}lim": (low - margin, high + margin)})


def _halo() -> list[AbstractPathEffect]:
    """White around letters, so that they can be read over points."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def _pair(first: str, second: str) -> str:
    """A colour in the field's own words: ``WFC3 F555W - F814W``."""
    (camera, blue), (other, red) = (band.upper().partition("_")[::2] for band in (first, second))
    return f"{camera} {blue} - {red}" if camera == other else f"{camera} {blue} - {other} {red}"


def _arrow(axes: Axes, engine: Light, point: Point, pairs: tuple[tuple[str, str], ...]) -> Floats:
    """Draw what E(B-V) does at log age 7; where the arrow ends, shape (2,)."""
    ends = [_track(engine, point | {"ebv": ebv}, np.array([7.0])) for ebv in (0.0, ARROW)]
    (x0, y0), (x1, y1) = ([float(colours(end, engine.bands, *pair)[0]) for pair in pairs] for end in ends)
    axes.annotate("", (x1, y1), xytext=(x0, y0), arrowprops={"arrowstyle": "->", "color": "tab:blue"})
    axes.annotate(
        f"E(B-V) = {ARROW}",
        (x1, y1),
        xytext=(4, -10),
        textcoords="offset points",
        fontsize=9,
        color="tab:blue",
        zorder=4,
    ).set_path_effects(_halo())
    return np.array([x1, y1])


def _track(engine: Light, point: Point, ages: Floats) -> Floats:
    """Flux densities along age."""
    return engine.fluxes({name: point[name] for name in engine.parameters} | {"log_age": ages})
