"""Recovery of known truths: bias, scatter and coverage of posteriors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.infer.summary import weighted_quantiles

Floats = NDArray[np.float64]
MAD_TO_SIGMA = 1.4826
"""A Gaussian's standard deviation over its median absolute deviation."""


def robust_scatter(values: Floats) -> float:
    """Standard deviation of the Gaussian core: 1.48 times the median absolute deviation."""
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values)))) if len(values) else np.nan


def rank_of_truth(draws: Floats, weights: Floats, truth: Floats) -> Floats:
    """Posterior probability of values below the truth.

    Parameters
    ----------
    draws, weights : ndarray, shape (n_clusters, n_draws)
        The weights of a cluster sum to one.
    truth : ndarray, shape (n_clusters,)
        True values.

    Returns
    -------
    ndarray, shape (n_clusters,)
        Uniform on [0, 1] when the posterior is right (Talts et al. 2018, arXiv:1804.06788).
    """
    return (weights * (draws < truth[:, None])).sum(1)


def coverage(ranks: Floats, level: float) -> float:
    """Share of truths inside the central interval of a level, from their ranks."""
    return float(np.mean(np.abs(ranks - 0.5) <= level / 2))


def recovery(draws: Mapping[str, Floats], weights: Floats, truth: Mapping[str, Floats]) -> pa.Table:
    """How well known truths are recovered.

    Parameters
    ----------
    draws : mapping of str to ndarray, shape (n_clusters, n_draws)
        Posterior draws by parameter.
    weights : ndarray, shape (n_clusters, n_draws)
        The weights of a cluster sum to one.
    truth : mapping of str to ndarray, shape (n_clusters,)
        True values.

    Returns
    -------
    pyarrow.Table
        One row a parameter: `n`, `bias` and `scatter` of the posterior median about the truth
        (median, 1.48 MAD), `rms`, `coverage_68`, `coverage_95`, and `rank_pvalue`, the
        Kolmogorov-Smirnov probability that the ranks are uniform.
    """
    return pa.Table.from_pylist([_row(name, draws[name], weights, truth[name]) for name in draws])


def _row(name: str, draws: Floats, weights: Floats, truth: Floats) -> dict[str, object]:
    from scipy.stats import kstest

    if not len(truth):
        names = ("bias", "scatter", "rms", "coverage_68", "coverage_95", "rank_pvalue")
        return {"parameter": name, "n": 0} | dict.fromkeys(names, np.nan)
    difference = weighted_quantiles(draws, weights, [0.5])[:, 0] - truth
    ranks = rank_of_truth(draws, weights, truth)
    return {
        "parameter": name,
        "n": len(truth),
        "bias": float(np.median(difference)),
        "scatter": robust_scatter(difference),
        "rms": float(np.sqrt(np.mean(difference**2))),
        "coverage_68": coverage(ranks, 0.68),
        "coverage_95": coverage(ranks, 0.95),
        "rank_pvalue": float(kstest(ranks, "uniform").pvalue),
    }
