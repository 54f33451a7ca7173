"""What training looked like: reference colours and the tails of their distances, stored with the model.

The distance of a cluster is the chi square of the nearest of `N_REFERENCES` noise-free mocks, its mass
left free: no network and no posterior has a part in it. How large it may be by chance is counted on
other held-out mocks, apart for each number of bands and each range of signal-to-noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Generator, Tensor

from batchflow.errors import UserError
from batchflow.flow.description import REFERENCE_FILE
from batchflow.flow.features import Features, make_features, on_device
from batchflow.keys import key
from batchflow.mocks.noise import NoiseModel
from batchflow.shards import write_bytes
from batchflow.threads import threads
from batchflow.train.data import ShardSet
from batchflow.train.simulate import simulate

N_REFERENCES, N_CALIBRATION = 4096, 131_072
"""Mocks that distances are taken to, and simulated observations that they are counted on."""
SIGNAL_BINS = 8
"""Ranges of signal-to-noise, equally full."""
SPACING = 0.03
"""Share of the flux added to each error: references lie some percent apart."""
ROWS_AT_ONCE = 64
"""Clusters compared with all references at once: the distances fit the cache."""
NEGLIGIBLE = 0.01
"""Chi square below which it is rounding alone: one or two bands are matched by some reference exactly."""
TAIL = 0.01
"""Share of the largest distances that an exponential is fitted to; those below are counted."""
LEAST_PVALUE = 1e-6
"""Smaller probabilities would be an extrapolation too far."""


class Reference(NamedTuple):
    """Reference mocks and the distances that others of their kind have from them."""

    fluxes: Tensor
    """Noise-free flux densities over their geometric mean, (n_references, n_bands)."""
    signal_edges: Tensor
    """Edges between ranges of `signal_of`, (SIGNAL_BINS - 1,)."""
    quantiles: Tensor
    """Distance that a share 0, TAIL, 2 TAIL ... 1 - TAIL of mocks do not reach, by number of bands (from
    1) and range of signal, (n_bands, SIGNAL_BINS, 1 / TAIL)."""
    excess: Tensor
    """Mean excess over the last of them of the mocks beyond it, (n_bands, SIGNAL_BINS)."""

    def to(self, device: torch.device | str) -> Reference:
        """The same on a device."""
        return Reference(*(tensor.to(device) for tensor in self))


def make_reference(shards: ShardSet, noise: NoiseModel, seed: int) -> Reference:
    """Take references from held-out mocks, and measure how far others lie from them.

    Parameters
    ----------
    shards : ShardSet
        Mocks; only rows kept from training are read.
    noise : NoiseModel
        What the network is trained with.
    seed : int
        The job's seed.

    Returns
    -------
    Reference
        A quarter of the rows at most are references; the others, seen again and again with fresh
        noise, give the distances.
    """
    chance = torch.Generator().manual_seed(key(seed, "train", "reference"))
    fluxes = shards.read_held_out(4 * N_REFERENCES).fluxes
    fluxes = fluxes[torch.randperm(len(fluxes), generator=chance)]
    n = max(1, min(N_REFERENCES, len(fluxes) // 4))
    references = fluxes[:n] / fluxes[:n].log().mean(1, keepdim=True).exp()
    others = fluxes[n:] if len(fluxes) > n else fluxes
    features = _observed(others[torch.arange(N_CALIBRATION) % len(others)], noise, chance)
    # Thousands of small products: on a busy machine threads would wait for each other at every one.
    with threads(1):
        found = distances(references, features)
    signal = signal_of(features)
    edges = signal.quantile(torch.linspace(0, 1, SIGNAL_BINS + 1)[1:-1])
    count = features.measured.sum(1).long() - 1
    return Reference(
        references, edges, *_tails(found, count, torch.bucketize(signal, edges), fluxes.shape[1])
    )


def distances(references: Tensor, features: Features) -> Tensor:
    """Chi square of the nearest reference, its brightness fitted.

    Parameters
    ----------
    references : Tensor, shape (n_references, n_bands)
        Flux densities up to a factor.
    features : Features
        Of n_clusters objects, a band measured in each.

    Returns
    -------
    Tensor, shape (n_clusters,)
        In the variances of the noise model at the observed flux, and `SPACING`; a limit counts as no
        flux. Zero below `NEGLIGIBLE`.
    """
    weight = features.weight / (1 + SPACING**2 * features.flux.square() * features.weight)
    seen, squares = weight * features.flux, references.square().T.contiguous()
    transposed = references.T.contiguous()
    total = (seen * features.flux).sum(1)
    # The nearest reference is the one whose fitted brightness explains most.
    explained = [
        (part @ transposed).clamp_(min=0).square_().div_(own @ squares).amax(1)
        for part, own in zip(*(_blocks(column) for column in (seen, weight)), strict=True)
    ]
    found = total - torch.cat(explained)[: len(total)]
    return torch.where(found < NEGLIGIBLE, 0.0, found)


def _blocks(columns: Tensor) -> tuple[Tensor, ...]:
    """Equal blocks of rows, the last filled up: a row's products then do not depend on its neighbours."""
    missing = -len(columns) % ROWS_AT_ONCE
    return torch.nn.functional.pad(columns, (0, 0, 0, missing), value=1.0).split(ROWS_AT_ONCE)


