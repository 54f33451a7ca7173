"""The flux table that CIGALE computes: its nodes, pieces of it for workers, and how well it interpolates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError
from batchflow.physics.cigale_engine import CigaleEngine
from batchflow.physics.cigale_steps import Steps
from batchflow.physics.engine import open_engine
from batchflow.physics.table import Flagging, FluxTable
from batchflow.settings.model import ModelSettings

Floats = NDArray[np.float64]
DEFAULT_NODES = {"log_age": 1500, "ebv": 51}
"""Nodes of a parameter that ``[model.cigale.nodes]`` does not name; others have `OTHER_NODES`. A grid
of fewer ages is taken whole. Whole Myr need so many because CIGALE interpolates fluxes linearly between
the ages of its library, with a kink at each: 1000 nodes err by 0.0022 mag with pcigale 0.9.0."""
OTHER_NODES = 21
MAX_ERROR = 0.002
"""Largest interpolation error that is let pass [mag]."""


@dataclass(frozen=True)
class TableEngine(Flagging):
    """A flux table that was computed before, as an engine: needs no CIGALE."""

    saved: FluxTable

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self.saved.bands

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self.saved.parameters

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter."""
        return self.saved.limits

    def fluxes(self, parameters: Mapping[str, ArrayLike]) -> Floats:
        """Flux densities [mJy] at 10 pc for 1 Msun formed, shape (n, n_bands)."""
        return self.saved.fluxes(parameters)

    def realise(
        self, parameters: dict[str, NDArray[np.float32]], boxes: Mapping[str, tuple[float, float]]
    ) -> dict[str, NDArray[np.float32]]:
        """Keep the parameters but those of which CIGALE has a few values: these go to the nearest."""
        realised = dict(parameters)
        for name in self.saved.notes.get("steps", ()):
            axis = self.saved.nodes[self.parameters.index(name)]
            inside = Steps(axis, tuple(axis)).within(*boxes.get(name, self.limits[name]))
            realised[name] = inside.snap(name, parameters[name])
        return realised

    def table(self) -> FluxTable:
        """The table."""
        return self.saved

    def describe(self) -> dict[str, Any]:
        """What computed the table, and how well it interpolates."""
        noted = self.saved.notes
        return {
            **noted.get("engine", {}),
            **{key: noted[key] for key in noted if key not in ("engine", "steps")},
        }


def open_cigale(settings: ModelSettings) -> CigaleEngine:
    """Open the engine `cigale` of some settings.

    Raises
    ------
    UserError
        When the settings name another engine, or CIGALE is not as they want it.
    """
    engine = open_engine(settings)
    if not isinstance(engine, CigaleEngine):
        raise UserError(
            f"engine = {settings.engine!r} has its own flux table; only cigale's is computed by workers"
        )
    return engine


def table_nodes(engine: CigaleEngine) -> tuple[Floats, ...]:
    """Nodes of each parameter.

    Parameters
    ----------
    engine : CigaleEngine
        The engine.

    Returns
    -------
    tuple of ndarray
        In the order of its parameters: CIGALE's own values where it has certain ones only.
    """
    return tuple(_nodes_of(engine, name) for name in engine.parameters)


def node_rows(engine: CigaleEngine, nodes: Sequence[Floats], start: int, stop: int) -> Floats:
    """Compute some of the table's nodes.

    Parameters
    ----------
    engine : CigaleEngine
        The engine.
    nodes : sequence of ndarray
        From `table_nodes`.
    start, stop : int
        Nodes counted with the last parameter running fastest.

    Returns
    -------
    ndarray, shape (stop - start, n_bands + 1)
        Flux densities [mJy] at 10 pc for 1 Msun formed, and the surviving mass [Msun].
    """
    places = np.unravel_index(np.arange(start, stop), [axis.size for axis in nodes])
    values = zip(engine.parameters, nodes, places, strict=True)
    return engine.direct({name: axis[place] for name, axis, place in values})


def compute_rows(settings: ModelSettings, start: int, stop: int) -> Floats:
    """Compute some of the table's nodes from the settings alone: what a worker does.

    Parameters
    ----------
    settings : ModelSettings
        The job's ``[model]``.
    start, stop : int
        As `node_rows` takes them.

    Returns
    -------
    ndarray, shape (stop - start, n_bands + 1)
        As `node_rows` gives them.
    """
    engine = open_cigale(settings)
    return node_rows(engine, table_nodes(engine), start, stop)


