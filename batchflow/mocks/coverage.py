"""Which clusters are such as training sees: one rule, for figures that are printed and for flags.

Training draws log10 xi within a survey's `reach` and brightness within its range. What the network is
shown of an error is the variance that the noise model makes of it, so that is what is compared: an error
below the survey's floor is used as the floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchflow.mocks.error_fit import REACH
from batchflow.mocks.noise import NoiseModel, SurveyNoise
from batchflow.mocks.survey_sample import Photometry, Tables, photometry_by_survey

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ROUNDING = 0.03
"""Catalogues round their errors to about this fraction."""
LEAST_ERROR = 1 / 3
"""An error below this share of the least that training knows at that flux is no error of this survey."""
SIGMAS = 6.0
"""How far noise may carry a flux below the faintest that training draws."""
MOST_COMPARED = 20_000
"""Measured clusters of a survey that residuals are taken of, about."""


@dataclass(frozen=True)
class NoiseFigures:
    """How well a noise model describes a survey."""

    survey: str
    """Name of the survey."""
    n_rows: int
    """Its clusters with a measured band."""
    inside: float
    """Share of them that training covers, in all their bands; NaN when there are none."""
    residual: Mapping[str, float]
    """Median absolute deviation of log10 error from the model's median, by measured band [dex]."""

    @property
    def n_outside(self) -> int:
        """Clusters that training does not cover."""
        return round(self.n_rows * (1 - self.inside)) if self.n_rows else 0

    def line(self) -> str:
        """Say it in a line."""
        if not self.n_rows:
            return f"{self.survey}: nothing measured"
        outside = f"{self.n_outside} of {self.n_rows} clusters ({1 - self.inside:.2%})"
        worst = max(self.residual.values())
        return f"{self.survey}: {outside} outside the training, errors known to {worst:.3f} dex or better"


def outside_support(noise: NoiseModel, survey: NDArray[np.int64], rows: Photometry) -> Bools:
    """Clusters that training sees nothing like.

    Parameters
    ----------
    noise : NoiseModel
        What the network is trained with.
    survey : ndarray of int, shape (n_clusters,)
        Index of each cluster's survey; -1 for one that the model does not know.
    rows : Photometry
        The clusters.

    Returns
    -------
    ndarray of bool, shape (n_clusters,)
        True where the brightest band lies outside the range of its survey's training brightness, or an
        error is further from the survey's errors at that flux than training goes. False where the survey
        is unknown, or nothing is measured: then there is nothing to compare with.
    """
    measured = np.isfinite(rows.flux) & np.isfinite(rows.error) & np.isfinite(noise.depth[survey])
    known = (survey >= 0) & measured.any(axis=1)
    own = noise.select(survey)
    flux = np.where(measured & ~rows.limit, rows.flux, 0.0)
    error = np.where(measured, rows.error, 1.0)
    reach = _reach(noise)[survey]
    with np.errstate(invalid="ignore"):
        far = needed_factor(own, flux, error) > reach + 1e-9
        tiny = error < LEAST_ERROR * own.reported_error(flux, 10.0**-reach)
        strange = ((far | tiny) & measured).any(axis=1)
    found: Bools = known & (strange | _strange_brightness(noise, survey, rows))
    return found


def needed_factor(own: SurveyNoise, flux: Floats, error: Floats) -> Floats:
    """How far from a survey's depth a cluster's is.

    Parameters
    ----------
    own : SurveyNoise
        Noise of each cluster's survey.
    flux, error : ndarray, shape (n_clusters, n_bands)
        Reported flux densities and errors [mJy].

    Returns
    -------
    ndarray, shape (n_clusters, n_bands)
        Least |log10 xi| that gives the variance which the noise model makes of them, but for rounding.
    """
    positive = flux.clip(min=0)
    variance = own.terms(flux, error).variance(positive)
    random = own.depth**2 + own.photon * positive
    above = variance - own.terms_from_factor(0.0).variance(positive)
    with np.errstate(divide="ignore", invalid="ignore"):
        high, low = (
            0.5 * np.log10((above + by * variance).clip(min=0) / random)
            for by in (-2 * ROUNDING, 2 * ROUNDING)
        )
    found: Floats = np.maximum(np.maximum(high, -low), 0.0)
    return found


