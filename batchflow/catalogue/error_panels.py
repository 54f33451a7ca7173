"""Panels of a catalogue's picture: reported errors against magnitude, with the noise model over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.statistics import Description
from batchflow.mocks.noise import NoiseModel
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.report.colour_pictures import AB_ZERO

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

LARGEST_ERROR = 2.0
"""Errors shown at most [mag]."""
MOST_SURVEYS = 6
"""Surveys whose noise is drawn in a band; those with most of its measurements."""


class _Shown(NamedTuple):
    """A survey in a panel of errors."""

    name: str
    row: int
    magnitude: Floats
    error: Floats


def error_panels(area: Any, found: Description, bands: Sequence[str], columns: int) -> None:
    """Draw a panel a band, with one scale of errors for all.

    Parameters
    ----------
    area : matplotlib.figure.SubFigure
        Where.
    found : Description
        The catalogue.
    bands : sequence of str
        In the order of the panels.
    columns : int
        Panels in a row.
    """
    n_surveys = len(found.samples)
    name = found.summary.survey if n_surveys == 1 else f"{n_surveys} surveys, in each band the largest"
    area.suptitle(f"{name}: reported errors and the noise model fitted to them", fontsize=11)
    panels = area.subplots(-(-len(bands) // columns), columns, squeeze=False, sharey=True)
    shown = [_errors(panel, found, band) for panel, band in zip(panels.ravel(), bands, strict=False)]
    low, high = np.quantile(np.concatenate(shown), (0.001, 0.995))
    panels[0, 0].set(yscale="log", ylim=(low / 1.5, min(1.5 * high, LARGEST_ERROR)))
    for panel in panels.ravel()[: len(bands) if n_surveys > 1 else 1]:
        panel.legend(fontsize=7, loc="upper left", framealpha=0.6)
    for panel in panels[:, 0]:
        panel.set_ylabel("error [mag]")
    for panel in panels.ravel()[len(bands) :]:
        panel.set_axis_off()


def _errors(axes: Axes, found: Description, band: str) -> Floats:
    """Magnitude error against magnitude, the model's median and its scatter; the errors themselves."""
    place, zero = found.noise.bands.index(band), AB_MINUS_VEGA.get(band, 0.0)
    shown = _shown(found, place, zero)
    for survey in shown:
        line = _colour(survey.row) if len(found.samples) > 1 else "C3"
        points = line if len(shown) > 1 else "0.55"
        size = dot(survey.error)
        axes.plot(survey.magnitude, survey.error, ".", ms=size, color=points, alpha=0.5, zorder=1)
        _course(axes, found.noise, survey, (place, zero, line), len(found.samples) > 1)
    magnitudes = np.concatenate([survey.magnitude for survey in shown] or [np.array([20.0, 25.0])])
    low, high = np.quantile(magnitudes, (0.002, 0.998))
    axes.set(xlim=(low - 0.3, high + 0.3), xlabel=f"{band} [mag, {'Vega' if zero else 'AB'}]")
    axes.set_title(_caption(found, band), fontsize=8)
    axes.tick_params(labelsize=8)
    return np.concatenate([survey.error for survey in shown] or [np.array([0.1])])


def _colour(row: int) -> tuple[float, ...]:
    """Colour of a survey, the same in each panel."""
    from matplotlib import colormaps

    return tuple(colormaps["tab20"]((2 * row + row // 10) % 20))


def dot(points: Floats) -> float:
    """Size of a point: the more there are, the smaller.

    Parameters
    ----------
    points : ndarray
        One coordinate of them.

    Returns
    -------
    float
        Diameter [points].
    """
    return float(np.clip(80 / np.sqrt(max(len(points), 1)), 1, 5))


def _shown(found: Description, place: int, zero: float) -> list[_Shown]:
    """Surveys with the band, those with most of its measurements first."""
    shown = []
    for name, sample in found.samples.items():
        flux, error = sample.kept.band(place)
        flux, error = flux[flux > 0], error[flux > 0]
        if len(flux):
            magnitude = -2.5 * np.log10(flux / AB_ZERO) - zero
            shown.append(_Shown(name, found.noise.surveys.index(name), magnitude, 1.0857 * error / flux))
    return sorted(shown, key=lambda survey: -len(survey.error))[:MOST_SURVEYS]


def _course(
    axes: Axes, noise: NoiseModel, survey: _Shown, drawn: tuple[int, float, Any], is_one_of_many: bool
) -> None:
    """Median and scatter of the errors that the model expects; `drawn`: band, AB - Vega [mag], colour."""
    from matplotlib.patheffects import withStroke

    place, zero, colour = drawn
    magnitude = np.linspace(survey.magnitude.min(), survey.magnitude.max(), 200)
    flux = AB_ZERO * 10 ** (-0.4 * (magnitude + zero))
    own = noise.select(np.full(len(flux), survey.row))
    spread = noise.scatter[survey.row, place]

    def error(deviates: float) -> Floats:
        whole = own.reported_error(np.repeat(flux[:, None], len(noise.bands), 1), 10.0 ** (deviates * spread))
        return np.asarray(1.0857 * whole[:, place] / flux)

    if is_one_of_many:
        outline = [withStroke(linewidth=2.5, foreground="w")]
        axes.fill_between(magnitude, error(-1), error(1), color=colour, alpha=0.15, lw=0)
        axes.plot(magnitude, error(0), color=colour, lw=1.3, path_effects=outline, label=survey.name[-24:])
        return
    axes.fill_between(magnitude, error(-2), error(2), color=colour, alpha=0.15, lw=0, label="95 %")
    axes.fill_between(magnitude, error(-1), error(1), color=colour, alpha=0.25, lw=0, label="68 %")
    axes.plot(magnitude, error(0), color=colour, lw=1.3, label=f"median, {survey.name}"[:40])


def _caption(found: Description, band: str) -> str:
    figures = next(item for item in found.bands if item.band == band)
    floor = "" if figures.floor is None else f", floor {1.0857 * figures.floor:.3f} mag"
    limits = f", {figures.limits:,} limits" if figures.limits else ""
    return f"{figures.measured:,} measured{limits}{floor}"
