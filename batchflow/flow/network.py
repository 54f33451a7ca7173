"""The trained posterior with all that is needed to use it: bands, prior, noise, weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from batchflow.flow.density import Condition, PosteriorDensity, Specification
from batchflow.flow.features import Observations, make_features, on_device
from batchflow.mocks.noise import NoiseModel
from batchflow.settings.base import Range

__all__ = ["PosteriorNetwork", "Specification"]

DRAWS_AT_ONCE = 16_384
"""Draws that pass through the flow together: their hidden layers stay in the cache."""
VECTOR = 16
"""Numbers of single precision in a processor's longest vector: what is left over at the end of an array is
computed one by one, and its last digits may be others."""


@dataclass
class PosteriorNetwork:
    """Density of the parameters given photometry, under a flat prior within the boxes.

    The mass has no edges here: `log_mass` is as seen at 10 pc, and its box, which depends on the
    distance, is for the caller to lay on the draws.
    """

    specification: Specification
    density: PosteriorDensity
    description: dict[str, Any] = field(default_factory=dict)
    """Kept in ``model.json`` beside the network itself: settings, engine, figures of the training."""
    weights_sha256: str = ""
    """Checksum of the weights' file, or of those of all members; empty before the network is saved."""
    others: tuple[PosteriorDensity, ...] = ()
    """Densities of an ensemble's other members: the posterior is the mixture of all, in equal parts."""

    @property
    def members(self) -> tuple[PosteriorDensity, ...]:
        """Densities of the ensemble; one where there is no ensemble."""
        return (self.density, *self.others)

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands in the order of the photometry's columns."""
        return self.specification.bands

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters in the order of the draws' columns."""
        return self.specification.parameters

    @property
    def boxes(self) -> dict[str, Range]:
        """Lower and upper edge of each parameter's prior."""
        return self.specification.boxes

    @property
    def noise(self) -> NoiseModel:
        """The noise model of the training, in NumPy arrays."""
        return self.specification.noise

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.density.low.device

    def noise_on(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> NoiseModel:
        """The noise model in tensors."""
        return on_device(self.noise, torch.device(device), dtype)

    def condition(self, seen: Observations, survey: Tensor) -> Condition:
        """Encode photometry.

        Parameters
        ----------
        seen : Observations
            Tensors of shape (n_clusters, n_bands) on the network's device [mJy].
        survey : Tensor of int, shape (n_clusters,)
            Index into ``noise.surveys``; -1 where unknown.

        Returns
        -------
        Condition
            What the flow uses of each object.
        """
        return self.density.condition(make_features(self.noise, seen, survey))

    def log_prob(self, theta: Tensor, seen: Observations, survey: Tensor) -> Tensor:
        """Log density of parameters given photometry.

        Parameters
        ----------
        theta : Tensor, shape (n_clusters, n_parameters) or (n_clusters, n_draws, n_parameters)
            Parameters in their units, within the boxes; `log_mass` as seen at 10 pc.
        seen : Observations
            As in `sample`.
        survey : Tensor of int, shape (n_clusters,)
            As in `sample`.

        Returns
        -------
        Tensor, shape (n_clusters,) or (n_clusters, n_draws)
            Natural logarithm of the density per unit of each parameter.
        """
        with torch.no_grad():
            features = make_features(self.noise, seen, survey)
            found = [member.log_prob(theta, member.condition(features)) for member in self.members]
        return torch.stack(found).logsumexp(0) - math.log(len(found))

    def sample(self, seen: Observations, survey: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Draw from the posterior.

        Parameters
        ----------
        seen : Observations
            Tensors of shape (n_clusters, n_bands) on the network's device [mJy].
        survey : Tensor of int, shape (n_clusters,)
            Index into ``noise.surveys``; -1 where unknown.
        base : Tensor, shape (n_clusters, n_draws, n_parameters)
            Uniform random numbers in [0, 1): the draws are a function of them.

        Returns
        -------
        tuple of Tensor, shapes (n_clusters, n_draws, n_parameters) and (n_clusters, n_draws)
            Parameters in their units, `log_mass` as seen at 10 pc; and the natural logarithm of the
            density they were drawn from, per unit of each parameter.
        """
        size = _rows_at_once(base.shape[1])
        with torch.no_grad():
            features = make_features(self.noise, seen, survey)
            conditions = [member.condition(features) for member in self.members]
            chunks = [
                self._draw([_rows(condition, slice(start, start + size)) for condition in conditions], part)
                for start, part in zip(range(0, base.shape[0], size), base.split(size), strict=True)
            ]
        theta, log_prob = zip(*chunks, strict=True)
        return torch.cat(theta), torch.cat(log_prob)

    def _draw(self, conditions: list[Condition], base: Tensor) -> tuple[Tensor, Tensor]:
        """Draws of each member in turn, with their density under the mixture as it was drawn from.

        Draw j comes from member j modulo their number, so that any run of draws holds all alike; the
        density is that of Veach & Guibas's (1995) balance heuristic, exact for any number of draws.
        """
        members, n_draws = self.members, base.shape[1]
        if len(members) == 1:
            return members[0].draw(conditions[0], base)
        # With fewer draws than members, the last members give none.
        parts = [slice(place, None, len(members)) for place in range(min(len(members), n_draws))]
        own = list(zip(members, conditions, parts, strict=False))
        drawn = [member.draw(condition, base[:, part]) for member, condition, part in own]
        theta = torch.empty_like(base)
        for part, (values, _) in zip(parts, drawn, strict=True):
            theta[:, part] = values
        densities = []
        for (member, condition, part), (_, log_prob) in zip(own, drawn, strict=True):
            every = member.log_prob(theta, condition)
            every[:, part] = log_prob  # exact: no way back through the flow
            densities.append(every + math.log(log_prob.shape[1] / n_draws))
        return theta, torch.stack(densities).logsumexp(0)


def _rows_at_once(n_draws: int) -> int:
    """Clusters whose draws pass through the flow together: whole vectors of them."""
    step = VECTOR // math.gcd(VECTOR, n_draws) if n_draws else 1
    return max(step, DRAWS_AT_ONCE // max(1, n_draws) // step * step)


def _rows(condition: Condition, index: slice) -> Condition:
    return Condition(*(column[index] for column in condition))
