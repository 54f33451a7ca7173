"""Catalogues of a job, by format, piece by piece; and what was understood of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from batchflow.catalogue import phangs, phatter, table
from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.files import find_files
from batchflow.catalogue.legus import read_legus
from batchflow.catalogue.normalise import RawCatalogue, complete, flag_duplicates, normalise
from batchflow.catalogue.opening import open_columns
from batchflow.catalogue.phangs import report_unseen
from batchflow.catalogue.summary import CatalogueSummary, Tally
from batchflow.errors import UserError
from batchflow.schema import PUBLISHED, Flag, catalogue_schema
from batchflow.settings.catalogue import CatalogueSettings

logger = logging.getLogger(__name__)

Reader = Callable[[Path, CatalogueSettings, Sequence[str]], Iterator[RawCatalogue]]
Understand = Callable[[ColumnFile, CatalogueSettings, Sequence[str]], RawCatalogue]


def _reader(understand: Understand) -> Reader:
    """What reads table files, given what makes sense of their rows."""

    def read(path: Path, entry: CatalogueSettings, bands: Sequence[str]) -> Iterator[RawCatalogue]:
        for file in open_columns(path, entry.file_type, entry.hdu).pieces():
            yield understand(file, entry, bands)

    return read


READERS: Mapping[str, Reader] = {
    "legus": read_legus,
    "phangs": _reader(phangs.understand),
    "phatter": _reader(phatter.understand),
    "table": _reader(table.understand),
}
"""What reads a file in each `format` of the job file, piece by piece."""


@dataclass
class CatalogueReader:
    """A catalogue being read: its files one after the other, each in pieces; memory is that of a piece."""

    entry: CatalogueSettings
    """The files and how to read them."""
    bands: Sequence[str]
    """All bands of the job."""
    curves: Mapping[str, Path] = field(default_factory=dict)
    """Files of the job's own throughput curves, by band."""
    tally: Tally = field(default_factory=Tally)
    """Counts of the pieces read so far."""
    _joined: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    """Ids met so far of files whose published values are in files of their own."""

    def pieces(self) -> Iterator[pa.Table]:
        """Read everything from the first row to the last.

        Yields
        ------
        pyarrow.Table
            Rows of the wanted classes, normalised, in the files' order; files sorted by name. Repeated ids
            are not flagged yet.

        Raises
        ------
        UserError
            When a file is not what the entry says. Bad values never raise: they are flagged.
        """
        for path in find_files(self.entry.paths):
            for raw in READERS[self.entry.format](path, self.entry, self.bands):
                _check_bands(path, raw, self.bands)
                if raw.id_names:
                    self._joined.setdefault(raw.id_names, set()).update(raw.object_id)
                yield self._take(path, raw)
        self._check_classes()
        report_unseen(self.entry, self._joined)

    def summary(self) -> CatalogueSummary:
        """What was understood of the pieces read so far."""
        files = find_files(self.entry.paths)
        named = str(files[0]) if len(files) == 1 else f"{len(files)} files, {files[0]} to {files[-1].name}"
        return self.tally.summary(self.entry, named)

    def _take(self, path: Path, raw: RawCatalogue) -> pa.Table:
        entry = self.entry
        if entry.classes is not None and raw.class_ is None:
            raise UserError(f"{path}: classes = {list(entry.classes)}, but the file has no column class_")
        table = normalise(complete(raw, entry, self.curves), entry.survey, self.bands, entry.limit_sigma)
        if entry.classes is not None:
            table = table.filter(pc.is_in(table["class_"], pa.array(entry.classes, pa.int16())))
        self.tally.add(raw, table)
        return table

    def _check_classes(self) -> None:
        if self.entry.classes is not None and not self.tally.n_rows:
            path = find_files(self.entry.paths)[0]
            raise UserError(
                f"{path}: no row is of classes = {list(self.entry.classes)}; the file has "
                f"{sorted(self.tally.seen_classes)}"
            )


def read_catalogue(entry: CatalogueSettings, bands: Sequence[str]) -> pa.Table:
    """Read a survey into the internal form, whole.

    Parameters
    ----------
    entry : CatalogueSettings
        The files and how to read them.
    bands : sequence of str
        All bands of the job.

    Returns
    -------
    pyarrow.Table
        Columns of ``catalogue_schema(bands, PUBLISHED)``, a row a cluster, in the files' order.

    Raises
    ------
    UserError
        When a file is not what the entry says. Bad values never raise: they are flagged.
    """
    return read_with_summary(entry, bands)[0]


def read_with_summary(entry: CatalogueSettings, bands: Sequence[str]) -> tuple[pa.Table, CatalogueSummary]:
    """Read a survey whole, and say what was understood; see `read_catalogue`.

    Parameters
    ----------
    entry : CatalogueSettings
        The files and how to read them.
    bands : sequence of str
        All bands of the job.

    Returns
    -------
    pyarrow.Table
        The survey; memory grows with its rows, where `CatalogueReader` does not.
    CatalogueSummary
        Counts for messages and logs.

    Raises
    ------
    UserError
        As `read_catalogue`.
    """
    reader = CatalogueReader(entry, bands)
    schema = catalogue_schema(bands, PUBLISHED)
    pieces = [schema.empty_table(), *reader.pieces()]
    table = flag_duplicates(pa.concat_tables(pieces).unify_dictionaries())
    reader.tally.count_duplicates(pc.sum(pc.not_equal(duplicates(table), 0)).as_py())
    summary = reader.summary()
    logger.info("%s", "\n".join(summary.lines()))
    return table, summary


def duplicates(table: pa.Table) -> pa.ChunkedArray:
    """The bit `Flag.DUPLICATE_ID` of each row, zero or not."""
    return pc.bit_wise_and(table["flags"], pa.scalar(int(Flag.DUPLICATE_ID), pa.int32()))


def _check_bands(path: Path, raw: RawCatalogue, bands: Sequence[str]) -> None:
    if strangers := [band for band in raw.flux if band not in bands]:
        raise UserError(
            f"{path} has the band {strangers[0]!r}, which the job does not model; add it to "
            f"[model] bands (now {', '.join(bands)})"
        )
