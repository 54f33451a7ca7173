"""How far the network's own posterior is from the exact one: in nats, and for a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.flow.network import PosteriorNetwork
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Draws, Options, Proposal, photometry_of, weigh_sample
from batchflow.infer.exact_summary import mass_range
from batchflow.keys import generator
from batchflow.mocks.prior import log_density
from batchflow.validate.classifier import two_sample_accuracy
from batchflow.workers.watch import alive

Floats = NDArray[np.float64]
MASS = "log_mass"
CLUSTERS_AT_ONCE = 64
LEAST_DRAWS = 20
"""Of each kind that a classifier is taught with."""


class Sample(NamedTuple):
    """Draws of clusters with weights, however they were had."""

    values: Mapping[str, Floats]
    """By parameter, (n_clusters, n_draws)."""
    weights: Floats
    """Those of a cluster sum to one, (n_clusters, n_draws)."""
    log_density: Floats | None = None
    """Unnormalised ln density of the exact posterior at each draw, (n_clusters, n_draws)."""

    def stacked(self) -> Floats:
        """Draws with the parameters last, (n_clusters, n_draws, n_parameters)."""
        return np.stack(list(self.values.values()), axis=-1)

    def rows(self, index: NDArray[np.int64]) -> Sample:
        """Those of some clusters."""
        density = None if self.log_density is None else self.log_density[index]
        values = {name: column[index] for name, column in self.values.items()}
        return Sample(values, self.weights[index], density)


def network_sample(proposal: Proposal, draws: Draws) -> Sample:
    """The network's draws as it made them, within the prior of the mass: no likelihood has a part in it.

    The flow learned under a flat mass without edges; the prior of the mass is known, not learned.
    """
    density = log_density(proposal.prior.log_mass, draws.values[MASS])
    weights = np.exp(density - density.max(1, keepdims=True, initial=-1e300))
    total = weights.sum(1, keepdims=True)
    own = np.where(total > 0, weights / np.where(total > 0, total, 1), np.nan)
    return Sample(draws.values, own, draws.log_density)


def network_log_density(proposal: Proposal, clusters: Clusters, values: Mapping[str, Floats]) -> Floats:
    """Log density that the network gives to parameters, mass edges not yet counted.

    Parameters
    ----------
    proposal : Proposal
        The network.
    clusters : Clusters
        n_clusters of them, all usable.
    values : mapping of str to ndarray, shape (n_clusters, n_draws)
        Each parameter.

    Returns
    -------
    ndarray, shape (n_clusters, n_draws)
        Times the prior of the mass; normalised by `log_mass_share`.
    """
    network = proposal.network
    if not isinstance(network, PosteriorNetwork):
        raise TypeError(f"{type(network).__name__} has no density; expected a trained network")
    photometry, survey = photometry_of(network, clusters)
    theta = _at_10_pc(proposal, clusters, values)
    found = network.log_prob(theta, photometry.seen, survey).cpu().numpy().astype(np.float64)
    return np.asarray(found + log_density(proposal.prior.log_mass, values[MASS]))


def log_mass_share(proposal: Proposal, draws: Draws) -> Floats:
    """Ln of the mean prior density of the mass over the network's draws, its normalisation, (n_clusters,)."""
    density = np.exp(log_density(proposal.prior.log_mass, draws.values[MASS]))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(density.mean(1)))


def exact_log_density(
    proposal: Proposal, clusters: Clusters, values: Mapping[str, Floats], log_evidence: Floats, seed: int = 0
) -> Floats:
    """Log density of the exact posterior, (n_clusters, n_draws), given its evidence, (n_clusters,)."""
    theta = _at_10_pc(proposal, clusters, values)
    photometry, _ = photometry_of(proposal.network, clusters)
    options = Options(theta.shape[1], True, seed)
    flat = torch.zeros(theta.shape[:2], device=theta.device)
    found = weigh_sample(proposal, clusters, photometry, options, (theta, flat))
    return np.asarray(found.log_density - log_evidence[:, None])


def gap_at_truth(
    proposal: Proposal, clusters: Clusters, truth: Mapping[str, Floats], draws: tuple[Draws, Floats]
) -> Floats:
    """Log density of the exact posterior over that of the network, at each mock's truth.

    Parameters
    ----------
    proposal : Proposal
        Network, exact model, prior.
    clusters : Clusters
        n_clusters mocks.
    truth : mapping of str to ndarray, shape (n_clusters,)
        True parameters.
    draws : tuple of (Draws, ndarray of shape (n_clusters,))
        The network's, and the log evidence.

    Returns
    -------
    ndarray, shape (n_clusters,)
        [nats]. Its mean over mocks is the mean divergence of the network's posterior from the exact one;
        a single one may be below zero.
    """
    own, log_evidence = draws
    at = {name: truth[name][:, None] for name in proposal.parameters}
    exact = exact_log_density(proposal, clusters, at, log_evidence)[:, 0]
    found = network_log_density(proposal, clusters, at)[:, 0] - log_mass_share(proposal, own)
    return np.asarray(exact - found)


