"""Marginalised parameters: summed over at each draw, so that the weights are those of the marginal posterior.

Listed values (`choice`) are summed exactly. Over continuous ones the likelihood is averaged on a lattice
of prior quantiles that each draw shifts at random: whatever the number of points, the average is an
unbiased estimate of the marginal likelihood, so the weighted draws converge to the exact posterior
(pseudo-marginal: Andrieu & Roberts 2009, Annals of Statistics 37, 697). Too few points cost efficiency,
which is reported; they bias nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from batchflow.mocks.prior import quantile
from batchflow.settings.base import GridUse
from batchflow.settings.prior import Distribution, PriorSettings

Floats = NDArray[np.float64]
POINTS = {0: 1, 1: 16, 2: 32, 3: 64}
"""Points of the lattice, by number of continuous parameters."""
GRID_AXES = 3
"""Most parameters beside the mass that the exact grid can have; marginalised ones it can not."""
CHEAP_GRID = 3
"""Most parameters of a job whose every cluster has its quantiles from the exact grid by default."""
MAX_EVALUATIONS = 256
"""Most points times combinations of listed values: likelihoods that one draw may cost."""


@dataclass(frozen=True)
class Nuisances:
    """Parameters that the likelihood is averaged over."""

    shapes: Mapping[str, Distribution]

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self.shapes)

    @property
    def evaluations(self) -> int:
        """Likelihoods that one draw costs."""
        return POINTS[len(self.spread)] * len(self.combinations)

    @cached_property
    def spread(self) -> dict[str, Distribution]:
        """The continuous ones."""
        return {name: shape for name, shape in self.shapes.items() if shape.choice is None}

    @cached_property
    def combinations(self) -> list[dict[str, float]]:
        """Every combination of listed values, all equally probable; one without values if none is listed."""
        listed = {name: shape.choice for name, shape in self.shapes.items() if shape.choice is not None}
        return [dict(zip(listed, values, strict=True)) for values in product(*listed.values())]

    @cached_property
    def lattice(self) -> Floats:
        """Evenly spread points of the unit cube, periodic, shape (n_points, n_spread)."""
        return _lattice(len(self.spread))

    def at(self, point: Floats, shift: Floats) -> dict[str, Floats]:
        """Values of the continuous parameters at a point of the lattice, shifted.

        Parameters
        ----------
        point : ndarray, shape (n_spread,) or (..., n_spread)
            One for all draws, or one of each draw.
        shift : ndarray, shape (..., n_spread)
            Uniform random numbers, one of each draw for each parameter.

        Returns
        -------
        dict of str to ndarray, shape (...)
            Values in the parameters' units, distributed as their priors say, whatever the point.
        """
        probability = (shift + point) % 1.0
        return {
            name: quantile(shape, probability[..., column])
            for column, (name, shape) in enumerate(self.spread.items())
        }


def _lattice(dimensions: int) -> Floats:
    n = POINTS[dimensions]
    steps = np.arange(n)[:, None]
    # Kronecker sequence of the generalised golden ratio, the root of x^d = x + 1, beside even steps.
    ratio = {0: 1.0, 1: 1.0, 2: 1.618033988749895, 3: 1.324717957244746}[dimensions]
    irrational = ratio ** -np.arange(1.0, max(dimensions, 1))
    return np.concatenate([steps / n, steps * irrational % 1.0], axis=1)[:, :dimensions]


def grid_use(chosen: GridUse, n_parameters: int) -> GridUse:
    """What the exact grid of a job is used for.

    Parameters
    ----------
    chosen : str
        Of the job.
    n_parameters : int
        Inferred ones, the mass among them: the grid of three costs about what the draws cost, that of
        four many times as much.

    Returns
    -------
    str
        The choice that "auto" stands for; any other as it is.
    """
    if chosen != "auto":
        return chosen
    return "summary" if n_parameters <= CHEAP_GRID else "fallback"


def why_no_grid(prior: PriorSettings) -> str:
    """Why the posterior under a prior cannot be had on the exact grid.

    Parameters
    ----------
    prior : PriorSettings
        Of every parameter.

    Returns
    -------
    str
        Empty when it can.
    """
    if averaged := prior.marginalised():
        return f"none: {', '.join(averaged)} marginalised"
    inferred = len(prior.boxes())
    return f"none: {inferred} parameters" if inferred > GRID_AXES + 1 else ""
