"""The posterior of everything but the mass on cells that grow smaller where the posterior is.

The prior's box is cut into coarse cells, the same for all clusters. At each step a cell's share of the
posterior is its likelihood averaged over the cell to first order: a coarse cell sees a likelihood as
broad as itself, so that no peak, however narrow, falls between the cells. Those that matter and are
longer than the posterior's own scale are halved.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from batchflow.infer.likelihood import Photometry
from batchflow.infer.mass_fit import MassFit, Range, Slopes, fit_mass, logaddexp, rough_height
from batchflow.mocks.prior import log_density, quantile
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.settings.prior import Distribution

COARSE = {1: (512,), 2: (64, 16), 3: (32, 8, 4)}
"""Cells along each axis to begin with, by number of axes; the first is the age."""
INSIDE = 4
"""Points along each axis of a coarse cell that its slopes and bend are found from."""
LONGEST = 0.8
"""Length [standard deviations] above which a cell is halved, unless another is asked for."""
NEGLIGIBLE, MINOR = -10.5, -8.5
"""Ln of the share, relative to the largest, below which a cell is dropped, or not halved."""
ROUGHLY, LEAST_KEPT = 40.0, 128
"""Coarse cells whose ln likelihood is roughly more than this below the best are left out; so many stay."""
DOUBT, FITTED = 1.0, 5.0
"""Where nothing fits, shares of large cells are off by half the chi2 beyond this: they stay longer."""
MAX_LEVELS = 14
MAX_CELLS = 4096
"""Cells of a cluster, beyond which none is halved any more."""


class Axes(NamedTuple):
    """Parameters but the mass, each by its prior's cumulative probability: there the prior is flat."""

    shapes: dict[str, Distribution]
    """Prior of each parameter, in the order of the axes."""

    def values(self, unit: Tensor) -> dict[str, Tensor]:
        """Parameters at points of the unit cube, each (n,), from (n, n_axes)."""
        return {name: self.along(name, unit[:, i]) for i, name in enumerate(self.shapes)}

    def along(self, name: str, unit: Tensor) -> Tensor:
        """One parameter at its cumulative probability, (n,), from (n,)."""
        return _at(self.shapes[name], unit)

    def log_density(self, values: dict[str, Tensor]) -> Tensor:
        """Natural logarithm of the prior's density at the parameters, (n,)."""
        parts = [_log_density(shape, values[name]) for name, shape in self.shapes.items()]
        return torch.stack(parts).sum(0)


class Boxes(NamedTuple):
    """Where cells lie; tensors of n_cells."""

    cluster: Tensor
    """Index of the cluster."""
    low: Tensor
    """Lower corners in the unit cube, (n_cells, n_axes)."""
    size: Tensor
    """Edges' lengths, (n_cells, n_axes)."""

    def rows(self, index: Tensor) -> Boxes:
        """Some of them."""
        return Boxes(*(column[index] for column in self))


class Cells(NamedTuple):
    """Cells of several clusters, cluster by cluster."""

    boxes: Boxes
    """Where they lie; the index of the cluster does not decrease."""
    mass: MassFit
    """The mass at the middle of each, and how it follows within."""
    log_share: Tensor
    """Ln of the integral of likelihood over the cell and the mass, (n_cells,)."""

    @property
    def cluster(self) -> Tensor:
        """Index of the cluster, (n_cells,)."""
        return self.boxes.cluster

    def rows(self, index: Tensor) -> Cells:
        """Some of the cells."""
        return Cells(self.boxes.rows(index), self.mass.rows(index), self.log_share[index])

    @classmethod
    def joined(cls, parts: list[Cells]) -> Cells:
        """All cells of several sets."""
        boxes, mass = (
            [torch.cat(columns) for columns in zip(*each, strict=True)]
            for each in (
                [part.boxes for part in parts],
                [part.mass for part in parts],
            )
        )
        return cls(Boxes(*boxes), MassFit(*mass), torch.cat([part.log_share for part in parts]))


