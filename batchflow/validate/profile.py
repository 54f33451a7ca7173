"""The likelihood at published parameters: the best that a box around them can do, all else left free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchflow.infer.likelihood import Photometry, chi_square, log_likelihood
from batchflow.infer.mass_fit import Range, fit_mass
from batchflow.physics.torch_table import TorchFluxTable

Floats = NDArray[np.float64]
LN10 = math.log(10.0)
STEPS = (0.1, 0.05, 0.02, 0.01, 0.005)
"""Reach of each round of the search about the best point yet, over the box."""
POINTS, POINTS_A_ROUND = 64, 32


class Box(NamedTuple):
    """Where parameters may lie; those but the mass in the table's order."""

    low: Floats
    """(n_clusters, n_axes)."""
    high: Floats
    """(n_clusters, n_axes)."""
    log_mass: tuple[Floats, Floats]
    """Edges of the log10 mass as seen at 10 pc, (n_clusters,) each."""


class Best(NamedTuple):
    """The most likely point of a box."""

    log_likelihood: Floats
    """(n_clusters,)."""
    chi2: Floats
    """At that point, over detected bands, (n_clusters,)."""
    axes: Floats
    """Parameters but the mass, (n_clusters, n_axes)."""
    log_mass: Floats
    """log10 of the mass as seen at 10 pc, (n_clusters,)."""


def best_in_box(table: TorchFluxTable, photometry: Photometry, box: Box, starts: Floats) -> Best:
    """Find the most likely point of a box.

    Parameters
    ----------
    table : TorchFluxTable
        The exact model, every parameter an axis.
    photometry : Photometry
        Of n_clusters clusters.
    box : Box
        Theirs.
    starts : ndarray, shape (n_clusters, n_starts, n_axes)
        Points to look at first, besides evenly spread ones; NaN where there is none.

    Returns
    -------
    Best
        The mass is fitted to each point; others are searched ever nearer to the best point yet.
    """
    size = (box.high - box.low)[:, None]
    unit = torch.quasirandom.SobolEngine(size.shape[-1]).draw(POINTS).numpy().astype(np.float64)
    middle = 0.5 * (box.low + box.high)[:, None]
    given = np.where(np.isfinite(starts), starts, middle)
    best = _look(
        table, photometry, box, np.concatenate([box.low[:, None] + size * unit, middle, given], axis=1)
    )
    around = 2 * unit[:POINTS_A_ROUND] - 1
    for reach in STEPS:
        points = best.axes[:, None] + reach * size * around
        found = _look(table, photometry, box, np.concatenate([points, best.axes[:, None]], axis=1))
        best = _better(found, best)
    return best


def _better(one: Best, other: Best) -> Best:
    """The more likely of two points of each cluster."""
    chosen = one.log_likelihood > other.log_likelihood
    pairs = zip(one, other, strict=True)
    return Best(*(np.where(chosen if a.ndim == 1 else chosen[:, None], a, b) for a, b in pairs))


def _look(table: TorchFluxTable, photometry: Photometry, box: Box, points: Floats) -> Best:
    """The best of some points, (n_clusters, n_points, n_axes), brought into the box."""
    inside = np.clip(points, box.low[:, None], box.high[:, None])
    n, m, _ = inside.shape
    device = table.log_flux.device
    flat = torch.as_tensor(inside.reshape(n * m, -1), dtype=torch.float32, device=device)
    log_flux = table({name: flat[:, i] for i, name in enumerate(table.parameters)})
    owner = torch.arange(n, device=device).repeat_interleave(m)
    edges = [torch.as_tensor(edge * LN10, dtype=torch.float32, device=device) for edge in box.log_mass]
    limits = Range(*(edge[owner] for edge in edges))
    mass = fit_mass(photometry.rows(owner), log_flux, limits).centre
    log_model = (log_flux + mass[:, None]).reshape(n, m, -1)
    found = log_likelihood(photometry, log_model)
    place = found.nan_to_num(-torch.inf).argmax(1, keepdim=True)
    chi2 = chi_square(photometry, log_model).gather(1, place)[:, 0]
    chosen = place[:, 0].cpu().numpy()
    own = mass.reshape(n, m).gather(1, place)[:, 0] / LN10
    axes = inside[np.arange(n), chosen]
    return Best(_numpy(found.gather(1, place)[:, 0]), _numpy(chi2), axes, _numpy(own))


def _numpy(tensor: Tensor) -> Floats:
    return tensor.detach().cpu().numpy().astype(np.float64)


def box_around(
    edges: Mapping[str, tuple[float, float]], published: Mapping[str, Floats], half: Mapping[str, float]
) -> tuple[Floats, Floats]:
    """Box of every axis: about the published value, or the whole prior where none is.

    Parameters
    ----------
    edges : mapping of str to tuple
        The prior's edges, in the order of the axes.
    published : mapping of str to ndarray, shape (n_clusters,)
        NaN where not published.
    half : mapping of str to float
        Half a step of the published fit's grid.

    Returns
    -------
    tuple of ndarray, shape (n_clusters, n_axes)
        Lower and upper edges; a value outside the prior is taken at the prior's edge.
    """
    low, high = [], []
    n = len(next(iter(published.values())))
    for name, (least, most) in edges.items():
        value = published.get(name, np.full(n, np.nan))
        known = np.isfinite(value)
        step = half.get(name, 0.0)
        low.append(np.where(known, np.clip(value - step, least, most), least))
        high.append(np.where(known, np.clip(value + step, least, most), most))
    return np.stack(low, axis=1), np.stack(high, axis=1)
