"""A conditional normalizing flow on the unit cube, made of one-dimensional couplings.

Each coupling maps one coordinate of the cube onto itself, monotonically, by a map whose parameters
follow from the other coordinates and the context. The base is uniform on the cube, so whatever is
drawn lies within the prior's box. The context's part of every coupling is computed once an object.

Why not a library's flow: zuko's neural spline coupling flow (1.6, of like size) in this module's place takes
1.4 times as long for a row of training and 7 times for a draw, for it sends the context through every layer
once a draw (two cores, quiet; ``tests/benchmarks/bench_peers.py``).
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, relu_

from batchflow.flow.spline import parameter_count, transform
from batchflow.settings.train import FlowSettings

FREQUENCIES = 3
"""Octaves of sine and cosine that a coordinate is shown in to the couplings of the others."""
CONTEXT_WIDTH = 64
"""Numbers that carry an object's photometry from the encoder to the couplings: half the encoder's usual
width loses nothing and saves a quarter of the arithmetic."""
SMALL_START = 0.1
"""Share of the usual initial weights in a coupling's last layer: the flow starts near the identity."""


def coupling_order(couplings: int, n_parameters: int) -> list[int]:
    """Coordinates in the order they are moved, towards the base.

    The first coordinate (the mass, which the fluxes settle given the others) needs one coupling; the
    others take turns at the rest.

    Parameters
    ----------
    couplings : int
        Couplings asked for; there is at least one for each coordinate.
    n_parameters : int
        Coordinates.

    Returns
    -------
    list of int
        For 6 and 3: 0, 1, 2, 1, 2, 1.
    """
    others = max(1, n_parameters - 1)
    turns = max(couplings, n_parameters) - 1
    return [0, *((1 + turn % others) % n_parameters for turn in range(turns))]


class ConditionalFlow(nn.Module):
    """Density of the unit cube given features, to be evaluated and drawn from alike."""

    def __init__(self, n_features: int, n_parameters: int, settings: FlowSettings) -> None:
        super().__init__()
        self.settings = settings
        self.n_features, self.n_parameters = n_features, n_parameters
        width = settings.hidden
        widths = [n_features] + [width] * settings.encoder_layers
        self.encoder = nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))
        order = coupling_order(settings.couplings, n_parameters)
        self.couplings = nn.ModuleList(Coupling(moved, n_parameters, settings) for moved in order)
        self.context = nn.Sequential(
            nn.Linear(width, CONTEXT_WIDTH), nn.Linear(CONTEXT_WIDTH, width * len(order))
        )

    def encode(self, features: Tensor) -> Tensor:
        """What the couplings need to know of each object.

        Parameters
        ----------
        features : Tensor, shape (n_clusters, n_features)
            Standardised features.

        Returns
        -------
        Tensor, shape (n_clusters, couplings, hidden)
            The context.
        """
        hidden = features
        for place, layer in enumerate(self.encoder):
            update = relu(layer(hidden))
            hidden = hidden + update if place else update
        context: Tensor = self.context(hidden)
        return context.unflatten(-1, (len(self.couplings), -1))

    def log_prob(self, unit: Tensor, context: Tensor) -> Tensor:
        """Log density at points of the cube.

        Parameters
        ----------
        unit : Tensor, shape (..., n_parameters)
            Points within the cube.
        context : Tensor, shape (..., couplings, hidden)
            As `encode` gives it; leading axes are broadcast.

        Returns
        -------
        Tensor, shape (...)
            Log density [nat].
        """
        columns = list(unit.unbind(-1))
        parts = [
            coupling(columns, own, inverse=False)
            for coupling, own in zip(self.couplings, context.unbind(-2), strict=True)
        ]
        return _total(parts)

    def loss(self, unit: Tensor, seen: Tensor, offset: Tensor) -> Tensor:
        """Sum of the negative log densities of a `density.Batch` [nat]."""
        return -(self.log_prob(unit, self.encode(seen)) + offset).sum()

    def transport(self, base: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uniform random numbers into draws, with their log density at no further cost.

        Parameters
        ----------
        base : Tensor, shape (n_clusters, n_draws, n_parameters)
            Uniform on the cube.
        context : Tensor, shape (n_clusters, couplings, hidden)
            As `encode` gives it.

        Returns
        -------
        tuple of Tensor, shapes (n_clusters, n_draws, n_parameters) and (n_clusters, n_draws)
            Points of the cube and their log density [nat].
        """
        columns = list(base.unbind(-1))
        own = context.unsqueeze(1).unbind(-2)
        parts = [
            self.couplings[place](columns, own[place], inverse=True)
            for place in reversed(range(len(self.couplings)))
        ]
        return torch.stack(columns, -1), -_total(parts)


class Coupling(nn.Module):
    """Maps one coordinate given the others and the context."""

    def __init__(self, moved: int, n_parameters: int, settings: FlowSettings) -> None:
        super().__init__()
        self.kind = settings.kind
        self.moved = moved
        seen = (n_parameters - 1) * (1 + 2 * FREQUENCIES)
        self.others = nn.Linear(seen, settings.hidden, bias=False) if seen else None
        self.raw = nn.Linear(settings.hidden, parameter_count(settings.kind, settings.bins))
        with torch.no_grad():
            self.raw.weight *= SMALL_START
            self.raw.bias.zero_()

    def forward(self, columns: list[Tensor], context: Tensor, inverse: bool) -> Tensor:
        """Move this coupling's coordinate in place of the old one.

        Parameters
        ----------
        columns : list of Tensor, shape (...)
            Coordinates; the one that moves is replaced.
        context : Tensor, shape (..., hidden)
            This coupling's part of the context.
        inverse : bool
            From the base to the parameters, instead of towards the base.

        Returns
        -------
        Tensor, shape (...)
            Log of the derivative.
        """
        others = [column for place, column in enumerate(columns) if place != self.moved]
        hidden = context if self.others is None else self.others(_embed(others)).add_(context)
        raw = self.raw(relu_(hidden) if self.others else relu(hidden)).expand(*columns[self.moved].shape, -1)
        columns[self.moved], log_slope = transform(self.kind, columns[self.moved], raw, inverse)
        return log_slope


def _total(parts: list[Tensor]) -> Tensor:
    """Sum, in the order given: `torch.sum` has another order at the end of an array."""
    return reduce(torch.add, parts)


def _embed(columns: list[Tensor]) -> Tensor:
    """Show coordinates at several scales, shape (..., n_columns * (1 + 2 FREQUENCIES))."""
    place = torch.stack(columns, -1)
    waves = [math.pi * 2**octave * place for octave in range(FREQUENCIES)]
    return torch.cat([2 * place - 1, *map(torch.sin, waves), *map(torch.cos, waves)], -1)
