"""Whether a cluster's brightness and errors are such as the network was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchflow.infer.clusters import Clusters
from batchflow.mocks.noise import NoiseModel

REACH = 6.0
"""Standard deviations of log10 xi within which errors are known: four of the broadened training scatter."""
ROUNDING = 0.03
"""Catalogues round their errors to about this fraction."""

Mask = NDArray[np.bool_]


def outside_training(clusters: Clusters, noise: NoiseModel) -> Mask:
    """Clusters that the network has seen nothing like.

    Parameters
    ----------
    clusters : Clusters
        n_clusters of them.
    noise : NoiseModel
        What the network was trained with.

    Returns
    -------
    ndarray of bool, shape (n_clusters,)
        True where the brightest band lies outside the range of its survey's training brightness, or an
        error is further from the survey's errors at that flux than the training went. False where the
        survey is unknown: then there is nothing to compare with.
    """
    survey = noise.index(clusters.surveys)
    measured = clusters.measured & np.isfinite(noise.depth[survey])
    known = (survey >= 0) & measured.any(axis=1)
    strange = _strange_brightness(clusters, noise, survey, measured) | _strange_errors(
        clusters, noise, survey, measured
    )
    found: Mask = known & strange
    return found


def _strange_brightness(
    clusters: Clusters, noise: NoiseModel, survey: NDArray[np.int64], measured: Mask
) -> Mask:
    ratio = np.where(measured, clusters.flux / noise.depth[survey], -np.inf).max(axis=1, initial=-np.inf)
    low, high = noise.brightness[survey].T
    log_ratio = np.log10(np.maximum(ratio, 1e-9))
    # The range is one of true brightness: a noisy one may lie below its lower end by chance.
    found: Mask = (ratio < 10**low - REACH) | (log_ratio > high)
    return found


def _strange_errors(clusters: Clusters, noise: NoiseModel, survey: NDArray[np.int64], measured: Mask) -> Mask:
    flux = np.where(measured & ~clusters.limit, clusters.flux, 0.0)
    own = noise.select(survey)
    reach = 10 ** (REACH * noise.scatter[survey])
    least, most = (own.reported_error(flux, factor) for factor in (1 / reach, reach))
    strange = (clusters.error < least * (1 - ROUNDING)) | (clusters.error > most * (1 + ROUNDING))
    found: Mask = (strange & measured).any(axis=1)
    return found
