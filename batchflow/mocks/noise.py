"""The noise model: one object that draws noise in training and evaluates its likelihood after.

A band's flux F is measured with a variance that follows the TRUE flux f,

    var(f) = A + P f + K f^2,   A = (xi s)^2,  P = xi^2 a,  K = k^2 + systematic^2 + model_error^2,

with the survey's depth `s`, photon term `a` and fractional error `k`, and `xi` an object's own
factor on its depth (crowding, background): log10 xi has the survey's scatter, is correlated between
bands and independent of the cluster's parameters. What no catalogue reports, `systematic` (zero points,
aperture corrections; by survey) and `model_error` (the spectra; by band), is in `systematic` here: both
scale with the true flux and are independent between bands, so they add in quadrature.
The error that the catalogue reports follows the NOISY flux,

    e^2 = xi^2 (s^2 + a F) + k^2 F^2   (F above zero; (xi s)^2 below),

so it tells nothing of f that F does not tell, and xi can be had back from (F, e) without loss:
the likelihood of F given f is then exactly Gaussian with the variance above. The distribution of
log10 xi (scatter, correlation, reach) therefore decides what training sees, and never the posterior.

Everything here is arithmetic that NumPy arrays and torch tensors share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = Any
"""A NumPy array, or a torch tensor where the arithmetic runs on a device."""
DEFAULT_SURVEY = "default"
"""The survey of a model whose job gave the noise itself, without a catalogue."""
SMALLEST_SHARE = 1e-4
"""Least share of a reported variance that is taken to be random, not fractional."""
SMALLEST_PIVOT = 1e-9
ARRAYS = (
    *("depth", "photon", "fractional", "scatter", "correlation", "brightness", "systematic"),
    *("limit_fraction", "reach", "mixing"),
)
"""Fields of a `NoiseModel` that are arrays, or tensors on a device."""


class NoiseTerms(NamedTuple):
    """Coefficients of the variance in the true flux; arrays or tensors (n_clusters, n_bands)."""

    background: Any
    """A [mJy^2]."""
    photon: Any
    """P [mJy]."""
    fractional: Any
    """K [1]."""

    def variance(self, flux: Any) -> Any:
        """Variance [mJy^2] of a measurement whose true flux density is `flux` [mJy] >= 0."""
        return self.background + (self.photon + self.fractional * flux) * flux


@dataclass(frozen=True)
class NoiseModel:
    """Noise of each survey in each band.

    A *survey* is one field or catalogue of the job: its depth and its bands are its own.
    Arrays have shape (n_surveys, n_bands); a band that a survey lacks is NaN.
    """

    bands: tuple[str, ...]
    surveys: tuple[str, ...]
    depth: Array
    """s, median 1-sigma error of a source without flux [mJy]."""
    photon: Array
    """a, photon noise: variance per flux [mJy]."""
    fractional: Array
    """k, fractional error that the catalogue reports for bright sources."""
    scatter: Array
    """Standard deviation of log10 xi [dex]."""
    correlation: Array
    """Correlation of log10 xi between bands, shape (n_surveys, n_bands, n_bands); (n_surveys,) gives
    all pairs of bands the same."""
    brightness: Array
    """Range of log10 of the largest depth-normalised true flux max(f / s) to train on,
    shape (n_surveys, 2)."""
    systematic: Array
    """Fractional error that no catalogue reports (zero points, models), shape (n_surveys + 1, n_bands);
    the last row is for surveys that the model does not know. One number is the same everywhere."""
    limit_fraction: Array
    """Share of undetected bands given as upper limits, shape (n_surveys,)."""
    scatter_shape: str = "normal"
    """Distribution of log10 xi: "normal" or "uniform"."""
    reach: Array = None
    """Largest |log10 xi| that training covers, in a few outliers beyond the scatter [dex]; zero: no
    outliers are drawn (default)."""
    mixing: Array = None
    """Lower triangular L with L L^T = `correlation`; follows from it."""

    def __post_init__(self) -> None:
        """Bring what was given in short into full shape."""
        n_surveys, n_bands = len(self.surveys), len(self.bands)
        if np.ndim(self.systematic) == 0:
            object.__setattr__(self, "systematic", np.full((n_surveys + 1, n_bands), float(self.systematic)))
        if np.ndim(self.correlation) == 1:
            shared = np.asarray(self.correlation, dtype=np.float64)[:, None, None]
            object.__setattr__(self, "correlation", shared + (1 - shared) * np.eye(n_bands))
        if self.reach is None:
            object.__setattr__(self, "reach", np.zeros((n_surveys, n_bands)))
        if self.mixing is None:
            object.__setattr__(self, "mixing", np.stack([_triangle(matrix) for matrix in self.correlation]))

    def select(self, survey: Any) -> SurveyNoise:
        """Noise of the survey of each row.

        Parameters
        ----------
        survey : int array, shape (n_clusters,)
            Index into `surveys`.

        Returns
        -------
        SurveyNoise
            Arrays of shape (n_clusters, n_bands).
        """
        arrays = (self.depth, self.photon, self.fractional, self.systematic)
        return SurveyNoise(*(array[survey] for array in arrays))

    @property
    def explicit(self) -> bool:
        """Whether the job gave the noise itself: any photometry then belongs to its one survey."""
        return self.surveys == (DEFAULT_SURVEY,) and self.scatter_shape == "uniform"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; NaN (a band the survey lacks) becomes None."""
        return {name: _plain(value) for name, value in vars(self).items() if name != "mixing"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NoiseModel:
        """Inverse of `to_dict`."""
        found = dict(values)
        given = [name for name in ARRAYS if values.get(name) is not None]
        found.update({name: np.array(values[name], dtype=np.float64) for name in given})
        return cls(**found | {"bands": tuple(values["bands"]), "surveys": tuple(values["surveys"])})

    def index(self, surveys: Sequence[str]) -> NDArray[np.int64]:
        """Index of each named survey; -1 for one that the model does not know."""
        known = {name: i for i, name in enumerate(self.surveys)}
        return np.array([known.get(name, -1) for name in surveys], dtype=np.int64)


class SurveyNoise(NamedTuple):
    """Noise of each row's survey; arrays or tensors of shape (n_clusters, n_bands)."""

    depth: Any
    photon: Any
    fractional: Any
    systematic: Any

    def terms_from_factor(self, factor: Any) -> NoiseTerms:
        """Variance coefficients of objects whose depth is `factor` (xi) times the survey's."""
        return NoiseTerms(
            (factor * self.depth) ** 2,
            factor**2 * self.photon,
            self.fractional**2 + self.systematic**2,
        )

    def terms(self, flux: Any, error: Any) -> NoiseTerms:
        """Variance coefficients recovered from what the catalogue reports.

        Parameters
        ----------
        flux, error : arrays, shape (n_clusters, n_bands)
            Reported flux density and error [mJy].

        Returns
        -------
        NoiseTerms
            Exact where the error follows the model; elsewhere at least `SMALLEST_SHARE` of
            the reported variance is taken as random.
        """
        positive = flux.clip(min=0)
        random = error**2 - (self.fractional * positive) ** 2
        least = SMALLEST_SHARE * error**2
        random = least + (random - least).clip(min=0)
        factor = (random / (self.depth**2 + self.photon * positive)) ** 0.5
        return self.terms_from_factor(factor)

    def reported_error(self, flux: Any, factor: Any) -> Any:
        """Error [mJy] that the catalogue would report for a noisy flux density [mJy]."""
        positive = flux.clip(min=0)
        random = factor**2 * (self.depth**2 + self.photon * positive)
        return (random + (self.fractional * positive) ** 2) ** 0.5


def plain_terms(error: Any, systematic: Any) -> NoiseTerms:
    """Variance coefficients when nothing is known but the errors: all background.

    Parameters
    ----------
    error : array, shape (n_clusters, n_bands)
        Reported errors [mJy].
    systematic : float, or array of shape (n_clusters, n_bands)
        Fractional error to add in quadrature.

    Returns
    -------
    NoiseTerms
        A = error^2, P = 0, K = systematic^2.
    """
    return NoiseTerms(error**2, 0.0 * error, 0.0 * error + systematic**2)


def _triangle(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cholesky factor; unlike LAPACK's it takes bands that always go together (a zero pivot)."""
    found = np.zeros_like(correlation)
    for i in range(len(found)):
        pivot = correlation[i, i] - found[i, :i] @ found[i, :i]
        if pivot > SMALLEST_PIVOT:
            rest = correlation[i:, i] - found[i:, :i] @ found[i, :i]
            found[i:, i] = rest / np.sqrt(pivot)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        missing: Any = None  # JSON has no NaN
        return np.where(np.isfinite(value), value, missing).tolist()
    return list(value) if isinstance(value, tuple) else value
