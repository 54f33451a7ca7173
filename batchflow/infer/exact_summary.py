"""Mean, deviation and quantiles of the exact posterior, integrated over the cells of the exact grid.

A quantile of some hundred draws errs by a few per cent of the interval's width; these do not.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.infer.cells import Cells
from batchflow.infer.clusters import Clusters
from batchflow.infer.distance import mass_shifts
from batchflow.infer.draw import Proposal, log_prior_of, photometry_of
from batchflow.infer.exact_grid import MASS, ExactGrid
from batchflow.infer.likelihood import Photometry
from batchflow.infer.mass_fit import Range
from batchflow.infer.points import points
from batchflow.infer.quadrature import (
    Shares,
    axis_quantiles,
    make_nodes,
    node_quantiles,
    ordinals,
    share_out,
)
from batchflow.schema import QUANTILES

Floats = NDArray[np.float64]
CELLS_AT_ONCE = {"cpu": 6_000, "cuda": 200_000}
"""Integrated together: on a processor, their fluxes stay in the cache."""
DISTANCES = 1024
"""Distances that stand for an uncertain one."""
FINER = (0.4, 0.2)
"""Longest cells [standard deviations] that are tried one after the other where those at hand are too few."""
ENOUGH_NODES = 700.0
"""Nodes that shall carry a cluster's weight: of fewer, the cells are too coarse for its posterior."""
LARGEST_GAP = 0.02
"""Standard deviations that a parameter's means by two rules may lie apart: beyond, finer cells are tried."""


class Gridded(NamedTuple):
    """Usable clusters with the cells of their posteriors."""

    photometry: Photometry
    """Of n_clusters clusters."""
    masses: Range
    """Allowed log10 masses as seen at 10 pc, (n_clusters,)."""
    cells: Cells
    """Theirs."""


def find_posteriors(proposal: Proposal, clusters: Clusters, seed: int, n_draws: int) -> Gridded:
    """Find the cells that hold the posteriors of usable clusters.

    Parameters
    ----------
    proposal : Proposal
        With a grid.
    clusters : Clusters
        n_clusters, all usable.
    seed : int
        The job's.
    n_draws : int
        Draws a cluster: each has a distance of its own, where that is uncertain.

    Returns
    -------
    Gridded
        Of the clusters.

    Raises
    ------
    ValueError
        When the model has no grid.
    """
    photometry, _ = photometry_of(proposal.network, clusters)
    masses = mass_range(proposal, mass_shifts(clusters, max(n_draws, DISTANCES), seed))
    return Gridded(photometry, masses, _grid_of(proposal).cells(photometry, masses))


def sample_grid(
    proposal: Proposal, clusters: Clusters, seed: int, n_draws: int, found: Gridded
) -> tuple[Tensor, Tensor]:
    """Draw usable clusters from the exact grid.

    Parameters
    ----------
    proposal, clusters, seed, n_draws
        As of `find_posteriors`.
    found : Gridded
        The clusters' own.

    Returns
    -------
    tuple of Tensor
        As of `ExactGrid.sample`; the first draws are the same however many are asked for.
    """
    grid = _grid_of(proposal)
    base = points([(seed, "grid", key) for key in clusters.keys], n_draws, grid.dimensions)
    return grid.sample(found.photometry, found.masses, base.to(proposal.network.device), found.cells)


def exact_summaries(proposal: Proposal, clusters: Clusters, seed: int, found: Gridded) -> dict[str, Floats]:
    """Summaries of the exact posterior of usable clusters.

    Parameters
    ----------
    proposal, clusters, seed
        As of `find_posteriors`.
    found : Gridded
        The clusters' own.

    Returns
    -------
    dict of str to ndarray, shape (n_clusters,)
        Columns by name (``log_age_mean``, ``log_age_q16`` ...); NaN where the cells are too coarse.
    """
    columns, trust = _all_summaries(proposal, clusters, seed, found)
    for longest in FINER:
        few = np.flatnonzero(~(trust.enough & trust.agreed))
        if not few.size:
            break
        some = clusters.rows(few)
        masses = Range(*(edge[few] for edge in found.masses))
        photometry = found.photometry.rows(few)
        cells = _grid_of(proposal).cells(photometry, masses, longest)
        better, trust_now = _all_summaries(proposal, some, seed, Gridded(photometry, masses, cells))
        for whole, part in zip((*columns.values(), *trust), (*better.values(), *trust_now), strict=True):
            whole[few] = part
    return {name: np.where(trust.enough, column, np.nan) for name, column in columns.items()}


