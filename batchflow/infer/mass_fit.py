"""The mass given every other parameter: its peak, its width, and the plateau of masses too small to see.

The likelihood of the log mass has one peak where there is a signal, and is constant towards masses whose
light is lost in the noise. A truncated logistic distribution and a flat one stand for both.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from batchflow.flow.mass import positive_amplitude
from batchflow.infer.likelihood import Photometry, log_likelihood

STEPS = 4
"""Of Newton's, from the least-squares mass."""
STEPS_IN_CELL = 2
"""The same where the likelihood is a cell's: draws are weighted afterwards."""
FARTHEST_STEP = 1.0
"""Longest step [ln mass]: what has no peak shall not run away."""
WIDEST = 1.0
"""Largest standard deviation of the peak [ln mass]; what is wider is the plateau's."""
LEAST_SHARE = 0.01
"""Of the plateau in what is drawn: no mass of the range is left out."""
STEEPEST = 3.0
"""Change of the log likelihood over a cell that counts as one standard deviation of length."""
LOGISTIC = 0.6
"""Scale of the logistic distribution over the standard deviation of the normal one it stands for."""


class Range(NamedTuple):
    """Masses that are allowed, as seen at 10 pc; tensors (n,) [ln Msun]."""

    low: Tensor
    high: Tensor


class MassFit(NamedTuple):
    """Posterior of ln mass given the other parameters, under a flat prior; tensors (n,)."""

    centre: Tensor
    """Of the peak [ln Msun], as seen at 10 pc."""
    width: Tensor
    """Standard deviation of the peak [ln Msun]."""
    log_peak: Tensor
    """Ln of the integral over the peak."""
    log_plateau: Tensor
    """Ln of the integral over the plateau."""
    lengths: Tensor
    """Of the cell along each axis, in standard deviations, or what its change of likelihood makes of that;
    (n, n_axes), without axes at a point."""
    follow: Tensor
    """Change of the centre [ln Msun] from face to face of the cell along each axis; (n, n_axes)."""

    def rows(self, index: Tensor) -> MassFit:
        """Some of the models."""
        return MassFit(*(column[index] for column in self))


class Slopes(NamedTuple):
    """How the log flux varies within a cell; tensors (n, n_bands)."""

    along: tuple[Tensor, ...]
    """From face to face, along each axis."""
    bend: Tensor
    """Variance of what is left."""


def fit_mass(
    photometry: Photometry, log_flux: Tensor, limits: Range, slopes: Slopes | None = None
) -> MassFit:
    """Fit the mass of models with given colours.

    Parameters
    ----------
    photometry : Photometry
        One row a model: n of them.
    log_flux : Tensor, shape (n, n_bands)
        Natural logarithm of the flux density [mJy] of 1 Msun formed at 10 pc.
    limits : Range
        Of the masses.
    slopes : Slopes, optional
        Average the likelihood over a cell, to first order, instead of taking it at a point.

    Returns
    -------
    MassFit
        Of each model.
    """
    mass = _least_squares(photometry, log_flux)
    loose = _looseness(slopes, log_flux)
    for _ in range(STEPS if slopes is None else STEPS_IN_CELL):
        found = _derivatives(photometry, log_flux + mass[:, None], loose)
        step = found.score.sum(-1) / torch.maximum(found.observed, found.expected)
        mass = mass + step.clamp(-FARTHEST_STEP, FARTHEST_STEP)
    mass = torch.minimum(torch.maximum(mass, limits.low), limits.high)
    return _integrate(photometry, log_flux, mass, limits, slopes)


def rough_height(photometry: Photometry, log_flux: Tensor, slopes: Slopes) -> Tensor:
    """Ln likelihood of cells at their least-squares mass, roughly, (n,); arguments as of `fit_mass`.

    Every band's variance holds what the flux varies by within the cell; bands are taken one by one.
    """
    model = (log_flux + _least_squares(photometry, log_flux)[:, None]).exp()
    loose = _looseness(slopes, log_flux) * model * model
    variance = photometry.terms.variance(model) + loose
    residual = photometry.seen.flux - model
    return -0.5 * torch.where(photometry.detected, residual.square() / variance, 0.0).sum(-1)


