"""The flux table that CIGALE computes over the workers: its units, and the tasks that make them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow import schema, stages
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.keys import generator
from batchflow.paths import RunFolder
from batchflow.physics.cigale_table import (
    assemble_table,
    certify_table,
    compute_rows,
    open_cigale,
    table_nodes,
)
from batchflow.physics.engine import open_engine
from batchflow.physics.table import TABLE_FILE, FluxTable
from batchflow.plan import Plan, Unit, fingerprint, make_plan
from batchflow.settings.model import ModelSettings
from batchflow.shards import read_table, write_table

ROWS_PER_PART = 1000
"""Nodes in one part: some seconds of CIGALE's time."""
POINTS = 500
"""Random points at which the table is compared with CIGALE itself."""
SURVIVING = "surviving"


def wants_table(model: ModelSettings) -> bool:
    """Whether mocks interpolate in a table that CIGALE computes."""
    return model.engine == "cigale" and model.cigale.evaluate == "table"


def plan_table(job: Job, run: RunFolder) -> Plan:
    """Which parts of the table are wanted and which are there.

    Parameters
    ----------
    job : Job
        With ``engine = "cigale"``.
    run : RunFolder
        Its run folder.

    Returns
    -------
    Plan
        One unit a part; parts of another CIGALE or database are refused.
    """
    engine = open_cigale(job.model)
    nodes = int(np.prod([axis.size for axis in table_nodes(engine)]))
    settings = {
        "format": stages.FORMAT,
        "seed": job.seed,
        "model": job.model.model_dump(mode="json"),
        "pcigale": engine.describe()["pcigale"],
    }
    starts = range(0, nodes, ROWS_PER_PART)
    units = [_unit(run, start, min(start + ROWS_PER_PART, nodes)) for start in starts]
    return make_plan("flux_table", settings, units)


def make_part(path: str, span: tuple[int, int], model: dict[str, Any], footer: dict[str, Any]) -> int:
    """Compute a part of the table and write it; the task of a worker.

    Parameters
    ----------
    path : str
        The part's final name.
    span : tuple of int
        First node, and the one after the last.
    model : dict
        The job's ``[model]``.
    footer : dict
        Provenance.

    Returns
    -------
    int
        Number of nodes.
    """
    settings = ModelSettings.model_validate(model)
    rows = compute_rows(settings, *span)
    names = [*map(schema.flux_column, settings.bands), SURVIVING]
    write_table(Path(path), pa.table(list(rows.T), names=names), footer)
    return rows.shape[0]


def finish_table(parts: list[str], path: str, settings: dict[str, Any]) -> float:
    """Put the parts together, compare with CIGALE, write the table; the task of a worker.

    Parameters
    ----------
    parts : list of str
        All parts, in order.
    path : str
        The table's final name.
    settings : dict
        Those of the plan.

    Returns
    -------
    float
        Largest interpolation error found [mag].

    Raises
    ------
    UserError
        When the table errs by more than `cigale_table.MAX_ERROR`: it is not written then.
    """
    engine = open_cigale(ModelSettings.model_validate(settings["model"]))
    table = assemble_table(engine, table_nodes(engine), np.concatenate([_read_part(part) for part in parts]))
    table = certify_table(engine, table, POINTS, generator(settings["seed"], "flux_table"))
    table = replace(table, notes={**table.notes, "fingerprint": fingerprint(settings)})
    table.save(path)
    return float(table.notes["interpolation_error_mag"])


def open_table(job: Job, run: RunFolder) -> FluxTable:
    """The flux table of a job: the one saved in the run where there is one, else the engine's own.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.

    Returns
    -------
    FluxTable
        What the mocks were, or would be, interpolated in.

    Raises
    ------
    UserError
        When the saved table cannot be read, or there is none and CIGALE is missing.
    """
    path = run.flux_table / TABLE_FILE
    if wants_table(job.model) and path.exists():
        return FluxTable.load(path)
    return open_engine(job.model).table()


def is_finished(path: Path, plan: Plan) -> bool:
    """Whether the table is there, whole and of this plan."""
    try:
        return FluxTable.load(path).notes.get("fingerprint") == fingerprint(plan.settings)
    except UserError:
        return False


def _unit(run: RunFolder, start: int, stop: int) -> Unit:
    key = f"part-{start:08d}"
    path = run.flux_table / f"{key}.parquet"
    return Unit(key, (path,), stop - start, {"span": (start, stop)})


def _read_part(path: str) -> NDArray[np.float64]:
    table = read_table(path)
    return np.stack([column.to_numpy() for column in table.columns], axis=1)