class _Trust(NamedTuple):
    """Whether the cells are fine enough, (n_clusters,)."""

    enough: NDArray[np.bool_]
    """Nodes that carry the weight."""
    agreed: NDArray[np.bool_]
    """Two rules on every parameter's mean."""


def _all_summaries(
    proposal: Proposal, clusters: Clusters, seed: int, found: Gridded
) -> tuple[dict[str, Floats], _Trust]:
    """Summaries, and how far the cells can be trusted."""
    device = proposal.network.device
    shift = torch.as_tensor(mass_shifts(clusters, DISTANCES, seed), device=device)
    count = torch.bincount(found.cells.cluster, minlength=len(clusters.keys)).cpu().numpy()
    parts = [
        _summary(proposal, _rows(found, rows, count), shift[rows])
        for rows in _chunks(count, CELLS_AT_ONCE.get(device.type, 6_000))
    ]
    columns = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
    effective, gap = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    return columns, _Trust(effective >= ENOUGH_NODES, ~(gap > LARGEST_GAP))


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


def _grid_of(proposal: Proposal) -> ExactGrid:
    if proposal.grid is None:
        raise ValueError("this model has no grid")
    return proposal.grid


def _chunks(count: NDArray[np.int64], most: int) -> list[slice]:
    """Slices of clusters that have about `most` cells together."""
    group = (count.cumsum() - count) // most
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(count)]
    return [slice(*pair) for pair in pairwise(edges)]


def _rows(found: Gridded, rows: slice, count: NDArray[np.int64]) -> Gridded:
    start, stop = int(count[: rows.start].sum()), int(count[: rows.stop].sum())
    cells = found.cells.rows(torch.arange(start, stop, device=found.cells.cluster.device))
    boxes = cells.boxes._replace(cluster=cells.cluster - rows.start)
    masses = Range(*(edge[rows] for edge in found.masses))
    return Gridded(found.photometry.rows(rows), masses, cells._replace(boxes=boxes))


def _summary(proposal: Proposal, found: Gridded, shift: Tensor) -> tuple[dict[str, Floats], Floats, Floats]:
    """Columns, number of nodes that carry the weight, largest gap between two rules."""
    grid, (photometry, masses, cells) = _grid_of(proposal), found
    nodes = make_nodes(grid.table, grid.axes, cells, photometry, grid.limits(masses))
    mass = nodes.log_mass.double() + _shifts(cells.cluster, shift, nodes.log_mass.shape)
    shares = share_out(nodes, log_prior_of(proposal, {MASS: mass}), len(shift))
    columns, gaps = dict[str, Tensor](), list[Tensor]()
    for name in proposal.parameters:
        found_here, gap = _of_mass(shares, mass) if name == MASS else _of_axis(shares, grid, name)
        columns |= {f"{name}_{suffix}": column for suffix, column in found_here.items()}
        gaps.append(gap)
    arrays = {name: column.cpu().numpy() for name, column in columns.items()}
    return arrays, shares.effective.cpu().numpy(), torch.stack(gaps).amax(0).cpu().numpy()


def _shifts(cluster: Tensor, shift: Tensor, shape: torch.Size) -> Tensor:
    """From the mass seen at 10 pc to the mass: a distance for each node, evenly."""
    each = torch.arange(shape[1] * shape[2], device=cluster.device)
    turn = ordinals(cluster)[:, None] * len(each) + each
    return shift[cluster[:, None], turn % shift.shape[1]].reshape(shape)


def _of_mass(shares: Shares, mass: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    found, moments = node_quantiles(shares, mass, list(QUANTILES.values())), shares.moments(mass)
    return _columns(moments, found), shares.rule_gap(mass, moments[1])


def _of_axis(shares: Shares, grid: ExactGrid, name: str) -> tuple[dict[str, Tensor], Tensor]:
    axis, shape = list(grid.axes.shapes).index(name), shares.nodes.unit.shape
    values = grid.axes.along(name, shares.nodes.unit[..., axis].reshape(-1)).reshape(shape[:2]).double()
    unit = axis_quantiles(shares, axis, list(QUANTILES.values()))
    found = grid.axes.along(name, unit.reshape(-1)).reshape(unit.shape)
    moments = shares.moments(values)
    return _columns(moments, found), shares.rule_gap(values, moments[1])


def _columns(moments: tuple[Tensor, Tensor], quantiles: Tensor) -> dict[str, Tensor]:
    named = {suffix: quantiles[:, i] for i, suffix in enumerate(QUANTILES)}
    return {"mean": moments[0], "std": moments[1], **named}