def draw_mass(fit: MassFit, limits: Range, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a mass for each model.

    Parameters
    ----------
    fit : MassFit
        Of n models.
    limits : Range
        Of the masses.
    uniform : Tensor, shape (n,)
        Uniform random numbers.

    Returns
    -------
    tuple of Tensor, shape (n,)
        Ln mass [ln Msun], and the natural logarithm of the density that it was drawn from.
    """
    share = sigmoid(fit.log_plateau - fit.log_peak).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    scale = LOGISTIC * fit.width
    top = torch.minimum(limits.high, fit.centre + 2 * fit.width)
    below, above = (sigmoid((edge - fit.centre) / scale) for edge in limits)
    flat = limits.low + (top - limits.low) * uniform / share
    place = below + (above - below) * ((uniform - share) / (1 - share)).clamp(1e-7, 1 - 1e-7)
    peaked = fit.centre + scale * torch.logit(place.clamp(1e-7, 1 - 1e-7))
    mass = torch.where(uniform < share, flat, torch.minimum(torch.maximum(peaked, limits.low), limits.high))
    away = (mass - fit.centre) / scale
    slope = torch.nn.functional.logsigmoid(away) + torch.nn.functional.logsigmoid(-away)
    peak = (1 - share).log() + slope - scale.log() - (above - below).clamp(min=1e-12).log()
    plateau = torch.where(mass <= top, share.log() - (top - limits.low).clamp(min=1e-6).log(), -torch.inf)
    return mass, logaddexp(peak, plateau)


def sigmoid(values: Tensor) -> Tensor:
    """The logistic function, of each element by itself.

    torch's own, and its logaddexp, compute what is left over at the end of an array in another way than the
    rest: the last digits of a cluster's posterior would depend on how many neighbours it has.
    """
    return 1 / (1 + (-values).exp())


def logaddexp(one: Tensor, other: Tensor) -> Tensor:
    """Logarithm of the sum of exponentials, of each element by itself (see `sigmoid`)."""
    top, low = torch.maximum(one, other), torch.minimum(one, other)
    return top + torch.where(top == low, 0.0, low - top).exp().log1p()


def _least_squares(photometry: Photometry, log_flux: Tensor) -> Tensor:
    """Of fluxes whose variance is that at the observed flux; finite without a signal too."""
    seen = photometry.seen
    flux = torch.where(photometry.detected, seen.flux, 0.0)
    weight = torch.where(seen.measured, 1 / photometry.terms.variance(flux.clamp(min=0)), 0.0)
    reference = log_flux.amax(-1, keepdim=True)
    model = (log_flux - reference).exp()
    return positive_amplitude(weight * model, model, flux).log() - reference.squeeze(-1)


def _looseness(slopes: Slopes | None, like: Tensor) -> Tensor | float:
    """Variance of the log flux within a cell, band by band."""
    if slopes is None:
        return 0.0
    total = slopes.bend.clone()
    for slope in slopes.along:
        total.add_(slope.square(), alpha=1 / 12)
    return total


class _Derivatives(NamedTuple):
    """Of the log likelihood."""

    score: Tensor
    """First derivative in the ln flux of each band, (n, n_bands)."""
    expected: Tensor
    """Expected information on ln mass, (n,)."""
    observed: Tensor
    """Less the second derivative in ln mass, (n,): what counts where the model fits badly."""
    pull: Tensor
    """Part of the score that is the residuals', not the variances'; (n,)."""


def _derivatives(photometry: Photometry, log_model: Tensor, loose: Tensor | float) -> _Derivatives:
    model = log_model.exp()
    fractional = (photometry.terms.fractional + loose) * model * model
    photon = photometry.terms.photon * model
    variance = photometry.terms.background + photon + fractional
    residual = photometry.seen.flux - model
    first, second = (photon + 2 * fractional) / variance, (photon + 4 * fractional) / variance
    square, cross = residual * residual / variance, residual * model / variance
    score = cross + 0.5 * first * (square - 1)
    expected = model * model / variance + 0.5 * first * first
    observed = model * model / variance + cross * (2 * first - 1)
    observed = observed + first * first * (square - 0.5) + 0.5 * second * (1 - square)
    used = photometry.detected
    if bool(photometry.limited.any()):
        below = residual / variance.sqrt()
        hazard = (-0.5 * below * below - 0.5 * math.log(2 * math.pi) - torch.special.log_ndtr(below)).exp()
        rate = -model / variance.sqrt() - 0.5 * below * first
        limit, one = photometry.limited, hazard * (hazard + below) * rate * rate
        score = torch.where(limit, hazard * rate, score)
        expected, observed = (torch.where(limit, one, part) for part in (expected, observed))
        used = photometry.seen.measured
    score, expected, observed = (torch.where(used, part, 0.0) for part in (score, expected, observed))
    pull = torch.where(photometry.detected, cross, 0.0).sum(-1)
    return _Derivatives(score, expected.sum(-1).clamp(min=1 / WIDEST**2), observed.sum(-1), pull)


def _integrate(
    photometry: Photometry, log_flux: Tensor, mass: Tensor, limits: Range, slopes: Slopes | None
) -> MassFit:
    log_model = log_flux + mass[:, None]
    found = _derivatives(photometry, log_model, _looseness(slopes, log_flux))
    # Over a cell, residuals are the cell's: only a point's tell how sharp the peak is.
    sharp = torch.maximum(found.observed, found.expected / 4)
    information = sharp if slopes is None else found.expected
    # Beyond an edge of the range, the likelihood falls off from the edge as its slope there says.
    width = 1 / (information.sqrt() + found.score.sum(-1).abs())
    away = ((edge - mass) / (LOGISTIC * width) for edge in limits)
    below, above = (sigmoid(place) for place in away)
    whole = (width * math.sqrt(2 * math.pi) * (above - below).clamp(min=1e-9)).log()
    lowest = log_likelihood(photometry, (log_flux + limits.low[:, None])[:, None])[:, 0]
    plateau = lowest + (mass - 2 * width - limits.low).clamp(min=1e-9).log()
    if slopes is None:
        height = log_likelihood(photometry, log_model[:, None])[:, 0]
        none = width.new_zeros(len(width), 0)
        return MassFit(mass, width, height + whole, plateau, none, none)
    height, lengths, follow = _cell_average(photometry, log_model, slopes, found.pull)
    steps = torch.stack([(found.score * slope).sum(-1).abs() for slope in slopes.along], -1)
    lengths = torch.maximum(lengths, steps / STEEPEST)
    return MassFit(mass, width, height + whole, plateau, lengths, follow)


def _cell_average(
    photometry: Photometry, log_model: Tensor, slopes: Slopes, pull: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log likelihood averaged over a cell, to first order, the mass following; lengths; how it follows."""
    model, seen = log_model.exp(), photometry.detected
    variance = photometry.terms.variance(model) + slopes.bend * model * model
    sigma = variance.sqrt()
    residual = photometry.seen.flux - model
    white, light = (torch.where(seen, part / sigma, 0.0) for part in (residual, model))
    volume = torch.where(seen, variance.log() + math.log(2 * math.pi), 0.0).sum(-1)
    columns = [slope * light for slope in slopes.along]
    lengths = _lengths(columns, light)
    norm = light.square().sum(-1).clamp(min=1e-20)
    follow = torch.stack([-(column * light).sum(-1) / norm for column in columns], -1)
    # The mass follows within the cell; but at its best, variances that grow with it balance some pull.
    white = white - ((light * white).sum(-1) / norm)[:, None] * light
    columns = [column / math.sqrt(12) for column in columns]
    for place, column in enumerate(columns):
        # (I + g g')^-1/2 applied to all that follows: the cell's extent, one axis after another.
        square = column.square().sum(-1)
        volume = volume + square.log1p()
        factor = ((1 - (1 + square).rsqrt()) / square.clamp(min=1e-20))[:, None] * column
        white, light, *rest = (
            other - factor * (column * other).sum(-1, keepdim=True)
            for other in (white, light, *columns[place + 1 :])
        )
        columns[place + 1 :] = rest
    left = light.square().sum(-1).clamp(min=1e-20)
    square = white.square().sum(-1) - (light * white).sum(-1).square() / left + pull.square() / norm
    total = -0.5 * (volume + square + (left / norm).log())
    return total + _below_limits(photometry, residual, sigma), lengths, follow


def _lengths(columns: list[Tensor], light: Tensor) -> Tensor:
    """Of a cell along each axis, in standard deviations of what the colours tell, (n, n_axes)."""
    norm = light.square().sum(-1).clamp(min=1e-20)
    squares = [
        (column.square().sum(-1) - (column * light).sum(-1).square() / norm).clamp(min=0)
        for column in columns
    ]
    return torch.stack(squares, -1).sqrt()


def _below_limits(photometry: Photometry, residual: Tensor, sigma: Tensor) -> Tensor | float:
    if not bool(photometry.limited.any()):
        return 0.0
    return torch.where(photometry.limited, torch.special.log_ndtr(residual / sigma), 0.0).sum(-1)
