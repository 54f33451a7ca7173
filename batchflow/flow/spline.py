"""Monotone maps of the unit interval onto itself, with their inverses and derivatives.

`spline` is the rational-quadratic spline of Durkan et al. 2019 (arXiv:1906.04032, section 3.1;
Gregory & Delbourgo 1982); `affine` is a line in the logit. Maps are vectorised: each element of the
input has parameters of its own, along the last axis.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

SMALLEST_BIN = 1e-4
"""Least width and height of a bin: below, float32 no longer tells its edges apart."""
SMALLEST_SLOPE = 1e-4
"""Least derivative at a knot."""
UNIT_SLOPE = math.log(math.expm1(1 - SMALLEST_SLOPE))
"""softplus(UNIT_SLOPE) + SMALLEST_SLOPE = 1: raw parameters of zero give the identity."""
LARGEST_LOG_SCALE = 3.0
"""Bound on the log of the affine map's slope in the logit."""
EDGE = 1e-6
"""The affine map keeps this far from 0 and 1, where the logit ends."""


class Bins(NamedTuple):
    """The bin of each element: its lower corner, size and the slopes at both ends; tensors (...)."""

    left: Tensor
    width: Tensor
    bottom: Tensor
    height: Tensor
    slope_left: Tensor
    slope_right: Tensor


def parameter_count(kind: str, bins: int) -> int:
    """Number of raw parameters of one map.

    Parameters
    ----------
    kind : str
        ``"spline"`` or ``"affine"``.
    bins : int
        Bins of a spline.

    Returns
    -------
    int
        Length of the last axis that `transform` expects.
    """
    return 3 * bins + 1 if kind == "spline" else 2


def transform(kind: str, values: Tensor, raw: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Apply a map of the unit interval, or its inverse.

    Parameters
    ----------
    kind : str
        ``"spline"`` or ``"affine"``.
    values : Tensor, shape (...)
        Where, within [0, 1].
    raw : Tensor, shape (..., parameter_count)
        Unconstrained parameters; all zero is the identity.
    inverse : bool
        Whether to apply the inverse map.

    Returns
    -------
    tuple of Tensor, shape (...)
        The image, within [0, 1], and the log of the applied map's derivative.
    """
    if kind == "affine":
        return _affine(values, raw, inverse)
    return _spline(values, raw, inverse)


def _spline(values: Tensor, raw: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    found = _find_bins(values, raw, inverse)
    if inverse:
        return _inverse(values, found)
    return _forward(values, found)


def _find_bins(values: Tensor, raw: Tensor, inverse: bool) -> Bins:
    bins = (raw.shape[-1] - 1) // 3
    # Widths and heights side by side, shape (..., 2, bins): half the calls, which small batches feel.
    sizes = raw[..., : 2 * bins].unflatten(-1, (2, bins)).softmax(-1)
    sizes = SMALLEST_BIN + (1 - SMALLEST_BIN * bins) * sizes
    ends = sizes.cumsum(-1)
    searched = ends[..., 1 if inverse else 0, :-1]
    index = (values.unsqueeze(-1) >= searched).sum(-1, keepdim=True)
    both = index.unsqueeze(-2).expand(*index.shape[:-1], 2, 1)
    width, height = sizes.gather(-1, both).squeeze(-1).unbind(-1)
    right, top = ends.gather(-1, both).squeeze(-1).unbind(-1)
    slopes = raw[..., 2 * bins :].gather(-1, torch.cat((index, index + 1), -1))
    slopes = softplus(slopes + UNIT_SLOPE) + SMALLEST_SLOPE
    return Bins(right - width, width, top - height, height, *slopes.unbind(-1))


def _forward(values: Tensor, at: Bins) -> tuple[Tensor, Tensor]:
    place = ((values - at.left) / at.width).clamp(0, 1)
    rise, log_slope = _rise(place, at)
    return (at.bottom + at.height * rise).clamp(0, 1), log_slope


def _inverse(values: Tensor, at: Bins) -> tuple[Tensor, Tensor]:
    """Solve the quadratic of Durkan et al. 2019, equations 6-8, in its stable form."""
    mean = at.height / at.width
    level = ((values - at.bottom) / at.height).clamp(0, 1)
    bend = level * (at.slope_left + at.slope_right - 2 * mean)
    a = mean - at.slope_left + bend
    b = at.slope_left - bend
    c = -mean * level
    root = (b * b - 4 * a * c).clamp(min=0).sqrt()
    place = (2 * c / (-b - root)).clamp(0, 1)
    _, log_slope = _rise(place, at)
    return (at.left + at.width * place).clamp(0, 1), -log_slope


def _rise(place: Tensor, at: Bins) -> tuple[Tensor, Tensor]:
    """Share of the bin's height reached at a place in it, and the log slope there (eqs. 4, 5)."""
    mean = at.height / at.width
    rest = 1 - place
    mixed = place * rest
    below = mean + (at.slope_left + at.slope_right - 2 * mean) * mixed
    rise = (mean * place * place + at.slope_left * mixed) / below
    slope = at.slope_right * place * place + 2 * mean * mixed + at.slope_left * rest * rest
    return rise, slope.log() + 2 * (mean / below).log()


def _affine(values: Tensor, raw: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    log_scale = LARGEST_LOG_SCALE * (raw[..., 0] / LARGEST_LOG_SCALE).tanh()
    shift = raw[..., 1]
    start = values.clamp(EDGE, 1 - EDGE).logit()
    end = (start - shift) * (-log_scale).exp() if inverse else start * log_scale.exp() + shift
    image = end.sigmoid()
    log_slope = -log_scale if inverse else log_scale
    return image, log_slope + _log_logistic_slope(end) - _log_logistic_slope(start)


def _log_logistic_slope(place: Tensor) -> Tensor:
    """Log of the derivative of the logistic function."""
    return -(softplus(place) + softplus(-place))