def brightness_bounds(
    own: SurveyNoise, rows: Photometry, margin: float, faintest: float
) -> tuple[Floats, Floats]:
    """Lowest and highest log10 max(f / s) that training needs for each cluster.

    Parameters
    ----------
    own : SurveyNoise
        Noise of each cluster's survey.
    rows : Photometry
        The clusters.
    margin : float
        Added on both sides [dex].
    faintest : float
        log10 of the signal-to-noise ratio below which fluxes differ by chance only.

    Returns
    -------
    low, high : ndarray, shape (n_clusters,)
        NaN where no band is measured.
    """
    signal, noise = _brightest(own, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        level, ground = np.log10(signal.clip(min=0)), np.log10(noise)
    low = np.maximum(level - margin, ground + faintest)
    high: Floats = np.maximum(level, ground + faintest) + margin
    return low, high


def _brightest(own: SurveyNoise, rows: Photometry) -> tuple[Floats, Floats]:
    """Largest flux over depth, and that band's standard deviation over depth; NaN without a band."""
    detected = rows.detected & np.isfinite(own.depth)
    ratio = np.where(detected, rows.flux / own.depth, -np.inf)
    place = ratio.argmax(axis=1)[:, None]
    flux, error = np.where(detected, rows.flux, 0.0), np.where(detected, rows.error, 1.0)
    deviation = np.sqrt(own.terms(flux, error).variance(flux.clip(min=0))) / own.depth
    some = detected.any(axis=1)
    found = (np.take_along_axis(values, place, axis=1)[:, 0] for values in (ratio, deviation))
    signal, noise = (np.where(some, values, np.nan) for values in found)
    return signal, noise


def _strange_brightness(noise: NoiseModel, survey: NDArray[np.int64], rows: Photometry) -> Bools:
    signal, deviation = _brightest(noise.select(survey), rows)
    low, high = noise.brightness[survey].T
    # The range is one of true brightness: a noisy one may lie below its lower end by chance.
    found: Bools = (signal < 10**low - SIGMAS * deviation) | (signal > 10**high)
    return found


def _reach(noise: NoiseModel) -> Floats:
    """Largest |log10 xi| that training draws, but for one object in 16,000; (n_surveys, n_bands)."""
    deviates = 3**0.5 if noise.scatter_shape == "uniform" else REACH
    found: Floats = np.maximum(noise.reach, deviates * noise.scatter)
    return found


def noise_figures(model: NoiseModel, tables: Tables) -> list[NoiseFigures]:
    """Compare a noise model with the catalogues' errors, in one pass over them.

    Parameters
    ----------
    model : NoiseModel
        Knows the surveys.
    tables : mapping of str to pyarrow.Table, pyarrow.Table, or iterable of pyarrow.Table
        As `estimate_noise` takes them.

    Returns
    -------
    list of NoiseFigures
        One a survey of the model, in its order; the residuals are those of `MOST_COMPARED` clusters
        or little more.
    """
    counts = dict.fromkeys(model.surveys, (0, 0))
    deviations: dict[str, list[Floats]] = {name: [] for name in model.surveys}
    for name, rows in photometry_by_survey(tables, model.bands):
        index = np.repeat(model.index([name]), len(rows.flux))
        measured = rows.detected.any(axis=1)
        outside = outside_support(model, index, rows) & measured
        counts[name] = (counts[name][0] + int(measured.sum()), counts[name][1] + int(outside.sum()))
        if sum(map(len, deviations[name])) < MOST_COMPARED:
            deviations[name].append(_deviations(model, index[measured], rows.rows(measured)))
    return [_figures(model, name, counts[name], deviations[name]) for name in model.surveys]


def _deviations(model: NoiseModel, index: NDArray[np.int64], rows: Photometry) -> Floats:
    """|log10 error - log10 of the model's median|, (n_clusters, n_bands); NaN where not measured."""
    flux = np.where(rows.detected, rows.flux, 0.0)
    expected = model.select(index).reported_error(flux, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.abs(np.log10(rows.error / expected))
    return np.where(rows.detected, found, np.nan)


def _figures(model: NoiseModel, name: str, counts: tuple[int, int], deviations: list[Floats]) -> NoiseFigures:
    n_rows, n_outside = counts
    whole = np.concatenate(deviations) if deviations else np.full((0, len(model.bands)), np.nan)
    residual = {
        band: float(np.nanmedian(column))
        for band, column in zip(model.bands, whole.T, strict=True)
        if np.isfinite(column).any()
    }
    return NoiseFigures(name, n_rows, 1 - n_outside / n_rows if n_rows else np.nan, residual)
