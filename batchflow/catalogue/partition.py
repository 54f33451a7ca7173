"""The catalogues of a job as Parquet parts, a folder for each galaxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchflow.catalogue.galaxies import by_galaxy
from batchflow.catalogue.repeated import flag_repeated
from batchflow.paths import partition_folder
from batchflow.shards import write_table

MOST_WAITING = 2_000_000
"""Rows waiting for their part to fill; at 30 columns some 500 MB."""


@dataclass(frozen=True)
class Part:
    """A slice of a galaxy's clusters, in a file of its own."""

    galaxy: str
    """Name of the galaxy, not escaped."""
    path: Path
    """The Parquet file."""
    n_rows: int
    """Its clusters."""
    first_id: str
    """Id of the first cluster."""
    last_id: str
    """Id of the last cluster."""


@dataclass
class _Galaxy:
    """Rows of a galaxy that are not in a part yet."""

    waiting: list[pa.Table] = field(default_factory=list)
    n_waiting: int = 0


@dataclass
class CatalogueWriter:
    """Sorts pieces of a job's catalogues into parts by galaxy, with bounded memory."""

    folder: Path
    """Parts become ``folder/galaxy=<escaped>/part-00000.parquet`` and on."""
    rows_per_part: int
    """Clusters in a part at most."""
    footer: Mapping[str, Any]
    """Provenance; each part's says its galaxy and ids as well."""
    most_waiting: int = MOST_WAITING
    """Rows kept in memory at most: beyond, the galaxy with most of them gets a shorter part."""
    parts: list[Part] = field(default_factory=list)
    """Parts written so far."""
    _galaxies: dict[str, _Galaxy] = field(default_factory=dict)
    _n_waiting: int = 0
    _n_parts: Counter[str] = field(default_factory=Counter)
    """Parts written so far, by folder without case."""

    def add(self, piece: pa.Table) -> None:
        """Take in rows, and write the parts that are full.

        Parameters
        ----------
        piece : pyarrow.Table
            Normalised rows, behind all that came before.

        Raises
        ------
        UserError
            When the disk refuses.
        """
        for galaxy, rows in by_galaxy(piece):
            found = self._galaxies.setdefault(galaxy, _Galaxy())
            # A copy: a slice would keep the whole piece in memory.
            found.waiting.append(piece.take(rows))
            found.n_waiting += len(rows)
            self._n_waiting += len(rows)
            if found.n_waiting >= self.rows_per_part:
                self._write_full(galaxy, found)
        while self._n_waiting > self.most_waiting:
            galaxy = max(sorted(self._galaxies), key=lambda name: self._galaxies[name].n_waiting)
            self._flush(galaxy, self._galaxies[galaxy])

    def finish(self) -> list[Part]:
        """Write what is left.

        Returns
        -------
        list of Part
            All parts, by galaxy, then in the order of the rows.
        """
        for galaxy in sorted(self._galaxies):
            if self._galaxies[galaxy].n_waiting:
                self._flush(galaxy, self._galaxies[galaxy])
        self.parts.sort(key=lambda part: (part.galaxy, part.path.name))
        return self.parts

    def _write_full(self, galaxy: str, found: _Galaxy) -> None:
        rows = _joined(found.waiting)
        n_full = rows.num_rows - rows.num_rows % self.rows_per_part
        for start in range(0, n_full, self.rows_per_part):
            self._write(galaxy, found, rows.slice(start, self.rows_per_part))
        rest = np.arange(n_full, rows.num_rows)
        found.waiting = [rows.take(rest)] if len(rest) else []

    def _flush(self, galaxy: str, found: _Galaxy) -> None:
        self._write(galaxy, found, _joined(found.waiting))
        found.waiting = []

    def _write(self, galaxy: str, found: _Galaxy, rows: pa.Table) -> None:
        folder = partition_folder(self.folder, galaxy)
        # Where the file system ignores case, NGC628 and ngc628 share a folder: no part may have the name of
        # another.
        number = self._n_parts[folder.name.casefold()]
        path = folder / f"part-{number:05d}.parquet"
        self.parts.append(_write(path, rows, galaxy, self.footer))
        self._n_parts[folder.name.casefold()] += 1
        found.n_waiting -= rows.num_rows
        self._n_waiting -= rows.num_rows


def write_catalogue(
    pieces: Iterable[pa.Table], folder: Path, rows_per_part: int, footer: Mapping[str, Any]
) -> list[Part]:
    """Write pieces of a job's catalogues, by galaxy, and flag repeated ids.

    Parameters
    ----------
    pieces : iterable of pyarrow.Table
        As `CatalogueReader.pieces` gives them; their order is that of the rows in the parts.
    folder : Path
        Parts become ``folder/galaxy=<escaped>/part-00000.parquet`` and on.
    rows_per_part : int
        Clusters in a part at most.
    footer : mapping
        Provenance; each part's says its galaxy and ids as well.

    Returns
    -------
    list of Part
        By galaxy, then in the order of the rows.

    Raises
    ------
    UserError
        When the disk refuses.
    """
    writer = CatalogueWriter(folder, rows_per_part, footer)
    for piece in pieces:
        writer.add(piece)
    parts = writer.finish()
    flag_repeated(parts, folder)
    return parts


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


def _write(path: Path, rows: pa.Table, galaxy: str, footer: Mapping[str, Any]) -> Part:
    ids = rows["object_id"]
    part = Part(galaxy, path, rows.num_rows, ids[0].as_py(), ids[-1].as_py())
    own = {"galaxy": galaxy, "first_id": part.first_id, "last_id": part.last_id}
    write_table(path, rows, {**footer, **own})
    return part