def signal_of(features: Features) -> Tensor:
    """Mean over the measured bands of asinh of half the signal-to-noise ratio, (n_clusters,)."""
    return features.signal.sum(1) / features.measured.sum(1).clamp(min=1)


def colour_pvalues(reference: Reference, features: Features) -> Tensor:
    """Probability that a mock of as many bands and like signal-to-noise lies as far out.

    Parameters
    ----------
    reference : Reference
        On the features' device.
    features : Features
        Of n_clusters objects, a band measured in each.

    Returns
    -------
    Tensor, shape (n_clusters,)
        Counted down to `TAIL`; below, an exponential tail, down to `LEAST_PVALUE`.
    """
    found = distances(reference.fluxes, features)
    cell = features.measured.sum(1).long() - 1, torch.bucketize(signal_of(features), reference.signal_edges)
    counted, excess = reference.quantiles[cell], reference.excess[cell]
    upper = torch.searchsorted(counted, found[:, None]).clamp(1, counted.shape[1] - 1)
    low, high = (counted.gather(1, place)[:, 0] for place in (upper - 1, upper))
    step = ((found - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    bulk = 1 - TAIL * (upper[:, 0] - 1 + step)
    tail = TAIL * (-(found - counted[:, -1]) / excess).exp()
    return torch.where(found > counted[:, -1], tail, bulk).clamp(min=LEAST_PVALUE)


def save_reference(folder: Path, reference: Reference) -> Path:
    """Write the reference into a model folder; its path."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in reference._asdict().items()}
    path = folder / REFERENCE_FILE
    write_bytes(path, safetensors.torch.save(tensors))
    return path


def load_reference(folder: Path) -> Reference:
    """Read the reference of a model folder.

    Raises
    ------
    UserError
        When it cannot be read.
    """
    path = folder / REFERENCE_FILE
    try:
        return Reference(**safetensors.torch.load(path.read_bytes()))
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {error}; train again or copy the folder anew") from None


def _observed(fluxes: Tensor, noise: NoiseModel, chance: Generator) -> Features:
    """Mocks as surveys see them; every second one loses some more of its bands."""
    tensors = on_device(noise, "cpu", torch.float32)
    seen, _, survey = simulate(fluxes, tensors, chance)
    rank = torch.where(seen.measured, torch.rand(fluxes.shape, generator=chance), 2.0).argsort(1).argsort(1)
    kept = 1 + (torch.rand(len(fluxes), 1, generator=chance) * seen.measured.sum(1, keepdim=True)).floor()
    whole = (torch.arange(len(fluxes)) % 2 == 0)[:, None]
    measured = seen.measured & (whole | (rank < kept))
    return make_features(tensors, seen._replace(measured=measured), survey)


def _tails(found: Tensor, count: Tensor, cell: Tensor, n_bands: int) -> tuple[Tensor, Tensor]:
    levels = torch.linspace(0, 1 - TAIL, round(1 / TAIL))
    quantiles = torch.zeros(n_bands, SIGNAL_BINS, len(levels))
    excess = torch.zeros(n_bands, SIGNAL_BINS)
    for band in range(n_bands):
        for place in range(SIGNAL_BINS):
            own = found[(count == band) & (cell == place)]
            own = own if len(own) >= round(2 / TAIL) else found[count <= band]
            quantiles[band, place] = own.quantile(levels) if len(own) else 0.0
            beyond = own[own > quantiles[band, place, -1]] - quantiles[band, place, -1]
            excess[band, place] = beyond.mean() if len(beyond) else 1.0
    return quantiles, excess.clamp(min=1e-3)
