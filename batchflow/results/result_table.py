"""A table of a run, in the forms that people work with; no torch, no dask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from importlib import import_module
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batchflow.errors import UserError, nearest
from batchflow.paths import unescape
from batchflow.results.ids import no_cluster
from batchflow.shards import open_dataset

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds
    from astropy.table import QTable


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
    among: tuple[str, ...] | None = None
    """The galaxies that were asked for, where the files do not go by galaxy."""

    def where(
        self,
        galaxy: str | Sequence[str] | None = None,
        object_id: str | int | Sequence[str | int] | None = None,
        columns: Sequence[str] | None = None,
    ) -> ResultTable:
        """Choose rows and columns.

        Parameters
        ----------
        galaxy : str or sequence of str, optional
            Only files of these are opened.
        object_id : str, int, or sequence of them, optional
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
            found = self._of_galaxies(_several(galaxy))
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
        table = self.dataset.to_table(columns=self.columns and list(self.columns), filter=self._rows)
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
            Its partitions are read by the workers.

        Raises
        ------
        UserError
            When dask or pandas is not installed.
        """
        _optional("pandas")
        frames = _optional("dask.dataframe")
        chosen = self.columns and list(self.columns)
        empty = self.dataset.schema.empty_table().select(chosen or self.dataset.schema.names).to_pandas()
        return frames.from_map(_read_file, self.dataset.files, columns=chosen, having=self._rows, meta=empty)

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
        return int(self.dataset.count_rows(filter=self._rows))

    def __repr__(self) -> str:
        names = self.columns or self.dataset.schema.names
        shown = ", ".join(names[:8]) + (f", ... {len(names)}" if len(names) > 8 else "")
        places = f" of {len(self.galaxies)} galaxies" if self.galaxies else ""
        return f"<{self.name}: {len(self):,} rows{places}; columns {shown}>"

    @property
    def _rows(self) -> pc.Expression | None:
        """Condition on the rows; None for all."""
        asked = (("object_id", self.ids), ("galaxy", self.among))
        conditions = [pc.field(name).isin(list(values)) for name, values in asked if values is not None]
        return reduce(and_, conditions) if conditions else None

    def _of_galaxies(self, galaxies: tuple[str, ...]) -> ResultTable:
        self._check_columns(["galaxy"])
        known = self.galaxies or self._every("galaxy")
        for name in galaxies:
            if name not in known:
                raise UserError(f"{self.name} has no galaxy {name!r}; {nearest(name, known)}")
        if not self.galaxies:
            return replace(self, among=galaxies)
        chosen = [file for file in self.dataset.files if _galaxy_of(file) in galaxies]
        return replace(self, dataset=open_dataset(chosen, self.dataset.schema))

    def _check_columns(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.dataset.schema.names:
                raise UserError(
                    f"{self.name} has no column {name!r}; {nearest(name, self.dataset.schema.names)}"
                )

    def _not_there(self, wanted: str) -> str:
        return no_cluster(self.name, wanted, self._every("object_id"))

    def _every(self, column: str) -> list[str]:
        """The different values of a column."""
        found: list[str] = self.dataset.to_table(columns=[column])[column].unique().to_pylist()
        return found


def _several(given: str | int | Iterable[str | int]) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        return (str(given),)
    return tuple(map(str, given))


def _galaxy_of(file: str) -> str:
    return unescape(Path(file).parent.name.removeprefix("galaxy="))


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed; pip install 'batchflow[tables]'") from None


def _read_file(file: str, columns: list[str] | None, having: pc.Expression | None) -> pd.DataFrame:
    return open_dataset([file]).to_table(columns=columns, filter=having).to_pandas()
