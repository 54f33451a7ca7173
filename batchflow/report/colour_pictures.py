"""Colour-colour pictures: the model's track, what reddening does, and clusters under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.physics.engine import Light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect

Floats = NDArray[np.float64]
Point = dict[str, float]

MARKED_AGES, OLDEST = (6.0, 7.0, 8.0, 9.0, 10.0), 10.14
ARROW = 0.3
"""E(B-V) [mag] that the arrow in the colours stands for."""
OUTLIERS = (0.5, 99.5)
"""Percentiles of the catalogue's colours that the frame shows at least."""
AB_ZERO = 3.631e6
"""Flux density of magnitude 0 in the AB system [mJy]."""


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


def system_of(*bands: str) -> str:
    """The magnitude system that `colours` uses for bands."""
    return "Vega" if _vega(*bands) else "AB"


class Track(NamedTuple):
    """Colours of the model [mag], the first pair of bands across; arrays of shape (2, n)."""

    line: Floats
    """Along age at E(B-V) = 0."""
    marked: Floats
    """At `MARKED_AGES`, as far as the model has them."""
    arrow: Floats
    """At log age 7 without dust, and behind `ARROW`."""


def track_of(light: Light, point: Point, pairs: tuple[tuple[str, str], ...]) -> Track:
    """Colours of a model along age.

    Parameters
    ----------
    light : Light
        The model.
    point : dict of str to float
        Parameters that stay as they are.
    pairs : tuple of (str, str)
        Two colours, each of two bands.

    Returns
    -------
    Track
        From log age 6 to 10.14, as far as the model has them.
    """
    low, high = light.limits["log_age"]

    def at(ages: Floats, ebv: float) -> Floats:
        found = _track(light, point | {"ebv": ebv}, ages)
        return np.array([colours(found, light.bands, *pair) for pair in pairs])

    ages = np.linspace(max(low, MARKED_AGES[0]), min(high, OLDEST), 400)
    arrow = np.concatenate([at(np.array([7.0]), ebv) for ebv in (0.0, ARROW)], axis=1)
    return Track(at(ages, 0.0), at(_marked(light), 0.0), arrow)


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
    line, line_at, arrow = track_of(engine, point, (red, blue))
    axes.plot(*line, color="tab:red", lw=1.5, label="model, E(B-V) = 0")
    axes.plot(*line_at, "o", color="tab:red", ms=4)
    for age, place in zip(_marked(engine), line_at.T, strict=True):
        axes.annotate(
            f"{age:g}", (place[0], place[1]), xytext=(5, 4), textcoords="offset points", fontsize=9, zorder=4
        ).set_path_effects(_halo())
    _arrow(axes, arrow)
    _frame(axes, np.column_stack([line, arrow]), points)
    system = system_of(*blue, *red)
    axes.set(
        xlabel=colour_name(*red), ylabel=colour_name(*blue), title=f"colours [mag, {system}]; log age marked"
    )
    axes.invert_yaxis()
    axes.legend(fontsize=8)


def _marked(light: Light) -> Floats:
    low, high = light.limits["log_age"]
    return np.array([age for age in MARKED_AGES if low <= age <= high])


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


def colour_name(first: str, second: str) -> str:
    """A colour in the field's own words: ``WFC3 F555W - F814W``."""
    (camera, blue), (other, red) = (band.upper().partition("_")[::2] for band in (first, second))
    return f"{camera} {blue} - {red}" if camera == other else f"{camera} {blue} - {other} {red}"


def _arrow(axes: Axes, arrow: Floats) -> None:
    """Draw what E(B-V) does at log age 7."""
    (x0, x1), (y0, y1) = arrow
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


def _track(engine: Light, point: Point, ages: Floats) -> Floats:
    """Flux densities along age."""
    fixed = {name: point[name] for name in engine.parameters if name != "log_age"}
    return engine.fluxes(fixed | {"log_age": ages})
