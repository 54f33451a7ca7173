"""Photometry as a survey would see it, drawn on the device: no two steps see the same noise.

The scale symmetry is used in full: a mock's own mass is replaced so that its depth-normalised
brightness, log10 max(f / s), is uniform over its survey's range. Given the other parameters log_mass
is then flat, so the flow learns the posterior under a flat log_mass; the prior's box is laid on it
afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from batchflow.flow.features import Observations
from batchflow.mocks.noise import NoiseModel, SurveyNoise
from batchflow.schema import LIMIT_SIGMA

MISSING_ROWS = 0.15
"""Share of rows that lose some of their survey's bands."""
OUTLIERS = 0.03
"""Share of rows, and of single bands, whose log10 xi is anywhere within the survey's reach."""
BROADENING = 1.5
"""Training scatter of log10 xi over the survey's, where it is normal: the tails are then known too."""


class Simulation(NamedTuple):
    """A batch of mock objects."""

    seen: Observations
    log_mass: Tensor
    """log10 of mass formed [Msun] as seen at 10 pc, shape (n_clusters,)."""
    survey: Tensor
    """Index of each object's survey, shape (n_clusters,)."""


def simulate(fluxes: Tensor, noise: NoiseModel, generator: Generator) -> Simulation:
    """Draw a survey, brightness, noise, missing bands and upper limits for each mock.

    Parameters
    ----------
    fluxes : Tensor, shape (n_clusters, n_bands)
        Noise-free flux densities [mJy] of 1 Msun formed at 10 pc.
    noise : NoiseModel
        Made of tensors (`flow.features.on_device`).
    generator : torch.Generator
        The only source of chance; on the fluxes' device.

    Returns
    -------
    Simulation
        Missing bands are zero, limits hold the limit itself.
    """
    draw = _Chance(fluxes, generator)
    survey = (draw.uniform(1)[:, 0] * len(noise.surveys)).long().clamp(max=len(noise.surveys) - 1)
    own = noise.select(survey)
    covered = own.depth.isfinite()
    depth, photon, fractional = (torch.where(covered, term, 1.0) for term in own[:3])
    filled = SurveyNoise(depth, photon, fractional, own.systematic)
    log_mass = _log_mass(fluxes, noise.brightness[survey], own.depth, draw.uniform(1)[:, 0])
    true = fluxes * (10.0**log_mass).unsqueeze(-1)
    factor = torch.where(covered, 10.0 ** _log_factor(noise, survey, draw), 1.0)
    measured = covered & _kept(covered, draw)
    seen = _measure(true, filled, factor, draw.normal())
    hidden = draw.uniform() < noise.limit_fraction[survey].unsqueeze(-1)
    return Simulation(_report(seen, factor * depth, measured, hidden), log_mass, survey)


class _Chance(NamedTuple):
    """Random numbers of the shape, type and device of a batch."""

    like: Tensor
    generator: Generator

    def uniform(self, columns: int | None = None) -> Tensor:
        shape = (self.like.shape[0], columns or self.like.shape[1])
        return torch.rand(shape, generator=self.generator, device=self.like.device, dtype=self.like.dtype)

    def normal(self, columns: int | None = None) -> Tensor:
        shape = (self.like.shape[0], columns or self.like.shape[1])
        return torch.randn(shape, generator=self.generator, device=self.like.device, dtype=self.like.dtype)


def _log_mass(fluxes: Tensor, span: Tensor, depth: Tensor, uniform: Tensor) -> Tensor:
    """log10 mass [Msun] that puts log10 max(f / s) uniformly into each row's span."""
    brightness = span[:, 0] + (span[:, 1] - span[:, 0]) * uniform
    return brightness - (fluxes / depth).nan_to_num(0.0).amax(-1).log10()


def _log_factor(noise: NoiseModel, survey: Tensor, draw: _Chance) -> Tensor:
    """log10 xi, correlated between the bands of an object, shape (n_clusters, n_bands)."""
    normal = (noise.mixing[survey] @ draw.normal().unsqueeze(-1)).squeeze(-1)
    if noise.scatter_shape == "uniform":
        return noise.scatter[survey] * 3**0.5 * torch.erf(normal / 2**0.5)
    return _with_outliers(BROADENING * noise.scatter[survey] * normal, noise.reach[survey], draw)


def _with_outliers(log_factor: Tensor, reach: Tensor, draw: _Chance) -> Tensor:
    """Put some objects, and some single bands, anywhere within reach: catalogues have long tails."""
    whole, single = draw.uniform(1) < OUTLIERS, draw.uniform() < OUTLIERS
    place = torch.where(whole, draw.uniform(1), draw.uniform())
    return torch.where((whole | single) & (reach > 0), (2 * place - 1) * reach, log_factor)


def _kept(covered: Tensor, draw: _Chance) -> Tensor:
    """Which bands stay: some rows lose 1 to all but one of theirs, whatever the fluxes are."""
    rank = torch.where(covered, draw.uniform(), 2.0).argsort(-1).argsort(-1)
    most = (covered.sum(-1, keepdim=True) - 1).clamp(min=0)
    lost = 1 + (draw.uniform(1) * most).floor()
    return (rank >= lost) | (draw.uniform(1) >= MISSING_ROWS) | (most == 0)


def _measure(true: Tensor, noise: SurveyNoise, factor: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy flux, and the error that the survey reports for the NOISY flux."""
    flux = true + noise.terms_from_factor(factor).variance(true).sqrt() * normal
    return flux, noise.reported_error(flux, factor)


def _report(seen: tuple[Tensor, Tensor], floor: Tensor, measured: Tensor, hidden: Tensor) -> Observations:
    """Turn undetected bands that are `hidden` into limits, whose error is that of an empty aperture."""
    flux, error = seen
    limit = measured & hidden & (flux < LIMIT_SIGMA * floor)
    flux = torch.where(limit, LIMIT_SIGMA * floor, flux)
    error = torch.where(limit, floor, error)
    return Observations(torch.where(measured, flux, 0.0), torch.where(measured, error, 0.0), measured, limit)
