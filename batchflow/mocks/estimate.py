"""The noise model of a job, fitted to the errors that its catalogues report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.mocks.error_fit import FEWEST, REACH, BandNoise, expect, fit_band, telling
from batchflow.mocks.noise import DEFAULT_SURVEY, NoiseModel
from batchflow.schema import error_column, flux_column, limit_column
from batchflow.settings import Range

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Tables: TypeAlias = Mapping[str, pa.Table] | pa.Table

DEFAULT_BRIGHTNESS = (0.2, 4.5)
"""Range of log10 max(f / s) without a catalogue: from 1.6 sigma to the photometry of bright clusters."""
FAINTEST_BRIGHTNESS = -0.5
MARGIN = 0.5
"""How far training goes beyond the catalogue's faintest and brightest cluster [dex]."""
DEFAULT_CORRELATION = 0.5


@dataclass(frozen=True)
class Photometry:
    """Fluxes of one survey; arrays of shape (n_clusters, n_bands)."""

    flux: Floats
    """Reported flux densities [mJy]; NaN where not measured."""
    error: Floats
    """Reported errors [mJy]."""
    limit: Bools
    """Where the flux is an upper limit."""

    @property
    def detected(self) -> Bools:
        """Where flux and error are a measurement."""
        return np.isfinite(self.flux) & np.isfinite(self.error) & ~self.limit


@dataclass(frozen=True)
class NoiseFigures:
    """How well a noise model describes a survey."""

    survey: str
    """Name of the survey."""
    n_rows: int
    """Its clusters with a measured band."""
    inside: float
    """Share of them whose errors training covers, in all their bands; NaN when there are none."""
    residual: Mapping[str, float]
    """Median absolute deviation of log10 error from the model's median, by measured band [dex]."""


def estimate_noise(tables: Tables, bands: Sequence[str], systematic: float) -> NoiseModel:
    """Fit the noise model to catalogues.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table, or pyarrow.Table
        Normalised catalogues by survey, or all in one with the column `survey`.
    bands : sequence of str
        All bands of the job.
    systematic : float
        Fractional error that no catalogue reports.

    Returns
    -------
    NoiseModel
        Finite and positive wherever a survey has a measurement in a band, NaN elsewhere.

    Raises
    ------
    UserError
        When no row of any survey is measured in any band.
    """
    surveys = {name: _photometry(table, bands) for name, table in _by_survey(tables).items()}
    if not any(found.detected.any() for found in surveys.values()):
        raise UserError("no catalogue of the job has a usable flux: see the flags of its rows")
    fits = _fit_all(surveys, len(bands))
    values = np.array([[fits.get((name, i), (np.nan,) * 4) for i in range(len(bands))] for name in surveys])
    depth, photon, fractional, scatter = np.moveaxis(values, -1, 0)
    return NoiseModel(
        bands=tuple(bands),
        surveys=tuple(surveys),
        depth=depth,
        photon=photon,
        fractional=fractional,
        scatter=scatter,
        correlation=_correlations(surveys, fits),
        brightness=np.array(
            [_brightness(found, row) for found, row in zip(surveys.values(), depth, strict=True)]
        ),
        systematic=systematic,
        limit_fraction=np.array([_limit_fraction(found) for found in surveys.values()]),
    )


def explicit_noise(
    bands: Sequence[str],
    depth_range: Range,
    systematic: float,
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
    systematic : float
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
        systematic=systematic,
        limit_fraction=np.zeros(1),
        scatter_shape="uniform",
    )


def noise_figures(model: NoiseModel, tables: Tables) -> list[NoiseFigures]:
    """Compare a noise model with the catalogues' errors.

    Parameters
    ----------
    model : NoiseModel
        Knows the surveys.
    tables : mapping of str to pyarrow.Table, or pyarrow.Table
        As `estimate_noise` takes them.

    Returns
    -------
    list of NoiseFigures
        One a survey.
    """
    return [_figures(model, name, table) for name, table in _by_survey(tables).items()]


def _by_survey(tables: Tables) -> Mapping[str, pa.Table]:
    if not isinstance(tables, pa.Table):
        return tables
    names = sorted(pc.unique(tables["survey"]).to_pylist())
    return {name: tables.filter(pc.equal(tables["survey"], name)) for name in names}


def _photometry(table: pa.Table, bands: Sequence[str]) -> Photometry:
    def stacked(name: Callable[[str], str]) -> NDArray[Any]:
        return np.stack([table[name(band)].to_numpy() for band in bands], axis=1)

    return Photometry(stacked(flux_column), stacked(error_column), stacked(limit_column))


