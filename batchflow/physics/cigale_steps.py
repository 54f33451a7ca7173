"""Parameters of which CIGALE has certain values only, ages above all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError

Floats = NDArray[np.float64]

OLDEST = {"bc03": 13_999, "m2005": 13_700}
"""Last age in CIGALE's tables on its grid of whole Myr (pcigale 0.9.0, database_builder)."""


@dataclass(frozen=True, eq=False)
class Steps:
    """A parameter of which CIGALE has certain values only."""

    values: Floats
    """The parameter's values, increasing, shape (n,)."""
    codes: tuple[Any, ...]
    """What CIGALE is given for each."""

    def nearest(self, wanted: Floats) -> NDArray[np.intp]:
        """Place of the nearest value, shape (n_wanted,)."""
        return np.searchsorted(self._middles, wanted)

    @cached_property
    def _middles(self) -> Floats:
        return 0.5 * (self.values[1:] + self.values[:-1])

    def within(self, low: float, high: float) -> Steps:
        """Those of which the single-precision value, as shards hold it, lies in a range."""
        stored = self.values.astype(np.float32)
        inside = (stored >= low) & (stored <= high)
        return Steps(self.values[inside], tuple(np.array(self.codes, dtype=object)[inside]))

    def snap(self, name: str, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take drawn values to the nearest; raises a `UserError` when there are none."""
        if not self.values.size:
            raise UserError(f"prior.{name} holds none of CIGALE's own values of it; widen it")
        return self.values[self.nearest(drawn.astype(np.float64))].astype(np.float32)


def steps_of(options: Sequence[float]) -> Steps:
    """Steps of a parameter that CIGALE takes a few values of."""
    return Steps(np.array(options, dtype=np.float64), tuple(options))


def whole_myr(modules: Sequence[str]) -> Steps:
    """Ages of a star formation history: whole Myr, as log10 age [yr]."""
    last = min([OLDEST[module] for module in modules if module in OLDEST], default=13_700)
    myr = np.arange(1, last + 1)
    return Steps(np.log10(myr * 1e6), tuple(myr.tolist()))
