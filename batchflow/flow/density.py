"""The density of the parameters in physical units: features, mass coordinate and flow together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from batchflow.flow.features import FEATURES_PER_BAND, Features
from batchflow.flow.mass import FARTHEST, MassFrame, Scaled, fold, mass_frame, unfold
from batchflow.flow.model import ConditionalFlow
from batchflow.flow.model_fluxes import ModelFluxes
from batchflow.mocks.noise import NoiseModel
from batchflow.settings.base import Range
from batchflow.settings.train import FlowSettings

MASS = "log_mass"


@dataclass(frozen=True)
class Specification:
    """What a network is of, before it is trained."""

    bands: tuple[str, ...]
    boxes: dict[str, Range]
    """Lower and upper edge of each parameter's prior, in the order of the draws' columns."""
    flow: FlowSettings
    noise: NoiseModel

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(self.boxes)


class Condition(NamedTuple):
    """All that the flow uses of some objects; computed once, however many draws."""

    context: Tensor
    """Shape (n_clusters, couplings, hidden)."""
    flux: Tensor
    """In units of the brightness, shape (n_clusters, n_bands)."""
    random: Tensor
    """Part of its variance, as in `Features`; shape (n_clusters, n_bands)."""
    fractional: Tensor
    """The other part, as in `Features`; shape (n_clusters, n_bands)."""
    log_brightness: Tensor
    """log10 [mJy], shape (n_clusters,)."""

    @property
    def scaled(self) -> Scaled:
        """The photometry in units of its brightness."""
        return Scaled(self.flux, self.random, self.fractional)


class Batch(NamedTuple):
    """Mocks as the flow itself sees them: this stays the same while the weights change."""

    unit: Tensor
    """True parameters on the unit cube, shape (n, n_parameters)."""
    seen: Tensor
    """Standardised features, shape (n, n_features)."""
    offset: Tensor
    """Log density per unit of each parameter, less that on the cube; shape (n,)."""

    def rows(self, index: slice) -> Batch:
        """Some of them."""
        return Batch(*(column[index] for column in self))


def with_mass(parameters: Tensor, names: tuple[str, ...], log_mass: Tensor) -> Tensor:
    """Put a column of masses into a table of parameters, shape (n_clusters, n_parameters)."""
    place = names.index(MASS)
    columns = (parameters[:, :place], log_mass.unsqueeze(1), parameters[:, place + 1 :])
    return torch.cat(columns, 1)


class PosteriorDensity(nn.Module):
    """The network's weights and arithmetic; `PosteriorNetwork` is what others use."""

    feature_mean: Tensor
    feature_spread: Tensor
    low: Tensor
    width: Tensor
    mass_centre: Tensor
    mass_spread: Tensor

    def __init__(self, specification: Specification) -> None:
        super().__init__()
        n_bands, n_parameters = len(specification.bands), len(specification.parameters)
        self.mass = specification.parameters.index(MASS)
        self.flow = ConditionalFlow(FEATURES_PER_BAND * n_bands, n_parameters, specification.flow)
        others = tuple(name for name in specification.parameters if name != MASS)
        self.fluxes = ModelFluxes(others, n_bands)
        edges = torch.tensor([box for name, box in specification.boxes.items() if name != MASS])
        buffers = {
            "feature_mean": torch.zeros(2, n_bands),
            "feature_spread": torch.ones(2, n_bands),
            "low": edges[:, 0],
            "width": edges[:, 1] - edges[:, 0],
            "mass_centre": torch.zeros(()),
            "mass_spread": torch.ones(()),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    def condition(self, features: Features) -> Condition:
        """Encode photometry, once for however many draws.

        Parameters
        ----------
        features : Features
            Of n_clusters objects.

        Returns
        -------
        Condition
            For `log_prob` and `draw`.
        """
        return self._condition(self.flow.encode(self._standardise(features)), features)

    def batch(self, theta: Tensor, features: Features) -> Batch:
        """Do all of `log_prob` that training does not change, beforehand.

        Parameters
        ----------
        theta : Tensor, shape (n, n_parameters)
            True parameters; `log_mass` as seen at 10 pc.
        features : Features
            Of their photometry.

        Returns
        -------
        Batch
            For `ConditionalFlow.loss`.
        """
        with torch.no_grad():
            seen = self._standardise(features)
            unit, offset = self._cube(theta, self._condition(seen, features))
        return Batch(unit, seen, offset)

    def log_prob(self, theta: Tensor, condition: Condition) -> Tensor:
        """Log density of parameters.

        Parameters
        ----------
        theta : Tensor, shape (n_clusters, n_parameters) or (n_clusters, n_draws, n_parameters)
            Parameters in their units, within the boxes; `log_mass` as seen at 10 pc, anywhere.
        condition : Condition
            Of the same clusters.

        Returns
        -------
        Tensor, shape (n_clusters,) or (n_clusters, n_draws)
            Natural logarithm of the density per unit of each parameter; meaningless outside the boxes.
        """
        if theta.dim() == 3:
            condition = Condition(*(column.unsqueeze(1) for column in condition))
        cube, offset = self._cube(theta, condition)
        return self.flow.log_prob(cube, condition.context) + offset

    def draw(self, condition: Condition, base: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uniform random numbers into draws; inverse of `log_prob`'s map.

        Parameters
        ----------
        condition : Condition
            Of n_clusters objects.
        base : Tensor, shape (n_clusters, n_draws, n_parameters)
            Uniform random numbers.

        Returns
        -------
        tuple of Tensor, shapes (n_clusters, n_draws, n_parameters) and (n_clusters, n_draws)
            Parameters in their units, and their log density.
        """
        cube, log_prob = self.flow.transport(base, condition.context)
        condition = Condition(*(column.unsqueeze(1) for column in condition))
        place, log_slope = unfold(cube[..., 0])
        others = self.low + self.width * cube[..., 1:]
        frame = self._frame(others, condition.scaled)
        away = (self.mass_centre + self.mass_spread * place) * frame.width
        mass = condition.log_brightness + frame.centre + away.clamp(-FARTHEST, FARTHEST)
        theta = torch.cat([others[..., : self.mass], mass.unsqueeze(-1), others[..., self.mass :]], -1)
        return theta, log_prob + log_slope - self._log_volume(frame)

    def others(self, theta: Tensor) -> Tensor:
        """Every parameter but the mass, within the boxes, shape (..., n_parameters - 1)."""
        columns = [theta[..., : self.mass], theta[..., self.mass + 1 :]]
        return torch.cat(columns, -1).clamp(self.low, self.low + self.width)

    def frame(self, theta: Tensor, features: Features) -> MassFrame:
        """Origin and unit of the mass of each object at its parameters, (n_clusters, n_parameters)."""
        return self._frame(self.others(theta), features.scaled)

    def _cube(self, theta: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Parameters on the unit cube, mass first, and the log of the volume's change."""
        others = self.others(theta)
        frame = self._frame(others, condition.scaled)
        place = (theta[..., self.mass] - condition.log_brightness - frame.centre) / frame.width
        unit, log_slope = fold(((place - self.mass_centre) / self.mass_spread).to(others.dtype))
        cube = torch.cat([unit.unsqueeze(-1), (others - self.low) / self.width], -1)
        return cube, log_slope - self._log_volume(frame)

    def _frame(self, others: Tensor, seen: Scaled) -> MassFrame:
        with torch.no_grad():
            return mass_frame(self.fluxes(others), seen)

    @staticmethod
    def _condition(context: Tensor, features: Features) -> Condition:
        return Condition(
            context,
            features.flux.to(context.dtype),
            features.random.to(context.dtype),
            features.fractional.to(context.dtype),
            features.log_brightness,
        )

    def _log_volume(self, frame: MassFrame) -> Tensor:
        """Log of the volume of the cube in physical units, but for the fold's slope."""
        return self.width.log().sum() + self.mass_spread.log() + frame.width.log()

    def _standardise(self, features: Features) -> Tensor:
        known = features.measured > 0
        both = zip((features.colour, features.signal), self.feature_mean, self.feature_spread, strict=True)
        scaled = [torch.where(known, (value - mean) / spread, 0.0) for value, mean, spread in both]
        return torch.cat([*scaled, features.measured, features.limit], -1).to(self.low.dtype)
