"""What a network must know of its data before the first step: scales, and the model's fluxes."""

from __future__ import annotations

import torch
from torch import Tensor

from batchflow.flow.density import PosteriorDensity
from batchflow.flow.features import Features, make_features
from batchflow.flow.network import PosteriorNetwork
from batchflow.keys import key
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.train.data import ShardSet, joined
from batchflow.train.simulate import simulate

SAMPLE_ROWS = 65_536
"""Mocks looked at."""
SAMPLE_SHARDS = 16
"""Shards they come from at most."""
MASS_RANGE = 2.92
"""The middle 90 % of the mocks spread over this much of the folded coordinate: about 0.14 to 0.86 of the
unit interval, so that single objects, whose masses scatter less, keep clear of its ends."""


def prepare(network: PosteriorNetwork, shards: ShardSet, seed: int, fluxes: TorchFluxTable) -> None:
    """Set the model's fluxes and the scales of features and mass, in place.

    Parameters
    ----------
    network : PosteriorNetwork
        Not trained yet, on the CPU.
    shards : ShardSet
        Mocks; some rows of the first shards are read.
    seed : int
        The job's seed.
    fluxes : TorchFluxTable
        Of the network's parameters but the mass.
    """
    density = network.density
    used = range(min(SAMPLE_SHARDS, len(shards.paths)))
    share = -(-SAMPLE_ROWS // len(used))
    rows = [slice(0, min(share, shards.training_rows(shard).stop)) for shard in used]
    mocks = joined([shards.read(shard, part) for shard, part in zip(used, rows, strict=True)])
    density.fluxes.fill(fluxes)
    chance = torch.Generator().manual_seed(key(seed, "train", "prepare"))
    noise = network.noise_on("cpu")
    simulation = simulate(mocks.fluxes, noise, chance)
    features = make_features(noise, simulation.seen, simulation.survey)
    _scale_features(density, features)
    _scale_mass(density, mocks.parameters, features, simulation.log_mass)


def _scale_features(density: PosteriorDensity, features: Features) -> None:
    detected = (features.measured > 0) & (features.limit == 0)
    for place, values in enumerate((features.colour, features.signal)):
        for band in range(values.shape[1]):
            seen = values[detected[:, band], band]
            if len(seen) > 1:
                density.feature_mean[place, band] = seen.mean()
                density.feature_spread[place, band] = seen.std().clamp(min=1e-3)


def _scale_mass(density: PosteriorDensity, parameters: Tensor, features: Features, log_mass: Tensor) -> None:
    frame = density.frame(parameters, features)
    place = (log_mass - features.log_brightness - frame.centre) / frame.width
    low, middle, high = place.quantile(torch.tensor([0.05, 0.5, 0.95]))
    density.mass_centre.copy_(middle)
    density.mass_spread.copy_(((high - low) / MASS_RANGE).clamp(min=1e-3))
