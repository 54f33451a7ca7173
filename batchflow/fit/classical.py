"""Grid chi2 as CIGALE 0.9's `pdf_analysis` has it, for many clusters at once.

The reported error and a fraction of the OBSERVED flux, in quadrature, make the weights; a measured flux
that is not positive is not used; the mass of each model is the one that fits best. Means and deviations
are over models weighted by exp(-chi2 / 2), those left out whose probability (of a chi2 so large, with one
degree of freedom less than bands) is below `likely` times that of the best; a deviation is 0.02 dex, or
5 % of the mean, at least. Two things differ: chi2 of an upper limit is -2 ln of the probability that the
model lies below, without CIGALE's additive -2 ln(2 sigma sqrt(pi / 2)), which depends on the unit of the
flux; and a mass is never negative.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaincc, gammainccinv
from torch import Tensor

from batchflow.fit.grid import Models
from batchflow.fit.limits import with_limits
from batchflow.infer.clusters import Clusters
from batchflow.workers.watch import alive

Floats = NDArray[np.float64]
MASS = "log_mass"
VALUES_AT_ONCE = {"cpu": 2**18, "cuda": 2**24}
"""Clusters times models worked on together. On a processor with 1 MiB of second-level cache: 2^17 to 2^18
cost 127 us for 27,000 models a cluster, 2^21 and more 185 to 280 us."""
LEAST_DEVIATION, LEAST_SHARE = 0.02, 0.05
"""Of a logarithm [dex], and of the mean of any other parameter."""


class How(NamedTuple):
    """How chi2 is made."""

    upper_limits: Literal["erf", "drop"]
    likely: float
    """Models less probable than the best by more than this are left out of the means."""


class GridModels(NamedTuple):
    """Models on a device, in double precision."""

    values: Tensor
    """Parameters but the mass, (n_parameters, n_models)."""
    names: tuple[str, ...]
    fluxes: Tensor
    """(n_bands, n_models)."""
    squares: Tensor
    """Theirs."""

    @classmethod
    def of(cls, models: Models, device: torch.device) -> GridModels:
        """Move models to a device."""
        fluxes = torch.as_tensor(np.ascontiguousarray(models.fluxes.T), device=device)
        values = torch.as_tensor(np.stack(list(models.values.values())), device=device)
        return cls(values, tuple(models.values), fluxes, fluxes.square())


class Data(NamedTuple):
    """Photometry as the fit uses it; tensors (n_clusters, n_bands)."""

    flux: Tensor
    """Measured flux densities, or limits [mJy]; 0 where not used."""
    weight: Tensor
    """Inverse variance of measurements; 0 where there is none."""
    sigma: Tensor
    """Error of a source without flux, where `limited`; 1 elsewhere."""
    limited: Tensor
    """Upper limits that are used."""

    @property
    def n_bands(self) -> Tensor:
        """Bands used, (n_clusters,)."""
        return ((self.weight > 0) | self.limited).sum(1)

    def rows(self, index: Tensor) -> Data:
        """Some of the clusters."""
        return Data(*(column[index] for column in self))


class Kept(NamedTuple):
    """Models of clusters that are probable enough, cluster by cluster; tensors (n_kept,)."""

    cluster: Tensor
    model: Tensor
    chi2: Tensor
    log_mass: Tensor
    """[log10 Msun], as seen at 10 pc."""


class Classical(NamedTuple):
    """Classical fits of clusters; NaN where there is none. Arrays (n_clusters,)."""

    best: dict[str, Floats]
    """Each parameter of the model with the least chi2."""
    mean: dict[str, Floats]
    deviation: dict[str, Floats]
    chi2: Floats
    n_bands: NDArray[np.int64]
    """Bands used."""


def fit_classical(models: GridModels, clusters: Clusters, additional: Floats, how: How) -> Classical:
    """Fit clusters by chi2 on a grid.

    Parameters
    ----------
    models : GridModels
        The grid.
    clusters : Clusters
        n_clusters of them.
    additional : ndarray, shape (n_clusters, n_bands)
        Fraction of the observed flux to add to the errors in quadrature.
    how : How
        Limits and means.

    Returns
    -------
    Classical
        Each cluster's depends on its own photometry alone. NaN where the cluster is not usable, or fewer
        than two bands or no measurement can be used: any model fits then.
    """
    data = make_data(clusters, additional, how, models.fluxes.device)
    n, count = len(clusters.keys), data.n_bands
    fitted = torch.as_tensor(clusters.usable, device=count.device) & (count > 1) & (data.weight > 0).any(1)
    names = (*models.names, MASS)
    columns = np.full((3, len(names), n), np.nan)
    chi2 = np.full(n, np.nan)
    for rows, part in _chunks(models, data, fitted, how):
        columns[..., rows], chi2[rows] = part
    columns[:2, -1] += clusters.log_mass_shift
    best, mean, deviation = (dict(zip(names, kind, strict=True)) for kind in columns)
    return Classical(best, mean, deviation, chi2, count.cpu().numpy())


def make_data(clusters: Clusters, additional: Floats, how: How, device: torch.device) -> Data:
    """Photometry as the fit uses it, in double precision on a device."""
    flux, error = np.nan_to_num(clusters.flux), np.where(clusters.measured, clusters.error, 1.0)
    used = clusters.measured & (flux > 0)
    limited = used & clusters.limit & (how.upper_limits == "erf")
    seen = used & ~clusters.limit
    weight = np.where(seen, 1 / (error**2 + (additional * flux) ** 2), 0.0)
    columns = np.where(seen | limited, flux, 0.0), weight, np.where(limited, error, 1.0)
    values, weights, sigma = (
        torch.as_tensor(column, dtype=torch.float64, device=device) for column in columns
    )
    return Data(values, weights, sigma, torch.as_tensor(limited, device=device))


def least_squares(models: GridModels, data: Data) -> tuple[Tensor, Tensor]:
    """chi2 of the measurements with each model's best mass, and that mass as seen at 10 pc [Msun].

    Parameters
    ----------
    models : GridModels
        The grid.
    data : Data
        Of n_clusters clusters with a measurement each.

    Returns
    -------
    tuple of Tensor, shape (n_clusters, n_models)
        chi2, and the scale.
    """
    seen, total = data.weight * data.flux, (data.weight * data.flux.square()).sum(1)
    n_models = models.fluxes.shape[1]
    chi2, scale = (data.flux.new_empty(len(seen), n_models) for _ in range(2))
    # Both products of a block of models stay in the cache until their ratio is made.
    step = max(1024, VALUES_AT_ONCE[data.flux.device.type] // len(seen))
    for start in range(0, n_models, step):
        block = slice(start, start + step)
        signal = seen @ models.fluxes[:, block]
        torch.div(signal, data.weight @ models.squares[:, block], out=scale[:, block])
        torch.sub(total[:, None], signal.mul_(scale[:, block]), out=chi2[:, block])
    return chi2.clamp_(min=0), scale


def probable(chi2: Tensor, n_bands: Tensor, likely: float) -> Tensor:
    """Largest chi2 of models that count, (n_clusters,), given the least and the number of bands."""
    if likely == 0:
        return torch.full_like(chi2, torch.inf)
    half = (n_bands.cpu().numpy() - 1) / 2
    share = likely * gammaincc(half, chi2.cpu().numpy() / 2)
    # Where not even the best is probable to machine precision, nothing tells models apart: all count.
    with np.errstate(invalid="ignore"):
        limit = np.where(share > 0, 2 * gammainccinv(half, share), np.inf)
    return torch.as_tensor(limit).to(chi2).fmax(chi2)


def _chunks(
    models: GridModels, data: Data, fitted: Tensor, how: How
) -> Iterator[tuple[NDArray[np.int64], tuple[Floats, Floats]]]:
    """Clusters in chunks, those with limits apart, with what was found: best, mean, deviation; chi2."""
    limits = data.limited.any(1)
    size = max(1, VALUES_AT_ONCE[data.flux.device.type] // models.fluxes.shape[1])
    for chosen in (fitted & ~limits, fitted & limits):
        index = chosen.nonzero()[:, 0]
        for rows in (index[start : start + size] for start in range(0, len(index), size)):
            alive()
            # A chunk filled up: the last bits of a cluster's sums must not depend on its neighbours.
            whole = data.rows(torch.cat([rows, rows[:1].expand(size - len(rows))]))
            kept = _kept(models, whole, how)
            columns, chi2 = _summarise(models, kept, size)
            n = len(rows)
            yield rows.cpu().numpy(), (columns[..., :n].cpu().numpy(), chi2[:n].cpu().numpy())


def _kept(models: GridModels, data: Data, how: How) -> Kept:
    chi2, scale = least_squares(models, data)
    if bool(data.limited.any()):
        cluster, model, own, scales = with_limits(models, data, chi2, how.likely)
        return Kept(cluster, model, own, scales.log10())
    mask = chi2 <= probable(chi2.amin(1), data.n_bands, how.likely)[:, None]
    flat = mask.reshape(-1).nonzero()[:, 0]
    cluster = torch.arange(len(chi2), device=flat.device).repeat_interleave(mask.sum(1))
    model = flat - cluster * chi2.shape[1]
    return Kept(cluster, model, chi2.reshape(-1)[flat], scale.reshape(-1)[flat].log10())


def _summarise(models: GridModels, kept: Kept, n: int) -> tuple[Tensor, Tensor]:
    """Best model, mean and deviation of each parameter and the mass, (3, n_parameters, n); least chi2."""
    counts = torch.bincount(kept.cluster, minlength=n)

    def sums(values: Tensor, how: str = "sum") -> Tensor:
        return torch.segment_reduce(values, how, lengths=counts)

    least = sums(kept.chi2, "min")
    likelihood = (-0.5 * (kept.chi2 - least[kept.cluster])).exp()
    share = likelihood / sums(likelihood)[kept.cluster]
    place = torch.arange(len(kept.chi2), dtype=torch.float64, device=least.device)
    best = sums(torch.where(kept.chi2 == least[kept.cluster], place, torch.inf), "min").long()
    rows = []
    for name, values in zip((*models.names, MASS), [*models.values, None], strict=True):
        column = kept.log_mass if values is None else values[kept.model]
        mean = sums(share * column)
        deviation = sums(share * (column - mean[kept.cluster]).square()).sqrt()
        floor = torch.full_like(mean, LEAST_DEVIATION) if name.startswith("log_") else LEAST_SHARE * mean
        rows.append(torch.stack([column[best], mean, deviation.maximum(floor)]))
    return torch.stack(rows, 1), least


def degrees_of_freedom(n_bands: NDArray[np.int64], n_parameters: int, kind: str) -> NDArray[np.int64]:
    """Bands less fitted parameters; or less one, the scaling, as CIGALE counts. (n_clusters,)."""
    return n_bands - (1 if kind == "cigale" else n_parameters)


def reduced(chi2: Floats, degrees: NDArray[np.int64]) -> Floats:
    """chi2 by degree of freedom; NaN where there is none."""
    return np.where(degrees > 0, chi2 / np.maximum(degrees, 1), math.nan)
