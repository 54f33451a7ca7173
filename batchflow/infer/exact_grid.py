"""The exact posterior as a proposal: draws from its cells, to be weighted like any others.

What the cells approximate, the weights put right; the efficiency, close to one, says how little that is.
The network has no part in it, so a mode that it missed is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from batchflow.infer.cells import LONGEST, Axes, Cells, find_cells
from batchflow.infer.likelihood import Photometry
from batchflow.infer.marginal import ExactModel
from batchflow.infer.mass_fit import MassFit, Range, draw_mass
from batchflow.infer.nuisance import GRID_AXES
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.settings.prior import PriorSettings

MASS = "log_mass"
LN10 = math.log(10.0)


class ExactGrid(NamedTuple):
    """What the grid is built from."""

    table: TorchFluxTable
    axes: Axes
    parameters: tuple[str, ...]
    """In the order of the draws' columns."""

    @classmethod
    def of(cls, model: ExactModel, prior: PriorSettings, parameters: Sequence[str]) -> ExactGrid | None:
        """The grid of an exact model; None where it has no grid.

        Parameters
        ----------
        model : ExactModel
            The exact model.
        prior : PriorSettings
            Of every parameter.
        parameters : sequence of str
            In the order of the draws' columns.

        Returns
        -------
        ExactGrid or None
            None with marginalised parameters, or more than three beside the mass.
        """
        shapes = prior.distributions()
        axes = Axes({name: shapes[name] for name in parameters if name != MASS})
        if len(model.nuisances) or len(axes.shapes) > GRID_AXES:
            return None
        return cls(model.tables[0], axes, tuple(parameters))

    @property
    def dimensions(self) -> int:
        """Random numbers that a draw takes: its cell, its place in it, its mass."""
        return len(self.parameters) + 1

    @staticmethod
    def limits(log_mass: Range) -> Range:
        """Allowed ln masses, from allowed log10 masses."""
        return Range(*(edge * LN10 for edge in log_mass))

    def cells(self, photometry: Photometry, log_mass: Range, longest: float = LONGEST) -> Cells:
        """Cells that hold the posterior of each cluster; arguments as of `sample` and `find_cells`."""
        return find_cells(self.table, self.axes, photometry, self.limits(log_mass), longest)

    def sample(
        self, photometry: Photometry, log_mass: Range, base: Tensor, cells: Cells | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw from the posterior of each cluster, nearly.

        Parameters
        ----------
        photometry : Photometry
            Of n_clusters clusters.
        log_mass : Range
            Allowed log10 masses as seen at 10 pc, tensors (n_clusters,).
        base : Tensor, shape (n_clusters, n_draws, dimensions)
            Uniform random numbers.
        cells : Cells, optional
            Where they have been found already.

        Returns
        -------
        tuple of Tensor, shapes (n_clusters, n_draws, n_parameters) and (n_clusters, n_draws)
            As of `PosteriorNetwork.sample`: parameters, `log_mass` as seen at 10 pc, and the natural
            logarithm of the density that they were drawn from.
        """
        limits = self.limits(log_mass)
        cells = self.cells(photometry, log_mass) if cells is None else cells
        cell, log_share = _choose(cells, base[..., 0])
        place = base[..., 1:-1].reshape(len(cell), -1)
        boxes = cells.boxes
        size = boxes.size[cell]
        values = self.axes.values(boxes.low[cell] + size * place)
        fit = _within(cells.mass, cell, place)
        own = Range(*(edge.repeat_interleave(base.shape[1]) for edge in limits))
        mass, log_mass_density = draw_mass(fit, own, base[..., -1].reshape(-1))
        values[MASS] = mass / LN10
        log_unit = log_share - size.log().sum(1)
        log_q = log_unit + self.axes.log_density(values) + log_mass_density + math.log(LN10)
        theta = torch.stack([values[name] for name in self.parameters], -1)
        return theta.reshape(*base.shape[:2], -1), log_q.reshape(base.shape[:2])


def _within(fit: MassFit, cell: Tensor, place: Tensor) -> MassFit:
    """The mass at a place within a cell: it follows the colours, to first order."""
    found = fit.rows(cell)
    return found._replace(centre=found.centre + (found.follow * (place - 0.5)).sum(1))


def _choose(cells: Cells, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Cells drawn by their shares, and the log of the share of each, (n_clusters * n_draws,)."""
    n = len(uniform)
    count = torch.bincount(cells.cluster, minlength=n)
    start = count.cumsum(0) - count
    place = torch.arange(len(cells.cluster), device=uniform.device) - start[cells.cluster]
    # A row for each cluster, filled up: no cluster's sums depend on its neighbours'.
    shares = uniform.new_full((n, int(count.max())), -torch.inf, dtype=torch.float64)
    shares[cells.cluster, place] = cells.log_share.double()
    log_share = shares.log_softmax(1)
    reached = log_share.exp().cumsum(1)
    wanted = (uniform.double() * reached[:, -1:]).contiguous()
    chosen = torch.searchsorted(reached, wanted, right=True).minimum(count[:, None] - 1)
    cell = (start[:, None] + chosen).reshape(-1)
    return cell, log_share.gather(1, chosen).reshape(-1).to(uniform)
