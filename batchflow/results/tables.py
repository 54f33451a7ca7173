"""Tables of a run, in the forms that people work with; no torch, no dask."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from batchflow.errors import UserError, nearest
from batchflow.paths import RunFolder, unescape
from batchflow.results.query import query, table_files
from batchflow.results.unfinished import MADE_BY, unfinished_stages
from batchflow.schema import GALAXY_TYPE
from batchflow.shards import open_dataset

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import QTable

NEAREST = 3
"""Ids named where one is not there."""
LOOKED_AT = 4000
"""Ids compared letter by letter; of more, those that are neighbours in the order of letters."""


@dataclass(frozen=True)
class ResultTable:
    """One table of a run, or some of its rows and columns; nothing is read before it is asked for."""

    name: str
    dataset: ds.Dataset
    """The files, of the chosen galaxies only where these were given."""
    columns: tuple[str, ...] | None = None
    """None for all."""
    ids: tuple[str, ...] | None = None
    """Of the clusters that were asked for."""

    def where(
        self,
        galaxy: str | Sequence[str] | None = None,
        object_id: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> ResultTable:
        """Choose rows and columns.

        Parameters
        ----------
        galaxy : str or sequence of str, optional
            Only files of these are opened.
        object_id : str or sequence of str, optional
            In any galaxy unless one is given.
        columns : sequence of str, optional
            Those to read.

        Returns
        -------
        ResultTable
            Not read yet.

        Raises
        ------
        UserError
            When the table has no such galaxy or column.
        """
        found = self
        if galaxy is not None:
            found = replace(found, dataset=self._of_galaxies(_several(galaxy)))
        if object_id is not None:
            self._check_columns(["object_id"])
            found = replace(found, ids=_several(object_id))
        if columns is not None:
            self._check_columns(columns)
            found = replace(found, columns=tuple(columns))
        return found

    @property
    def galaxies(self) -> list[str]:
        """Galaxies that the table has files of, in order; none for a table that is not by galaxy."""
        folders = {Path(file).parent.name for file in self.dataset.files}
        return sorted(
            unescape(name.removeprefix("galaxy=")) for name in folders if name.startswith("galaxy=")
        )

    def to_arrow(self) -> pa.Table:
        """Read it.

        Raises
        ------
        UserError
            When no row has an id that was asked for.
        """
        wanted = None if self.ids is None else pc.field("object_id").isin(list(self.ids))
        table = self.dataset.to_table(columns=self.columns and list(self.columns), filter=wanted)
        if self.ids is not None and not table.num_rows:
            raise UserError(self._not_there(self.ids[0]))
        return table

    def to_pandas(self) -> pd.DataFrame:
        """Read it into a pandas frame."""
        _optional("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Read it into a polars frame.

        Returns
        -------
        polars.DataFrame
            Lists stay lists.

        Raises
        ------
        UserError
            When polars is not installed.
        """
        return _optional("polars").from_arrow(self.to_arrow())

    def to_dask(self) -> Any:
        """Make a dask frame of it, lazy, a partition a file.

        Returns
        -------
        dask.dataframe.DataFrame
            Words are plain, not categories, so that partitions agree.

        Raises
        ------
        UserError
            When dask or pandas is not installed.
        """
        _optional("pandas")
        frames = _optional("dask.dataframe")
        chosen = self.columns and list(self.columns)
        empty = _plain_frame(self.dataset.schema.empty_table().select(chosen or self.dataset.schema.names))
        return frames.from_map(_read_file, self.dataset.files, columns=chosen, ids=self.ids, meta=empty)

    def to_astropy(self) -> QTable:
        """Read all flat columns into an astropy table with units.

        Returns
        -------
        astropy.table.QTable
            Columns of lists (draws, modes) are left out: use `to_arrow`.
        """
        from batchflow.results.astro import to_qtable

        return to_qtable(self.to_arrow())

    def __len__(self) -> int:
        """Rows."""
        wanted = None if self.ids is None else pc.field("object_id").isin(list(self.ids))
        return int(self.dataset.count_rows(filter=wanted))

    def __repr__(self) -> str:
        names = self.columns or self.dataset.schema.names
        shown = ", ".join(names[:8]) + (f", ... {len(names)}" if len(names) > 8 else "")
        places = f" of {len(self.galaxies)} galaxies" if self.galaxies else ""
        return f"<{self.name}: {len(self):,} rows{places}; columns {shown}>"

    def _of_galaxies(self, galaxies: Sequence[str]) -> ds.Dataset:
        self._check_columns(["galaxy"])
        for name in galaxies:
            if self.galaxies and name not in self.galaxies:
                raise UserError(f"{self.name} has no galaxy {name!r}; {nearest(name, self.galaxies)}")
        chosen = [file for file in self.dataset.files if _galaxy_of(file) in galaxies]
        return open_dataset(chosen, self.dataset.schema)

    def _check_columns(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.dataset.schema.names:
                raise UserError(
                    f"{self.name} has no column {name!r}; {nearest(name, self.dataset.schema.names)}"
                )

    def _not_there(self, wanted: str) -> str:
        known = self.dataset.to_table(columns=["object_id"])["object_id"].unique().to_pylist()
        return f"{self.name} has no cluster {wanted!r}; {_nearest_ids(wanted, known)}"


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
    root = Path(folder).resolve()
    if not table_files(RunFolder(root)):
        raise UserError(f"{folder} is no run folder: it holds neither mocks/ nor posterior/")
    return Run(RunFolder(root))


def _several(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(map(str, given))


def _galaxy_of(file: str) -> str:
    return unescape(Path(file).parent.name.removeprefix("galaxy="))


def _nearest_ids(wanted: str, known: Sequence[str]) -> str:
    ordered = sorted(known)
    at = bisect_left(ordered, wanted)
    likely = (
        ordered if len(ordered) < LOOKED_AT else ordered[max(at - LOOKED_AT // 2, 0) : at + LOOKED_AT // 2]
    )
    close = difflib.get_close_matches(wanted, likely, n=NEAREST, cutoff=0.0)
    return f"nearest: {', '.join(close)}" if close else "it has none at all"


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed; pip install 'batchflow[tables]'") from None


def _read_file(file: str, columns: list[str] | None, ids: tuple[str, ...] | None) -> pd.DataFrame:
    wanted = None if ids is None else pc.field("object_id").isin(list(ids))
    return _plain_frame(open_dataset([file]).to_table(columns=columns, filter=wanted))


def _plain_frame(table: pa.Table) -> pd.DataFrame:
    for place, field in enumerate(table.schema):
        if field.type == GALAXY_TYPE:
            table = table.set_column(place, field.name, table[field.name].cast(pa.string()))
    return table.to_pandas()
