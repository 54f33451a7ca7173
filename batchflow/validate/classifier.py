"""Classifier two-sample test: how well draws of two posteriors can be told apart.

The classifier is a vote of nearest neighbours in whitened parameters, cross-validated (Lopez-Paz & Oquab
2017, arXiv:1610.06545). It sees modes and edges that a linear one does not, its draws may have weights,
and SciPy's tree makes a test in milliseconds: a library of learners would add nothing to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
FOLDS = 5
NEIGHBOURS_POWER = 0.6
"""Neighbours that vote: the number of draws to this power; in three dimensions (4/7) is best."""


def two_sample_accuracy(
    first: Floats, second: Floats, weights: tuple[Floats, Floats], chance: np.random.Generator
) -> float:
    """Accuracy of telling two samples apart on draws that the classifier has not seen.

    Parameters
    ----------
    first, second : ndarray, shapes (n_first, n_parameters) and (n_second, n_parameters)
        Draws; where they are repeated they must be so by weight, not by copies.
    weights : tuple of ndarray, shapes (n_first,) and (n_second,)
        Their weights, of any sum.
    chance : numpy.random.Generator
        Deals the draws out.

    Returns
    -------
    float
        0.5 where the samples are alike, 1 where they can be told for sure; each sample counts half.
    """
    from scipy.spatial import cKDTree

    both = np.concatenate([first, second])
    label = np.repeat([1.0, -1.0], [len(first), len(second)])
    weight = np.concatenate([part / part.sum() for part in weights])
    points = _whiten(both, weight)
    fold = np.concatenate([chance.permutation(np.arange(len(part)) % FOLDS) for part in (first, second)])
    correct = np.zeros(len(both))
    for number in range(FOLDS):
        test, train = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        near = cKDTree(points[train]).query(points[test], _neighbours(len(train)))[1]
        own = _balanced(weight[train], label[train]) * label[train]
        correct[test] = 0.5 * (1 + np.sign(own[near].sum(1)) * label[test])
    return float((correct * weight).sum() / weight.sum())


def _neighbours(n: int) -> int:
    return max(3, round((n / 2) ** NEIGHBOURS_POWER))


def _balanced(weight: Floats, label: Floats) -> Floats:
    """Weights whose sum is the same in both samples."""
    total = np.where(label > 0, weight[label > 0].sum(), weight[label < 0].sum())
    return np.asarray(weight / np.maximum(total, np.finfo(np.float64).tiny))


def _whiten(points: Floats, weight: Floats) -> Floats:
    """Points in coordinates whose covariance is the unit matrix."""
    share = weight / weight.sum()
    centred = points - share @ points
    centred = centred / np.sqrt(np.maximum(share @ np.square(centred), np.finfo(np.float64).tiny))
    values, vectors = np.linalg.eigh((centred * share[:, None]).T @ centred)
    return np.asarray(centred @ vectors / np.sqrt(np.maximum(values, 1e-9)))
