"""Mean, deviation and quantiles of the exact posterior, from draws that are weighted and not kept.

A quantile of some hundred draws errs by a few per cent of the interval's width. Draws from the cells of the
exact grid cost a tenth of the flow's, so that every cluster can have thousands of them for its summary.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.infer.clusters import Clusters
from batchflow.infer.distance import mass_shifts
from batchflow.infer.draw import Proposal, log_prior_of, photometry_of
from batchflow.infer.importance import weigh
from batchflow.infer.likelihood import Photometry, log_likelihood
from batchflow.infer.mass_fit import Range
from batchflow.infer.points import points
from batchflow.schema import QUANTILES

Floats = NDArray[np.float64]
ExactSummary = tuple[dict[str, Floats], Floats]
ROWS_AT_ONCE = 65_536
"""Draws weighted together: their fluxes stay in the cache."""
BINS, REACH = 2048, 8.0
"""Of the histogram that quantiles are read from, and its reach about the mean [standard deviations]."""


class GridSample(NamedTuple):
    """Draws from the cells of the exact grid, not yet weighted."""

    photometry: Photometry
    """Of n_clusters clusters."""
    theta: Tensor
    """Parameters, `log_mass` as seen at 10 pc, (n_clusters, n_draws, n_parameters)."""
    log_q: Tensor
    """Ln density that they were drawn from, (n_clusters, n_draws)."""


def sample_grid(proposal: Proposal, clusters: Clusters, seed: int, n_draws: int) -> GridSample:
    """Draw usable clusters from the exact grid.

    Parameters
    ----------
    proposal : Proposal
        With a grid.
    clusters : Clusters
        n_clusters, all usable.
    seed : int
        The job's.
    n_draws : int
        Draws a cluster.

    Returns
    -------
    GridSample
        The first draws are the same however many are asked for.

    Raises
    ------
    ValueError
        When the model has no grid.
    """
    grid, network = proposal.grid, proposal.network
    if grid is None:
        raise ValueError("this model has no grid")
    base = points([(seed, "grid", key) for key in clusters.keys], n_draws, grid.dimensions)
    photometry, _ = photometry_of(network, clusters)
    masses = mass_range(proposal, mass_shifts(clusters, n_draws, seed))
    return GridSample(photometry, *grid.sample(photometry, masses, base.to(network.device)))


def exact_summaries(proposal: Proposal, clusters: Clusters, seed: int, sample: GridSample) -> ExactSummary:
    """Summaries of the exact posterior of usable clusters.

    Parameters
    ----------
    proposal : Proposal
        With a grid.
    clusters : Clusters
        n_clusters, all usable.
    seed : int
        The job's.
    sample : GridSample
        Theirs.

    Returns
    -------
    tuple of (dict of str to ndarray, ndarray)
        Columns by name (``log_age_mean``, ``log_age_q16`` ...), and the effective number of draws behind
        them; each of shape (n_clusters,), NaN where no draw has any weight.
    """
    n, n_draws = sample.log_q.shape
    shift = mass_shifts(clusters, n_draws, seed)
    moved = torch.as_tensor(shift, dtype=sample.theta.dtype, device=sample.theta.device)
    size = max(1, ROWS_AT_ONCE // n_draws)
    chunks = [slice(start, start + size) for start in range(0, n, size)]
    parts = [
        _summary(proposal, GridSample(*(_rows(column, rows) for column in sample)), moved[rows])
        for rows in chunks
    ]
    columns = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
    return columns, np.concatenate([part[1] for part in parts])


def mass_range(proposal: Proposal, shift: Floats) -> Range:
    """Allowed log10 masses as seen at 10 pc.

    Parameters
    ----------
    proposal : Proposal
        Knows the prior's box.
    shift : ndarray, shape (n_clusters, n_draws) or (n_clusters, 1)
        Of `mass_shifts`.

    Returns
    -------
    Range
        At any of the distances, tensors (n_clusters,).
    """
    low, high = proposal.network.boxes["log_mass"]
    edges = (low - shift.max(1), high - shift.min(1))
    device = proposal.network.device
    return Range(*(torch.as_tensor(edge, dtype=torch.float32, device=device) for edge in edges))


def quantiles_of(values: Tensor, weights: Tensor, probabilities: list[float]) -> Tensor:
    """Quantiles of thousands of weighted draws, from a fine histogram: no draws need be sorted.

    Parameters
    ----------
    values, weights : Tensor, shape (n_clusters, n_draws)
        The weights of a cluster sum to one.
    probabilities : list of float
        Between 0 and 1.

    Returns
    -------
    Tensor, shape (n_clusters, n_probabilities)
        In the values' units, to a hundredth of the standard deviation or better.
    """
    mean = (weights * values).sum(1, keepdim=True)
    reach = REACH * (weights * (values - mean).square()).sum(1, keepdim=True).sqrt()
    low = torch.maximum(values.amin(1, keepdim=True), mean - reach)
    high = torch.minimum(values.amax(1, keepdim=True), mean + reach)
    step = ((high - low) / BINS).clamp(min=torch.finfo(values.dtype).tiny)
    place = ((values - low) / step).long().clamp(0, BINS - 1)
    place += BINS * torch.arange(len(values), device=values.device)[:, None]
    counts = torch.bincount(place.reshape(-1), weights.reshape(-1).double(), BINS * len(values))
    share = counts.reshape(len(values), BINS)
    reached = share.cumsum(1)
    wanted = reached[:, -1:] * torch.tensor(probabilities, dtype=torch.float64, device=values.device)
    found = torch.searchsorted(reached, wanted).clamp(max=BINS - 1)
    inner, top = share.gather(1, found), reached.gather(1, found)
    part = 1 - (top - wanted) / inner.clamp(min=torch.finfo(torch.float64).tiny)
    return (low + step * (found + part.clamp(0, 1))).to(values.dtype)


def _rows(values: Any, rows: slice) -> Any:
    return values.rows(rows) if isinstance(values, Photometry) else values[rows]


def _summary(proposal: Proposal, sample: GridSample, shift: Tensor) -> ExactSummary:
    photometry, theta, log_q = sample
    values = {name: theta[..., i] for i, name in enumerate(proposal.parameters)}
    flat = {name: column.reshape(-1) for name, column in values.items()}
    log_flux = proposal.model.tables[0](flat).reshape(*log_q.shape, -1)
    log_model = log_flux + (values["log_mass"] * math.log(10.0))[..., None]
    values["log_mass"] = values["log_mass"] + shift
    weighted = weigh(log_likelihood(photometry, log_model) + log_prior_of(proposal, values), log_q)
    weights, columns = weighted.log_weights.exp(), dict[str, Tensor]()
    for name, column in values.items():
        mean = (weights * column).sum(1)
        columns[f"{name}_mean"] = mean
        columns[f"{name}_std"] = (weights * (column - mean[:, None]).square()).sum(1).sqrt()
        found = quantiles_of(column, weights, list(QUANTILES.values()))
        columns |= {f"{name}_{suffix}": found[:, i] for i, suffix in enumerate(QUANTILES)}
    known = torch.isfinite(weighted.efficiency)
    blank = {name: torch.where(known, column, torch.nan) for name, column in columns.items()}
    plain = {name: column.cpu().numpy().astype(np.float64) for name, column in blank.items()}
    return plain, weighted.efficiency.cpu().numpy().astype(np.float64) * log_q.shape[1]
