"""Coverage of all parameters together, by distances to random points (TARP).

Lemos et al. 2023 (ICML; arXiv:2302.03026): for a reference point that does not know the truth, the
posterior probability of lying nearer to it than the truth does is uniform where the posterior is right;
with references anywhere, only there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def references(
    low: Floats, high: Floats, centre: Floats, spread: Floats, chance: np.random.Generator
) -> Floats:
    """A reference point for each mock.

    Parameters
    ----------
    low, high : ndarray, shape (n_parameters,)
        The prior's box.
    centre, spread : ndarray, shape (n_mocks, n_parameters)
        Mean and standard deviation of each posterior: the data may move a reference, the truth may not.
    chance : numpy.random.Generator
        Source of the points.

    Returns
    -------
    ndarray, shape (n_mocks, n_parameters)
        Half of them uniform over the box, half normal about the posterior and twice as wide: far ones see
        a posterior that is shifted, near ones one that is too narrow or too wide.
    """
    n, dimensions = centre.shape
    far = low + (high - low) * chance.random((n, dimensions))
    near = centre + 2 * spread * chance.standard_normal((n, dimensions))
    return np.where(chance.random((n, 1)) < 0.5, far, near)


def credibility(draws: Floats, weights: Floats, truth: Floats, points: Floats) -> Floats:
    """Posterior probability of lying nearer to the reference than the truth.

    Parameters
    ----------
    draws : ndarray, shape (n_mocks, n_draws, n_parameters)
        In units in which distances are taken.
    weights : ndarray, shape (n_mocks, n_draws)
        Those of a mock sum to one.
    truth, points : ndarray, shape (n_mocks, n_parameters)
        True values, and reference points.

    Returns
    -------
    ndarray, shape (n_mocks,)
        Uniform on [0, 1] where the posterior is right.
    """
    own = np.square(truth - points).sum(-1)
    away = np.square(draws - points[:, None]).sum(-1)
    return np.asarray((weights * (away < own[:, None])).sum(1))
