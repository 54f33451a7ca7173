"""The fits of one catalogue part: the task of a worker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchflow.fit.classical import MASS, fit_classical
from batchflow.fit.exact import draw_exact
from batchflow.fit.prepare import Fitter, cached_fitter
from batchflow.fit.table import classical_columns, exact_columns, fit_table
from batchflow.infer.clusters import from_catalogue
from batchflow.shards import read_table, write_table

Seconds = dict[str, float]


def fit_part(catalogue: str, output: str, settings: dict[str, Any], footer: dict[str, Any]) -> Seconds:
    """Fit every cluster of a catalogue part and write the table.

    Parameters
    ----------
    catalogue : str
        The part, columns of `schema.catalogue_schema`.
    output : str
        Final name of the table.
    settings : dict
        ``inputs`` (folder), ``checksums``, ``prior`` and ``fit`` (JSON), ``seed``, ``min_efficiency``.
    footer : dict
        Provenance.

    Returns
    -------
    dict of str to float
        Time [s] that the ``classical`` and the ``exact`` fit took.
    """
    table = read_table(catalogue)
    fitter = cached_fitter(*(settings[name] for name in ("inputs", "checksums", "prior", "fit")))
    found, seconds = fit_clusters(fitter, table, settings["seed"], settings["min_efficiency"])
    write_table(Path(output), found, footer)
    return seconds


def fit_clusters(fitter: Fitter, catalogue: pa.Table, seed: int, least: float) -> tuple[pa.Table, Seconds]:
    """Fit clusters both ways.

    Parameters
    ----------
    fitter : Fitter
        Grid, likelihood and settings.
    catalogue : pyarrow.Table
        Columns of `schema.catalogue_schema`.
    seed : int
        The job's seed.
    least : float
        Efficiency below which a cluster is flagged.

    Returns
    -------
    tuple of (pyarrow.Table, dict)
        Columns of `schema.fit_schema`, rows in the catalogue's order; time of each way [s].
    """
    clusters = from_catalogue(catalogue, fitter.table.bands)
    boxes = fitter.proposal.network.boxes
    start = time.perf_counter()
    found = fit_classical(fitter.models, clusters, fitter.additional_error(clusters), fitter.how)
    fitted = len({*fitter.models.names, MASS})
    columns, bits = classical_columns(found, list(boxes), fitted, fitter.fit.degrees_of_freedom)
    seconds = {"classical": time.perf_counter() - start, "exact": 0.0}
    if fitter.fit.exact and fitter.proposal.grid is not None:
        start = time.perf_counter()
        draws = draw_exact(fitter.proposal, clusters, fitter.fit.draws, seed)
        more, others = exact_columns(draws, boxes, fitter.table, least)
        columns, bits = columns | more, bits | others
        seconds["exact"] = time.perf_counter() - start
    return fit_table(catalogue, clusters, columns, bits), seconds
