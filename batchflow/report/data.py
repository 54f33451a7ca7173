"""What the sections of a report read of a run: each thing once, and never more rows than a picture needs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from batchflow.arrow import numbers
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.report.light import RunLight
from batchflow.results.tables import Run
from batchflow.schema import flux_column
from batchflow.stages import from_resolved
from batchflow.train.plan import read_description

Floats = NDArray[np.float64]

MOST = 200_000
"""Rows of a table that pictures are made of at most: of more, every second, third ... is taken."""


class ReportData:
    """A run as its report reads it; what is absent is None or empty.

    Parameters
    ----------
    run : Run
        From `open_run`.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = run.folder

    @cached_property
    def job(self) -> Job | None:
        """The job as resolved; None where it cannot be read."""
        try:
            values = tomllib.loads(self.folder.job.read_text(encoding="utf-8"))
            return from_resolved(values, str(self.folder.job))
        except (OSError, ValueError, UserError):
            return None

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Last figures of every stage."""
        try:
            found = json.loads((self.folder.logs / "stages.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def description(self) -> dict[str, Any] | None:
        """What the model's JSON file says."""
        return read_description(self.folder.model)

    @cached_property
    def light(self) -> RunLight | None:
        """Band fluxes of the run's model; None where neither model nor engine can be had."""
        return RunLight.of(self.folder, self.job, self.description)

    @cached_property
    def posterior(self) -> pa.Table | None:
        """Flat columns of the posterior, of at most `MOST` clusters."""
        return self.sample("posterior")

    @cached_property
    def catalogue(self) -> pa.Table | None:
        """Flat columns of the catalogue, of at most `MOST` clusters."""
        return self.sample("catalogue")

    @cached_property
    def total(self) -> int:
        """Clusters of the posterior."""
        return self.rows("posterior")

    @property
    def sampled(self) -> str:
        """What to say where not all clusters are drawn; empty where all are."""
        drawn = 0 if self.posterior is None else self.posterior.num_rows
        return f" Drawn: {drawn:,} of {self.total:,} clusters, evenly chosen." if drawn < self.total else ""

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Parameters that the posterior is of."""
        names = () if self.posterior is None else self.posterior.column_names
        return tuple(name.removesuffix("_map") for name in names if name.endswith("_map"))

    @cached_property
    def galaxies(self) -> dict[str, int]:
        """Clusters drawn of each galaxy, the most first."""
        if self.posterior is None or not self.posterior.num_rows:
            return {}
        counted = pc.value_counts(text_column(self.posterior, "galaxy")).to_pylist()
        pairs = sorted(((item["values"], item["counts"]) for item in counted), key=lambda p: (-p[1], p[0]))
        return dict(pairs)

    @cached_property
    def boxes(self) -> dict[str, tuple[float, float]]:
        """Prior range of each parameter, where the job says it."""
        return {} if self.job is None else dict(self.job.prior.boxes())

    def rows(self, name: str) -> int:
        """Number of rows of a table; 0 when the run has none of that name."""
        return self.run.table(name).dataset.count_rows() if self.run.has(name) else 0

    def table(self, name: str) -> pa.Table | None:
        """A small table of the run, whole."""
        return self.run.table(name).to_arrow() if self.run.has(name) else None

    def sample(self, name: str) -> pa.Table | None:
        """Flat columns of at most `MOST` rows of a table, evenly chosen.

        Parameters
        ----------
        name : str
            As in `query`.

        Returns
        -------
        pyarrow.Table or None
            None when the run has no such table.
        """
        if not self.run.has(name):
            return None
        dataset = self.run.table(name).dataset
        flat = [item.name for item in dataset.schema if not pa.types.is_nested(item.type)]
        return _every(dataset, flat, -(-dataset.count_rows() // MOST))

    def column(self, name: str) -> Floats:
        """A column of the drawn clusters, (n_clusters,); all NaN where the posterior lacks it."""
        table = self.posterior
        if table is None or name not in table.column_names:
            return np.full(0 if table is None else table.num_rows, np.nan)
        return numbers(table, name)

    def of_galaxy(self, name: str) -> NDArray[np.bool_]:
        """Which of the drawn clusters are of a galaxy, (n_clusters,)."""
        return is_galaxy(self.posterior, name)


def is_galaxy(table: pa.Table | None, name: str) -> NDArray[np.bool_]:
    """Which rows of a table are of a galaxy, (n,)."""
    if table is None:
        return np.zeros(0, dtype=bool)
    return np.asarray(pc.equal(text_column(table, "galaxy"), name).to_numpy(), dtype=bool)


def text_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column as plain strings."""
    return table[name].cast(pa.string())


def fluxes_of(table: pa.Table, bands: Sequence[str]) -> Floats:
    """Flux densities [mJy], (n, n_bands); NaN throughout for a band that the table lacks."""
    names = [flux_column(band) for band in bands]
    absent = np.full(table.num_rows, np.nan)
    columns = [numbers(table, name) if name in table.column_names else absent for name in names]
    return np.stack(columns, axis=1)


def _every(dataset: ds.Dataset, columns: list[str], step: int) -> pa.Table:
    if step <= 1:
        return dataset.to_table(columns=columns)
    kept, seen = [], 0
    for batch in dataset.to_batches(columns=columns):
        index = np.arange(-seen % step, batch.num_rows, step)
        kept.append(batch.take(pa.array(index)))
        seen += batch.num_rows
    return pa.Table.from_batches(kept).unify_dictionaries()
