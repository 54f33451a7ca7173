"""Three posteriors of each held-out mock: as delivered, as weighted without rescue, and the network's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Draws, Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.rescue import rescue
from batchflow.infer.summary import weighted_moments
from batchflow.keys import generator
from batchflow.schema import Flag
from batchflow.validate.calibrate import rank_of_truth
from batchflow.validate.exactness import Sample, network_sample
from batchflow.validate.schemas import DELIVERED, NETWORK, WEIGHTED
from batchflow.validate.tarp import credibility, references
from batchflow.validate.uniformity import smooth_ranks

Floats = NDArray[np.float64]
WAYS = {
    DELIVERED: "what `infer` writes: draws weighted to the exact posterior, and rescued as [infer] says",
    WEIGHTED: "the network's draws weighted to the exact posterior, none rescued",
    NETWORK: "the network's draws alone, within the prior",
}
JOINT, HPD = "joint", "hpd"
"""In the place of a parameter: all of them together, by TARP; and by the posterior density itself, whose
level at the truth no wrong correlation leaves uniform (Modrak et al. 2023, arXiv:2211.02383)."""


class Posteriors(NamedTuple):
    """Posteriors of mocks."""

    own: Draws
    """The network's, weighted, without rescue."""
    delivered: Draws
    """As `infer` would write them."""
    ways: dict[str, Sample]
    """By way; weights are NaN where a mock was lost."""

    @property
    def method(self) -> list[str]:
        """How each mock's delivered draws were had."""
        bits = self.delivered.method
        if bits is None:
            return ["flow"] * len(self.own.efficiency)
        grid, more = (bits & Flag.GRID_POSTERIOR) > 0, (bits & Flag.MORE_DRAWS) > 0
        return [str(name) for name in np.where(grid, "grid", np.where(more, "more draws", "flow"))]


def draw_ways(proposal: Proposal, clusters: Clusters, settings: Mapping[str, Any]) -> Posteriors:
    """Infer mocks in each of the ways.

    Parameters
    ----------
    proposal : Proposal
        Network, exact model, prior.
    clusters : Clusters
        n_clusters mocks.
    settings : mapping
        ``draws`` of each, ``seed``, and of [infer] ``certify``, ``min_efficiency``, ``max_draws``, ``grid``.

    Returns
    -------
    Posteriors
        All from the same draws of the network.
    """
    options = Options(settings["draws"], True, settings["seed"])
    own = draw_posteriors(proposal, clusters, options)
    way = Rescue(settings["min_efficiency"], settings["max_draws"], settings["grid"])
    with torch.inference_mode():
        delivered = rescue(proposal, clusters, own.each(np.copy), options._replace(rescue=way))
    alone = network_sample(proposal, own)
    samples = {
        DELIVERED: _sample(delivered) if settings["certify"] else alone,
        WEIGHTED: _sample(own),
        NETWORK: alone,
    }
    return Posteriors(own, delivered, samples)


def _sample(draws: Draws) -> Sample:
    lost = ~np.isfinite(draws.efficiency)
    return Sample(draws.values, np.where(lost[:, None], np.nan, draws.weights), draws.log_density)


def all_ranks(
    ways: Mapping[str, Sample],
    truth: Mapping[str, Floats],
    boxes: Mapping[str, tuple[float, float]],
    seed: int,
) -> dict[tuple[str, str], Floats]:
    """Ranks of the truth in every way and parameter, and of all parameters together.

    Parameters
    ----------
    ways : mapping of str to Sample
        Posteriors of n_clusters mocks.
    truth : mapping of str to ndarray, shape (n_clusters,)
        True parameters, and `HPD`: the unnormalised ln density of the exact posterior there, if the ways
        have theirs.
    boxes : mapping of str to tuple
        The prior's edges.
    seed : int
        Of the random numbers.

    Returns
    -------
    dict of (str, str) to ndarray, shape (n_clusters,)
        By way and parameter (or `JOINT`, `HPD`); uniform where the posterior is right, NaN where there
        is none.
    """
    found: dict[tuple[str, str], Floats] = {}
    for way, sample in ways.items():
        effective = 1 / np.square(sample.weights).sum(1)
        chance = generator(seed, "validate", "ranks", way)
        for name, draws in sample.values.items():
            ranks = rank_of_truth(draws, sample.weights, truth[name])
            found[way, name] = smooth_ranks(ranks, effective, chance.random(len(ranks)))
        if sample.log_density is not None:
            denser = (sample.weights * (sample.log_density > truth[HPD][:, None])).sum(1)
            found[way, HPD] = smooth_ranks(denser, effective, chance.random(len(denser)))
        joint = _credibility(sample, truth, boxes, generator(seed, "validate", "tarp"))
        found[way, JOINT] = smooth_ranks(joint, effective, chance.random(len(joint)))
    return found


def _credibility(
    sample: Sample,
    truth: Mapping[str, Floats],
    boxes: Mapping[str, tuple[float, float]],
    chance: np.random.Generator,
) -> Floats:
    names = list(sample.values)
    unit = np.array([boxes[name][1] - boxes[name][0] for name in names])
    low, high = (np.array([boxes[name][side] for name in names]) / unit for side in (0, 1))
    moments = [weighted_moments(column, sample.weights) for column in sample.values.values()]
    centre, spread = (np.stack(column, axis=-1) / unit for column in zip(*moments, strict=True))
    points = references(low, high, centre, spread, chance)
    own = np.stack([truth[name] for name in names], axis=-1) / unit
    return credibility(sample.stacked() / unit, sample.weights, own, points)