def _fit_all(surveys: Mapping[str, Photometry], n_bands: int) -> dict[tuple[str, int], BandNoise]:
    """Noise of each survey in each band that it has; where clusters are few, other surveys guide the fit."""
    data = {
        (name, i): found
        for name in surveys
        for i in range(n_bands)
        if len((found := _pairs(surveys[name], i))[0])
    }
    fits = {key: fit_band(*found) for key, found in data.items() if len(found[0]) >= FEWEST}
    few = {key: found for key, found in data.items() if key not in fits}
    pooled = {i: [fit for (_, band), fit in fits.items() if band == i] for i in range(n_bands)}
    return fits | {key: fit_band(*found, expect(pooled[key[1]])) for key, found in few.items()}


def _pairs(survey: Photometry, band: int) -> tuple[Floats, Floats]:
    rows = survey.detected[:, band]
    return survey.flux[rows, band], survey.error[rows, band]


def _correlations(surveys: Mapping[str, Photometry], fits: Mapping[tuple[str, int], BandNoise]) -> Floats:
    found = np.array([_correlation(survey, name, fits) for name, survey in surveys.items()])
    known = found[np.isfinite(found)]
    return np.where(np.isfinite(found), found, np.median(known) if len(known) else DEFAULT_CORRELATION)


def _correlation(survey: Photometry, name: str, fits: Mapping[tuple[str, int], BandNoise]) -> float:
    """Mean correlation of log10 xi over pairs of bands, by the clusters they share; NaN if too few."""
    n_rows, n_bands = survey.flux.shape
    deviates = np.full((n_rows, n_bands), np.nan)
    for i in range(n_bands):
        if (fit := fits.get((name, i))) is not None:
            rows = survey.detected[:, i]
            rows[rows] = telling(fit, survey.flux[rows, i])
            factor = fit.log_factor(survey.flux[rows, i], survey.error[rows, i])
            deviates[rows, i] = np.clip(factor / fit.scatter, -3, 3)
    pairs = [_pair_correlation(deviates[:, pair]) for pair in combinations(range(n_bands), 2)]
    weights = np.array([weight for _, weight in pairs], dtype=np.float64)
    if not weights.sum():
        return np.nan
    return float(np.clip(np.average([value for value, _ in pairs], weights=weights), 0.0, 0.95))


def _pair_correlation(deviates: Floats) -> tuple[float, int]:
    shared = deviates[np.isfinite(deviates).all(axis=1)]
    if len(shared) < FEWEST or not shared.std(axis=0).all():
        return 0.0, 0
    centred = shared - shared.mean(axis=0)
    return float(np.mean(centred[:, 0] * centred[:, 1]) / shared.std(axis=0).prod()), len(shared)


def _brightness(survey: Photometry, depth: Floats) -> tuple[float, float]:
    """Range of log10 max(f / s) that holds every cluster of a survey, with a margin."""
    relative = (
        np.where(survey.detected, survey.flux, np.nan)[:, np.isfinite(depth)] / depth[np.isfinite(depth)]
    )
    relative = relative[np.isfinite(relative).any(axis=1)]
    if not len(relative):
        return DEFAULT_BRIGHTNESS
    largest = np.log10(np.nanmax(relative, axis=1).clip(min=1e-3))
    low = max(float(largest.min()) - MARGIN, FAINTEST_BRIGHTNESS)
    return low, max(float(largest.max()), low) + MARGIN


def _limit_fraction(survey: Photometry) -> float:
    """Share of upper limits among the bands that are not detected at 3 sigma."""
    with np.errstate(invalid="ignore"):
        faint = survey.detected & (survey.flux < 3 * survey.error)
    limits = int(survey.limit.sum())
    return limits / (limits + int(faint.sum())) if limits else 0.0


def _figures(model: NoiseModel, name: str, table: pa.Table) -> NoiseFigures:
    survey = _photometry(table, model.bands)
    row = int(model.index([name])[0])
    inside = np.ones(len(survey.flux), dtype=bool)
    residual = {}
    for i in range(len(model.bands)):
        rows = survey.detected[:, i]
        if not rows.any():
            continue
        noise = BandNoise(
            *(
                float(column[row, i])
                for column in (model.depth, model.photon, model.fractional, model.scatter)
            )
        )
        flux, error = survey.flux[rows, i], survey.error[rows, i]
        residual[model.bands[i]] = float(np.median(np.abs(np.log10(error / noise.median_error(flux)))))
        inside[rows] &= noise.needed_factor(flux, error) <= REACH * noise.scatter
    measured = survey.detected.any(axis=1)
    share = float(inside[measured].mean()) if measured.any() else np.nan
    return NoiseFigures(name, int(measured.sum()), share, residual)
