"""Catalogues of a job, by format; and what was understood of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchflow.catalogue.legus import read_legus
from batchflow.catalogue.normalise import RawCatalogue, normalise
from batchflow.catalogue.phangs import read_phangs
from batchflow.catalogue.phatter import read_phatter
from batchflow.catalogue.table import read_table
from batchflow.config import CatalogueSettings
from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.schema import Flag, flux_column

logger = logging.getLogger(__name__)

Reader = Callable[[Path, CatalogueSettings, Sequence[str]], Iterator[RawCatalogue]]
READERS: Mapping[str, Reader] = {
    "legus": read_legus,
    "phangs": read_phangs,
    "phatter": read_phatter,
    "table": read_table,
}
"""What reads a file in each `format` of the job file, piece by piece."""


@dataclass(frozen=True)
class CatalogueSummary:
    """What was understood of a catalogue."""

    survey: str
    """Name of the survey."""
    path: str
    """The file."""
    n_rows: int
    """Rows taken."""
    n_left_out: int
    """Rows of other visual classes than the job asks for."""
    galaxies: Mapping[str, int]
    """Rows by galaxy."""
    classes: Mapping[int, int]
    """Rows by visual class; 0 unknown."""
    bands: Mapping[str, int]
    """Rows with a usable flux or limit, by band of the survey."""
    zero_points: Mapping[str, float]
    """AB - Vega [mag] by band, where the file is in Vega magnitudes."""
    sentinels: Mapping[str, int]
    """Values that stand for none, by what they mean; in the whole file."""
    flags: Mapping[str, int]
    """Rows by flag; those flags that occur."""

    def lines(self) -> list[str]:
        """Say it in words, a line a thing."""
        left_out = f", {self.n_left_out} of other classes left out" if self.n_left_out else ""
        named: dict[str, Mapping[Any, int]] = {
            "galaxies": self.galaxies,
            "classes": self.classes,
            "measured": self.bands,
        }
        named |= {"sentinels": self.sentinels, "flags": self.flags}
        lines = [f"{self.survey}: {self.n_rows} rows from {self.path}{left_out}"]
        lines += [f"  {name}: {_counts(values)}" for name, values in named.items() if values]
        if self.zero_points:
            lines.append(f"  AB - Vega [mag]: {_counts(self.zero_points)}")
        return lines


def _counts(values: Mapping[Any, float]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in values.items())


def read_catalogue(entry: CatalogueSettings, bands: Sequence[str]) -> pa.Table:
    """Read a survey into the internal form.

    Parameters
    ----------
    entry : CatalogueSettings
        The file and how to read it.
    bands : sequence of str
        All bands of the job.

    Returns
    -------
    pyarrow.Table
        Columns of ``catalogue_schema(bands, PUBLISHED)``, a row a cluster, in the file's order.

    Raises
    ------
    UserError
        When the file is not what the entry says. Bad values never raise: they are flagged.
    """
    return read_with_summary(entry, bands)[0]


def read_with_summary(entry: CatalogueSettings, bands: Sequence[str]) -> tuple[pa.Table, CatalogueSummary]:
    """Read a survey, and say what was understood; see `read_catalogue`.

    Parameters
    ----------
    entry : CatalogueSettings
        The file and how to read it.
    bands : sequence of str
        All bands of the job.

    Returns
    -------
    pyarrow.Table
        The survey.
    CatalogueSummary
        Counts for messages and logs.

    Raises
    ------
    UserError
        As `read_catalogue`.
    """
    (path,) = entry.paths
    (raw,) = READERS[entry.format](path, entry, bands)
    _check_bands(entry, raw, bands)
    everything = normalise(raw, entry.survey, bands)
    table = _select_classes(entry, raw, everything)
    summary = _summarise(entry, raw, table)
    logger.info("%s", "\n".join(summary.lines()))
    return table, summary


def _check_bands(entry: CatalogueSettings, raw: RawCatalogue, bands: Sequence[str]) -> None:
    if strangers := [band for band in raw.flux if band not in bands]:
        raise UserError(
            f"{entry.path} has the band {strangers[0]!r}, which the job does not model; add it to "
            f"[model] bands (now {', '.join(bands)})"
        )


def _select_classes(entry: CatalogueSettings, raw: RawCatalogue, table: pa.Table) -> pa.Table:
    """Take the rows of the classes that the job asks for; all when it does not ask."""
    if entry.classes is None:
        return table
    if raw.class_ is None:
        raise UserError(f"{entry.path}: classes = {list(entry.classes)}, but the file has no column class_")
    taken = table.filter(pc.is_in(table["class_"], pa.array(entry.classes, pa.int16())))
    if not taken.num_rows:
        found = sorted(set(raw.class_.tolist()))
        raise UserError(f"{entry.path}: no row is of classes = {list(entry.classes)}; the file has {found}")
    return taken


def _summarise(entry: CatalogueSettings, raw: RawCatalogue, table: pa.Table) -> CatalogueSummary:
    flags = table["flags"].to_numpy()
    by_flag = {str(flag.name): int((flags & flag != 0).sum()) for flag in Flag}
    return CatalogueSummary(
        survey=entry.survey,
        path=str(entry.path),
        n_rows=table.num_rows,
        n_left_out=len(raw.object_id) - table.num_rows,
        galaxies=_value_counts(table, "galaxy"),
        classes=_value_counts(table, "class_"),
        bands={band: int(np.isfinite(table[flux_column(band)].to_numpy()).sum()) for band in raw.flux},
        zero_points=_zero_points(entry, list(raw.flux)),
        sentinels=dict(raw.sentinels),
        flags={name: count for name, count in by_flag.items() if count},
    )


def _zero_points(entry: CatalogueSettings, bands: Sequence[str]) -> dict[str, float]:
    if entry.format not in ("legus", "phatter") and entry.unit != "Vega":
        return {}
    return {band: entry.zero_points.get(band, AB_MINUS_VEGA[band]) for band in bands}


def _value_counts(table: pa.Table, column: str) -> dict[Any, int]:
    pairs = pc.value_counts(table[column]).to_pylist()
    return dict(sorted((pair["values"], pair["counts"]) for pair in pairs))