def find_cells(
    table: TorchFluxTable, axes: Axes, photometry: Photometry, limits: Range, longest: float = LONGEST
) -> Cells:
    """Cells that hold the posterior of each cluster.

    Parameters
    ----------
    table : TorchFluxTable
        The exact model.
    axes : Axes
        Those of the table.
    photometry : Photometry
        Of n_clusters clusters.
    limits : Range
        Allowed masses of each cluster.
    longest : float
        Length [standard deviations] above which a cell is halved.

    Returns
    -------
    Cells
        At least one of each cluster.
    """
    n = len(photometry.seen.flux)
    (boxes, log_flux, slopes), doubt = _likely(_coarse(table, axes, n), photometry)
    kept: list[Cells] = []
    for level in range(MAX_LEVELS):
        cells = _weigh(boxes, (log_flux, slopes), photometry, limits)
        top = _largest([*kept, cells], n)
        relative = cells.log_share - top[cells.cluster] + doubt[cells.cluster]
        few = torch.bincount(cells.cluster, minlength=n)[cells.cluster] < MAX_CELLS
        split = (
            (cells.mass.lengths > longest) & ((relative > MINOR) & few)[:, None] & (level < MAX_LEVELS - 1)
        )
        whole = ~split.any(1)
        kept.append(cells.rows(whole & (relative > NEGLIGIBLE)))
        if bool(whole.all()):
            break
        boxes = _halve(boxes.rows(~whole), split[~whole])
        log_flux, slopes = _look_up(table, axes, boxes)
    found = Cells.joined(kept)
    found = found.rows(found.log_share - _largest([found], n)[found.cluster] > NEGLIGIBLE)
    return _ordered(found)


def _coarse(table: TorchFluxTable, axes: Axes, n: int) -> tuple[Boxes, Tensor, Slopes]:
    """The coarse cells of n clusters, and their fluxes."""
    device = table.log_flux.device
    counts = COARSE[len(axes.shapes)]
    steps = 1 / torch.tensor(counts, device=device)
    low = steps * _lattice([torch.arange(k, device=device) for k in counts])
    points = _lattice([(torch.arange(INSIDE, device=device) + 0.5) / INSIDE] * len(counts))
    at = low[:, None] + steps * points
    flux = table(axes.values(at.reshape(-1, len(counts)))).reshape(len(low), len(points), -1)
    mean = flux.mean(1)
    centred = points - 0.5
    along = torch.einsum("cpb,pd->dcb", flux, centred) / centred[:, 0].square().sum()
    bend = (flux - mean[:, None] - torch.einsum("dcb,pd->cpb", along, centred)).square().mean(1)
    boxes = Boxes(
        torch.arange(n, device=device).repeat_interleave(len(low)),
        low.repeat(n, 1),
        steps.expand(len(low), -1).repeat(n, 1),
    )
    slopes = Slopes(tuple(part.repeat(n, 1) for part in along), bend.repeat(n, 1))
    return boxes, mean.repeat(n, 1), slopes


Coarse = tuple[Boxes, Tensor, Slopes]


def _likely(coarse: Coarse, photometry: Photometry) -> tuple[Coarse, Tensor]:
    """Coarse cells that a rough look at their likelihood, with no fit of the mass, leaves in; and doubts."""
    boxes, log_flux, slopes = coarse
    rough = rough_height(photometry.rows(boxes.cluster), log_flux, slopes)
    rough = rough.nan_to_num(nan=torch.finfo(rough.dtype).min).reshape(len(photometry.seen.flux), -1)
    best = rough.topk(min(LEAST_KEPT, rough.shape[1]), dim=1).values
    kept = (rough >= torch.minimum(best[:, :1] - ROUGHLY, best[:, -1:])).reshape(-1)
    kept = kept.nonzero()[:, 0]
    along = tuple(part[kept] for part in slopes.along)
    doubt = (DOUBT * (-best[:, 0] - FITTED)).clamp(min=0)
    return (boxes.rows(kept), log_flux[kept], Slopes(along, slopes.bend[kept])), doubt


