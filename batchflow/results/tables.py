"""The results of a run, table by table; no torch, no dask."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchflow.errors import UserError, nearest
from batchflow.paths import RunFolder
from batchflow.results.query import query, table_files
from batchflow.results.result_table import ResultTable
from batchflow.results.unfinished import MADE_BY, unfinished_stages
from batchflow.shards import open_dataset


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
    def fit(self) -> ResultTable:
        """The classical fit, one row a cluster."""
        return self.table("fit")

    @property
    def catalogue(self) -> ResultTable:
        """The catalogue as understood: fluxes, errors, published values."""
        return self.table("catalogue")

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

    @property
    def population(self) -> ResultTable:
        """Age and mass distribution of each galaxy."""
        return self.table("population")

    @property
    def tables(self) -> list[str]:
        """Names of the tables that are there."""
        return sorted(table_files(self.folder))

    @property
    def unfinished(self) -> list[str]:
        """A sentence for each stage that is begun and not done."""
        return unfinished_stages(self.folder)

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
            made = f"`batchflow {MADE_BY[name]}` makes it; " if name in MADE_BY else ""
            raise UserError(f"{self.folder.root} has no table {name!r} (yet); {made}{nearest(name, files)}")
        return ResultTable(name, open_dataset(files[name]))

    def galaxy_of(self, object_id: str, galaxy: str | None = None) -> str:
        """The galaxy that a cluster lies in.

        Parameters
        ----------
        object_id : str
            Of one cluster.
        galaxy : str, optional
            Where several have a cluster of that id.

        Returns
        -------
        str
            Its name.

        Raises
        ------
        UserError
            When there is no such cluster (the nearest ids are named), or one in several galaxies.
        """
        chosen = self.posterior.where(galaxy=galaxy, object_id=object_id, columns=["galaxy"])
        found = sorted(set(chosen.to_arrow()["galaxy"].to_pylist()))
        if len(found) > 1:
            raise UserError(
                f"{object_id!r} is a cluster of {' and of '.join(found)}; say which: galaxy={found[0]!r}"
            )
        return str(found[0])

    def corner(self, object_id: str, galaxy: str | None = None) -> Any:
        """Draw the joint posterior of a cluster: every pair of parameters.

        Parameters
        ----------
        object_id, galaxy : str
            As for `galaxy_of`, with its errors.

        Returns
        -------
        matplotlib.figure.Figure
            The picture.
        """
        return self._picture("corner_picture", object_id, galaxy)

    def sed(self, object_id: str, galaxy: str | None = None) -> Any:
        """Draw a cluster's fluxes over those of its posterior; arguments, errors and result as `corner`."""
        return self._picture("sed_picture", object_id, galaxy)

    def query(self, sql: str) -> pa.Table:
        """Answer a question in SQL; see `batchflow.results.query.query`."""
        return query(self.folder.root, sql)

    def __repr__(self) -> str:
        lines = [f"run {self.folder.root}", *(f"  {self.table(name)!r}" for name in self.tables)]
        return "\n".join([*lines, *(f"  unfinished: {text}" for text in self.unfinished)])

    def _picture(self, name: str, object_id: str, galaxy: str | None) -> Any:
        place = self.galaxy_of(object_id, galaxy)
        return getattr(import_module("batchflow.report.cluster_pictures"), name)(self, object_id, place)


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
    run = RunFolder(Path(folder).resolve())
    table_files(run)
    return Run(run)
