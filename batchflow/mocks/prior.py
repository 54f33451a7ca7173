"""Draws from the prior."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from batchflow.config import PriorSettings


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
        ``log_age`` [log10 yr], ``log_mass`` [log10 Msun formed], ``ebv`` [mag]; in single
        precision, as they are stored, and inside the box.
    """
    return {name: _uniform(low, high, n, rng) for name, (low, high) in prior.boxes().items()}


def log_prior_density(boxes: Mapping[str, tuple[float, float]]) -> float:
    """Natural logarithm of the prior's density inside its box, in the parameters' units."""
    return -float(sum(np.log(high - low) for low, high in boxes.values()))


def _uniform(low: float, high: float, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    drawn = rng.uniform(low, high, n).astype(np.float32)
    # Rounding to single precision may step over an edge, and the engine refuses what is outside.
    return np.clip(drawn, _inner_single(low, up=True), _inner_single(high, up=False))


def _inner_single(edge: float, up: bool) -> np.float32:
    """The single-precision number nearest to an edge that does not lie outside it."""
    nearest = np.float32(edge)
    outside = float(nearest) < edge if up else float(nearest) > edge
    towards = np.float32(np.inf if up else -np.inf)
    return np.nextafter(nearest, towards) if outside else nearest
