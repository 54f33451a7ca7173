"""Whether a cluster's brightness and errors are such as the network was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchflow.infer.clusters import Clusters
from batchflow.mocks.coverage import outside_support
from batchflow.mocks.noise import NoiseModel
from batchflow.mocks.survey_sample import Photometry


def outside_training(clusters: Clusters, noise: NoiseModel) -> NDArray[np.bool_]:
    """Clusters that the network has seen nothing like, as `mocks.coverage.outside_support` says.

    Parameters
    ----------
    clusters : Clusters
        n_clusters of them.
    noise : NoiseModel
        What the network was trained with.

    Returns
    -------
    ndarray of bool, shape (n_clusters,)
        False where the survey is unknown: then there is nothing to compare with.
    """
    measured = clusters.measured
    rows = Photometry(
        np.where(measured, clusters.flux, np.nan), np.where(measured, clusters.error, np.nan), clusters.limit
    )
    return outside_support(noise, noise.index(clusters.surveys), rows)
