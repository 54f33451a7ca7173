"""Nodes of the flux table's axes, set as densely as linear interpolation needs them in the bands at hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from batchflow.physics.synthesis import Synthesis

Floats = NDArray[np.float64]

TOLERANCE = 1.5e-3
"""Error in the middle between two nodes that is let pass [mag]."""
MOST = 129
"""Nodes at most: what needs more is not smooth."""
THICKEST = 2.0
"""E(B-V) [mag] at which the error is looked at: there it is largest."""
MAGNITUDE = 2.5 / np.log(10.0)


def refine(function: Callable[[float], Floats], limits: tuple[float, float], tolerance: float) -> Floats:
    """Halve intervals until linear interpolation is near enough in the middle of each.

    Parameters
    ----------
    function : callable
        From the axis' coordinate to an array of values.
    limits : tuple of float
        Ends of the axis.
    tolerance : float
        Largest error of any value that is let pass.

    Returns
    -------
    ndarray, shape (n_nodes,)
        Increasing, the ends among them, `MOST` at most.
    """
    known = {end: function(end) for end in limits}
    segments = [limits]
    while segments and len(known) < MOST:
        left, right = segments.pop(0)
        middle = 0.5 * (left + right)
        value = function(middle)
        if np.abs(0.5 * (known[left] + known[right]) - value).max() > tolerance:
            known[middle] = value
            segments += [(left, middle), (middle, right)]
    return np.array(sorted(known))


def rv_nodes(synthesis: Synthesis, places: NDArray[np.intp], limits: tuple[float, float]) -> Floats:
    """Nodes of R(V).

    Parameters
    ----------
    synthesis : Synthesis
        The bands' fluxes.
    places : ndarray of int
        Metallicities that are used, by their place in the library.
    limits : tuple of float
        Lowest and highest R(V).

    Returns
    -------
    ndarray, shape (n_nodes,)
        Such that magnitudes of stars behind the thickest screen err by less than `TOLERANCE`.
    """
    ends, screen = np.unique(places[[0, -1]]), np.array([THICKEST])

    def magnitudes(rv: float) -> Floats:
        return MAGNITUDE * synthesis.log_flux(ends, screen, rv, np.zeros(1))

    return refine(magnitudes, limits, TOLERANCE)
