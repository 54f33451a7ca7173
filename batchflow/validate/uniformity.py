"""Are ranks uniform? Tests that say in which direction they are not, and the curves to draw.

A rank is the posterior probability of values below the truth. Over mocks drawn from the prior the ranks
of a right posterior are uniform (Talts et al. 2018, arXiv:1804.06788).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVELS = np.concatenate([[0.01], np.arange(0.05, 1.0, 0.05), [0.68, 0.99]])
"""Levels of the expected coverage."""
BINS = 20


class Uniformity(NamedTuple):
    """What tests say of ranks; NaN without any."""

    n: int
    ks_pvalue: float
    """Of Kolmogorov and Smirnov's test."""
    shift_z: float
    """Mean rank less 1/2 in its standard errors: above zero, the posteriors are too low."""
    dispersion_z: float
    """Mean square of rank - 1/2, less 1/12, in its standard errors: above zero, they are too narrow."""
    pvalue: float
    """Of shift and dispersion together: the sum of their squares is chi square of two degrees."""


def uniformity(ranks: Floats) -> Uniformity:
    """Test ranks for uniformity.

    Parameters
    ----------
    ranks : ndarray, shape (n_mocks,)
        Between 0 and 1.

    Returns
    -------
    Uniformity
        Rank and its square about 1/2 are uncorrelated where ranks are uniform, with variances 1/12 and
        1/180: the joint test needs no simulation.
    """
    from scipy.stats import chi2, kstest

    n = len(ranks)
    if not n:
        return Uniformity(0, np.nan, np.nan, np.nan, np.nan)
    away = ranks - 0.5
    shift = float(away.mean() * np.sqrt(12 * n))
    dispersion = float((np.square(away).mean() - 1 / 12) * np.sqrt(180 * n))
    joint = float(chi2.sf(shift**2 + dispersion**2, 2))
    return Uniformity(n, float(kstest(ranks, "uniform").pvalue), shift, dispersion, joint)


def smooth_ranks(ranks: Floats, effective: Floats, uniform: Floats) -> Floats:
    """Ranks among few draws as ranks among endlessly many: exactly uniform for equal weights.

    Parameters
    ----------
    ranks : ndarray, shape (n_mocks,)
        Share of the weight below the truth.
    effective : ndarray, shape (n_mocks,)
        Effective number of draws.
    uniform : ndarray, shape (n_mocks,)
        Uniform random numbers: where between two draws the truth lies is left to them.

    Returns
    -------
    ndarray, shape (n_mocks,)
        Between 0 and 1.
    """
    return np.asarray((ranks * effective + uniform) / (effective + 1))


def coverage_curve(ranks: Floats, levels: Floats = LEVELS) -> tuple[Floats, Floats]:
    """Share of truths in the central interval of each level, and its standard error if all is right."""
    away = np.abs(ranks - 0.5)[:, None]
    found = (away <= levels / 2).mean(0) if len(ranks) else np.full(len(levels), np.nan)
    return found, np.sqrt(levels * (1 - levels) / max(len(ranks), 1))


def expected_coverage(credibility: Floats, levels: Floats = LEVELS) -> tuple[Floats, Floats]:
    """Share of credibilities below each level (TARP's curve), and its standard error if all is right."""
    below = credibility[:, None] <= levels
    found = below.mean(0) if len(credibility) else np.full(len(levels), np.nan)
    return found, np.sqrt(levels * (1 - levels) / max(len(credibility), 1))


def histogram(ranks: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """Number of ranks in equal bins of [0, 1], (bins,)."""
    return np.histogram(ranks, bins, (0.0, 1.0))[0].astype(np.int64)


def family_pvalue(pvalue: Floats | float, tests: int) -> Floats:
    """Probability that the least of so many p-values is as small (Sidak 1967)."""
    return np.asarray(-np.expm1(tests * np.log1p(-np.minimum(pvalue, 1 - 1e-16))))
