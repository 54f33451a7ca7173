"""One cluster of a run: its row of every table, its draws, its fluxes; no torch, no dask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.results.stored import StoredDraws, read_draws
from batchflow.results.tables import Run
from batchflow.schema import Flag, error_column, flux_column, is_measurement, limit_column

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OneCluster:
    """A cluster that has a posterior."""

    run: Run
    galaxy: str
    object_id: str
    row: dict[str, Any]
    """Its row of the posterior table."""

    @property
    def name(self) -> str:
        """Galaxy and id."""
        return f"{self.galaxy} {self.object_id}"

    @property
    def flags(self) -> str:
        """Names of its flags."""
        return flag_names(int(self.row.get("flags") or 0))

    @cached_property
    def draws(self) -> StoredDraws:
        """Its draws; arrays of shape (1, n_draws).

        Raises
        ------
        UserError
            When the run stores no draws, or none for this cluster.
        """
        found = read_draws(self._rows("draws", "`batchflow infer` stores them"))
        if not len(found.lengths) or not found.lengths[0] or not np.isfinite(found.log_weights[0]).any():
            raise UserError(f"{self.name} has no draws; its flags: {self.flags or 'none'}")
        return found

    @cached_property
    def values(self) -> dict[str, Floats]:
        """Draws by parameter, (n_draws,)."""
        return {name: values[0] for name, values in self.draws.values.items()}

    @cached_property
    def weights(self) -> Floats:
        """Weights of the draws, (n_draws,); they sum to one."""
        return np.nan_to_num(self.draws.weights[0])

    @cached_property
    def best(self) -> dict[str, float]:
        """Parameters of the draw of highest posterior density; else of the heaviest draw."""
        found = {name: self.row.get(f"{name}_map") for name in self.values}
        if all(value is not None and np.isfinite(value) for value in found.values()):
            return {name: float(value) for name, value in found.items() if value is not None}
        heaviest = int(np.argmax(self.weights))
        return {name: float(values[heaviest]) for name, values in self.values.items()}

    @cached_property
    def photometry(self) -> dict[str, Any]:
        """Its row of the catalogue.

        Raises
        ------
        UserError
            When the run has no catalogue.
        """
        found: dict[str, Any] = self._rows("catalogue", "it lies where the cluster was inferred").to_pylist()[
            0
        ]
        return found

    def observed(self, bands: tuple[str, ...]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Fluxes and errors [mJy], NaN where not measured, and which are upper limits; (n_bands,)."""
        row = self.photometry
        flux, error = (
            np.array([_number(row.get(column(band))) for band in bands])
            for column in (flux_column, error_column)
        )
        measured = is_measurement(flux, error)
        limit = np.array([bool(row.get(limit_column(band))) for band in bands]) & measured
        return np.where(measured, flux, np.nan), np.where(measured, error, np.nan), limit

    def _rows(self, table: str, hint: str) -> pa.Table:
        if not self.run.has(table):
            raise UserError(f"{self.run.folder.root} has no table {table!r}; {hint}")
        found = find_rows(self.run, table, self.object_id, self.galaxy)
        if not found.num_rows:
            raise UserError(f"{self.name} is not in the table {table!r} of {self.run.folder.root}; {hint}")
        return found.slice(0, 1)


def one_cluster(run: Run, object_id: str, galaxy: str | None = None) -> OneCluster:
    """Find a cluster in a run.

    Parameters
    ----------
    run : Run
        From `open_run`.
    object_id : str
        Its id.
    galaxy : str, optional
        Its galaxy; needed where several have an object of that id.

    Returns
    -------
    OneCluster
        The first, where a galaxy has the id several times (flag DUPLICATE_ID).

    Raises
    ------
    UserError
        When there is no such cluster, or one in several galaxies.
    """
    place = run.galaxy_of(str(object_id), galaxy)
    row = find_rows(run, "posterior", str(object_id), place).slice(0, 1).to_pylist()[0]
    return OneCluster(run, place, str(object_id), row)


def find_rows(run: Run, table: str, object_id: str, galaxy: str | None) -> pa.Table:
    """Rows of a table that are of an object; of a galaxy, only its own files are read."""
    rows = run.table(table)
    if galaxy is not None:
        if galaxy not in rows.galaxies:
            return rows.dataset.schema.empty_table()
        rows = rows.where(galaxy=galaxy)
    return rows.dataset.to_table(filter=ds.field("object_id") == object_id)


def flag_names(bits: int) -> str:
    """Names of the bits of `flags`, with commas between."""
    return ", ".join(str(flag.name) for flag in Flag if bits & flag.value)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
