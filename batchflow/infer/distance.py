"""Distances with errors: the scale symmetry makes them a shift of the mass, draw by draw.

The photometry knows the mass as seen at 10 pc and nothing of the distance. So each draw takes a distance
of its own from the catalogue's, and its mass moves with it: no likelihood is evaluated for that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from batchflow.infer.clusters import Clusters, log_mass_shift
from batchflow.keys import generator

Floats = NDArray[np.float64]
REACH = 5.0
"""Standard deviations within which a distance is drawn."""


def mass_shifts(clusters: Clusters, n_draws: int, seed: int) -> Floats:
    """From the mass seen at 10 pc to the mass, for each draw.

    Parameters
    ----------
    clusters : Clusters
        n_clusters with a distance.
    n_draws : int
        Draws a cluster.
    seed : int
        The job's seed.

    Returns
    -------
    ndarray, shape (n_clusters, n_draws), or (n_clusters, 1) where no distance has an error
        log10 of (distance / 10 pc)^2. Draw k of every cluster of a galaxy has the same distance.
    """
    fixed = clusters.log_mass_shift[:, None]
    if clusters.distance_error_mpc is None:
        return fixed
    sigma = clusters.distance_error_mpc
    uncertain = np.flatnonzero(np.isfinite(sigma) & (sigma > 0))
    if not uncertain.size:
        return fixed
    shifts = np.repeat(fixed, n_draws, axis=1)
    galaxies = [clusters.galaxies[int(i)] for i in uncertain]
    ranks = {name: _ranks(name, n_draws, seed) for name in set(galaxies)}
    probability = np.stack([ranks[name] for name in galaxies])
    distance = clusters.distance_mpc[uncertain, None]
    shifts[uncertain] = log_mass_shift(_quantile(distance, sigma[uncertain, None], probability))
    return shifts


def _ranks(galaxy: str, n_draws: int, seed: int) -> Floats:
    """Every stratum of the distance once, in an order of the galaxy's own: no luck of the draw."""
    order = generator(seed, "distance", galaxy).permutation(n_draws)
    return np.asarray((order + 0.5) / n_draws)


def _quantile(mean: Floats, sigma: Floats, probability: Floats) -> Floats:
    """Of the normal distribution within `REACH` standard deviations and above zero."""
    below = ndtr(np.maximum(-REACH, -mean / sigma))
    return np.asarray(mean + sigma * ndtri(below + probability * (ndtr(REACH) - below)))
