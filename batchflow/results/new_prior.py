"""Another prior for draws that are there already: read, and checked against the old one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from batchflow.errors import UserError, nearest
from batchflow.mocks.prior import log_density
from batchflow.settings.overrides import parse_value
from batchflow.settings.prior import Distribution, PriorSettings

Floats = NDArray[np.float64]
TOLERANCE = 1e-6
"""Part of a range by which a new prior may step over an old edge: rounding."""


@dataclass(frozen=True)
class Change:
    """From one prior to another, for some parameters."""

    old: PriorSettings
    new: PriorSettings

    @property
    def changed(self) -> dict[str, tuple[Distribution, Distribution]]:
        """Old and new distribution of each parameter that has another."""
        old, new = self.old.distributions(), self.new.distributions()
        return {name: (old[name], new[name]) for name in old if old[name] != new[name]}

    def log_ratio(self, values: Mapping[str, Floats]) -> Floats:
        """Natural logarithm of new over old prior density at each draw, -inf outside the new."""
        total = np.zeros(np.shape(next(iter(values.values()))))
        for name, (old, new) in self.changed.items():
            # Stored in single precision, a draw on an edge may lie beyond it.
            at = np.clip(values[name], *old.box)
            total = total + log_density(new, at) - log_density(old, at)
        return total


def make_change(old: PriorSettings, priors: Sequence[str]) -> Change:
    """Read new priors, and see that the draws can tell of them.

    Parameters
    ----------
    old : PriorSettings
        What the draws were made under.
    priors : sequence of str
        ``parameter.shape=value``.

    Returns
    -------
    Change
        From old to new.

    Raises
    ------
    UserError
        When one cannot be read, is of a parameter without draws, or reaches beyond the old.
    """
    if not priors:
        raise UserError("no new prior given; for example --prior log_mass.power_law=[-2,2,7]")
    given: dict[str, Any] = {}
    known = old.boxes()
    for text in priors:
        name, shape, value = _parse(text)
        if name not in known:
            raise UserError(f"--prior {text!r}: {name!r} has no stored draws; {nearest(name, known)}")
        given[name] = {shape: value} if shape else value
    try:
        new = PriorSettings.model_validate(old.model_dump(mode="json") | given)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise UserError(f"--prior {' '.join(priors)}: " + "; ".join(lines)) from None
    for name in given:
        _check_inside(name, known[name], getattr(new, name))
    return Change(old, new)


def _parse(text: str) -> tuple[str, str, Any]:
    key, equals, value = text.partition("=")
    name, _, shape = key.strip().partition(".")
    found = parse_value(value.strip())
    if not equals or not name or (not shape and not isinstance(found, dict)):
        raise UserError(f"--prior {text!r}: expected parameter.shape=value, as log_mass.power_law=[-2,2,7]")
    return name, shape, found


def _check_inside(name: str, old: tuple[float, float], new: Distribution) -> None:
    low, high = new.box
    slack = TOLERANCE * (old[1] - old[0])
    gaps = [(low, min(high, old[0]))] if low < old[0] - slack else []
    gaps += [(max(low, old[1]), high)] if high > old[1] + slack else []
    if gaps:
        lost = " and ".join(f"{start:g} to {end:g}" for start, end in gaps)
        raise UserError(
            f"--prior {name}: the new prior reaches from {low:g} to {high:g}, the run has draws from "
            f"{old[0]:g} to {old[1]:g} only: {lost} would be lost; give a prior within, or infer again under "
            "a wider one"
        )
