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
from batchflow.prior_settings import Distribution

Floats = NDArray[np.float64]
POINTS = {0: 1, 1: 16, 2: 32, 3: 64}
"""Points of the lattice, by number of continuous parameters."""
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
        return POINTS[len(self._spread)] * len(self._combinations)

    @property
    def n_shifts(self) -> int:
        """Random numbers that one draw needs for its lattice."""
        return len(self._spread)

    @cached_property
    def _spread(self) -> dict[str, Distribution]:
        return {name: shape for name, shape in self.shapes.items() if shape.choice is None}

    @cached_property
    def _listed(self) -> dict[str, tuple[float, ...]]:
        return {name: shape.choice for name, shape in self.shapes.items() if shape.choice is not None}

    @cached_property
    def _combinations(self) -> Floats:
        """Every combination of listed values, shape (n_combinations, n_listed)."""
        return np.array(list(product(*self._listed.values())))

    @cached_property
    def _lattice(self) -> Floats:
        return _lattice(len(self._spread))

    def at(self, place: int | NDArray[np.int64], shift: Floats) -> dict[str, Floats]:
        """Values of the parameters at one of the points, all of which are equally probable.

        Parameters
        ----------
        place : int, or ndarray of shape (...)
            From 0 to `evaluations` - 1; one for all draws, or one of each draw.
        shift : ndarray, shape (..., n_shifts)
            Uniform random numbers, one of each draw for each continuous parameter.

        Returns
        -------
        dict of str to ndarray, shape (...)
            Values in the parameters' units.
        """
        n = len(self._combinations)
        places = np.broadcast_to(place, shift.shape[:-1])
        listed, point = self._combinations[places % n], self._lattice[places // n]
        found = {name: listed[..., column] for column, name in enumerate(self._listed)}
        for column, (name, shape) in enumerate(self._spread.items()):
            found[name] = quantile(shape, (shift[..., column] + point[..., column]) % 1.0)
        return found


def _lattice(dimensions: int) -> Floats:
    """Evenly spread points of the unit cube, periodic, shape (n_points, dimensions)."""
    n = POINTS[dimensions]
    steps = np.arange(n)[:, None]
    # Kronecker sequence of the generalised golden ratio, the root of x^d = x + 1, beside even steps.
    ratio = {0: 1.0, 1: 1.0, 2: 1.618033988749895, 3: 1.324717957244746}[dimensions]
    irrational = ratio ** -np.arange(1.0, max(dimensions, 1))
    return np.concatenate([steps / n, steps * irrational % 1.0], axis=1)[:, :dimensions]
