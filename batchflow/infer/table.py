"""Draws turned into the posterior table and the draws table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow import schema
from batchflow.infer.draw import Draws
from batchflow.infer.summary import Modes, find_modes, summarise, weighted_quantiles
from batchflow.physics.table import FluxTable
from batchflow.results.stored import StoredDraws
from batchflow.schema import Flag

Floats = NDArray[np.float64]
Boxes = dict[str, tuple[float, float]]

EDGE_WIDTH, EDGE_SHARE = 0.01, 0.05
"""A posterior touches the prior's edge when this share of it lies within this share of the range."""
POOR_FIT = 0.001
"""Posterior predictive p-value below which no model fits."""


def summary_columns(draws: Draws, boxes: Boxes, table: FluxTable) -> dict[str, Any]:
    """Columns of the posterior table that come from the draws.

    Parameters
    ----------
    draws : Draws
        Of n_clusters clusters.
    boxes : dict of str to (float, float)
        Prior range of each parameter.
    table : FluxTable
        For the surviving mass.

    Returns
    -------
    dict
        Column name to array or list of n_clusters values; NaN where a cluster was not inferred.
    """
    weights = draws.weights
    columns: dict[str, Any] = {}
    best = _best_draw(draws)
    for name, values in draws.values.items():
        found = summarise(values, weights)
        found["map"] = values[np.arange(len(values)), best]
        columns |= {f"{name}_{suffix}": column for suffix, column in found.items()}
    for name, better in draws.refined.items():
        columns[name] = np.where(np.isfinite(better), better, columns[name])
    columns |= current_mass_columns(draws, table)
    columns |= mode_columns(draws, boxes["log_age"])
    columns |= {"efficiency": draws.efficiency, "log_evidence": draws.log_evidence}
    columns["log_evidence_error"] = evidence_error(draws.efficiency, draws.log_weights.shape[1])
    columns |= {"ppc_chi2": draws.chi2[np.arange(len(best)), best], "ppc_pvalue": draws.pvalue}
    return columns


def evidence_error(efficiency: Floats, n_draws: int | NDArray[np.int64]) -> Floats:
    """Standard error of the log evidence, by the delta method.

    Parameters
    ----------
    efficiency : ndarray, shape (n_clusters,)
        Effective draws over draws.
    n_draws : int or ndarray, shape (n_clusters,)
        Draws.

    Returns
    -------
    ndarray, shape (n_clusters,)
        Relative standard error of the mean weight: the variance of the weights over their squared mean is
        1 / efficiency - 1. NaN where there is no efficiency, or one draw.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.maximum(1 / np.asarray(efficiency, dtype=np.float64) - 1, 0.0)
        return np.where(np.greater(n_draws, 1), np.sqrt(spread / (np.asarray(n_draws) - 1.0)), np.nan)


def posterior_flags(
    draws: Draws, boxes: Boxes, min_efficiency: float, certified: bool = True
) -> NDArray[np.int32]:
    """Flags that the posteriors call for, (n_clusters,).

    Parameters
    ----------
    draws : Draws
        Of n_clusters clusters.
    boxes : dict of str to (float, float)
        Prior range of each parameter.
    min_efficiency : float
        Efficiency below which a cluster is flagged.
    certified : bool
        Whether the draws were weighted to the exact posterior.
    """
    with np.errstate(invalid="ignore"):
        low = Flag.LOW_EFFICIENCY * (draws.efficiency < min_efficiency)
        poor = Flag.POOR_FIT * (draws.pvalue < POOR_FIT)
    edge = Flag.PRIOR_EDGE * touches_edge(draws, boxes)
    # Draws none of which has any weight: the network lost this cluster.
    lost = Flag.LOW_EFFICIENCY * (certified & draws.inferred & ~np.isfinite(draws.efficiency))
    method = 0 if draws.method is None else draws.method
    flags: NDArray[np.int32] = (low | poor | edge | lost | method).astype(np.int32)
    return flags


def posterior_table(
    catalogue: pa.Table, columns: dict[str, Any], bits: NDArray[np.int32], wanted: pa.Schema | None = None
) -> pa.Table:
    """The posterior table of a catalogue part.

    Parameters
    ----------
    catalogue : pyarrow.Table
        Columns of `schema.catalogue_schema`; n_clusters rows.
    columns : dict
        From `summary_columns`, and ``n_bands``.
    bits : ndarray, shape (n_clusters,)
        Flags to add to the catalogue's.
    wanted : pyarrow.Schema, optional
        Another table's columns, all of them in `columns` or the catalogue.

    Returns
    -------
    pyarrow.Table
        Columns of `schema.posterior_schema`, rows in the catalogue's order.
    """
    parameters = [name for name in schema.PARAMETER_UNITS if f"{name}_mean" in columns]
    wanted = wanted or schema.posterior_schema(parameters)
    flags = np.asarray(catalogue["flags"].to_numpy()) | bits
    known = columns | {"flags": flags}
    arrays = [_array(known.get(field.name), catalogue, field) for field in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)


def draws_table(catalogue: pa.Table, draws: Draws) -> pa.Table:
    """The draws table of a catalogue part: lists of float32, empty where a cluster was not inferred."""
    lists = {**draws.values, "log_weight": draws.log_weights}
    columns = [catalogue["galaxy"], catalogue["object_id"]]
    columns += [_list_array(values, draws.inferred) for values in lists.values()]
    return pa.Table.from_arrays(columns, schema=schema.draws_schema(list(draws.values)))


def _array(values: Any, catalogue: pa.Table, field: pa.Field) -> Any:
    if values is None:
        return catalogue[field.name].cast(field.type)
    return values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type)


def _list_array(values: Floats, inferred: NDArray[np.bool_]) -> pa.ListArray:
    lengths = np.where(inferred, values.shape[1], 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values[inferred].reshape(-1).astype(np.float32)))


def _best_draw(draws: Draws) -> NDArray[np.int64]:
    """Index of each cluster's draw of highest posterior density."""
    found: NDArray[np.int64] = np.argmax(np.nan_to_num(draws.log_density, nan=-np.inf), axis=1)
    return found


