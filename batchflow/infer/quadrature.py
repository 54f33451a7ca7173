"""Integrals over the cells of the exact grid: mean, deviation and quantiles without the noise of draws.

In each cell the likelihood is taken at the middle and at the middle of every face, weighted by Simpson's
rule, and at each of these places at a few masses, evenly spread over what the cell expects of the mass and
weighted like draws. The sum over the cells errs by a few parts in a thousand of an interval's width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from batchflow.infer.cells import Axes, Cells
from batchflow.infer.likelihood import Photometry, log_likelihood
from batchflow.infer.mass_fit import MassFit, Range, draw_mass
from batchflow.physics.torch_table import TorchFluxTable

MASSES = 4
"""Masses at each place of a cell."""
GOLDEN = 0.6180339887498949
"""Each place shifts its masses by this much of a step more than the last: none is left out by all."""
BINS, REACH = 2048, 8.0
"""Of the cumulative distributions that quantiles are read from, and their reach [standard deviations]."""
NOTHING = 1e-7
"""Share of a cell that need not be resolved in a cumulative distribution."""
LN10 = math.log(10.0)


class Nodes(NamedTuple):
    """Where the likelihood of some clusters is taken."""

    cells: Cells
    """n_cells of them, cluster by cluster; clusters counted from zero."""
    unit: Tensor
    """Places in the unit cube, (n_cells, n_places, n_axes)."""
    log_mass: Tensor
    """Masses as seen at 10 pc, log10, (n_cells, n_places, n_masses)."""
    log_weight: Tensor
    """Ln likelihood times the volume that a node stands for, (n_cells, n_places, n_masses)."""


def make_nodes(
    table: TorchFluxTable, axes: Axes, cells: Cells, photometry: Photometry, limits: Range
) -> Nodes:
    """Nodes of clusters, with the likelihood there.

    Parameters
    ----------
    table : TorchFluxTable
        The exact model.
    axes : Axes
        Of the cells.
    cells : Cells
        Of n_clusters clusters.
    photometry : Photometry
        Theirs.
    limits : Range
        Allowed masses as seen at 10 pc [ln Msun], (n_clusters,).
    """
    boxes, n = cells.boxes, len(cells.cluster)
    places, shares = (part.to(boxes.low) for part in _cross(boxes.low.shape[1]))
    unit = boxes.low[:, None] + boxes.size[:, None] * places
    log_flux = table(axes.values(unit.reshape(-1, unit.shape[2]))).reshape(n, len(places), 1, -1)
    fit = MassFit(*(column[:, None, None] for column in cells.mass))
    # The mass follows the colours within a cell.
    moved = (cells.mass.follow[:, None] * (places - 0.5)).sum(-1)[..., None]
    own = Range(*(edge[cells.cluster][:, None, None] for edge in limits))
    mass, log_q = draw_mass(fit._replace(centre=fit.centre + moved), own, _spread(cells, len(places)))
    log_model = (log_flux + mass[..., None]).reshape(n, -1, log_flux.shape[-1])
    log_like = log_likelihood(photometry.rows(cells.cluster), log_model).reshape(mass.shape)
    volume = boxes.size.log().sum(1)[:, None] + shares.log()
    return Nodes(cells, unit, mass / LN10, log_like - log_q + volume[..., None])


def _cross(n_axes: int) -> tuple[Tensor, Tensor]:
    """Places in a unit cell and their weights: its middle and those of its faces, by Simpson's rule."""
    middle = torch.full((1, n_axes), 0.5)
    faces = [middle + sign * 0.5 * row for row in torch.eye(n_axes) for sign in (-1, 1)]
    return torch.cat([*faces, middle]), torch.tensor([1 / 6] * len(faces) + [max(1 - n_axes / 3, 0.0)])


def _spread(cells: Cells, n_places: int) -> Tensor:
    """Evenly spread numbers for the masses, (n_cells, n_places, n_masses), whatever the other clusters."""
    device = cells.cluster.device
    turn = ordinals(cells.cluster)[:, None] * n_places + torch.arange(n_places, device=device)
    step = (torch.arange(MASSES, device=device, dtype=torch.float64) + 0.5) / MASSES
    return ((turn[..., None] * GOLDEN + step) % 1.0).float().clamp(max=1 - 2.0**-24)


def ordinals(cluster: Tensor) -> Tensor:
    """Place of each cell among those of its cluster, (n_cells,)."""
    count = torch.bincount(cluster)
    return torch.arange(len(cluster), device=cluster.device) - (count.cumsum(0) - count)[cluster]


