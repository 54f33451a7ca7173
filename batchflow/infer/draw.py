"""Draws from the flow, weighted to the exact posterior, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaincc
from torch import Tensor

from batchflow.flow.features import Observations, noise_terms
from batchflow.infer.clusters import Clusters
from batchflow.infer.distance import mass_shifts
from batchflow.infer.exact_grid import ExactGrid
from batchflow.infer.importance import inside, uncertified, weigh
from batchflow.infer.likelihood import Photometry
from batchflow.infer.marginal import Chance, ExactModel, compare
from batchflow.infer.nuisance import grid_use
from batchflow.infer.points import points
from batchflow.mocks.noise import NoiseModel
from batchflow.mocks.prior import log_prior, log_prior_density
from batchflow.settings.base import GridUse, Range
from batchflow.settings.prior import PriorSettings
from batchflow.workers.watch import alive

Floats = NDArray[np.float64]
ROWS_IN_CHUNK = 65_536
"""Draws worked on at once: the network's layers for them fit the cache hierarchy and any memory."""
ROWS_TOGETHER = 16
"""Clusters are filled up to a multiple of this: a matrix product of fewer rows sums in another order, and
the last digits of a posterior would depend on the size of its part."""
ROWS_A_DRAW = 64
"""Rows that each of them may occupy where nuisances are marginalised; chunks are smaller where it is more."""


