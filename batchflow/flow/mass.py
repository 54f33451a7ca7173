"""The mass coordinate: log_mass relative to the mass that the fluxes themselves ask for.

Given every other parameter, the model's colours are known and the mass follows from the fluxes, with an
error: by linear least squares, then a step towards the greatest likelihood, whose variances are those at the
model's fluxes. The flow is left the standardised departure from that, which hardly depends on anything.
The real line is folded onto the unit interval by the distribution function of Student's t with two degrees
of freedom: its tails are heavier than any posterior's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

FARTHEST = 15.0
"""A draw is never put farther than this from the centre [dex]: float32 ends there. No
prior is so wide; beyond it, the density is not that of the draw."""
LONGEST_STEP = 1.0
"""From the least-squares mass to that of the greatest likelihood [ln mass], where the model does not fit."""


class Scaled(NamedTuple):
    """Photometry in units of its brightness; tensors (..., n_bands)."""

    flux: Tensor
    """Observed; 0 for limits."""
    random: Tensor
    """Part of its variance that depends on no model; infinite where not measured."""
    fractional: Tensor
    """The other part over the model's flux squared."""

    @property
    def variance(self) -> Tensor:
        """Variance where the model's flux is the observed one, or none if that is negative."""
        return self.random + self.fractional * self.flux.clamp(min=0).square()


class MassFrame(NamedTuple):
    """Origin and unit of the mass coordinate; tensors (...)."""

    centre: Tensor
    """log10 of the mass formed that fits best [Msun], as seen at 10 pc."""
    width: Tensor
    """Its error [dex], about 0.4 where there is no signal."""


def mass_frame(log_flux: Tensor, seen: Scaled) -> MassFrame:
    """Mass of a model with given colours, and its error.

    Parameters
    ----------
    log_flux : Tensor, shape (..., n_bands)
        log10 flux density [mJy] of the model for 1 Msun formed at 10 pc.
    seen : Scaled
        What was observed.

    Returns
    -------
    MassFrame
        For fluxes in units of the brightness: the caller adds its logarithm to the centre.
    """
    reference = log_flux.amax(-1, keepdim=True)
    colours = 10.0 ** (log_flux - reference)
    amplitude = positive_amplitude(colours / seen.variance, colours, seen.flux).unsqueeze(-1)
    model = amplitude * colours
    follows = seen.fractional * model * model
    variance = seen.random + follows
    residual = seen.flux - model
    growth = 2 * follows / variance
    # Derivatives in ln mass (Fisher's scoring); one more keeps the mass finite without a signal.
    score = residual * model / variance + 0.5 * growth * (residual * residual / variance - 1)
    information = (model * model / variance + 0.5 * growth * growth).sum(-1)
    step = ((1 + score.sum(-1)) / (1 + information)).clamp(-LONGEST_STEP, LONGEST_STEP)
    centre = (amplitude.log10() - reference).squeeze(-1) + step / math.log(10)
    return MassFrame(centre, information.rsqrt() / math.log(10))


def positive_amplitude(weighted: Tensor, colours: Tensor, flux: Tensor) -> Tensor:
    """Brightness of a model by linear least squares.

    The positive root keeps the mass positive without a signal, and equals it with a strong one.

    Parameters
    ----------
    weighted : Tensor, shape (..., n_bands)
        The model's flux densities over the variances of the observed.
    colours : Tensor, shape (..., n_bands)
        The model's flux densities.
    flux : Tensor, shape (..., n_bands)
        The observed.

    Returns
    -------
    Tensor, shape (...)
        Factor on the model.
    """
    signal = (weighted * flux).sum(-1).clamp(min=0)
    norm = (weighted * colours).sum(-1)
    return (signal + (signal * signal + 4 * norm).sqrt()) / (2 * norm)


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
