"""Draws under the exact model, marginalised over the nuisances where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.infer.likelihood import Photometry, TorchFluxTable, chi_square, log_likelihood
from batchflow.infer.nuisance import Nuisances
from batchflow.keys import generator

Floats = NDArray[np.float64]


class Exact(NamedTuple):
    """Draws under the exact model; tensors (n_clusters, n_draws)."""

    log_likelihood: Tensor
    """[ln mJy^-n_bands]; averaged over the nuisances."""
    chi2: Tensor
    """At `nuisances`."""
    nuisances: dict[str, Tensor]
    """One value of each for each draw, from its posterior given the draw."""


class NuisanceChance(NamedTuple):
    """What is averaged over, and the random numbers of each draw for that."""

    nuisances: Nuisances
    shift: Floats
    """Of the lattice, (n_clusters, n_draws, n_shifts)."""
    choice: Floats
    """Of the point that stands for all, (n_clusters, n_draws)."""

    def at(self, place: int | NDArray[np.int64], like: Tensor) -> dict[str, Tensor]:
        """Values of the nuisances at a point, as tensors."""
        found = self.nuisances.at(place, self.shift)
        return {name: torch.as_tensor(value).to(like) for name, value in found.items()}


def nuisance_chance(
    nuisances: Nuisances, n_draws: int, keys: Sequence[tuple[int, str]]
) -> NuisanceChance | None:
    """Random numbers of each cluster's own key; None where there is nothing to average over.

    Parameters
    ----------
    nuisances : Nuisances
        What is averaged over.
    n_draws : int
        Draws a cluster.
    keys : sequence of (int, str)
        Seed and name of each cluster.

    Returns
    -------
    NuisanceChance or None
        For `compare`.
    """
    if not nuisances:
        return None
    shape = (n_draws, nuisances.n_shifts + 1)
    keyed = np.stack([generator(seed, "nuisance", name).random(shape) for seed, name in keys])
    return NuisanceChance(nuisances, keyed[..., :-1], keyed[..., -1])


def compare(
    table: TorchFluxTable, photometry: Photometry, values: dict[str, Tensor], chance: NuisanceChance | None
) -> Exact:
    """Compare draws with the photometry.

    Parameters
    ----------
    table : TorchFluxTable
        The exact model.
    photometry : Photometry
        Of n_clusters clusters.
    values : dict of str to Tensor, shape (n_clusters, n_draws)
        The flow's parameters; `log_mass` as seen at 10 pc.
    chance : NuisanceChance or None
        From `nuisance_chance`.

    Returns
    -------
    Exact
        Memory: a likelihood for each draw and each point of the nuisances.
    """
    if chance is None:
        log_model = _log_model(table, values)
        return Exact(log_likelihood(photometry, log_model), chi_square(photometry, log_model), {})
    mass, n = values["log_mass"], chance.nuisances.evaluations
    points = (_log_model(table, values | chance.at(place, mass)) for place in range(n))
    logs = torch.stack([log_likelihood(photometry, log_model) for log_model in points])
    reached = logs.softmax(0).cumsum(0)
    chosen = (reached < torch.as_tensor(chance.choice).to(mass) * reached[-1]).sum(0).clamp(max=n - 1)
    nuisances = chance.at(chosen.cpu().numpy(), mass)
    chi2 = chi_square(photometry, _log_model(table, values | nuisances))
    return Exact(logs.logsumexp(0) - np.log(n), chi2, nuisances)


def _log_model(table: TorchFluxTable, values: dict[str, Tensor]) -> Tensor:
    """Ln flux densities [mJy] as observed, for masses as seen at 10 pc; (n_clusters, n_draws, n_bands)."""
    flat = {name: values[name].reshape(-1) for name in table.parameters}
    per_mass = table(flat).reshape(*values["log_mass"].shape, -1)
    return per_mass + values["log_mass"][..., None] * np.log(10.0)
