"""The exact posterior on the grid, without a network: what `infer` does with ``grid = "always"``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from batchflow.flow.features import on_device
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Draws, Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.marginal import ExactModel
from batchflow.infer.nuisance import Nuisances
from batchflow.mocks.noise import NoiseModel
from batchflow.physics.table import FluxTable
from batchflow.settings.base import Range
from batchflow.settings.prior import PriorSettings


@dataclass(frozen=True)
class NoNetwork:
    """What the draws need beside a network: `infer.draw.Source` of those who draw from the grid alone."""

    bands: tuple[str, ...]
    boxes: dict[str, Range]
    noise: NoiseModel
    device: torch.device

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters in the order of the draws' columns."""
        return tuple(self.boxes)

    def noise_on(self, device: torch.device | str) -> NoiseModel:
        """The noise model in tensors."""
        return on_device(self.noise, device, torch.float32)

    def sample(self, seen: object, survey: object, base: Tensor) -> NoReturn:
        """There is nothing to sample from."""
        raise ValueError("no network: draws come from the grid alone")


def exact_proposal(
    table: FluxTable, noise: NoiseModel, prior: PriorSettings, device: torch.device
) -> Proposal:
    """The likelihood, noise and prior of a job, as inference has them.

    Parameters
    ----------
    table : FluxTable
        Of the job.
    noise : NoiseModel
        What a network of the job is, or would be, trained with.
    prior : PriorSettings
        Of every parameter.
    device : torch.device
        Where the work is done.

    Returns
    -------
    Proposal
        Its `grid` is None where the posterior has none.
    """
    source = NoNetwork(table.bands, prior.boxes(), noise, device)
    return Proposal(source, ExactModel.of(table, Nuisances(prior.marginalised()), device), prior)


def draw_exact(proposal: Proposal, clusters: Clusters, n_draws: int, seed: int) -> Draws:
    """Draws from the exact posterior of every usable cluster.

    Parameters
    ----------
    proposal : Proposal
        With a grid.
    clusters : Clusters
        n_clusters of them.
    n_draws : int
        Draws a cluster.
    seed : int
        The job's seed.

    Returns
    -------
    Draws
        Those that `infer` makes with ``grid = "always"`` and as many draws, bit for bit.
    """
    way = Rescue(max_draws=n_draws, grid="always")
    return draw_posteriors(proposal, clusters, Options(n_draws, True, seed, way))
