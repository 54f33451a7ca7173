"""Summaries of weighted draws: moments, quantiles, modes."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.schema import MAX_MODES, QUANTILES

Floats = NDArray[np.float64]

MODE_BANDWIDTH = 0.1
"""Width [dex] to which the age distribution is smoothed before its modes are counted."""
MODE_VALLEY = 0.6
"""Two peaks are two modes when the valley between them falls below this share of the lower one."""
MODE_WEIGHT = 0.05
"""Least share of the posterior that counts as a mode."""


class Modes(NamedTuple):
    """Modes of one posterior, heaviest first."""

    weights: Floats
    """Share of the posterior in each, (n_modes,)."""
    centres: Floats
    """Weighted mean of each parameter in each, (n_modes, n_parameters)."""
    widths: Floats
    """Weighted standard deviation of each parameter in each, (n_modes, n_parameters)."""


def weighted_moments(draws: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of weighted draws.

    Parameters
    ----------
    draws, weights : ndarray, shape (n_clusters, n_draws)
        The weights of a cluster sum to one.

    Returns
    -------
    tuple of ndarray, shape (n_clusters,)
        In the draws' units.
    """
    mean = (draws * weights).sum(1)
    variance = (weights * (draws - mean[:, None]) ** 2).sum(1)
    return mean, np.sqrt(variance)


def weighted_quantiles(draws: Floats, weights: Floats, probabilities: list[float]) -> Floats:
    """Quantiles of weighted draws.

    Parameters
    ----------
    draws, weights : ndarray, shape (n_clusters, n_draws)
        The weights of a cluster sum to one.
    probabilities : list of float
        Between 0 and 1.

    Returns
    -------
    ndarray, shape (n_clusters, n_probabilities)
        The draw at which the summed weight reaches the probability: a draw of no weight, outside the
        prior say, is never a quantile, and no value lies between the modes where no draw does.
    """
    order = np.argsort(draws, axis=1)
    values = np.take_along_axis(draws, order, axis=1)
    reached = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    last = draws.shape[1] - 1
    places = [np.minimum((reached < p * reached[:, -1:]).sum(1), last) for p in probabilities]
    return np.stack([values[np.arange(len(values)), place] for place in places], axis=1)


def summarise(draws: Floats, weights: Floats) -> dict[str, Floats]:
    """Mean, deviation and quantiles of one parameter.

    Parameters
    ----------
    draws, weights : ndarray, shape (n_clusters, n_draws)
        The weights of a cluster sum to one.

    Returns
    -------
    dict of str to ndarray, shape (n_clusters,)
        By column suffix: ``mean``, ``std`` and those of `schema.QUANTILES`.
    """
    mean, std = weighted_moments(draws, weights)
    quantiles = weighted_quantiles(draws, weights, list(QUANTILES.values()))
    return {"mean": mean, "std": std} | dict(zip(QUANTILES, quantiles.T, strict=True))


def find_modes(parameters: Floats, weights: Floats, age_range: tuple[float, float]) -> Modes:
    """Modes of a posterior along its age, the axis on which cluster posteriors fall apart.

    Parameters
    ----------
    parameters : ndarray, shape (n_draws, n_parameters)
        Draws; the first parameter is the log age.
    weights : ndarray, shape (n_draws,)
        Sum to one.
    age_range : tuple of float
        Range of the log age.

    Returns
    -------
    Modes
        At least one, at most `schema.MAX_MODES`.
    """
    bins = _bins(*age_range)
    # Draws beyond an edge of the range by rounding belong to its first or last bin.
    cells = np.searchsorted(bins.inner, parameters[:, 0], side="right")
    cuts = _valleys(bins.smooth(_sums(cells, weights, len(bins.inner) + 1)))
    label = np.searchsorted(cuts, cells)
    share = _sums(label, weights, len(cuts) + 1)
    kept = [mode for mode in np.argsort(-share, kind="stable") if share[mode] >= MODE_WEIGHT][:MAX_MODES]
    moments = [_moments(parameters[label == mode], weights[label == mode]) for mode in kept]
    centres, widths = np.array(moments).reshape(len(kept), 2, parameters.shape[1]).swapaxes(0, 1)
    return Modes(share[kept], centres, widths)


def _moments(parameters: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each parameter, (n_parameters,)."""
    share = weights / weights.sum()
    mean = share @ parameters
    return mean, np.sqrt(share @ (parameters - mean) ** 2)


def _sums(cells: NDArray[np.int64], weights: Floats, n: int) -> Floats:
    return np.bincount(cells, weights, minlength=n).astype(np.float64)


class _Bins(NamedTuple):
    """Bins of the log age, and how their content is smoothed."""

    inner: Floats
    """Edges between bins."""
    padded: NDArray[np.int64]
    """Bins with their reflections at the edges of the prior."""
    kernel: Floats

    def smooth(self, density: Floats) -> Floats:
        """Convolve with a Gaussian of `MODE_BANDWIDTH`."""
        return np.convolve(density[self.padded], self.kernel, mode="valid")


@lru_cache(maxsize=16)
def _bins(low: float, high: float) -> _Bins:
    """The same for every cluster."""
    edges = np.linspace(low, high, 1 + max(8, round((high - low) / (MODE_BANDWIDTH / 4))))
    step = edges[1] - edges[0]
    reach = int(np.ceil(3 * MODE_BANDWIDTH / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / MODE_BANDWIDTH) ** 2)
    padded = np.pad(np.arange(len(edges) - 1), reach, mode="symmetric")
    return _Bins(edges[1:-1], padded, kernel / kernel.sum())


def _valleys(density: Floats) -> NDArray[np.int64]:
    """Cells at the bottom of the valleys that part two peaks."""
    framed = np.concatenate([[0.0], density, [0.0]])
    peaks = _peaks(framed) - 1
    cuts: list[int] = []
    last = peaks[0] if len(peaks) else 0
    for peak in peaks[1:]:
        bottom = last + int(np.argmin(density[last : peak + 1]))
        if density[bottom] < MODE_VALLEY * min(density[last], density[peak]):
            cuts.append(bottom)
            last = peak
        elif density[peak] > density[last]:
            last = peak
    return np.array(cuts, dtype=np.int64)


def _peaks(density: Floats) -> NDArray[np.int64]:
    """Cells higher than both neighbours, of a flat top its middle; `scipy.signal` loads slowly."""
    steps = np.flatnonzero(np.diff(density))
    rises = density[steps + 1] > density[steps]
    tops = np.flatnonzero(rises[:-1] & ~rises[1:])
    return (steps[tops] + 1 + steps[tops + 1]) // 2
