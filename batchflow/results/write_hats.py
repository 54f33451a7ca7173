"""A HATS catalogue: Parquet files by position, which LSDB opens (IVOA Note HATS).

Its layout is written here directly: hats-import would start a Dask cluster and read the results back from
an exported file. The HEALPix pixels are those of `cdshealpix`, which hats itself computes with.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.results.source import Source
from batchflow.results.write_parquet import stamped
from batchflow.schema import field as column_field

INDEX, INDEX_ORDER = "_healpix_29", 29
TOP_ORDER = 10
"""Finest partitions, of 3.4 arcmin."""
ROWS_IN_PIXEL = 500_000
"""Rows of a partition at most, unless more lie in one pixel of `TOP_ORDER`."""
Integers = NDArray[np.int64]
Pixel = tuple[int, int]
"""Order and number, nested."""


@dataclass
class _Partitions:
    """Partitions as they are being written."""

    pixels: list[Pixel]
    counts: Counter[Pixel] = field(default_factory=Counter)


def write_hats(folder: Path, source: Source) -> int:
    """Write a HATS catalogue.

    Parameters
    ----------
    folder : Path
        Made; must not be there.
    source : Source
        With the columns `ra` and `dec`.

    Returns
    -------
    int
        Rows left out because they have no position.

    Raises
    ------
    UserError
        Without positions, or without cdshealpix.
    """
    if missing := [name for name in ("ra", "dec") if name not in source.columns]:
        where = "those chosen" if missing[0] in source.dataset.schema.names else f"those of {source.name}"
        raise UserError(f"a HATS catalogue needs the columns ra and dec; {missing[0]} is not among {where}")
    counts = _count(source)
    if not counts:
        raise UserError(f"no row of {source.name} has a position: a HATS catalogue has nothing to order by")
    found = _Partitions(choose_pixels(counts, ROWS_IN_PIXEL))
    schema = hats_schema(source)
    _write_partitions(folder, source, schema, found)
    _write_metadata(folder, source, schema, found)
    return source.facts.rows - sum(found.counts.values())


def healpix(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> Integers:
    """HEALPix pixel of order 29, nested.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        Position [deg], finite.

    Returns
    -------
    ndarray of int64, shape (n,)
        Pixel numbers.

    Raises
    ------
    UserError
        Without cdshealpix.
    """
    try:
        from cdshealpix.nested import lonlat_to_healpix
    except ImportError:
        raise UserError("a HATS catalogue needs cdshealpix: pip install 'batchflow[hats]'") from None
    from astropy.coordinates import Latitude, Longitude

    lon, lat = Longitude(ra, "deg"), Latitude(dec, "deg")
    return np.asarray(lonlat_to_healpix(lon, lat, INDEX_ORDER)).astype(np.int64)


def choose_pixels(counts: Counter[int], most: int) -> list[Pixel]:
    """Partitions of the sky with some rows each.

    Parameters
    ----------
    counts : Counter
        Rows in each pixel of `TOP_ORDER`.
    most : int
        A pixel with more rows is divided, down to `TOP_ORDER`.

    Returns
    -------
    list of (int, int)
        Order and number of pixels that hold every row once, in the order of the sky.
    """
    open_, found = [(0, number) for number in range(12)], []
    while open_:
        order, number = open_.pop()
        shift = 2 * (TOP_ORDER - order)
        rows = sum(count for pixel, count in counts.items() if pixel >> shift == number)
        if rows > most and order < TOP_ORDER:
            open_ += [(order + 1, 4 * number + child) for child in range(4)]
        elif rows:
            found.append((order, number))
    return sorted(found, key=lambda pixel: pixel[1] << 2 * (TOP_ORDER - pixel[0]))


def hats_schema(source: Source) -> pa.Schema:
    """The source's columns after the spatial index, with their metadata."""
    index = column_field(INDEX, pa.int64())
    return stamped(pa.schema([index, *source.schema]), source.facts.characters, source.provenance)


