"""The posterior of everything but the mass on cells that grow smaller where the posterior is.

The prior's box is cut into coarse cells, the same for all clusters. At each step a cell's share of the
posterior is its likelihood averaged over the cell to first order: a coarse cell sees a likelihood as
broad as itself, so that no peak, however narrow, falls between the cells. Those that matter and are
longer than the posterior's own scale are halved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from batchflow.infer.likelihood import Photometry, TorchFluxTable
from batchflow.infer.mass_fit import MassFit, Range, Slopes, fit_mass
from batchflow.settings import Range as Box

COARSE = {1: (512,), 2: (64, 16), 3: (32, 8, 4)}
"""Cells along each axis to begin with, by number of axes; the first is the age."""
INSIDE = 4
"""Points along each axis of a coarse cell that its slopes and bend are found from."""
LONGEST = 1.0
"""Length [standard deviations] above which a cell is halved."""
NEGLIGIBLE, MINOR = -14.0, -8.0
"""Ln of the share, relative to the largest, below which a cell is dropped, or not halved."""
MAX_LEVELS = 14
MAX_CELLS = 4096
"""Cells of a cluster, beyond which none is halved any more."""


class Cells(NamedTuple):
    """Cells of several clusters, cluster by cluster; tensors of n_cells."""

    cluster: Tensor
    """Index of the cluster, not decreasing."""
    low: Tensor
    """Lower corners in the parameters' units, (n_cells, n_axes)."""
    size: Tensor
    """Edges' lengths, (n_cells, n_axes)."""
    log_share: Tensor
    """Ln of the integral of likelihood over the cell and the mass."""

    def rows(self, index: Tensor) -> Cells:
        """Some of the cells."""
        return Cells(*(column[index] for column in self))


def find_cells(
    table: TorchFluxTable, boxes: Mapping[str, Box], photometry: Photometry, limits: Range
) -> Cells:
    """Cells that hold the posterior of each cluster.

    Parameters
    ----------
    table : TorchFluxTable
        The exact model.
    boxes : mapping of str to (float, float)
        Prior range of each parameter but the mass, those of the table.
    photometry : Photometry
        Of n_clusters clusters.
    limits : Range
        Allowed masses of each cluster.

    Returns
    -------
    Cells
        At least one of each cluster.
    """
    n = len(photometry.seen.flux)
    cells, log_flux, slopes = _coarse(table, boxes, n)
    kept: list[Cells] = []
    for level in range(MAX_LEVELS):
        cells, lengths = _weigh(cells, log_flux, slopes, photometry, limits)
        top = _largest([*kept, cells], n)
        relative = cells.log_share - top[cells.cluster]
        few = torch.bincount(cells.cluster, minlength=n)[cells.cluster] < MAX_CELLS
        split = (lengths > LONGEST) & ((relative > MINOR) & few)[:, None] & (level < MAX_LEVELS - 1)
        whole = ~split.any(1)
        kept.append(cells.rows(whole & (relative > NEGLIGIBLE)))
        if bool(whole.all()):
            break
        cells = _halve(cells.rows(~whole), split[~whole])
        log_flux, slopes = _look_up(table, list(boxes), cells)
    found = Cells(*(torch.cat(columns) for columns in zip(*kept, strict=True)))
    found = found.rows(found.log_share - _largest([found], n)[found.cluster] > NEGLIGIBLE)
    return _ordered(found, boxes)


