"""What a network must know of its data before the first step: scales, and the model's fluxes."""

from __future__ import annotations

import torch
from torch import Tensor

from batchflow.flow.density import PosteriorDensity
from batchflow.flow.features import Features, make_features
from batchflow.flow.mass import mass_frame
from batchflow.flow.network import PosteriorNetwork
from batchflow.keys import key
from batchflow.train.data import ShardSet, joined
from batchflow.train.simulate import simulate

SAMPLE_ROWS = 65_536
"""Mocks looked at."""
SAMPLE_SHARDS = 16
"""Shards they come from at most."""
MASS_RANGE = 2.92
"""The middle 90 % of the mocks spread over this much of the folded coordinate: about 0.14 to 0.86 of the
unit interval, so that single objects, whose masses scatter less, keep clear of its ends."""


def prepare(network: PosteriorNetwork, shards: ShardSet, seed: int, emulator_steps: int) -> float:
    """Fit the emulator of the fluxes, and set the scales of features and mass, in place.

    Parameters
    ----------
    network : PosteriorNetwork
        Not trained yet, on the CPU.
    shards : ShardSet
        Mocks; some rows of the first shards are read.
    seed : int
        The job's seed.
    emulator_steps : int
        Batches to fit the emulator on.

    Returns
    -------
    float
        Root mean square error of the emulator [dex].
    """
    density = network.density
    used = range(min(SAMPLE_SHARDS, len(shards.paths)))
    share = -(-SAMPLE_ROWS // len(used))
    rows = [slice(0, min(share, shards.training_rows(shard).stop)) for shard in used]
    mocks = joined([shards.read(shard, part) for shard, part in zip(used, rows, strict=True)])
    others = density.unit(mocks.parameters)
    chance = torch.Generator().manual_seed(key(seed, "train", "prepare"))
    error = density.emulator.fit(others, mocks.fluxes.log10(), emulator_steps, chance)
    noise = network.noise_on("cpu")
    simulation = simulate(mocks.fluxes, noise, chance)
    features = make_features(noise, simulation.seen, simulation.survey)
    _scale_features(density, features)
    _scale_mass(density, features, others, simulation.log_mass)
    return error


def _scale_features(density: PosteriorDensity, features: Features) -> None:
    detected = (features.measured > 0) & (features.limit == 0)
    for place, values in enumerate((features.colour, features.signal)):
        for band in range(values.shape[1]):
            seen = values[detected[:, band], band]
            if len(seen) > 1:
                density.feature_mean[place, band] = seen.mean()
                density.feature_spread[place, band] = seen.std().clamp(min=1e-3)


def _scale_mass(density: PosteriorDensity, features: Features, others: Tensor, log_mass: Tensor) -> None:
    with torch.no_grad():
        frame = mass_frame(density.emulator(others), features.flux, features.weight)
    place = (log_mass - features.log_brightness - frame.centre) / frame.width
    low, middle, high = place.quantile(torch.tensor([0.05, 0.5, 0.95]))
    density.mass_centre.copy_(middle)
    density.mass_spread.copy_(((high - low) / MASS_RANGE).clamp(min=1e-3))
