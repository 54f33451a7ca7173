"""The exact likelihood of observed fluxes under the engine's flux table, vectorised over draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from batchflow.flow.features import Observations
from batchflow.mocks.noise import NoiseTerms
from batchflow.physics.grid import LOG_AXES
from batchflow.physics.table import FluxTable


class Photometry(NamedTuple):
    """Observed clusters and the noise of their measurements."""

    seen: Observations
    terms: NoiseTerms
    """Variance coefficients, tensors of shape (n_clusters, n_bands)."""

    @property
    def detected(self) -> Tensor:
        """Bands with a flux and an error, (n_clusters, n_bands)."""
        return self.seen.measured & ~self.seen.limit

    @property
    def limited(self) -> Tensor:
        """Bands with an upper limit, (n_clusters, n_bands)."""
        return self.seen.measured & self.seen.limit

    def rows(self, index: Any) -> Photometry:
        """Some of the clusters, by anything that indexes a tensor."""
        return Photometry(self.seen.rows(index), NoiseTerms(*(term[index] for term in self.terms)))


@dataclass(frozen=True)
class TorchFluxTable:
    """A `FluxTable` on a torch device, interpolated linearly in log flux along every axis."""

    parameters: tuple[str, ...]
    nodes: tuple[Tensor, ...]
    """Nodes of each axis; their natural logarithm for those of `LOG_AXES`."""
    log_flux: Tensor
    """Natural logarithm of the flux density [mJy at 10 pc, 1 Msun formed], (n_nodes, n_bands)."""

    @classmethod
    def from_table(cls, table: FluxTable, device: torch.device) -> TorchFluxTable:
        """Move a table to a device, in single precision."""
        axes = zip(table.parameters, table.nodes, strict=True)
        nodes = tuple(
            torch.as_tensor(np.log(axis) if name in LOG_AXES else axis, dtype=torch.float32, device=device)
            for name, axis in axes
        )
        values = torch.as_tensor(table.log_flux * math.log(10.0), dtype=torch.float32, device=device)
        return cls(table.parameters, nodes, values.reshape(-1, values.shape[-1]).contiguous())

    def __call__(self, values: dict[str, Tensor]) -> Tensor:
        """Interpolate.

        Parameters
        ----------
        values : dict of str to Tensor, shape (n,)
            The engine's parameters, inside the table.

        Returns
        -------
        Tensor, shape (n, n_bands)
            Natural logarithm of the flux density [mJy at 10 pc, 1 Msun formed].
        """
        columns = [values[name].log() if name in LOG_AXES else values[name] for name in self.parameters]
        places = [_place(axis, column) for axis, column in zip(self.nodes, columns, strict=True)]
        total: Tensor | None = None
        for corner in product((0, 1), repeat=len(places)):
            index, weight = self._corner(places, corner)
            term = weight[:, None] * self.log_flux[index]
            total = term if total is None else total.add_(term)
        if total is None:
            raise ValueError("a flux table needs at least one axis")
        return total

    def _corner(self, places: list[tuple[Tensor, Tensor]], corner: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Flat index and weight of one corner of each cell."""
        index, weight = torch.zeros_like(places[0][0]), torch.ones_like(places[0][1])
        for (low, fraction), side, axis in zip(places, corner, self.nodes, strict=True):
            index = index * len(axis) + low + side
            weight = weight * (fraction if side else 1 - fraction)
        return index, weight


def log_likelihood(photometry: Photometry, log_model: Tensor) -> Tensor:
    """Natural logarithm of the probability density of the photometry.

    Parameters
    ----------
    photometry : Photometry
        Of n_clusters clusters.
    log_model : Tensor, shape (n_clusters, n_draws, n_bands)
        Natural logarithm of the model's flux densities [mJy], as observed.

    Returns
    -------
    Tensor, shape (n_clusters, n_draws)
        Gaussian for measurements, with the variance at the MODEL's flux (the noise model's law);
        cumulative normal for upper limits. [ln mJy^-n].
    """
    residual, variance = _residual(photometry, log_model)
    gauss = residual.square() / variance + variance.log() + math.log(2 * math.pi)
    total = -0.5 * torch.where(photometry.detected[:, None], gauss, 0.0).sum(-1)
    if not bool(photometry.limited.any()):
        return total
    below = torch.special.log_ndtr(residual / variance.sqrt())
    return total + torch.where(photometry.limited[:, None], below, 0.0).sum(-1)


def chi_square(photometry: Photometry, log_model: Tensor) -> Tensor:
    """Sum over detected bands of squared residuals over the model's variance, (n_clusters, n_draws)."""
    residual, variance = _residual(photometry, log_model)
    return torch.where(photometry.detected[:, None], residual.square() / variance, 0.0).sum(-1)


def _residual(photometry: Photometry, log_model: Tensor) -> tuple[Tensor, Tensor]:
    """Observed less model flux [mJy], and its variance [mJy^2]; (n_clusters, n_draws, n_bands)."""
    model = log_model.exp()
    terms = NoiseTerms(*(term[:, None] for term in photometry.terms))
    flux = torch.where(photometry.seen.measured, photometry.seen.flux, 0.0)
    return flux[:, None] - model, terms.variance(model)


def _place(axis: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Lower node and fraction of the cell that each value lies in."""
    low = (torch.bucketize(values.contiguous(), axis, right=True) - 1).clamp_(0, len(axis) - 2)
    return low, (values - axis[low]) / (axis[low + 1] - axis[low])