def _coarse(table: TorchFluxTable, boxes: Mapping[str, Box], n: int) -> tuple[Cells, Tensor, Slopes]:
    """The coarse cells of n clusters, and their fluxes."""
    device = table.log_flux.device
    counts = COARSE[len(boxes)]
    steps = torch.tensor([(high - low) / k for (low, high), k in zip(boxes.values(), counts, strict=True)])
    start = torch.tensor([low for low, _ in boxes.values()])
    place = torch.cartesian_prod(*(torch.arange(k) for k in counts)).reshape(-1, len(counts))
    low = (start + steps * place).to(device)
    within = (torch.arange(INSIDE) + 0.5) / INSIDE
    points = torch.cartesian_prod(*[within] * len(counts)).reshape(-1, len(counts)).to(device)
    steps = steps.to(device)
    at = low[:, None] + steps * points
    flux = table({name: at[..., i].reshape(-1) for i, name in enumerate(boxes)})
    flux = flux.reshape(len(low), len(points), -1)
    mean = flux.mean(1)
    centred = points - 0.5
    along = torch.einsum("cpb,pd->dcb", flux, centred) / centred[:, 0].square().sum()
    bend = (flux - mean[:, None] - torch.einsum("dcb,pd->cpb", along, centred)).square().mean(1)
    cells = Cells(
        torch.arange(n, device=device).repeat_interleave(len(low)),
        low.repeat(n, 1), steps.expand(len(low), -1).repeat(n, 1), torch.empty(0, device=device),
    )  # fmt: skip
    slopes = Slopes(tuple(part.repeat(n, 1) for part in along), bend.repeat(n, 1))
    return cells, mean.repeat(n, 1), slopes


def _weigh(
    cells: Cells, log_flux: Tensor, slopes: Slopes, photometry: Photometry, limits: Range
) -> tuple[Cells, Tensor]:
    own = Range(*(edge[cells.cluster] for edge in limits))
    fit = fit_mass(photometry.rows(cells.cluster), log_flux, own, slopes)
    share = torch.logaddexp(fit.log_peak, fit.log_plateau) + cells.size.log().sum(1)
    return cells._replace(log_share=share), fit.lengths


def _largest(parts: list[Cells], n: int) -> Tensor:
    """Largest share of each cluster."""
    top = parts[0].log_share.new_full((n,), -torch.inf)
    for part in parts:
        top = top.scatter_reduce(0, part.cluster, part.log_share, "amax")
    return top


def _halve(cells: Cells, split: Tensor) -> Cells:
    """Halve cells along the axes marked."""
    cells = cells._replace(log_share=split.new_empty(0))
    cluster, low, size = cells[:3]
    for axis in range(low.shape[1]):
        chosen = split[:, axis]
        half = torch.zeros_like(size[chosen])
        half[:, axis] = size[chosen][:, axis] / 2
        size = torch.where(chosen[:, None] & (torch.arange(low.shape[1], device=low.device) == axis), size / 2, size)
        low, size = torch.cat([low, low[chosen] + half]), torch.cat([size, size[chosen]])
        cluster, split = torch.cat([cluster, cluster[chosen]]), torch.cat([split, split[chosen]])
    return Cells(cluster, low, size, cells.log_share)


def _look_up(table: TorchFluxTable, names: list[str], cells: Cells) -> tuple[Tensor, Slopes]:
    """Fluxes at the middle of each cell, and their slopes from face to face."""
    middle = cells.low + cells.size / 2
    centre = table({name: middle[:, i] for i, name in enumerate(names)})
    along, bend = [], torch.zeros_like(centre)
    for axis in range(len(names)):
        faces = []
        for side in (-0.5, 0.5):
            columns = {name: middle[:, i] for i, name in enumerate(names)}
            columns[names[axis]] = middle[:, axis] + side * cells.size[:, axis]
            faces.append(table(columns))
        along.append(faces[1] - faces[0])
        bend = bend + (faces[0] + faces[1] - 2 * centre).square() / 45
    return centre, Slopes(tuple(along), bend)


def _ordered(cells: Cells, boxes: Mapping[str, Box]) -> Cells:
    """Cluster by cluster, each along a curve on which neighbours in the plane stay near (Morton 1966)."""
    start = torch.tensor([low for low, _ in boxes.values()], device=cells.low.device)
    width = torch.tensor([high - low for low, high in boxes.values()], device=cells.low.device)
    bits = 40 // len(boxes)
    place = ((cells.low + cells.size / 2 - start) / width).double().clamp(0, 1 - 1e-9)
    whole = (place * 2**bits).long()
    code = cells.cluster << 42
    for bit, axis in product(range(bits), range(len(boxes))):
        code |= ((whole[:, axis] >> bit) & 1) << (bit * len(boxes) + axis)
    return cells.rows(code.argsort())