def _placed(source: Source) -> Iterator[tuple[pa.RecordBatch, Integers]]:
    """Rows that have a position, and their pixels."""
    for batch in source.batches():
        ra, dec = (
            np.asarray(batch[name].to_numpy(zero_copy_only=False), np.float64) for name in ("ra", "dec")
        )
        has = np.isfinite(ra) & (np.abs(dec) <= 90)
        if has.any():
            yield batch.filter(pa.array(has)), healpix(ra[has], dec[has])


def _count(source: Source) -> Counter[int]:
    counts: Counter[int] = Counter()
    for _, pixels in _placed(source):
        numbers, rows = np.unique(pixels >> 2 * (INDEX_ORDER - TOP_ORDER), return_counts=True)
        counts.update(dict(zip(numbers.tolist(), rows.tolist(), strict=True)))
    return counts


def _path(folder: Path, pixel: Pixel) -> Path:
    order, number = pixel
    return (
        folder / "dataset" / f"Norder={order}" / f"Dir={number // 10_000 * 10_000}" / f"Npix={number}.parquet"
    )


def _write_partitions(folder: Path, source: Source, schema: pa.Schema, found: _Partitions) -> None:
    """Spread the rows over the partitions as they come, then put each in the order of the index."""
    edges = np.array([number << 2 * (INDEX_ORDER - order) for order, number in found.pixels])
    with ExitStack() as stack:
        writers: dict[Pixel, Any] = {}
        for pixel in found.pixels:
            path = _path(folder, pixel)
            path.parent.mkdir(parents=True, exist_ok=True)
            writers[pixel] = stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
        for batch, index in _placed(source):
            place = np.searchsorted(edges, index, side="right") - 1
            for which in np.unique(place).tolist():
                rows = pa.array(np.flatnonzero(place == which))
                pixel = found.pixels[which]
                columns = [pa.array(index).take(rows), *batch.take(rows).columns]
                writers[pixel].write_batch(pa.record_batch(columns, schema=schema))
                found.counts[pixel] += len(rows)
    for pixel in found.pixels:
        path = _path(folder, pixel)
        ordered = pq.ParquetFile(path).read().sort_by(INDEX)
        pq.write_table(ordered.cast(schema), path, compression="zstd")


def _write_metadata(folder: Path, source: Source, schema: pa.Schema, found: _Partitions) -> None:
    data = folder / "dataset"
    collected = []
    for pixel in found.pixels:
        path = _path(folder, pixel)
        metadata = pq.read_metadata(path)
        metadata.set_file_path(str(path.relative_to(data)))
        collected.append(metadata)
    pq.write_metadata(schema, data / "_metadata", metadata_collector=collected)
    pq.write_metadata(schema, data / "_common_metadata")
    lines = ["Norder,Npix", *(f"{order},{number}" for order, number in found.pixels)]
    (folder / "partition_info.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = "".join(f"{key}={value}\n" for key, value in _properties(folder, source, found).items())
    for name in ("hats.properties", "properties"):
        (folder / name).write_text(f"#HATS catalog\n{text}", encoding="utf-8")


def _properties(folder: Path, source: Source, found: _Partitions) -> dict[str, Any]:
    made = source.provenance.get("made") or {}
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    return {
        "obs_collection": source.name,
        "dataproduct_type": "object",
        "hats_nrows": sum(found.counts.values()),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": INDEX,
        "hats_col_healpix_order": INDEX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_order": max(order for order, _ in found.pixels),
        "hats_max_rows": max(found.counts.values()),
        "hats_estsize": size // 1024,
        "hats_builder": f"batchflow {dict(made.get('versions', {})).get('batchflow', '')}".strip(),
        "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        "hats_version": "v1.0",
    }


def remove_hats(folder: Path) -> None:
    """Remove a HATS catalogue that is to be written anew.

    Raises
    ------
    UserError
        When the folder is something else.
    """
    if any(folder.iterdir()) and not (folder / "hats.properties").is_file():
        raise UserError(
            f"{folder} is a folder, and no HATS catalogue: it is not replaced; choose another name"
        )
    shutil.rmtree(folder)
