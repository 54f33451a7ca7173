"""What of a survey the noise model is fitted to: a bounded sample of any number of rows.

The sample holds the clusters whose photometry has the lowest hashes, `MOST` in each band: it depends
neither on the order of the rows nor on how they came in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.mocks.error_fit import MOST
from batchflow.schema import error_column, flux_column, limit_column
from batchflow.shards import read_table

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Tables: TypeAlias = Mapping[str, pa.Table] | pa.Table | Iterable[pa.Table]
"""Normalised catalogues: by survey, in one table, or in pieces that can be gone through repeatedly."""
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class CatalogueParts:
    """The normalised catalogue on disk, a part at a time; can be gone through repeatedly."""

    paths: Sequence[str]
    """Parquet files with the columns of `schema.catalogue_schema`."""
    bands: Sequence[str]
    """Bands to read."""

    def __iter__(self) -> Iterator[pa.Table]:
        """Photometry and survey of each part."""
        names = [name(band) for name in (flux_column, error_column, limit_column) for band in self.bands]
        for path in self.paths:
            yield read_table(path, ["survey", *names])


@dataclass(frozen=True)
class Photometry:
    """Fluxes of one survey; arrays of shape (n_clusters, n_bands)."""

    flux: Floats
    """Reported flux densities [mJy]; NaN where not measured."""
    error: Floats
    """Reported errors [mJy]."""
    limit: Bools
    """Where the flux is an upper limit."""

    @property
    def detected(self) -> Bools:
        """Where flux and error are a measurement."""
        return np.isfinite(self.flux) & np.isfinite(self.error) & ~self.limit

    def rows(self, index: Any) -> Photometry:
        """Some of the clusters."""
        return Photometry(self.flux[index], self.error[index], self.limit[index])

    def band(self, place: int) -> tuple[Floats, Floats]:
        """Fluxes and errors [mJy] of the clusters that a band detects, a fair sample of `MOST` at most."""
        rows = self.rows(self.detected[:, place])
        flux, error = rows.flux[:, place], rows.error[:, place]
        if len(flux) <= MOST:
            return flux, error
        # Others are in the sample for their other bands, and say little of this one.
        fair = np.sort(np.argsort(_hashes(rows), kind="stable")[:MOST])
        return flux[fair], error[fair]


@dataclass
class SurveySample:
    """A survey as its rows go by."""

    kept: Photometry
    """The sample."""
    n_rows: int = 0
    """Rows that went by."""
    n_limits: int = 0
    """Bands of them that are upper limits."""
    n_faint: int = 0
    """Bands of them that are measured, at less than three standard deviations."""

    def add(self, rows: Photometry) -> None:
        """Let rows go by.

        Parameters
        ----------
        rows : Photometry
            The next clusters.
        """
        self.n_rows += len(rows.flux)
        self.n_limits += int(rows.limit.sum())
        with np.errstate(invalid="ignore"):
            self.n_faint += int((rows.detected & (rows.flux < 3 * rows.error)).sum())
        self.kept = _thinned(_stacked(self.kept, rows))

    @property
    def limit_fraction(self) -> float:
        """Share of upper limits among the bands that are not detected at 3 sigma."""
        return self.n_limits / (self.n_limits + self.n_faint) if self.n_limits else 0.0


def sample_surveys(tables: Tables, bands: Sequence[str]) -> dict[str, SurveySample]:
    """Go through catalogues once.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table, pyarrow.Table, or iterable of pyarrow.Table
        Columns of `schema.catalogue_schema`.
    bands : sequence of str
        All bands of the job.

    Returns
    -------
    dict of str to SurveySample
        By survey, in the order of the names.
    """
    empty = Photometry(*(np.zeros((0, len(bands)), dtype) for dtype in (float, float, bool)))
    found: dict[str, SurveySample] = {}
    for name, rows in photometry_by_survey(tables, bands):
        found.setdefault(name, SurveySample(empty)).add(rows)
    return dict(sorted(found.items()))


def photometry_by_survey(tables: Tables, bands: Sequence[str]) -> Iterator[tuple[str, Photometry]]:
    """Photometry of catalogues, survey by survey within each piece.

    Parameters
    ----------
    tables : mapping of str to pyarrow.Table, pyarrow.Table, or iterable of pyarrow.Table
        Columns of `schema.catalogue_schema`.
    bands : sequence of str
        All bands of the job.

    Yields
    ------
    str
        A survey; one may come many times.
    Photometry
        Rows of it.
    """
    for piece in pieces(tables):
        whole = photometry(piece, bands)
        codes = piece["survey"].combine_chunks().dictionary_encode()
        for code, name in enumerate(codes.dictionary.to_pylist()):
            yield name, whole.rows(codes.indices.to_numpy() == code)


def pieces(tables: Tables) -> Iterable[pa.Table]:
    """Catalogues as tables, one after the other."""
    if isinstance(tables, pa.Table):
        return (tables,)
    return tables.values() if isinstance(tables, Mapping) else tables


def photometry(table: pa.Table, bands: Sequence[str]) -> Photometry:
    """Photometry of a piece of a catalogue."""

    def stacked(name: Callable[[str], str]) -> NDArray[Any]:
        return np.stack([table[name(band)].to_numpy() for band in bands], axis=1)

    return Photometry(stacked(flux_column), stacked(error_column), stacked(limit_column))


def _stacked(first: Photometry, second: Photometry) -> Photometry:
    pairs = ((getattr(first, name), getattr(second, name)) for name in ("flux", "error", "limit"))
    return Photometry(*(np.concatenate(pair) for pair in pairs))


def _thinned(rows: Photometry) -> Photometry:
    """The rows with the lowest hashes, `MOST` in each band."""
    detected = rows.detected
    if (detected.sum(axis=0) <= MOST).all():
        return rows
    keys = _hashes(rows)
    kept = np.zeros(len(keys), dtype=bool)
    for own in detected.T:
        last = np.partition(keys[own], MOST - 1)[MOST - 1] if own.sum() > MOST else np.uint64(2**64 - 1)
        kept |= own & (keys <= last)
    return rows.rows(kept)


def _hashes(rows: Photometry) -> NDArray[np.uint64]:
    """Well mixed numbers that follow from a row's fluxes and errors alone."""
    found = np.zeros(len(rows.flux), dtype=np.uint64)
    for column in (*rows.flux.T, *rows.error.T):
        # Adding zero makes one of the two zeros; every NaN of a catalogue is the same.
        found = (found ^ (np.ascontiguousarray(column) + 0.0).view(np.uint64)) * _ODD
        found ^= found >> np.uint64(29)
    found = found * np.uint64(0xBF58476D1CE4E5B9)
    return found ^ (found >> np.uint64(32))
