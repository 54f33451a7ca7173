"""Draws under the exact model, marginalised over the nuisances where there are any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.infer.likelihood import Photometry, chi_square, log_likelihood
from batchflow.infer.nuisance import Nuisances
from batchflow.keys import generator
from batchflow.physics.table import FluxTable
from batchflow.physics.torch_table import TorchFluxTable

Floats = NDArray[np.float64]


class Exact(NamedTuple):
    """Draws under the exact model; tensors (n_clusters, n_draws)."""

    log_likelihood: Tensor
    """[ln mJy^-n_bands]; averaged over the nuisances."""
    chi2: Tensor
    """At `nuisances`."""
    nuisances: dict[str, Tensor]
    """One value of each for each draw, from its posterior given the draw."""


class ExactModel(NamedTuple):
    """The flux table as the likelihood needs it."""

    nuisances: Nuisances
    tables: tuple[TorchFluxTable, ...]
    """One for each combination of listed nuisances; continuous ones are the last axes."""

    @classmethod
    def of(cls, table: FluxTable, nuisances: Nuisances, device: torch.device) -> ExactModel:
        """Move a table to a device, its listed nuisances interpolated away."""
        last = tuple(nuisances.spread)
        return cls(
            nuisances,
            tuple(TorchFluxTable.from_table(table, device, last, at) for at in nuisances.combinations),
        )

    @property
    def rows_a_draw(self) -> int:
        """Rows that a draw occupies while it is worked on: of the flux table, or of likelihoods."""
        kept = len(self.nuisances.spread)
        sizes = [len(axis) for axis in self.tables[0].nodes]
        return max(math.prod(sizes[len(sizes) - kept :]), self.nuisances.evaluations)


class Chance(NamedTuple):
    """Random numbers for the nuisances, of each cluster's own key."""

    shift: Floats
    """Of the lattice, (n_clusters, n_draws, n_spread)."""
    choice: Floats
    """Of the values that stand for all, (n_clusters, n_draws)."""

    @classmethod
    def of(cls, nuisances: Nuisances, n_draws: int, keys: Sequence[tuple[int, str]]) -> Chance:
        """Draw them; `keys` are seed and name of each cluster."""
        shape = (n_draws, len(nuisances.spread) + 1)
        keyed = np.stack([generator(seed, "nuisance", name).random(shape) for seed, name in keys])
        return cls(keyed[..., :-1], keyed[..., -1])


def compare(
    model: ExactModel, photometry: Photometry, values: dict[str, Tensor], chance: Chance | None
) -> Exact:
    """Compare draws with the photometry.

    Parameters
    ----------
    model : ExactModel
        The exact model.
    photometry : Photometry
        Of n_clusters clusters.
    values : dict of str to Tensor, shape (n_clusters, n_draws)
        The flow's parameters; `log_mass` as seen at 10 pc.
    chance : Chance or None
        Of the same clusters and draws; None where there are no nuisances.

    Returns
    -------
    Exact
        Of the draws.
    """
    if chance is None:
        log_model = _at_mass(model.tables[0](_flat(values)), values)
        return Exact(log_likelihood(photometry, log_model), chi_square(photometry, log_model), {})
    logs, chi2 = _at_points(model, photometry, values, chance)
    reached = logs.softmax(0).cumsum(0)
    found = reached < torch.as_tensor(chance.choice).to(reached) * reached[-1]
    chosen = found.sum(0, keepdim=True).clamp(max=len(logs) - 1)
    nuisances = _values_at(model.nuisances, chosen[0].cpu().numpy(), chance.shift)
    standing = {name: torch.as_tensor(value).to(logs) for name, value in nuisances.items()}
    return Exact(logs.logsumexp(0) - math.log(len(logs)), chi2.gather(0, chosen)[0], standing)


def _at_points(
    model: ExactModel, photometry: Photometry, values: dict[str, Tensor], chance: Chance
) -> tuple[Tensor, Tensor]:
    """Log likelihood and chi2 at every combination and point, (n_evaluations, n_clusters, n_draws)."""
    mass, found = values["log_mass"], []
    points = [
        {name: torch.as_tensor(value).to(mass).reshape(-1) for name, value in at.items()}
        for at in (model.nuisances.at(point, chance.shift) for point in model.nuisances.lattice)
    ]
    for table in model.tables:
        local = table.local(_flat(values), len(model.nuisances.spread))
        for point in points:
            log_model = _at_mass(local(point), values)
            found.append((log_likelihood(photometry, log_model), chi_square(photometry, log_model)))
    logs, chi2 = zip(*found, strict=True)
    return torch.stack(logs), torch.stack(chi2)


def _values_at(nuisances: Nuisances, place: NDArray[np.int64], shift: Floats) -> dict[str, Floats]:
    """Values of all nuisances at the chosen place of each draw, in the order of `_at_points`."""
    combination, point = np.divmod(place, len(nuisances.lattice))
    listed = {
        name: np.array([values[name] for values in nuisances.combinations])[combination]
        for name in nuisances.combinations[0]
    }
    return listed | nuisances.at(nuisances.lattice[point], shift)


def _flat(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.reshape(-1) for name, value in values.items()}


def _at_mass(per_mass: Tensor, values: dict[str, Tensor]) -> Tensor:
    """Ln flux densities [mJy] as observed, for masses as seen at 10 pc; (n_clusters, n_draws, n_bands)."""
    mass = values["log_mass"]
    return per_mass.reshape(*mass.shape, -1) + mass[..., None] * math.log(10.0)