class Shares(NamedTuple):
    """Nodes with weights that sum to one in each cluster."""

    nodes: Nodes
    weights: Tensor
    """(n_cells, n_places, n_masses), double precision."""
    effective: Tensor
    """Number of nodes that carry the weight, (n_clusters,); NaN where there is none."""

    def total(self, values: Tensor) -> Tensor:
        """Sum over each cluster's cells, (n_clusters,), from (n_cells,)."""
        return torch.bincount(self.nodes.cells.cluster, values.double(), len(self.effective))

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (n_clusters,), of what has a value at every place or node."""
        weights = self.weights if values.dim() == self.weights.dim() else self.weights.sum(2)
        mean = self.total((weights * values).flatten(1).sum(1))
        away = values - mean[self.nodes.cells.cluster].reshape(-1, *[1] * (values.dim() - 1))
        return mean, self.total((weights * away.square()).flatten(1).sum(1)).sqrt()

    def rule_gap(self, values: Tensor, deviation: Tensor) -> Tensor:
        """How far the means by the cells' middles and by their faces lie apart, (n_clusters,).

        In standard deviations, which `moments` gives; where it is large, the density bends too much within
        the cells for Simpson's rule, which is made of both. NaN with three axes, where that rule leaves out
        the middles.
        """
        weights = self.weights if values.dim() == self.weights.dim() else self.weights.sum(2)
        middle = torch.zeros_like(weights)
        middle[:, -1] = weights[:, -1]
        means = [self._mean(part, values) for part in (middle, weights - middle)]
        return (means[0] - means[1]).abs() / deviation

    def _mean(self, weights: Tensor, values: Tensor) -> Tensor:
        return self.total((weights * values).flatten(1).sum(1)) / self.total(weights.flatten(1).sum(1))


def share_out(nodes: Nodes, log_prior: Tensor, n: int) -> Shares:
    """Weights of the nodes.

    Parameters
    ----------
    nodes : Nodes
        Of n clusters.
    log_prior : Tensor, shape (n_cells, n_places, n_masses)
        Natural logarithm of the mass's prior at the nodes.
    n : int
        Number of clusters.
    """
    cluster = nodes.cells.cluster
    log_weight = torch.nan_to_num(nodes.log_weight + log_prior, nan=-torch.inf, posinf=-torch.inf)
    top = _extreme(log_weight.flatten(1).amax(1), cluster, n, "amax")
    weights = (log_weight - top[cluster][:, None, None]).exp().double()
    total = torch.bincount(cluster, weights.flatten(1).sum(1), n)
    weights = weights / total[cluster][:, None, None]
    return Shares(nodes, weights, 1 / torch.bincount(cluster, weights.square().flatten(1).sum(1), n))


def axis_quantiles(shares: Shares, axis: int, probabilities: list[float]) -> Tensor:
    """Quantiles along an axis of the unit cube, (n_clusters, n_probabilities).

    Within a cell the density is linear, as its faces have it.
    """
    cells, n = shares.nodes.cells, len(shares.effective)
    at_places = shares.weights.sum(2)
    share = at_places.sum(1)
    slope = 6 * (at_places[:, 2 * axis + 1] - at_places[:, 2 * axis])
    lean = torch.minimum(torch.maximum(slope, -2 * share), 2 * share) / 8
    low, size = cells.boxes.low[:, axis].double(), cells.boxes.size[:, axis].double()
    known = share > NOTHING
    first = _extreme(torch.where(known, low, torch.inf), cells.cluster, n, "amin")
    last = _extreme(torch.where(known, low + size, -torch.inf), cells.cluster, n, "amax")
    step = ((last - first) / BINS).clamp(min=1e-30)
    ends = [
        ((low + part * size - first[cells.cluster]) / step[cells.cluster]).clamp(0, BINS)
        for part in (0, 0.5, 1)
    ]
    reached = _ramps(cells.cluster, ends, (share / 2 - lean, share / 2 + lean), n)
    return first[:, None] + step[:, None] * _crossings(reached, probabilities)


def node_quantiles(shares: Shares, values: Tensor, probabilities: list[float]) -> Tensor:
    """Quantiles of what has a value at every node, (n_clusters, n_probabilities)."""
    n, cluster = len(shares.effective), shares.nodes.cells.cluster
    mean, deviation = shares.moments(values)
    values = values.flatten(1)
    first = torch.maximum(_extreme(values.amin(1).double(), cluster, n, "amin"), mean - REACH * deviation)
    last = torch.minimum(_extreme(values.amax(1).double(), cluster, n, "amax"), mean + REACH * deviation)
    step = ((last - first) / BINS).clamp(min=1e-30)
    place = (
        ((values - first[cluster][:, None]) / step[cluster][:, None]).nan_to_num().long().clamp(0, BINS - 1)
    )
    place += BINS * cluster[:, None]
    counts = torch.bincount(place.flatten(), shares.weights.flatten(), BINS * n).reshape(n, BINS)
    reached = torch.nn.functional.pad(counts.cumsum(1), (1, 0))
    return first[:, None] + step[:, None] * _crossings(reached, probabilities)


def _extreme(values: Tensor, cluster: Tensor, n: int, which: str) -> Tensor:
    start = torch.inf if which == "amin" else -torch.inf
    return values.new_full((n,), start).scatter_reduce(0, cluster, values, which)


def _ramps(cluster: Tensor, ends: list[Tensor], parts: tuple[Tensor, Tensor], n: int) -> Tensor:
    """Cumulative distribution at the edges of the bins, (n, BINS + 1), of boxes between the ends [bins].

    A box is a ramp that begins less one that ends; a ramp is two numbers, summed twice.
    """
    heights = [
        part / (high - low).clamp(min=1e-9)
        for part, low, high in zip(parts, ends[:-1], ends[1:], strict=True)
    ]
    changes = (heights[0], heights[1] - heights[0], -heights[1])
    width = BINS + 3
    second = ends[0].new_zeros(n * width)
    for end, change in zip(ends, changes, strict=True):
        whole = end.floor()
        place, part = whole.long() + 1 + cluster * width, end - whole
        second += torch.bincount(place, (1 - part) * change, n * width)
        second += torch.bincount(place + 1, part * change, n * width)
    return second.reshape(n, width).cumsum(1).cumsum(1)[:, : BINS + 1]


def _crossings(reached: Tensor, probabilities: list[float]) -> Tensor:
    """Where a cumulative distribution reaches each probability [bins], (n_clusters, n_probabilities)."""
    wanted = reached[:, -1:] * torch.tensor(probabilities, dtype=reached.dtype, device=reached.device)
    place = torch.searchsorted(reached.contiguous(), wanted.contiguous()).clamp(1, BINS)
    below, above = reached.gather(1, place - 1), reached.gather(1, place)
    part = (wanted - below) / (above - below).clamp(min=torch.finfo(reached.dtype).tiny)
    return place - 1 + part.clamp(0, 1)