def exact_draws(proposal: Proposal, clusters: Clusters, options: Options, turn: str = "") -> Draws:
    """Independent draws from the exact grid posterior, weighted to what the cells only approximate.

    Parameters
    ----------
    proposal : Proposal
        With a grid.
    clusters : Clusters
        n_clusters, all usable.
    options : Options
        Draws and seed.
    turn : str
        Each has random numbers of its own.

    Returns
    -------
    Draws
        With their `log_evidence`.

    Raises
    ------
    ValueError
        When the model has no grid.
    """
    grid = proposal.grid
    if grid is None:
        raise ValueError("this model has no grid")
    photometry, _ = photometry_of(proposal.network, clusters)
    masses = mass_range(proposal, clusters.log_mass_shift[:, None])
    base = _base(clusters.keys, options, grid.dimensions, f"exact{turn}").to(proposal.network.device)
    with torch.inference_mode():
        sample = grid.sample(photometry, masses, base)
        return weigh_sample(proposal, clusters, photometry, options, sample)


def independent_draws(proposal: Proposal, clusters: Clusters, options: Options) -> Draws:
    """Draws of the network from independent random numbers, weighted to the exact posterior.

    Those of `infer` are spread more evenly than chance, which a classifier takes for a difference.
    """
    photometry, survey = photometry_of(proposal.network, clusters)
    base = _base(clusters.keys, options, len(proposal.parameters), "network").to(proposal.network.device)
    with torch.inference_mode():
        sample = proposal.network.sample(photometry.seen, survey, base)
        return weigh_sample(proposal, clusters, photometry, options, sample)


def _base(keys: Sequence[str], options: Options, dimensions: int, what: str) -> Tensor:
    shape = (options.draws, dimensions)
    drawn = [generator(options.seed, "validate", what, key).random(shape) for key in keys]
    return torch.from_numpy(np.stack(drawn).astype(np.float32)).clamp(max=1 - 2.0**-24)


class Closeness(NamedTuple):
    """Of each mock's posteriors to the exact one; (n_clusters,)."""

    divergence: Floats
    """Kullback-Leibler divergence of the network's posterior from the exact one [nats]."""
    accuracy: dict[str, Floats]
    """Of a classifier of draws: ``network`` against exact ones, as they are; ``weighted``, with their
    weights; ``exact``, two exact samples, as near to 0.5 as that can be."""


def closeness(proposal: Proposal, clusters: Clusters, options: Options) -> Closeness:
    """Compare the network's posteriors with exact draws.

    Parameters
    ----------
    proposal : Proposal
        With a grid.
    clusters : Clusters
        n_clusters mocks, all usable.
    options : Options
        Draws and seed.

    Returns
    -------
    Closeness
        NaN where the network has no draw within the prior.
    """
    starts = range(0, len(clusters.keys), CLUSTERS_AT_ONCE)
    index = np.arange(len(clusters.keys))
    parts = [_closeness(proposal, clusters.rows(index[i : i + CLUSTERS_AT_ONCE]), options) for i in starts]
    return Closeness(
        np.concatenate([part.divergence for part in parts]),
        {name: np.concatenate([part.accuracy[name] for part in parts]) for name in parts[0].accuracy},
    )


def _closeness(proposal: Proposal, clusters: Clusters, options: Options) -> Closeness:
    alive()
    exact, again = (exact_draws(proposal, clusters, options, turn) for turn in ("", "/again"))
    own = independent_draws(proposal, clusters, options)
    log_exact = exact.log_density - exact.log_evidence[:, None]
    found = network_log_density(proposal, clusters, exact.values)
    found = found - log_mass_share(proposal, own)[:, None]
    # Draws without weight, outside the prior by rounding, have no density.
    differing = np.where(exact.weights > 0, log_exact - np.where(exact.weights > 0, found, 0.0), 0.0)
    samples = {
        "network": network_sample(proposal, own),
        "weighted": Sample(own.values, own.weights),
        "exact": Sample(again.values, again.weights),
    }
    truth = Sample(exact.values, exact.weights)
    accuracy = {
        way: np.array(
            [_accuracy(truth, sample, i, (options.seed, way, key)) for i, key in enumerate(clusters.keys)]
        )
        for way, sample in samples.items()
    }
    return Closeness((exact.weights * differing).sum(1), accuracy)


def _accuracy(exact: Sample, other: Sample, row: int, name: tuple[int, str, str]) -> float:
    (first, own), (second, others) = (_with_weight(sample, row) for sample in (exact, other))
    if min(len(first), len(second)) < LEAST_DRAWS:
        return np.nan
    seed, *parts = name
    return two_sample_accuracy(first, second, (own, others), generator(seed, "validate", "c2st", *parts))


def _with_weight(sample: Sample, row: int) -> tuple[Floats, Floats]:
    kept = sample.weights[row] > 0
    points = np.stack([column[row][kept] for column in sample.values.values()], axis=-1)
    return points, sample.weights[row][kept]


def _at_10_pc(proposal: Proposal, clusters: Clusters, values: Mapping[str, Floats]) -> Tensor:
    """Parameters as the network has them, (n_clusters, n_draws, n_parameters)."""
    shift = clusters.log_mass_shift[:, None]
    columns = [values[name] - (shift if name == MASS else 0.0) for name in proposal.parameters]
    stacked = np.stack(columns, axis=-1)
    return torch.as_tensor(stacked, dtype=torch.float32, device=proposal.network.device)
