"""Importance weights: the flow proposes, the exact likelihood disposes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Weighted(NamedTuple):
    """Draws weighted to the exact posterior."""

    log_weights: Tensor
    """Normalised so that the weights of a cluster sum to one, (n_clusters, n_draws)."""
    efficiency: Tensor
    """Effective sample size over number of draws, (n_clusters,)."""
    log_evidence: Tensor
    """Natural logarithm of the evidence [ln mJy^-n], (n_clusters,)."""


def weigh(log_target: Tensor, log_proposal: Tensor) -> Weighted:
    """Weights of draws from a proposal under an unnormalised target.

    Parameters
    ----------
    log_target : Tensor, shape (n_clusters, n_draws)
        ln(likelihood x prior); -inf outside the prior.
    log_proposal : Tensor, shape (n_clusters, n_draws)
        ln density of the distribution that the draws come from.

    Returns
    -------
    Weighted
        NaN efficiency and evidence, and equal weights, where no draw has any weight.
    """
    ratio = torch.nan_to_num(log_target - log_proposal, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)
    top = ratio.amax(1)
    lost = torch.isneginf(top)
    # Where the model fits badly, single precision would lose the weights beside the size of all ratios.
    relative = ratio - torch.where(lost, 0.0, top)[:, None]
    total = torch.logsumexp(relative, dim=1)
    n_draws = ratio.shape[1]
    log_n = torch.log(torch.tensor(float(n_draws), dtype=ratio.dtype))
    log_weights = torch.where(lost[:, None], -log_n, relative - total[:, None])
    efficiency = torch.exp(-torch.logsumexp(2 * log_weights, dim=1)) / n_draws
    evidence = top + (total - log_n)
    nan = torch.full_like(total, torch.nan)
    return Weighted(log_weights, torch.where(lost, nan, efficiency), torch.where(lost, nan, evidence))


def uncertified(log_prior: Tensor) -> Weighted:
    """Weights of the prior that the flow was not trained under, when nothing is certified.

    Parameters
    ----------
    log_prior : Tensor, shape (n_clusters, n_draws)
        ln density of the prior on the mass; constant inside a flat one, -inf outside.

    Returns
    -------
    Weighted
        Efficiency and evidence are NaN: nobody looked.
    """
    found = weigh(log_prior, torch.zeros_like(log_prior))
    unknown = torch.full_like(found.efficiency, torch.nan)
    return Weighted(found.log_weights, unknown, unknown)


def inside(values: Tensor, low: float, high: float) -> Tensor:
    """0 inside [low, high], -inf outside: the logarithm of a box prior up to its constant."""
    within = (values >= low) & (values <= high)
    return torch.where(within, 0.0, -torch.inf).to(values.dtype)