def current_mass_columns(draws: Draws | StoredDraws, table: FluxTable) -> dict[str, Floats]:
    """Quantiles of the mass of surviving stars, by column name."""
    surviving = np.full(draws.log_weights.shape, np.nan)
    inferred = np.isfinite(draws.values["log_age"])
    known = draws.values | draws.nuisances
    columns = {name: known[name][inferred] for name in table.surviving_parameters}
    surviving[inferred] = np.log10(table.surviving(**columns))
    quantiles = weighted_quantiles(draws.values["log_mass"] + surviving, draws.weights, [0.16, 0.5, 0.84])
    names = ("q16", "q50", "q84")
    return {f"log_mass_current_{name}": column for name, column in zip(names, quantiles.T, strict=True)}


def mode_columns(draws: Draws | StoredDraws, age_range: tuple[float, float]) -> dict[str, list[Any]]:
    """Number, weights, centres and widths of the modes; None where a cluster was not inferred."""
    names = ["log_age", *(name for name in draws.values if name != "log_age")]
    stacked = np.stack([draws.values[name] for name in names], axis=-1)
    found = [_modes(*pair, age_range) for pair in zip(stacked, draws.weights, strict=True)]
    columns: dict[str, list[Any]] = {"n_modes": [modes and len(modes.weights) for modes in found]}
    columns["mode_weight"] = [modes and modes.weights for modes in found]
    for i, name in enumerate(names):
        columns[f"mode_{name}"] = [modes and modes.centres[:, i] for modes in found]
        columns[f"mode_{name}_std"] = [modes and modes.widths[:, i] for modes in found]
    return columns


def _modes(parameters: Floats, weights: Floats, age_range: tuple[float, float]) -> Modes | None:
    return find_modes(parameters, weights, age_range) if np.isfinite(parameters).all() else None


def touches_edge(draws: Draws | StoredDraws, boxes: Boxes) -> NDArray[np.bool_]:
    """Posteriors that lean against the edge of a parameter's prior, (n_clusters,)."""
    touched = np.zeros(len(draws.log_weights), dtype=bool)
    for name, values in draws.values.items():
        low, high = boxes[name]
        margin = EDGE_WIDTH * (high - low)
        for outer in (values < low + margin, values > high - margin):
            touched |= (draws.weights * outer).sum(1) > EDGE_SHARE
    return touched
