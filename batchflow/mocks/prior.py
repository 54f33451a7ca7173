"""Draws from the prior, and its density."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from batchflow.settings.prior import Distribution, PriorSettings

Floats = NDArray[np.float64]
LN10 = float(np.log(10.0))


def draw_prior(prior: PriorSettings, n: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Draw parameters of mock clusters.

    Parameters
    ----------
    prior : PriorSettings
        The job's prior.
    n : int
        Number of clusters.
    rng : numpy.random.Generator
        Of the shard's own key.

    Returns
    -------
    dict of str to ndarray, shape (n,)
        ``log_age`` [log10 yr], ``log_mass`` [log10 Msun formed], ``ebv`` [mag] and the nuisance
        parameters that are not fixed, marginalised ones among them; in single precision, as they
        are stored, and inside the box.
    """
    return {name: draw(shape, n, rng) for name, shape in prior.distributions().items()}


def draw(distribution: Distribution, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw from one distribution.

    Parameters
    ----------
    distribution : Distribution
        Any shape.
    n : int
        Number of draws.
    rng : numpy.random.Generator
        Where the randomness comes from.

    Returns
    -------
    ndarray, shape (n,)
        Draws inside the distribution's box.
    """
    low, high = distribution.box
    if distribution.choice is not None:
        # As `log_density` knows them; there is no edge to stay inside of.
        return rng.choice(np.array(distribution.choice, dtype=np.float32), n)
    if distribution.uniform is not None:
        drawn = rng.uniform(low, high, n)
    else:
        drawn = quantile(distribution, rng.random(n))
    # Rounding to single precision may step over an edge, and the engine refuses what is outside.
    return np.clip(drawn.astype(np.float32), _inner_single(low, up=True), _inner_single(high, up=False))


def median(distribution: Distribution) -> float:
    """Middle of a distribution, in the parameter's unit; of listed values, the middle one."""
    if (listed := distribution.choice or _fixed(distribution)) is not None:
        return sorted(listed)[len(listed) // 2]
    return float(quantile(distribution, np.array(0.5)))


def quantile(distribution: Distribution, probability: Floats) -> Floats:
    """Inverse of the cumulative distribution of a continuous shape.

    Parameters
    ----------
    distribution : Distribution
        Neither `choice` nor `fixed`.
    probability : ndarray, any shape
        Between 0 and 1.

    Returns
    -------
    ndarray, of the shape of `probability`
        Values, in the parameter's unit.
    """
    low, high = distribution.box
    if distribution.uniform is not None:
        return low + probability * (high - low)
    if (slope := _log_slope(distribution)) is not None:
        if abs(slope * (high - low)) < 1e-8:
            return low + probability * (high - low)
        return np.asarray(low + np.log1p(probability * np.expm1(slope * (high - low))) / slope)
    mean, sigma = _mean_and_sigma(distribution)
    below, above = ndtr((low - mean) / sigma), ndtr((high - mean) / sigma)
    return np.clip(mean + sigma * ndtri(below + probability * (above - below)), low, high)


def log_density(distribution: Distribution, values: ArrayLike) -> Floats:
    """Natural logarithm of a distribution's normalised density.

    Parameters
    ----------
    distribution : Distribution
        Any shape.
    values : float or array, any shape
        In the parameter's unit.

    Returns
    -------
    ndarray, of the shape of `values`
        -inf outside the box, NaN at NaN. Of `choice` and `fixed` it is the probability of the value
        itself, to single precision, not a density.
    """
    x = np.asarray(values, dtype=np.float64)
    if (listed := distribution.choice or _fixed(distribution)) is not None:
        known = np.isin(x.astype(np.float32), np.array(listed, dtype=np.float32))
        found = np.where(known, -np.log(len(listed)), -np.inf)
    else:
        low, high = distribution.box
        found = np.where((x >= low) & (x <= high), _inside_density(distribution, x), -np.inf)
    return np.where(np.isnan(x), np.nan, found)


def log_prior(prior: PriorSettings, values: Mapping[str, ArrayLike]) -> Floats:
    """Natural logarithm of the prior's density, for importance weights.

    The flow is trained under a log_mass that is flat whatever the prior says, since brightness alone
    decides the mass: a prior of another shape acts through this density and nothing else.

    Parameters
    ----------
    prior : PriorSettings
        The job's prior.
    values : mapping of str to array
        Some or all of the parameters that the mocks draw, of shapes that broadcast.

    Returns
    -------
    ndarray
        Sum over the parameters given; -inf outside the prior.
    """
    shapes = prior.distributions()
    return np.asarray(sum((log_density(shapes[name], value) for name, value in values.items()), np.zeros(())))


def log_prior_density(boxes: Mapping[str, tuple[float, float]]) -> float:
    """Natural logarithm of a flat prior's density inside its box, in the parameters' units."""
    return -float(sum(np.log(high - low) for low, high in boxes.values()))


def _inside_density(distribution: Distribution, x: Floats) -> Floats:
    low, high = distribution.box
    if distribution.uniform is not None:
        return np.full(x.shape, -np.log(high - low))
    if (slope := _log_slope(distribution)) is not None:
        width = slope * (high - low)
        scale = np.log(np.expm1(width) / slope) if abs(width) >= 1e-8 else np.log(high - low)
        return np.asarray(slope * (x - low) - scale)
    mean, sigma = _mean_and_sigma(distribution)
    share = ndtr((high - mean) / sigma) - ndtr((low - mean) / sigma)
    return np.asarray(-0.5 * ((x - mean) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi) * share))


def _log_slope(distribution: Distribution) -> float | None:
    """Slope of the log density in the parameter, log10 of the mass or age: (g + 1) ln 10."""
    return None if distribution.power_law is None else (distribution.power_law[0] + 1) * LN10


def _mean_and_sigma(distribution: Distribution) -> tuple[float, float]:
    given = distribution.normal or distribution.truncated_normal
    if given is None:
        raise ValueError(f"a {distribution.shape} distribution has no mean")
    return given[0], given[1]


def _fixed(distribution: Distribution) -> tuple[float] | None:
    return None if distribution.fixed is None else (distribution.fixed,)


def _inner_single(edge: float, up: bool) -> np.float32:
    """The single-precision number nearest to an edge that does not lie outside it."""
    nearest = np.float32(edge)
    outside = float(nearest) < edge if up else float(nearest) > edge
    towards = np.float32(np.inf if up else -np.inf)
    return np.nextafter(nearest, towards) if outside else nearest
