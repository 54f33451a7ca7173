"""Tables of a run, in the forms that people work with; no torch, no dask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds

from batchflow.errors import UserError, nearest
from batchflow.paths import RunFolder
from batchflow.results.query import query, table_files

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import QTable


@dataclass(frozen=True)
class ResultTable:
    """One table of a run."""

    name: str
    dataset: ds.Dataset
    """The files, not yet read."""

    def to_arrow(self) -> pa.Table:
        """Read all of it."""
        return self.dataset.to_table()

    def to_pandas(self) -> pd.DataFrame:
        """Read all of it into a pandas frame."""
        return self.to_arrow().to_pandas()

    def to_astropy(self) -> QTable:
        """Read all flat columns into an astropy table with units.

        Returns
        -------
        astropy.table.QTable
            Columns of lists (draws, modes) are left out: use `to_arrow`.
        """
        from astropy.table import QTable

        table = self.to_arrow()
        flat = [field for field in table.schema if not pa.types.is_nested(field.type)]
        units = {field.name: _unit(field) for field in flat if _unit(field)}
        columns = {field.name: table[field.name].to_numpy(zero_copy_only=False) for field in flat}
        return QTable(columns, units=units)


@dataclass(frozen=True)
class Run:
    """The results of a run, as far as it has got."""

    folder: RunFolder

    @property
    def posterior(self) -> ResultTable:
        """Summaries, one row a cluster."""
        return self.table("posterior")

    @property
    def draws(self) -> ResultTable:
        """Posterior draws and log weights, one row a cluster."""
        return self.table("draws")

    @property
    def mocks(self) -> ResultTable:
        """Mock clusters."""
        return self.table("mocks")

    @property
    def history(self) -> ResultTable:
        """Training history."""
        return self.table("history")

    @property
    def validation(self) -> ResultTable:
        """Recovery of held-out mocks."""
        return self.table("validation")

    def has(self, name: str) -> bool:
        """Whether the run has got as far as a table."""
        return name in table_files(self.folder)

    def table(self, name: str) -> ResultTable:
        """Any table of the run.

        Parameters
        ----------
        name : str
            As in `query`.

        Returns
        -------
        ResultTable
            Its files are not read yet.

        Raises
        ------
        UserError
            When the run has none of that name.
        """
        files = table_files(self.folder)
        if name not in files:
            raise UserError(f"{self.folder.root} has no table {name!r} (yet); {nearest(name, files)}")
        return ResultTable(name, ds.dataset(files[name], format="parquet"))

    def query(self, sql: str) -> pa.Table:
        """Answer a question in SQL; see `batchflow.results.query.query`."""
        return query(self.folder.root, sql)


def open_run(folder: str | Path) -> Run:
    """Open the results of a run.

    Parameters
    ----------
    folder : str or Path
        The run folder.

    Returns
    -------
    Run
        Its tables.

    Raises
    ------
    UserError
        When it is no run folder.
    """
    root = Path(folder).resolve()
    if not table_files(RunFolder(root)):
        raise UserError(f"{folder} is no run folder: it holds neither mocks/ nor posterior/")
    return Run(RunFolder(root))


def _unit(field: pa.Field) -> Any:
    return (field.metadata or {}).get(b"unit", b"").decode()
