"""Classical fits and exact posteriors turned into the fit table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow import schema
from batchflow.fit.classical import Classical, degrees_of_freedom, reduced
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Draws
from batchflow.infer.table import posterior_flags, posterior_table, summary_columns
from batchflow.physics.table import FluxTable
from batchflow.schema import Flag
from batchflow.settings.base import Range

Boxes = dict[str, Range]


def classical_columns(
    found: Classical, parameters: Sequence[str], fitted: int, kind: str
) -> tuple[dict[str, Any], NDArray[np.int32]]:
    """Columns of the fit table that come from chi2, and flags.

    Parameters
    ----------
    found : Classical
        Of n_clusters clusters.
    parameters : sequence of str
        Those of the table; more may have been fitted.
    fitted : int
        Number of fitted parameters.
    kind : {"parameters", "cigale"}
        How degrees of freedom are counted.

    Returns
    -------
    tuple of (dict, ndarray)
        Column name to array (n_clusters,); FEW_BANDS where there is no reduced chi2.
    """
    columns: dict[str, Any] = {}
    for name in parameters:
        columns[f"best_{name}"] = found.best[name]
        columns |= {f"bayes_{name}": found.mean[name], f"bayes_{name}_std": found.deviation[name]}
    degrees = degrees_of_freedom(found.n_bands, fitted, kind)
    columns |= {"best_chi2": found.chi2, "best_reduced_chi2": reduced(found.chi2, degrees)}
    columns["best_n_bands"] = found.n_bands
    return columns, (Flag.FEW_BANDS * (degrees <= 0)).astype(np.int32)


def exact_columns(
    draws: Draws, boxes: Boxes, table: FluxTable, least: float
) -> tuple[dict[str, Any], NDArray[np.int32]]:
    """Columns of the fit table that come from the exact posterior, and flags.

    Parameters
    ----------
    draws : Draws
        Of n_clusters clusters.
    boxes : dict of str to (float, float)
        Prior range of each parameter.
    table : FluxTable
        For the surviving mass.
    least : float
        Efficiency below which a cluster is flagged.

    Returns
    -------
    tuple of (dict, ndarray)
        As of the posterior table.
    """
    return summary_columns(draws, boxes, table), posterior_flags(draws, boxes, least)


def fit_table(
    catalogue: pa.Table, clusters: Clusters, columns: dict[str, Any], bits: NDArray[np.int32]
) -> pa.Table:
    """The fit table of a catalogue part.

    Parameters
    ----------
    catalogue : pyarrow.Table
        Columns of `schema.catalogue_schema`; n_clusters rows.
    clusters : Clusters
        The same rows.
    columns : dict
        From `classical_columns` and `exact_columns`; the latter may lack.
    bits : ndarray, shape (n_clusters,)
        Flags to add to the catalogue's.

    Returns
    -------
    pyarrow.Table
        Columns of `schema.fit_schema`, rows in the catalogue's order; null where there is no exact
        posterior.
    """
    parameters = [name for name in schema.PARAMETER_UNITS if f"best_{name}" in columns]
    wanted = schema.fit_schema(parameters)
    given = {"n_bands": clusters.measured.sum(axis=1), **columns}
    nothing = {
        field.name: pa.nulls(catalogue.num_rows, field.type)
        for field in wanted
        if field.name not in given and field.name not in catalogue.column_names
    }
    return posterior_table(catalogue, given | nothing, clusters.flags | bits, wanted)
