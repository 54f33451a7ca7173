"""The noise model of a job, fitted to the errors that its catalogues report.

Two passes over the catalogues, piece by piece: the first takes a bounded sample of each survey, which the
fits see; the second lets training cover every cluster there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.mocks.coverage import NoiseFigures, brightness_bounds, needed_factor, noise_figures
from batchflow.mocks.error_fit import FEWEST, REACH, BandNoise, expect, fit_band, telling
from batchflow.mocks.noise import DEFAULT_SURVEY, NoiseModel
from batchflow.mocks.survey_sample import (
    Photometry,
    SurveySample,
    Tables,
    photometry_by_survey,
    sample_surveys,
)
from batchflow.mocks.unreported import Unreported
from batchflow.settings.base import Range

__all__ = ["NoiseFigures", "estimate_noise", "explicit_noise", "noise_figures"]

Floats = NDArray[np.float64]
Fits = Mapping[tuple[str, int], BandNoise]

DEFAULT_BRIGHTNESS = (0.2, 4.5)
"""Range of log10 max(f / s) without a catalogue: from 1.6 sigma to the photometry of bright clusters."""
FAINTEST_BRIGHTNESS = -0.5
"""log10 of the signal-to-noise ratio below which fluxes differ by chance only."""
LOWEST_BRIGHTNESS = -2.5
MARGIN = 0.5
"""How far training goes beyond the catalogue's faintest and brightest cluster [dex]."""
FARTHEST = 1.5
"""Further from the usual depth [dex], or above all but 0.1 % of the brightnesses, is not an object but a
mistake: it is flagged, and training does not stretch for it."""
DEFAULT_CORRELATION = 0.5
LARGEST_CORRELATION = 0.95


def estimate_noise(tables: Tables, bands: Sequence[str], systematic: float | Unreported) -> NoiseModel:
    """Fit the noise model to catalogues.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table, pyarrow.Table, or iterable of pyarrow.Table
        Normalised catalogues, their surveys in the column `survey`; an iterable is gone through twice.
    bands : sequence of str
        All bands of the job.
    systematic : float or Unreported
        Fractional error that no catalogue reports.

    Returns
    -------
    NoiseModel
        Its surveys by name; finite and positive wherever a survey has a measurement in a band, NaN
        elsewhere.

    Raises
    ------
    UserError
        When no row of any survey is measured in any band.
    """
    samples = sample_surveys(tables, bands)
    surveys = {name: found.kept for name, found in samples.items()}
    if not any(found.detected.any() for found in surveys.values()):
        raise UserError("no catalogue of the job has a usable flux: see the flags of its rows")
    fits = _fit_all(surveys, len(bands))
    return _widened(_of_samples(bands, samples, fits, systematic), samples, tables)


def _of_samples(
    bands: Sequence[str], samples: Mapping[str, SurveySample], fits: Fits, systematic: float | Unreported
) -> NoiseModel:
    """The model but for what every cluster decides: brightness and reach."""
    values = np.array([[fits.get((name, i), (np.nan,) * 4) for i in range(len(bands))] for name in samples])
    depth, photon, fractional, scatter = np.moveaxis(values, -1, 0)
    return NoiseModel(
        bands=tuple(bands),
        surveys=tuple(samples),
        depth=depth,
        photon=photon,
        fractional=fractional,
        scatter=scatter,
        correlation=_correlations({name: found.kept for name, found in samples.items()}, fits),
        brightness=np.array([DEFAULT_BRIGHTNESS] * len(samples)),
        systematic=_table(systematic, tuple(samples), bands),
        limit_fraction=np.array([found.limit_fraction for found in samples.values()]),
        reach=REACH * scatter,
    )


def _table(systematic: float | Unreported, surveys: Sequence[str], bands: Sequence[str]) -> Floats:
    given = systematic if isinstance(systematic, Unreported) else Unreported(systematic)
    return given.table(surveys, bands)


def _widened(model: NoiseModel, samples: Mapping[str, SurveySample], tables: Tables) -> NoiseModel:
    """The model with brightness and reach that hold every cluster, mistakes apart."""
    brightest = [_plausible_brightness(model, name, found.kept) for name, found in samples.items()]
    reach, span = model.reach.copy(), np.array([(np.inf, -np.inf)] * len(samples))
    for name, rows in photometry_by_survey(tables, model.bands):
        row = model.surveys.index(name)
        reach[row] = np.maximum(reach[row], _needed_reach(model, row, rows))
        low, high = _bounds(model, row, rows)
        if np.isfinite(low).any():
            own = (np.nanmin(low), min(np.nanmax(high), brightest[row]))
            span[row] = min(span[row, 0], own[0]), max(span[row, 1], own[1])
    span[:, 0] = span[:, 0].clip(min=LOWEST_BRIGHTNESS)
    empty = ~np.isfinite(span).all(axis=1)
    span[empty] = DEFAULT_BRIGHTNESS
    return replace(model, reach=reach, brightness=span)


def _needed_reach(model: NoiseModel, row: int, rows: Photometry) -> Floats:
    """Largest |log10 xi| of plausible measurements in each band, (n_bands,)."""
    own = model.select(np.full(len(rows.flux), row))
    flux, error = np.where(rows.detected, rows.flux, 0.0), np.where(rows.detected, rows.error, 1.0)
    needed = np.where(rows.detected, needed_factor(own, flux, error), 0.0)
    found: Floats = np.where(needed <= FARTHEST, needed, 0.0).max(axis=0, initial=0.0)
    return found


