"""The mass coordinate: log_mass relative to the mass that the fluxes themselves ask for.

Given every other parameter, the model's colours are known and the mass follows from the fluxes by
linear least squares, with an error. The flow is left the standardised departure from that, which
hardly depends on anything. The real line is folded onto the unit interval by the distribution
function of Student's t with two degrees of freedom: its tails are heavier than any posterior's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

FARTHEST = 15.0
"""A draw is never put farther than this from the least-squares mass [dex]: float32 ends there. No
prior is so wide; beyond it, the density is not that of the draw."""


class MassFrame(NamedTuple):
    """Origin and unit of the mass coordinate; tensors (...)."""

    centre: Tensor
    """log10 of the least-squares mass formed [Msun], as seen at 10 pc."""
    width: Tensor
    """Its error [dex], about 0.4 where there is no signal."""


def mass_frame(log_flux: Tensor, flux: Tensor, weight: Tensor) -> MassFrame:
    """Least-squares mass of a model with given colours.

    Parameters
    ----------
    log_flux : Tensor, shape (..., n_bands)
        log10 flux density [mJy] of the model for 1 Msun formed at 10 pc.
    flux : Tensor, shape (..., n_bands)
        Observed flux densities in units of the brightness; 0 for limits.
    weight : Tensor, shape (..., n_bands)
        Inverse variances in the same units; 0 where not measured.

    Returns
    -------
    MassFrame
        For fluxes in units of the brightness: the caller adds its logarithm to the centre.
    """
    reference = log_flux.amax(-1, keepdim=True)
    model = 10.0 ** (log_flux - reference)
    weighted = weight * model
    signal = (weighted * flux).sum(-1).clip(min=0)
    norm = (weighted * model).sum(-1)
    # The positive root keeps the mass positive without a signal, and equals it with a strong one.
    amplitude = (signal + (signal * signal + 4 * norm).sqrt()) / (2 * norm)
    root = norm.sqrt()
    width = root / (signal + root) / math.log(10)
    return MassFrame(amplitude.log10() - reference.squeeze(-1), width)


def fold(place: Tensor) -> tuple[Tensor, Tensor]:
    """Distribution function of Student's t with two degrees of freedom, and its log density.

    Parameters
    ----------
    place : Tensor, shape (...)
        Anywhere on the real line.

    Returns
    -------
    tuple of Tensor, shape (...)
        A point of the unit interval, and the log of the derivative.
    """
    square = 2 + place * place
    tail = 1 / (square * (1 + place.abs() / square.sqrt()))
    return torch.where(place < 0, tail, 1 - tail), -1.5 * square.log()


def unfold(unit: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `fold`.

    Parameters
    ----------
    unit : Tensor, shape (...)
        Points of the unit interval.

    Returns
    -------
    tuple of Tensor, shape (...)
        A point of the real line, finite at the ends too, and the log of the derivative of `fold` there.
    """
    both = (2 * unit * (1 - unit)).clamp(min=1e-12)
    return (2 * unit - 1) / both.sqrt(), 1.5 * both.log()