def _weigh(boxes: Boxes, model: tuple[Tensor, Slopes], photometry: Photometry, limits: Range) -> Cells:
    own = Range(*(edge[boxes.cluster] for edge in limits))
    log_flux, slopes = model
    fit = fit_mass(photometry.rows(boxes.cluster), log_flux, own, slopes)
    share = logaddexp(fit.log_peak, fit.log_plateau) + boxes.size.log().sum(1)
    # Where nothing fits, even the least bad likelihood may lie below any number: all cells are then alike.
    return Cells(boxes, fit, share.nan_to_num(nan=torch.finfo(share.dtype).min))


def _largest(parts: list[Cells], n: int) -> Tensor:
    """Largest share of each cluster."""
    top = parts[0].log_share.new_full((n,), -torch.inf)
    for part in parts:
        top = top.scatter_reduce(0, part.cluster, part.log_share, "amax")
    return top


def _halve(boxes: Boxes, split: Tensor) -> Boxes:
    """Halve cells along the axes marked."""
    cluster, low, size = boxes
    for axis in range(low.shape[1]):
        chosen = split[:, axis]
        size = size.clone()
        size[chosen, axis] /= 2
        upper = low[chosen]
        upper[:, axis] += size[chosen, axis]
        low, size = torch.cat([low, upper]), torch.cat([size, size[chosen]])
        cluster, split = torch.cat([cluster, cluster[chosen]]), torch.cat([split, split[chosen]])
    return Boxes(cluster, low, size)


def _look_up(table: TorchFluxTable, axes: Axes, boxes: Boxes) -> tuple[Tensor, Slopes]:
    """Fluxes at the middle of each cell, and their slopes from face to face."""
    middle = boxes.low + boxes.size / 2
    centre = table(axes.values(middle))
    along, bend = [], torch.zeros_like(centre)
    for axis in range(middle.shape[1]):
        below, above = middle.clone(), middle.clone()
        below[:, axis] -= boxes.size[:, axis] / 2
        above[:, axis] += boxes.size[:, axis] / 2
        faces = [table(axes.values(side)) for side in (below, above)]
        along.append(faces[1] - faces[0])
        # A parabola's variance about its chord, of the departure at both ends.
        bend = bend + (faces[0] + faces[1] - 2 * centre).square() / 45
    return centre, Slopes(tuple(along), bend)


def _ordered(cells: Cells) -> Cells:
    """Cluster by cluster, each along a curve on which neighbours stay near (Morton's order)."""
    n_axes = cells.boxes.low.shape[1]
    bits = 40 // n_axes
    place = (cells.boxes.low + cells.boxes.size / 2).double().clamp(0, 1 - 1e-9)
    whole = (place * 2**bits).long()
    code = cells.cluster << 42
    for bit, axis in product(range(bits), range(n_axes)):
        code |= ((whole[:, axis] >> bit) & 1) << (bit * n_axes + axis)
    return cells.rows(code.argsort())


def _lattice(steps: list[Tensor]) -> Tensor:
    """Every combination, (n, n_axes)."""
    return torch.stack(torch.meshgrid(*steps, indexing="ij"), -1).reshape(-1, len(steps))


def _at(shape: Distribution, unit: Tensor) -> Tensor:
    if shape.uniform is not None:
        low, high = shape.uniform
        return low + (high - low) * unit
    return torch.as_tensor(quantile(shape, unit.double().cpu().numpy())).to(unit)


def _log_density(shape: Distribution, values: Tensor) -> Tensor:
    low, high = shape.box
    if shape.uniform is not None:
        return torch.full_like(values, -float(np.log(high - low)))
    inner = values.double().cpu().numpy().clip(low, high)
    return torch.as_tensor(log_density(shape, inner)).to(values)