def _bounds(model: NoiseModel, row: int, rows: Photometry) -> tuple[Floats, Floats]:
    own = model.select(np.full(len(rows.flux), row))
    return brightness_bounds(own, rows, MARGIN, FAINTEST_BRIGHTNESS)


def _plausible_brightness(model: NoiseModel, name: str, sample: Photometry) -> float:
    """The highest log10 max(f / s) that training may reach: `MARGIN` beyond what is taken at its word."""
    _, high = _bounds(model, model.surveys.index(name), sample)
    return float(np.nanquantile(high, 0.999)) + FARTHEST if np.isfinite(high).any() else np.inf


def explicit_noise(
    bands: Sequence[str],
    depth_range: Range,
    systematic: float | Unreported,
    fractional: float = 0.0,
    brightness: Range | None = None,
) -> NoiseModel:
    """Noise model of a job without a catalogue: one survey, "default", of any depth in a range.

    Parameters
    ----------
    bands : sequence of str
        All bands of the job; each has the same depth in an object.
    depth_range : tuple of float
        log10 of the least and the largest 1-sigma depth [mJy].
    systematic : float or Unreported
        Fractional error added in quadrature, which reported errors do not hold.
    fractional : float
        Fractional error that reported errors do hold.
    brightness : tuple of float, optional
        Range of log10 max(f / s) to train on.

    Returns
    -------
    NoiseModel
        Background and fractional errors; log10 xi is uniform, so that the depth covers the range.
    """
    low, high = depth_range
    one_survey = np.ones((1, len(bands)))
    depth = 10 ** (0.5 * (low + high)) * one_survey
    return NoiseModel(
        bands=tuple(bands),
        surveys=(DEFAULT_SURVEY,),
        depth=depth,
        photon=1e-9 * depth,
        fractional=max(fractional, 1e-6) * one_survey,
        scatter=(high - low) / np.sqrt(12) * one_survey,
        correlation=np.ones(1),
        brightness=np.array([brightness or DEFAULT_BRIGHTNESS]),
        systematic=_table(systematic, (DEFAULT_SURVEY,), bands),
        limit_fraction=np.zeros(1),
        scatter_shape="uniform",
    )


def _fit_all(surveys: Mapping[str, Photometry], n_bands: int) -> dict[tuple[str, int], BandNoise]:
    """Noise of each survey in each band that it has; where clusters are few, other surveys guide the fit."""
    data = {
        (name, i): found
        for name in surveys
        for i in range(n_bands)
        if len((found := surveys[name].band(i))[0])
    }
    fits = {key: fit_band(*found) for key, found in data.items() if len(found[0]) >= FEWEST}
    few = {key: found for key, found in data.items() if key not in fits}
    pooled = {i: [fit for (_, band), fit in fits.items() if band == i] for i in range(n_bands)}
    return fits | {key: fit_band(*found, expect(pooled[key[1]])) for key, found in few.items()}


def _correlations(surveys: Mapping[str, Photometry], fits: Fits) -> Floats:
    """Correlation of log10 xi between bands, shape (n_surveys, n_bands, n_bands).

    Where a survey's own clusters are too few for a pair of bands, that pair's median in other surveys is
    taken, else the median of all.
    """
    found = np.stack([_correlation(survey, name, fits) for name, survey in surveys.items()])
    known = found[np.isfinite(found)]
    usual = np.median(known) if len(known) else DEFAULT_CORRELATION
    for i, k in combinations(range(found.shape[1]), 2):
        own = found[:, i, k]
        pair = np.median(own[np.isfinite(own)]) if np.isfinite(own).any() else usual
        found[:, i, k] = found[:, k, i] = np.where(np.isfinite(own), own, pair)
    return np.stack([_proper(matrix) for matrix in found])


def _correlation(survey: Photometry, name: str, fits: Fits) -> Floats:
    """Correlation of log10 xi of a survey by the clusters that bands share, NaN where they are too few."""
    n_rows, n_bands = survey.flux.shape
    deviates = np.full((n_rows, n_bands), np.nan)
    for i in range(n_bands):
        if (fit := fits.get((name, i))) is not None:
            rows = survey.detected[:, i]
            rows[rows] = telling(fit, survey.flux[rows, i])
            factor = fit.log_factor(survey.flux[rows, i], survey.error[rows, i])
            deviates[rows, i] = np.clip(factor / fit.scatter, -3, 3)
    found = np.full((n_bands, n_bands), np.nan)
    for i, k in combinations(range(n_bands), 2):
        found[i, k] = _pair_correlation(deviates[:, (i, k)])
    return found


def _pair_correlation(deviates: Floats) -> float:
    shared = deviates[np.isfinite(deviates).all(axis=1)]
    if len(shared) < FEWEST or not shared.std(axis=0).all():
        return np.nan
    centred = shared - shared.mean(axis=0)
    value = float(np.mean(centred[:, 0] * centred[:, 1]) / shared.std(axis=0).prod())
    return float(np.clip(value, 0.0, LARGEST_CORRELATION))


def _proper(matrix: Floats) -> Floats:
    """The nearest thing to a matrix of pairwise correlations that is one: no negative eigenvalue."""
    np.fill_diagonal(matrix, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    positive = (vectors * values.clip(min=1e-3)) @ vectors.T
    size = np.sqrt(np.diag(positive))
    return np.asarray(positive / np.outer(size, size))
