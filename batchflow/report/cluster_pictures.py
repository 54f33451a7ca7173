"""Pictures of one cluster: its posterior as a corner plot, and its photometry against the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.infer.summary import weighted_quantiles
from batchflow.report.data import ReportData
from batchflow.report.light import RunLight
from batchflow.report.one_cluster import OneCluster, one_cluster
from batchflow.report.pictures import BLUE, GREY, LABELS, ORANGE, new_figure, plain, span, wavelength_axis
from batchflow.results.tables import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

LEVELS = (0.68, 0.95)
PANEL = 1.9
"""Inches of a panel of a corner plot."""
BINS = 24
NOT_DETECTED = 3.0
"""A flux of zero or less is drawn as a limit at so many standard deviations above it."""


class _Fit(NamedTuple):
    """Photometry of a cluster and what the posterior says of it; arrays of shape (n_bands,), [mJy]."""

    pivots: Floats
    flux: Floats
    error: Floats
    limit: NDArray[np.bool_]
    best: Floats
    """Of the model of highest posterior density."""
    low: Floats
    high: Floats
    """Central 68 % of the posterior predictive flux."""
    sigma: Floats
    """Of the measurement at the best model, as the likelihood has it."""


def corner_picture(run: Run, object_id: str, galaxy: str | None = None) -> Figure:
    """Draw the posterior of a cluster, each parameter against each.

    Parameters
    ----------
    run : Run
        From `open_run`.
    object_id : str
        The cluster's id.
    galaxy : str, optional
        Its galaxy; needed where several have an object of that id.

    Returns
    -------
    matplotlib.figure.Figure
        Weighted draws with 68 and 95 % regions, centres of the modes, and published values.

    Raises
    ------
    UserError
        When there is no such cluster, or it has no draws.
    """
    from corner import corner
    from matplotlib.figure import Figure

    cluster = one_cluster(run, object_id, galaxy)
    kept = cluster.weights > 0
    values = {name: drawn[kept] for name, drawn in cluster.values.items()}
    weights = cluster.weights[kept]
    published = {name: _finite(cluster.row.get(f"published_{name}")) for name in values}
    boxes = ReportData(run).boxes
    size = PANEL * len(values) + 1.0
    figure = Figure(figsize=(size, size))  # corner lays out the panels itself
    columns = np.stack(list(values.values()), axis=1)
    # corner refuses fewer draws than parameters; copies of all leave a weighted histogram as it is.
    copies = -(-len(values) // len(columns))
    corner(
        np.repeat(columns, copies, axis=0),
        weights=np.repeat(weights, copies),
        fig=figure,
        bins=BINS,
        range=[_shown_range(values[name], weights, published[name], boxes.get(name)) for name in values],
        labels=[LABELS.get(name, name) for name in values],
        titles=[""] * len(values),
        levels=LEVELS,
        smooth=1.0,
        color=BLUE,
        quiet=True,
        plot_datapoints=True,
        plot_density=False,
        fill_contours=True,
        max_n_ticks=4,
        data_kwargs={"alpha": 0.25, "ms": 2.5},
        label_kwargs={"fontsize": 10},
    )
    _mark(figure, cluster, published)
    return figure


def sed_picture(run: Run, object_id: str, galaxy: str | None = None) -> Figure:
    """Draw the photometry of a cluster against its posterior.

    Parameters
    ----------
    run : Run
        From `open_run`.
    object_id : str
        The cluster's id.
    galaxy : str, optional
        Its galaxy; needed where several have an object of that id.

    Returns
    -------
    matplotlib.figure.Figure
        Observed fluxes and limits, the posterior predictive fluxes of the bands (central 68 %), the best
        model and, where the engine has it, its spectrum; below, residuals in standard deviations.

    Raises
    ------
    UserError
        When there is no such cluster, it has no draws, or the run lacks its photometry or the model.
    """
    cluster = one_cluster(run, object_id, galaxy)
    data = ReportData(run)
    if data.light is None:
        raise UserError(f"{run.folder.root} has no model whose fluxes could be drawn; run `batchflow train`")
    fit = _fit(cluster, data.light)
    figure = new_figure(6.4, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    spectrum = data.light.spectrum(cluster.best, _distance(cluster))
    _draw_fluxes(above, fit, spectrum)
    _draw_residuals(below, fit)
    chi2, pvalue = (_finite(cluster.row.get(name)) for name in ("ppc_chi2", "ppc_pvalue"))
    figure.suptitle(
        f"{plain(cluster.galaxy)}   {plain(cluster.object_id)}\n"
        f"{np.isfinite(fit.flux).sum()} bands, chi2 {chi2:.1f}, posterior predictive p = {pvalue:.2g}",
        fontsize=10,
    )
    return figure


def _shown_range(
    values: Floats, weights: Floats, published: float, box: tuple[float, float] | None
) -> tuple[float, float]:
    """All but the outermost 0.2 % of the posterior, and the published value; nothing outside the prior."""
    low, high = weighted_quantiles(values[None], weights[None], [0.001, 0.999])[0]
    found = span(np.array([low, high, published]), 0.12)
    wide = max(found[1] - found[0], 0.04)
    middle = (found[0] + found[1]) / 2
    found = (middle - wide / 2, middle + wide / 2)
    return found if box is None else (max(found[0], box[0]), min(found[1], box[1]))


def _mark(figure: Figure, cluster: OneCluster, published: dict[str, float]) -> None:
    """Modes, published values and what is known of the posterior, over the panels."""
    from matplotlib.lines import Line2D

    names = list(cluster.values)
    panels = np.array(figure.axes).reshape(len(names), len(names))
    modes = {name: cluster.row.get(f"mode_{name}") or [] for name in names}
    for i, name in enumerate(names):
        panels[i, i].axvline(published[name], color=ORANGE, lw=1.5)
        for place in _middle(cluster, name):
            panels[i, i].axvline(place, color=GREY, lw=0.8, ls="--")
        panels[i, i].set_title(_interval(cluster, name), fontsize=10, pad=7)
        for j, other in enumerate(names[:i]):
            panels[i, j].plot(published[other], published[name], "s", color=ORANGE, ms=6)
            panels[i, j].plot(modes[other], modes[name], "+", color="k", ms=9, mew=1.5)
    handles = [Line2D([], [], marker="+", color="k", ls="", ms=9, mew=1.5, label="centre of a mode")]
    if any(np.isfinite(value) for value in published.values()):
        handles.append(Line2D([], [], marker="s", color=ORANGE, ls="", label="published"))
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.98, 0.90), fontsize=10, frameon=False)
    figure.suptitle(_heading(cluster), fontsize=10, x=0.98, ha="right")


def _heading(cluster: OneCluster) -> str:
    effective = 1 / np.sum(cluster.weights**2)
    efficiency = _finite(cluster.row.get("efficiency"))
    said = f"efficiency {efficiency:.3f}, " if np.isfinite(efficiency) else "not certified, "
    return (
        f"{plain(cluster.galaxy)}   {plain(cluster.object_id)}\n"
        f"{said}{effective:,.0f} effective draws of {len(cluster.weights):,} stored"
    )


def _middle(cluster: OneCluster, name: str) -> list[float]:
    found = [_finite(cluster.row.get(f"{name}_{suffix}")) for suffix in ("q16", "q50", "q84")]
    return [value for value in found if np.isfinite(value)]


def _interval(cluster: OneCluster, name: str) -> str:
    found = _middle(cluster, name)
    if len(found) < 3:
        return ""
    low, middle, high = found
    return f"${middle:.2f}_{{-{middle - low:.2f}}}^{{+{high - middle:.2f}}}$"


def _fit(cluster: OneCluster, light: RunLight) -> _Fit:
    flux, error, limit = cluster.observed(light.bands)
    distance = _distance(cluster)
    drawn = light.band_fluxes(cluster.values, distance)
    low, high = weighted_quantiles(drawn.T, np.tile(cluster.weights, (drawn.shape[1], 1)), [0.16, 0.84]).T
    best = light.band_fluxes({name: np.array([value]) for name, value in cluster.best.items()}, distance)[0]
    survey = str(cluster.photometry.get("survey"))
    pivots = np.array([light.pivots[band] for band in light.bands])
    sigma = light.sigma(survey, flux, error, best)
    return _Fit(pivots, flux, error, limit, best, low, high, sigma)


def _distance(cluster: OneCluster) -> float:
    found = _finite(cluster.row.get("distance_mpc"))
    if not np.isfinite(found) or found <= 0:
        raise UserError(f"{cluster.name} has no distance; its fluxes cannot be compared with the model")
    return found


def _draw_fluxes(axes: Axes, fit: _Fit, spectrum: tuple[Floats, Floats] | None) -> None:
    if spectrum is not None:
        axes.plot(*spectrum, lw=0.5, color=GREY, alpha=0.6, label="spectrum of the best model", zorder=1)
    height = np.array([fit.low, fit.high])
    axes.vlines(
        fit.pivots, *height, color=BLUE, lw=9, alpha=0.35, label="posterior predictive, 68 %", zorder=2
    )
    axes.plot(fit.pivots, fit.best, "_", ms=13, mew=1.5, color=BLUE, label="best model", zorder=3)
    detected = ~fit.limit & (fit.flux > 0)
    axes.errorbar(
        fit.pivots[detected],
        fit.flux[detected],
        fit.error[detected],
        fmt="o",
        ms=5,
        capsize=2,
        color=ORANGE,
        label="observed, reported error",
        zorder=4,
    )
    _draw_limits(axes, fit)
    wavelength_axis(axes, (0.8 * fit.pivots.min(), 1.25 * fit.pivots.max()))
    axes.set(yscale="log", ylabel="flux density [mJy]", ylim=_flux_range(fit))
    axes.legend(fontsize=8, framealpha=0.9)


def _draw_limits(axes: Axes, fit: _Fit) -> None:
    lacking = ~fit.limit & (fit.flux <= 0)
    if fit.limit.any():
        axes.plot(
            fit.pivots[fit.limit], fit.flux[fit.limit], "v", ms=9, color=ORANGE, label="upper limit", zorder=4
        )
    if lacking.any():
        top = (fit.flux + NOT_DETECTED * fit.error)[lacking]
        label = f"flux below zero: + {NOT_DETECTED:g} sigma"
        axes.plot(fit.pivots[lacking], top, "v", ms=9, mfc="none", color=ORANGE, label=label, zorder=4)


def _flux_range(fit: _Fit) -> tuple[float, float]:
    seen = np.concatenate([fit.best, fit.low, fit.high, fit.flux, fit.flux + fit.sigma])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    return float(0.4 * seen.min()), float(2.5 * seen.max())


def _draw_residuals(axes: Axes, fit: _Fit) -> None:
    residual = (fit.flux - fit.best) / fit.sigma
    for level, style in ((0, "-"), (-1, ":"), (1, ":")):
        axes.axhline(level, color=GREY, lw=0.8, ls=style)
    axes.plot(fit.pivots[~fit.limit], residual[~fit.limit], "o", ms=5, color=ORANGE)
    axes.plot(fit.pivots[fit.limit], residual[fit.limit], "v", ms=8, color=ORANGE)
    reach = max(3.0, 1.2 * float(np.nanmax(np.abs(residual), initial=0.0)))
    axes.set(xlabel="wavelength [Å]", ylabel="(obs. - best)\n/ sigma", ylim=(-reach, reach))


def _finite(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
