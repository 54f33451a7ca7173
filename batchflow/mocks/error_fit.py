"""How a band's reported errors follow its fluxes: depth, photon noise, floor and scatter.

Seen in LEGUS: relative errors fall with flux to a sharp floor `k` (the error of the aperture
correction), and lie above it by a factor `xi` on the random part whose scatter hardly depends on
flux. So scatter belongs to the random part, and says little where the floor rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from batchflow.mocks.noise import SMALLEST_SHARE

Floats = NDArray[np.float64]
FEWEST = 30
"""Clusters that a fit of three parameters needs."""
MOST = 4000
"""Clusters that a fit is given at most, evenly over the ranks of flux."""
ROUNDING = 0.01
"""Scatter of log10 error that the model need not explain [dex]: errors are printed to 0.001 mag."""
RANDOM_SHARES = (0.1, 0.3)
"""Share of random noise in a variance below which xi cannot be read off it, and above which it can;
between, it is read where clusters would be fewer than `FEWEST`."""
SCATTER_RANGE = (0.02, 0.6)
REACH = 6.0
"""Standard deviations of log10 xi that training covers at least: four of the broadened distribution."""
ROUNDS = 4


class BandNoise(NamedTuple):
    """Noise of one survey in one band; see `NoiseModel`."""

    depth: float
    """s [mJy]."""
    photon: float
    """a [mJy]."""
    fractional: float
    """k."""
    scatter: float
    """Standard deviation of log10 xi [dex]."""

    @property
    def log_ratio(self) -> float:
        """log10 a/s: photon noise against background noise, much alike in surveys of one band."""
        return float(np.log10(self.photon / self.depth))

    def random_variance(self, flux: Floats) -> Floats:
        """Random variance [mJy^2] reported with a flux density [mJy], for xi = 1."""
        return self.depth**2 + self.photon * flux.clip(min=0)

    def median_error(self, flux: Floats) -> Floats:
        """Error [mJy] reported with a flux density [mJy], for xi = 1."""
        return np.sqrt(self.random_variance(flux) + (self.fractional * flux.clip(min=0)) ** 2)

    def random_share(self, flux: Floats) -> Floats:
        """Share of the random part in the reported variance, for xi = 1."""
        return self.random_variance(flux) / self.median_error(flux) ** 2

    def log_factor(self, flux: Floats, error: Floats) -> Floats:
        """Read log10 xi off flux densities and errors [mJy]."""
        random = _random_part(flux, error, self.fractional)
        return 0.5 * np.log10(random / self.random_variance(flux))


def _random_part(flux: Floats, error: Floats, fractional: float) -> Floats:
    """Variance above the floor [mJy^2], as `SurveyNoise.terms` takes it."""
    return np.maximum(error**2 - (fractional * flux.clip(min=0)) ** 2, SMALLEST_SHARE * error**2)


class Expected(NamedTuple):
    """What is expected of a band before its errors are seen: normal in the logarithm."""

    log_ratio: float = -1.5
    """Of log10 a/s."""
    log_ratio_width: float = 1.0
    log_floor: float = -1.7
    """Of log10 k."""
    log_floor_width: float = 1.0
    scatter: float = 0.15
    """Standard deviation of log10 xi where the data do not tell it [dex]."""


NO_OTHERS = Expected()


def expect(others: Sequence[BandNoise]) -> Expected:
    """What fits of the same band in other surveys let one expect.

    Parameters
    ----------
    others : sequence of BandNoise
        May be empty.

    Returns
    -------
    Expected
        Their medians; the widths are their robust scatter, at least 0.1 dex.
    """
    if not others:
        return NO_OTHERS
    ratios = np.array([noise.log_ratio for noise in others])
    floors = np.log10([noise.fractional for noise in others])
    scatter = float(np.median([noise.scatter for noise in others]))
    return Expected(*_median_and_width(ratios), *_median_and_width(floors), scatter)


def _median_and_width(values: Floats) -> tuple[float, float]:
    middle = float(np.median(values))
    return middle, max(1.48 * float(np.median(np.abs(values - middle))), 0.1)


def fit_band(flux: Floats, error: Floats, expected: Expected = NO_OTHERS) -> BandNoise:
    """Fit the noise of a survey in a band.

    Robust least squares in log10 error for log s, log a and log k. The scatter expected of a
    cluster is that of xi times its random share, so the rounds alternate between the two.

    Parameters
    ----------
    flux, error : ndarray, shape (n_clusters,)
        Reported flux densities and errors [mJy], finite; at least one.
    expected : Expected
        Rules where the clusters are few, or do not tell.

    Returns
    -------
    BandNoise
        Finite and positive throughout.
    """
    flux, error = _thinned(flux, error)
    found = _first_guess(flux, error, expected)
    for _ in range(ROUNDS):
        found = _improved(found, flux, error, expected)
    return found


def _thinned(flux: Floats, error: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(flux, kind="stable")
    if len(order) > MOST:
        order = order[np.linspace(0, len(order) - 1, MOST).round().astype(int)]
    return flux[order], error[order]


def _first_guess(flux: Floats, error: Floats, expected: Expected) -> BandNoise:
    floor = 0.9 * min(_highest_floor(flux, error), float(10**expected.log_floor))
    faint = flux <= np.quantile(flux, 0.3)
    depth = float(np.sqrt(0.5 * np.median(_random_part(flux[faint], error[faint], floor))))
    return BandNoise(depth, depth * 10**expected.log_ratio, floor, expected.scatter)


def _highest_floor(flux: Floats, error: Floats) -> float:
    """Relative error that all but 1 % of the clusters exceed: a floor lies below what it carries."""
    return float(np.quantile(error / np.maximum(flux, error), 0.01))


def _improved(start: BandNoise, flux: Floats, error: Floats, expected: Expected) -> BandNoise:
    """One round: the errors' course with the scatter given, then the scatter."""
    scale = np.hypot(start.random_share(flux) * start.scatter, ROUNDING)

    def residuals(logs: Floats) -> Floats:
        depth, photon, fractional = logs
        course = (np.log10(error) - np.log10(_of_logs(logs, 0.0).median_error(flux))) / scale
        ratio = (photon - depth - expected.log_ratio) / expected.log_ratio_width
        floor = (fractional - expected.log_floor) / expected.log_floor_width
        return np.concatenate([course, [ratio, floor]])

    first = np.log10(start[:3])
    highest = [np.inf, np.inf, max(np.log10(_highest_floor(flux, error)), first[2] + 1e-9)]
    logs = least_squares(residuals, first, bounds=(-np.inf, highest), loss="soft_l1", x_scale=0.1).x
    course = _of_logs(logs, start.scatter)
    return course._replace(scatter=_scatter(course, flux, error))


def _of_logs(logs: Floats, scatter: float) -> BandNoise:
    depth, photon, fractional = (float(value) for value in 10.0**logs)
    return BandNoise(depth, photon, fractional, scatter)


def telling(noise: BandNoise, flux: Floats) -> NDArray[np.bool_]:
    """Where xi can be read off flux density [mJy] and error; shape (n_clusters,)."""
    share = noise.random_share(flux)
    if len(share) < FEWEST:
        return share > RANDOM_SHARES[0]
    return share > np.clip(np.sort(share)[-FEWEST], *RANDOM_SHARES)


def _scatter(noise: BandNoise, flux: Floats, error: Floats) -> float:
    """Half the central 95 % of log10 xi in normal deviates, where xi can be read."""
    rows = telling(noise, flux)
    found = noise.scatter
    if rows.sum() >= FEWEST // 2:
        low, high = np.quantile(noise.log_factor(flux[rows], error[rows]), (0.025, 0.975))
        found = (high - low) / (2 * 1.96)
    return float(np.clip(found, *SCATTER_RANGE))