class Source(Protocol):
    """What of a `PosteriorNetwork` the draws need; who draws from the grid alone does without one."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters in the order of the draws' columns."""

    @property
    def boxes(self) -> dict[str, Range]:
        """Lower and upper edge of each parameter's prior."""

    @property
    def noise(self) -> NoiseModel:
        """The noise model, in NumPy arrays."""

    @property
    def device(self) -> torch.device:
        """Where the work is done."""

    def noise_on(self, device: torch.device | str) -> NoiseModel:
        """The noise model in tensors."""

    def sample(self, seen: Observations, survey: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Draws and their log density, as `PosteriorNetwork.sample` has them."""


@dataclass(frozen=True)
class Proposal:
    """What draws are made with: the network, the exact model and the prior."""

    network: Source
    model: ExactModel
    prior: PriorSettings

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of the draws."""
        return self.network.parameters

    @cached_property
    def grid(self) -> ExactGrid | None:
        """The exact posterior by cells, where it can be had."""
        return ExactGrid.of(self.model, self.prior, self.parameters)

    def use_of_grid(self, rescue: Rescue | None) -> GridUse:
        """What the grid is used for: the choice that "auto" stands for, "never" where there is none."""
        if rescue is None or self.grid is None:
            return "never"
        return grid_use(rescue.grid, len(self.parameters))


class Rescue(NamedTuple):
    """What to do for a cluster whose posterior the network does not know well."""

    min_efficiency: float = 0.05
    """Efficiency below which something is done."""
    max_draws: int = 4096
    """Draws of the flow that a rescued cluster's summary may be made from; as many as are kept are stored."""
    grid: GridUse = "auto"
    """Whether the exact grid is used: not at all, where draws do not suffice, for every cluster's mean,
    deviation and quantiles besides, for every cluster in place of the network; or, with "auto", for the
    quantiles where it costs little (three parameters), else where draws do not suffice."""


class Options(NamedTuple):
    """How to draw."""

    draws: int
    """Draws a cluster."""
    certify: bool
    """Whether to weight them to the exact posterior."""
    seed: int
    """The job's seed."""
    rescue: Rescue | None = None
    """What is done where the efficiency is low; None for nothing."""


class Draws(NamedTuple):
    """Weighted draws of clusters; NaN where a cluster could not be inferred."""

    values: dict[str, Floats]
    """Each parameter, in physical units, (n_clusters, n_draws)."""
    log_weights: Floats
    """Natural logarithm of weights that sum to one, (n_clusters, n_draws)."""
    log_density: Floats
    """Unnormalised ln posterior density of each draw, (n_clusters, n_draws)."""
    efficiency: Floats
    """Effective sample size over draws, (n_clusters,); NaN when not certified."""
    log_evidence: Floats
    """[ln mJy^-n_bands], (n_clusters,); NaN when not certified."""
    chi2: Floats
    """Of each draw, (n_clusters, n_draws)."""
    pvalue: Floats
    """Posterior predictive p-value of chi2, (n_clusters,)."""
    nuisances: dict[str, Floats]
    """A value of each marginalised parameter for each draw, from its posterior given the draw: what
    `chi2` and the surviving mass are at; (n_clusters, n_draws)."""
    method: NDArray[np.int32] | None = None
    """Flags that say how a cluster was rescued, (n_clusters,); None where none was."""
    refined: Mapping[str, Floats] = MappingProxyType({})
    """Summary columns known from more draws than are kept, (n_clusters,); NaN where they are not."""

    @property
    def weights(self) -> Floats:
        """Weights that sum to one, (n_clusters, n_draws)."""
        return np.exp(self.log_weights)

    @property
    def inferred(self) -> NDArray[np.bool_]:
        """Clusters that have draws, (n_clusters,)."""
        return np.asarray(np.isfinite(self.log_weights).any(axis=1))

    def each(self, work: Callable[[Any], Any]) -> Draws:
        """The same with something done to every array."""
        fields: dict[str, Any] = {
            name: {key: work(column) for key, column in value.items()}
            if isinstance(value, Mapping)
            else work(value)
            for name, value in self._asdict().items()
            if value is not None
        }
        return self._replace(**fields)


def draw_posteriors(proposal: Proposal, clusters: Clusters, options: Options) -> Draws:
    """Draw from the posterior of every usable cluster.

    Parameters
    ----------
    proposal : Proposal
        The trained network and the exact model.
    clusters : Clusters
        n_clusters of them.
    options : Options
        How to draw.

    Returns
    -------
    Draws
        Rows in the clusters' order; each depends on its own key alone, not on its neighbours.
    """
    index = np.flatnonzero(clusters.usable)
    # The rescue draws by the functions of this module.
    from batchflow.infer.rescue import grid_alone, rescue

    size = clusters_at_once(proposal, options.draws)
    starts = range(0, 0 if grid_alone(proposal, options) else len(index), size)
    chunks = [index[start : start + size] for start in starts]
    with torch.inference_mode():
        found = [draw_flow(proposal, clusters.rows(chunk), options) for chunk in chunks]
        draws = _assemble(found, index, len(clusters.keys), options, proposal)
        return rescue(proposal, clusters, draws, options)


def clusters_at_once(proposal: Proposal, draws: int) -> int:
    """Clusters to draw together, `ROWS_TOGETHER` or a multiple: fewer where each draw occupies many rows."""
    size = ROWS_IN_CHUNK // -(-proposal.model.rows_a_draw // ROWS_A_DRAW) // draws
    return ROWS_TOGETHER * max(1, size // ROWS_TOGETHER)


def draw_flow(proposal: Proposal, clusters: Clusters, options: Options, turn: int = 0) -> Draws:
    """Draw usable clusters from the flow; each `turn` has random numbers of its own."""
    alive()
    n = len(clusters.keys)
    full = np.minimum(np.arange(-(-n // ROWS_TOGETHER) * ROWS_TOGETHER), n - 1)
    return _draw_full(proposal, clusters.rows(full), options, turn).each(lambda column: column[:n])


def _draw_full(proposal: Proposal, clusters: Clusters, options: Options, turn: int) -> Draws:
    network = proposal.network
    photometry, survey = photometry_of(network, clusters)
    stage = f"infer/{turn}" if turn else "infer"
    keys = [(options.seed, stage, key) for key in clusters.keys]
    base = points(keys, options.draws, len(proposal.parameters)).to(network.device)
    sample = network.sample(photometry.seen, survey, base)
    return weigh_sample(proposal, clusters, photometry, options, sample, turn)


def photometry_of(network: Source, clusters: Clusters) -> tuple[Photometry, Tensor]:
    """Clusters as the likelihood needs them, on the network's device; and each one's survey."""
    seen, survey = observations(clusters, network)
    return Photometry(seen, noise_terms(network.noise_on(network.device), seen, survey)), survey


def weigh_sample(
    proposal: Proposal,
    clusters: Clusters,
    photometry: Photometry,
    options: Options,
    sample: tuple[Tensor, Tensor],
    turn: int = 0,
) -> Draws:
    """Weight draws of usable clusters to the exact posterior.

    Parameters
    ----------
    proposal : Proposal
        The exact model and the prior.
    clusters : Clusters
        n_clusters of them.
    photometry : Photometry
        Theirs, of `photometry_of`.
    options : Options
        How they were drawn.
    sample : tuple of Tensor, shapes (n_clusters, n_draws, n_parameters) and (n_clusters, n_draws)
        Parameters, `log_mass` as seen at 10 pc, and the log density that they were drawn from.
    turn : int
        Which draws of these clusters they are.

    Returns
    -------
    Draws
        Of these clusters.
    """
    theta, log_q = sample
    values = {name: theta[..., i] for i, name in enumerate(proposal.parameters)}
    averaged, suffix = proposal.model.nuisances, f"/{turn}" if turn else ""
    keys = [(options.seed, key + suffix) for key in clusters.keys]
    chance = Chance.of(averaged, options.draws, keys) if averaged else None
    exact = compare(proposal.model, photometry, values, chance)
    shift = mass_shifts(clusters, options.draws, options.seed)
    values["log_mass"] = values["log_mass"] + torch.as_tensor(shift, dtype=theta.dtype, device=theta.device)
    if options.certify:
        density = exact.log_likelihood + log_prior_of(proposal, values)
        weighted = weigh(density, log_q)
    else:
        # The flow learned under the prior of every parameter but the mass, which it knows only relative
        # to the brightness, under a flat prior.
        mass_prior = log_prior_of(proposal, {"log_mass": values["log_mass"]})
        density = log_q + mass_prior
        weighted = uncertified(mass_prior)
    return Draws(
        values={name: _numpy(value) for name, value in values.items()},
        log_weights=_numpy(weighted.log_weights),
        log_density=_numpy(density),
        efficiency=_numpy(weighted.efficiency),
        log_evidence=_numpy(weighted.log_evidence),
        chi2=_numpy(exact.chi2),
        nuisances={name: _numpy(value) for name, value in exact.nuisances.items()},
        pvalue=_predictive_pvalue(exact.chi2, weighted.log_weights, photometry.detected.sum(1)),
    )


def log_prior_of(proposal: Proposal, values: dict[str, Tensor]) -> Tensor:
    """Natural logarithm of the prior's density at each draw, (n_clusters, n_draws)."""
    mass, boxes = values["log_mass"], proposal.network.boxes
    shapes = proposal.prior.distributions()
    if all(shapes[name].shape == "uniform" for name in values):
        return inside(mass, *boxes["log_mass"]) + log_prior_density({name: boxes[name] for name in values})
    # The flow keeps every parameter but the mass in its box, to single precision.
    kept = {
        name: _numpy(value) if name == "log_mass" else _numpy(value).clip(*boxes[name])
        for name, value in values.items()
    }
    return torch.as_tensor(log_prior(proposal.prior, kept), dtype=mass.dtype, device=mass.device)


def observations(clusters: Clusters, network: Source) -> tuple[Observations, Tensor]:
    """Clusters as tensors on the network's device.

    Parameters
    ----------
    clusters : Clusters
        n_clusters of them.
    network : Source
        Knows its device and its surveys.

    Returns
    -------
    tuple of (Observations, Tensor)
        Photometry, zero where not measured; and each cluster's survey, -1 where unknown.
    """
    measured = clusters.measured
    floats = [np.where(measured, values, 0.0) for values in (clusters.flux, clusters.error)]
    tensors = [torch.as_tensor(values, dtype=torch.float32, device=network.device) for values in floats]
    masks = [torch.as_tensor(mask, device=network.device) for mask in (measured, clusters.limit & measured)]
    survey = torch.as_tensor(network.noise.index(clusters.surveys), device=network.device)
    return Observations(*tensors, *masks), survey


def _predictive_pvalue(chi2: Tensor, log_weights: Tensor, n_bands: Tensor) -> Floats:
    """Probability that replicated data fit worse than the observed (Gelman, Meng & Stern 1996).

    Given a draw, the chi2 of replicated data has n_bands degrees of freedom exactly: no data need
    be simulated.
    """
    tail = replicated_tail(_numpy(chi2), _numpy(n_bands))
    found: Floats = (np.exp(_numpy(log_weights)) * tail).sum(1)
    return found


def replicated_tail(chi2: Floats, n_bands: NDArray[Any]) -> Floats:
    """Probability that data replicated from a draw fit worse than the observed.

    Parameters
    ----------
    chi2 : ndarray, shape (n_clusters, n_draws)
        Of the observed.
    n_bands : ndarray, shape (n_clusters,)
        Detected bands: degrees of freedom, for the draw is given.

    Returns
    -------
    ndarray, shape (n_clusters, n_draws)
        NaN where there is no band.
    """
    tail = gammaincc(np.maximum(n_bands, 1)[:, None] / 2, np.minimum(chi2, 1e9) / 2)
    return np.where(n_bands[:, None] > 0, tail, np.nan)


def _assemble(
    chunks: list[Draws], index: NDArray[np.int64], n: int, options: Options, proposal: Proposal
) -> Draws:
    """Put the inferred clusters back among those that could not be inferred."""
    parameters, averaged = proposal.parameters, proposal.model.nuisances.shapes

    def spread(parts: list[Floats], *shape: int) -> Floats:
        whole = np.full((n, *shape), np.nan)
        if parts:
            whole[index] = np.concatenate(parts)
        return whole

    wide = options.draws
    return Draws(
        values={name: spread([chunk.values[name] for chunk in chunks], wide) for name in parameters},
        log_weights=spread([chunk.log_weights for chunk in chunks], wide),
        log_density=spread([chunk.log_density for chunk in chunks], wide),
        efficiency=spread([chunk.efficiency for chunk in chunks]),
        log_evidence=spread([chunk.log_evidence for chunk in chunks]),
        chi2=spread([chunk.chi2 for chunk in chunks], wide),
        pvalue=spread([chunk.pvalue for chunk in chunks]),
        nuisances={name: spread([chunk.nuisances[name] for chunk in chunks], wide) for name in averaged},
    )


def _numpy(tensor: Tensor) -> Floats:
    return tensor.detach().cpu().numpy().astype(np.float64)