def assemble_table(engine: CigaleEngine, nodes: Sequence[Floats], rows: Floats) -> FluxTable:
    """Put the table together.

    Parameters
    ----------
    engine : CigaleEngine
        The engine.
    nodes : sequence of ndarray
        From `table_nodes`.
    rows : ndarray, shape (n_nodes, n_bands + 1)
        All rows in order, from `node_rows`.

    Returns
    -------
    FluxTable
        With the engine's description in its notes.

    Raises
    ------
    UserError
        When a flux is not positive: its logarithm cannot be interpolated.
    """
    grid = rows.reshape(*(axis.size for axis in nodes), -1)
    fluxes = grid[..., :-1]
    if not (fluxes > 0).all():
        where = np.argwhere(~(fluxes > 0))[0]
        at = ", ".join(
            f"{name} = {axis[place]:g}"
            for name, axis, place in zip(engine.parameters, nodes, where, strict=False)
        )
        raise UserError(
            f"CIGALE's flux in {engine.bands[where[-1]]} is {fluxes[tuple(where)]:g} mJy at {at}: "
            "a table needs positive fluxes; narrow model.cigale.nodes"
        )
    # Living stars and remnants do not depend on dust: any node of the other axes will do.
    names = engine.parameters
    ageing = [names.index(name) for name in ("log_age", "metallicity") if name in names]
    first = np.moveaxis(grid[..., -1], ageing, range(len(ageing)))
    surviving = first.reshape(*first.shape[: len(ageing)], -1)[..., 0]
    return FluxTable(
        engine.parameters,
        tuple(nodes),
        engine.bands,
        np.log10(fluxes),
        np.log10(surviving),
        {"engine": engine.describe(), "steps": [name for name in engine.steps if name != "log_age"]},
    )


def interpolation_error(
    engine: CigaleEngine, table: FluxTable, points: int, rng: np.random.Generator
) -> float:
    """Compare a table with SEDs at random points.

    Parameters
    ----------
    engine : CigaleEngine
        Computes the SEDs.
    table : FluxTable
        The table.
    points : int
        Number of points, uniform within the limits, at ages and values that CIGALE can compute.
    rng : numpy.random.Generator
        Draws them.

    Returns
    -------
    float
        Largest difference in any band [mag].
    """
    drawn = {name: rng.uniform(*engine.limits[name], points) for name in engine.parameters}
    for name, steps in engine.steps.items():
        inside = steps.within(*engine.limits[name])
        drawn[name] = inside.values[inside.nearest(drawn[name])]
    ratio = table.fluxes(drawn) / engine.direct(drawn)[:, :-1]
    return float(np.abs(2.5 * np.log10(ratio)).max())


def certify_table(engine: CigaleEngine, table: FluxTable, points: int, rng: np.random.Generator) -> FluxTable:
    """Measure a table's interpolation error and note it.

    Parameters
    ----------
    engine, table, points, rng
        As `interpolation_error` takes them.

    Returns
    -------
    FluxTable
        With ``interpolation_error_mag`` and ``interpolation_points`` in its notes.

    Raises
    ------
    UserError
        When the error is above `MAX_ERROR`.
    """
    error = interpolation_error(engine, table, points, rng)
    if not error <= MAX_ERROR:
        sizes = ", ".join(f"{n} {axis.size}" for n, axis in zip(table.parameters, table.nodes, strict=True))
        raise UserError(
            f"CIGALE's flux table errs by {error:.4f} mag between its nodes ({sizes}), "
            f"more than {MAX_ERROR}: give more in model.cigale.nodes, [lowest, highest, number]"
        )
    notes = {**table.notes, "interpolation_error_mag": error, "interpolation_points": points}
    return replace(table, notes=notes)


def _nodes_of(engine: CigaleEngine, name: str) -> Floats:
    """Nodes of one parameter, the ends among them."""
    low, high = engine.limits[name]
    asked = engine.nodes.get(name)
    number = asked[2] if asked else DEFAULT_NODES.get(name, OTHER_NODES)
    if name not in engine.steps:
        return np.linspace(low, high, number)
    values = engine.steps[name].values
    if not asked and (values.size <= number or name != "log_age"):
        return values
    first, last = np.searchsorted(values, [low, high - 1e-9])
    places = engine.steps[name].nearest(np.linspace(low, high, number))
    inside = values[np.unique(np.concatenate([places, [first, last]]).clip(0, values.size - 1))]
    return np.asarray(inside)
