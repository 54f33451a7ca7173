"""The regular grid of the classical fit: its nodes, its fluxes, and whether it fits into memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.physics.table import FluxTable
from batchflow.settings.fit import FitSettings
from batchflow.settings.prior import PriorSettings

Floats = NDArray[np.float64]
FEWEST = 5
"""Nodes along an axis for which the model has only its ends (the covering fraction)."""
MAX_BYTES = 2 * 2**30
"""Memory that a worker may need for the grid."""
BYTES_PER_VALUE = 8
COPIES = 10
"""Values of each model and band: fluxes, squares, and what a cluster that no model is excluded for needs."""


class Models(NamedTuple):
    """All models of the grid, for 1 Msun formed at 10 pc."""

    values: dict[str, Floats]
    """Each parameter of each model, (n_models,); without the mass."""
    fluxes: Floats
    """Flux densities [mJy], (n_models, n_bands)."""


def grid_nodes(fit: FitSettings, prior: PriorSettings, own: Mapping[str, Floats]) -> dict[str, Floats]:
    """Nodes of each parameter of the engine.

    Parameters
    ----------
    fit : FitSettings
        Nodes or steps of some parameters.
    prior : PriorSettings
        Of every parameter.
    own : mapping of str to ndarray
        Nodes of the flux table's axes, in order.

    Returns
    -------
    dict of str to ndarray
        In the order of `own`: the nodes given; else steps from edge to edge of the prior; else the listed
        values of a `choice`; else the table's nodes within the prior, and the prior's edges.

    Raises
    ------
    UserError
        When nodes are given of a parameter that the model does not vary, or lie outside the model's range.
    """
    if strangers := [name for name in fit.nodes if name not in own]:
        raise UserError(
            f"fit.nodes.{strangers[0]}: this model does not vary {strangers[0]}; expected {', '.join(own)}"
        )
    found = {name: _axis(name, fit, prior, nodes) for name, nodes in own.items()}
    for name, nodes in found.items():
        low, high = own[name][0], own[name][-1]
        if nodes[0] < low - 1e-6 or nodes[-1] > high + 1e-6:
            raise UserError(
                f"fit.nodes.{name} = [{nodes[0]:.6g} ... {nodes[-1]:.6g}] goes beyond what the model has, "
                f"[{low:.6g}, {high:.6g}]"
            )
    return {name: nodes.clip(own[name][0], own[name][-1]) for name, nodes in found.items()}


def _axis(name: str, fit: FitSettings, prior: PriorSettings, own: Floats) -> Floats:
    if name in fit.nodes:
        return np.array(fit.nodes[name])
    shape = prior.distributions()[name]
    low, high = shape.box
    if name in fit.steps:
        return np.linspace(low, high, max(2, round((high - low) / fit.steps[name]) + 1))
    if shape.choice is not None:
        return np.sort(np.array(shape.choice))
    if own.size == 2:
        return np.linspace(low, high, FEWEST)
    return np.concatenate([[low], own[(own > low + 1e-6) & (own < high - 1e-6)], [high]])


def check_size(nodes: Mapping[str, Floats], n_bands: int) -> int:
    """Number of models of a grid, if it fits into memory.

    Parameters
    ----------
    nodes : mapping of str to ndarray
        From `grid_nodes`.
    n_bands : int
        Bands of the model.

    Returns
    -------
    int
        Models.

    Raises
    ------
    UserError
        When a worker would need more than `MAX_BYTES` for them.
    """
    n = math.prod(axis.size for axis in nodes.values())
    need = BYTES_PER_VALUE * n * (COPIES * n_bands + len(nodes) + COPIES)
    if need <= MAX_BYTES:
        return n
    sizes = " x ".join(f"{axis.size} {name}" for name, axis in nodes.items())
    raise UserError(
        f"[fit]: a grid of {n:,} models ({sizes}) takes {need / 2**30:.1f} GiB a worker; expected "
        f"{MAX_BYTES / 2**30:g} GiB at most: give fewer values in fit.nodes or larger fit.steps"
    )


def make_models(nodes: Mapping[str, Floats], table: FluxTable) -> Models:
    """Fluxes of all models.

    Parameters
    ----------
    nodes : mapping of str to ndarray
        Of every axis of the table.
    table : FluxTable
        What the likelihood of the posterior is computed from, too.

    Returns
    -------
    Models
        The last parameter varies fastest.
    """
    mesh = np.meshgrid(*(nodes[name] for name in table.parameters), indexing="ij")
    values = {name: axis.ravel() for name, axis in zip(table.parameters, mesh, strict=True)}
    return Models(values, table.fluxes(values))
