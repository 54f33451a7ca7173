"""Upper limits in the classical fit: the mass that fits best then has no closed form.

chi2 of a limit is -2 ln of the probability that the model's flux, with noise, lies below it (Sawicki
2012, PASA 124, 1008, equation A10 up to a constant). It is never negative, and the sum is convex in the
scale: Newton's steps from the best scale of the measurements alone come down to the minimum without
passing it, and models whose measurements alone fit too badly need not be looked at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from batchflow.fit.classical import Data, GridModels

STEPS = 30
"""Of Newton's at most."""
ENOUGH = 1e-12
"""Relative step below which it ends."""
SMALLEST = 1e-9
"""Of the scale, relative to where it starts: a mass is positive."""


def with_limits(
    models: GridModels, data: Data, lower: Tensor, likely: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Models that count, their chi2 and scale, limits among the data.

    Parameters
    ----------
    models : GridModels
        The grid.
    data : Data
        Of n_clusters clusters with a measurement each.
    lower : Tensor, shape (n_clusters, n_models)
        chi2 of the measurements alone.
    likely : float
        As in `classical.How`.

    Returns
    -------
    tuple of Tensor, shape (n_kept,)
        Cluster, model, chi2 and scale (mass as seen at 10 pc [Msun]); by cluster.
    """
    from batchflow.fit.classical import probable

    n_bands = data.n_bands
    # The model that fits the measurements best, its own mass fitted: no larger can the least chi2 be.
    start = lower.argmin(1)
    everyone = torch.arange(len(lower), device=lower.device)
    bound, _ = _fit(models, data, everyone, start)
    cluster, model = (lower <= probable(bound, n_bands, likely)[:, None]).nonzero().T
    chi2, scale = _fit(models, data, cluster, model)
    least = torch.segment_reduce(chi2, "min", lengths=torch.bincount(cluster, minlength=len(lower)))
    kept = chi2 <= probable(least, n_bands, likely)[cluster]
    return cluster[kept], model[kept], chi2[kept], scale[kept]


def _fit(models: GridModels, data: Data, cluster: Tensor, model: Tensor) -> tuple[Tensor, Tensor]:
    """Least chi2 of each pair of cluster and model, and its scale; (n_pairs,)."""
    own, flux = data.rows(cluster), models.fluxes[:, model].T
    curvature = (own.weight * flux.square()).sum(1)
    scale = (own.weight * own.flux * flux).sum(1) / curvature
    least = SMALLEST * scale
    inverse = torch.where(own.limited, flux / own.sigma, 0.0)
    for _ in range(STEPS):
        away = torch.where(own.limited, (own.flux - scale[:, None] * flux) / own.sigma, 0.0)
        hazard = (-0.5 * away.square() - 0.5 * math.log(2 * math.pi) - torch.special.log_ndtr(away)).exp()
        slope = (own.weight * flux * (own.flux - scale[:, None] * flux)).sum(1) - (inverse * hazard).sum(1)
        bend = curvature + (inverse.square() * hazard * (hazard + away)).sum(1)
        step = slope / bend
        scale = (scale + step).maximum(least)
        if bool((step.abs() <= ENOUGH * scale).all()):
            break
    residual = own.flux - scale[:, None] * flux
    below = torch.where(own.limited, torch.special.log_ndtr(residual / own.sigma), 0.0)
    return (own.weight * residual.square()).sum(1) - 2 * below.sum(1), scale
