"""What all pictures of a run share: labels, colours, densities; and a map for a terminal."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

LABELS = {
    "log_age": "log age [yr]",
    "log_mass": "log mass formed [M$_\\odot$]",
    "ebv": "E(B-V) [mag]",
    "rv": "R(V)",
    "metallicity": "metal mass fraction Z",
    "covering": "covering fraction",
}
UNITS = {"log_age": "dex", "log_mass": "dex", "ebv": "mag"}
"""Of differences."""
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#777777"
"""Colours that the colour-blind can tell apart (Okabe & Ito 2008; Tol 2021 for the purple)."""
DENSITY = ("#b7d4ea", "#6aaed6", "#2e7ebc", "#084a91", "#041f42")
"""Of a density, few to many: one hue, that reads the same without colour vision and in print."""
FEW, MANY = 30, 1500
"""Up to so many points have error bars; above so many a density takes their place."""
WAVELENGTH_TICKS = (1500, 2000, 3000, 4000, 5000, 7000, 10000, 15000, 20000, 30000, 50000)
"""[AA]."""
DPI = 110
LONGEST_NAME = 40
SHADES = " ·░▒▓█"


class Axis(NamedTuple):
    """What is drawn along an axis."""

    values: Floats
    """Shape (n,)."""
    label: str
    limits: tuple[float, float] | None = None
    """What is shown; None: all of it."""


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, without pyplot: no display, no global state; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn.

    Returns
    -------
    bytes
        Letters that the font lacks are boxes.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def plain(name: str) -> str:
    """A name of a catalogue as text of a picture: short, on one line, never read as mathematics."""
    line = "".join(letter if letter.isprintable() else "?" for letter in name).replace("$", r"\$")
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def scatter(axes: Axes, x: Axis, y: Axis, color: str = BLUE) -> None:
    """Draw points, or their density where they are many: a picture of bounded size.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    x, y : Axis
        Points with a NaN are left out.
    color : str
        Of points; a density has its own.
    """
    from matplotlib.colors import LinearSegmentedColormap

    use = np.isfinite(x.values) & np.isfinite(y.values)
    if use.sum() > MANY:
        extent = (*_limits(x, use), *_limits(y, use))
        axes.hexbin(
            x.values[use],
            y.values[use],
            gridsize=(48, 28),
            bins="log",
            mincnt=1,
            cmap=LinearSegmentedColormap.from_list("density", DENSITY),
            extent=extent,
            lw=0.1,
        )
    else:
        size = 7 if use.sum() <= 100 else 4.5
        axes.plot(x.values[use], y.values[use], ".", ms=size, mew=0, alpha=0.7, color=color)
    axes.set(xlabel=x.label, ylabel=y.label)
    if x.limits:
        axes.set_xlim(x.limits)
    if y.limits:
        axes.set_ylim(y.limits)


def wavelength_axis(axes: Axes, limits: tuple[float, float]) -> None:
    """Make the horizontal axis one of wavelengths [AA], logarithmic, with plain numbers."""
    ticks = [tick for tick in WAVELENGTH_TICKS if limits[0] <= tick <= limits[1]]
    axes.set(xscale="log", xlim=limits)
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
    axes.set_xticks([], minor=True)


def span(values: Floats, margin: float = 0.05, outliers: float = 0.0) -> tuple[float, float]:
    """Limits that hold the finite values.

    Parameters
    ----------
    values : ndarray
        Any shape.
    margin : float
        Share of the range added at both ends.
    outliers : float
        Per cent left out at both ends.

    Returns
    -------
    tuple of float
        (0, 1) when there is no value.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, [outliers, 100 - outliers])
    wide = max(high - low, 1e-3)
    return float(low - margin * wide), float(high + margin * wide)


def terminal_map(x: Floats, y: Floats, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    """A density map in characters, for a terminal.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Where the points lie; NaN are left out.
    x_range, y_range : tuple of float
        What is shown.

    Returns
    -------
    str
        Twelve lines, the shade growing with the logarithm of the number of points.
    """
    counts, _, _ = np.histogram2d(x, y, bins=(60, 12), range=(x_range, y_range))
    level = np.log1p(counts) / max(np.log1p(counts.max()), 1e-9)
    shade = np.ceil(level * (len(SHADES) - 1)).astype(int)
    lines = ["".join(SHADES[cell] for cell in row) for row in shade.T[::-1]]
    marks = np.linspace(y_range[1], y_range[0], 13)[:-1]
    body = [f"{mark:5.1f} |{line}|" for mark, line in zip(marks, lines, strict=True)]
    scale = f"      {x_range[0]:<8.1f}{'':44}{x_range[1]:>8.1f}"
    return "\n".join([*body, scale])


def _limits(axis: Axis, use: NDArray[np.bool_]) -> tuple[float, float]:
    return axis.limits or span(axis.values[use])
