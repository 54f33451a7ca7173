"""How far the members of an ensemble are from each other, cluster by cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchflow.infer.draw import Draws
from batchflow.infer.summary import weighted_moments
from batchflow.schema import Flag

Floats = NDArray[np.float64]


def member_spread(draws: Draws, members: int) -> Floats:
    """Disagreement of an ensemble's members.

    Parameters
    ----------
    draws : Draws
        Draw j of a cluster comes from member j modulo their number.
    members : int
        Networks in the ensemble.

    Returns
    -------
    ndarray, shape (n_clusters,)
        Standard deviation of the members' medians over that of the posterior, of the parameter where it is
        largest; medians of the draws as the networks made them, before they are weighted. NaN for one
        member, where a cluster was not inferred or a member has no draw inside the prior, and where the
        draws are the exact grid's, in which no network has a part. By chance
        alone it is about 1.25 (members / draws)^0.5.
    """
    found = np.full(len(draws.log_weights), np.nan)
    inside = np.isfinite(draws.log_weights)
    usable = np.array([inside[:, i::members].any(axis=1) for i in range(members)]).all(axis=0)
    if draws.method is not None:
        usable &= draws.method & Flag.GRID_POSTERIOR == 0
    if members == 1 or not usable.any():
        return found
    kept, weights = inside[usable], draws.weights[usable]
    spreads = []
    for values in (column[usable] for column in draws.values.values()):
        within = np.where(kept, values, np.nan)
        medians = [np.nanmedian(within[:, i::members], axis=1) for i in range(members)]
        _, width = weighted_moments(values, weights)
        spreads.append(np.std(medians, axis=0, ddof=1) / np.maximum(width, np.finfo(np.float64).tiny))
    found[usable] = np.max(spreads, axis=0)
    return found
