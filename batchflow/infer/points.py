"""Evenly spread random numbers for each cluster: Sobol's sequence under a shift of the cluster's own.

Each number is uniform and each cluster's are independent of the others', as with pseudo-random numbers;
together, a cluster's draws leave no gaps. At equal draws this halves the error of a quantile, measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.keys import generator

BITS = 30
"""Of each number of the sequence."""
LAST = 1 - 2.0**-24
"""Largest single-precision number below one."""


def points(keys: Sequence[tuple[int | str, ...]], n_draws: int, dimensions: int) -> Tensor:
    """Uniform random numbers of each key.

    Parameters
    ----------
    keys : sequence of tuple
        Seed, stage and name of each cluster.
    n_draws : int
        Points of each; the first ones are the same however many are asked for.
    dimensions : int
        Numbers in a point.

    Returns
    -------
    Tensor, shape (n_keys, n_draws, dimensions)
        In [0, 1), single precision.
    """
    shifts = np.stack([_shift(key, dimensions) for key in keys])
    # A digital shift (Owen 2003): it keeps the sequence's balance in every dyadic box.
    whole = _sobol(n_draws, dimensions) ^ shifts[:, None]
    uniform = (whole + 0.5) * 2.0**-BITS
    return torch.from_numpy(np.minimum(uniform, LAST).astype(np.float32))


def _shift(key: tuple[int | str, ...], dimensions: int) -> NDArray[np.int64]:
    seed, *parts = key
    return generator(int(seed), *parts).integers(0, 2**BITS, dimensions)


@lru_cache(maxsize=8)
def _sobol(n_draws: int, dimensions: int) -> NDArray[np.int64]:
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=False)
    return (engine.draw(n_draws, dtype=torch.float64).numpy() * 2**BITS).astype(np.int64)
