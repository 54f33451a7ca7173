"""Hostile tables in every file type: a clear message, or every row with a value or a reason."""

from __future__ import annotations

import gzip
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchflow.catalogue.read import read_with_summary
from batchflow.errors import UserError
from batchflow.schema import Flag
from batchflow.settings.catalogue import CatalogueSettings

BANDS = ("wfc3_f275w", "acs_f435w")
FLUX, ERROR = "flux_wfc3_f275w", "error_wfc3_f275w"
FORMATS = {
    "fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv", "csv": "ascii.csv", "txt": "ascii.basic",
    "dat": "ascii.fixed_width",
}  # fmt: skip
HOSTILE = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

odd_numbers = st.one_of(
    st.floats(width=64),
    st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e308, 5e-324, -9999.0, 99.999]),
)
odd_words = st.one_of(
    st.sampled_from(["", " ", "nan", "--", "1e-3", "+1", "1,5", "1_0", "true", "#", '"', "ß", "N/A", "1 2"]),
    st.text(max_size=6),
)  # fmt: skip
units = st.sampled_from(
    ["", "mJy", "uJy", "mag", "mag(AB)", "km/s", "erg / (s cm2 Hz)", "no unit", "dex(mJy)"]
)
dtypes = st.sampled_from(
    ["<f8", ">f8", "<f4", ">f4", "<i2", ">i4", "<i8", ">u8", "u1", "?", "S4", "U4", "f2"]
)


@st.composite
def columns(draw, n_rows):
    """One column: numbers of any type and byte order, or words; some masked."""
    words = draw(st.booleans()) and draw(st.booleans())
    values = draw(st.lists(odd_words if words else odd_numbers, min_size=n_rows, max_size=n_rows))
    dtype = "U8" if words else draw(dtypes)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = np.array(values, dtype="U8" if words else "f8").astype(dtype)
    mask = draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows)) if draw(st.booleans()) else False
    return MaskedColumn(data, mask=mask)


@st.composite
def tables(draw):
    """A table that a reader may be given: sometimes short of a column, sometimes sound in most."""
    n_rows = draw(st.integers(0, 6))
    found = Table()
    for name in ("object_id", "galaxy", "distance_mpc", "ra", "class_", FLUX, ERROR, "limit_wfc3_f275w"):
        if draw(st.integers(0, 9)) == 0:
            continue
        column = draw(columns(n_rows)) if draw(st.booleans()) else sound(name, n_rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's fill values do not fit every type
            found[name] = column
    unit = draw(units)
    for name in (FLUX, ERROR):
        if name in found.colnames and unit:
            found[name].info.unit = unit if draw(st.booleans()) else None
    return found


def sound(name, n_rows):
    values = {"galaxy": "NGC 628", "object_id": "x", "limit_wfc3_f275w": False, "class_": 1}.get(name, 1.0)
    return [values] * n_rows


def save(table, path):
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: table[name].tolist() for name in table.colnames}), path)
    else:
        table.write(path, format=FORMATS[path.suffix[1:]])


def read(path):
    """Table and summary; None after a message that names the file."""
    entry = CatalogueSettings(path=path, name="s", galaxy="g", distance_mpc=3.0, bands=BANDS[:1], unit="AB")
    try:
        return read_with_summary(entry, BANDS)
    except UserError as error:
        message = str(error)
    assert path.name in message
    return None


def check(path, n_rows):
    """Read: a message that names the file, or all rows, each with a value or a reason."""
    outcome = read(path)
    if outcome is None:
        return
    found, summary = outcome
    assert found.num_rows == summary.n_rows == n_rows
    flux, error, flags = (found[name].to_numpy() for name in (FLUX, ERROR, "flags"))
    used = np.isfinite(flux)
    assert (used == (np.isfinite(error) & (error > 0))).all()
    assert (used | (flags & (Flag.MISSING_BAND | Flag.BAD_ERROR) != 0)).all()
    assert (used | (flags & Flag.NO_BAND != 0)).all()
    distance = found["distance_mpc"].to_numpy()
    assert ((np.isfinite(distance) & (distance > 0)) | (flags & Flag.NO_DISTANCE != 0)).all()
    assert "" not in found["galaxy"].to_pylist()


@pytest.mark.parametrize("suffix", [*FORMATS, "parquet"])
@given(table=tables())
@HOSTILE
def test_hostile_table(suffix, table):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / f"c.{suffix}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                save(table, path)
        except Exception:  # what the writer refuses no reader can meet
            return
        if suffix == "txt" and any(line.startswith("#") for line in path.read_text().splitlines()):
            return  # a row that the writer made a comment, to its own reader as well
        check(path, len(table))


@pytest.mark.parametrize("suffix", [*FORMATS, "parquet", "csv.gz", "mrt"])
@given(data=st.data())
@HOSTILE
def test_damaged_file(suffix, data):
    table = Table({name: sound(name, 5) for name in ("object_id", "galaxy", "distance_mpc", FLUX, ERROR)})
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / f"p.{'csv' if suffix in ('csv.gz', 'mrt') else suffix}"
        save(table, plain)
        content = bytearray(plain.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        content = content[: data.draw(st.integers(1, len(content)))]
        path = Path(folder) / f"c.{suffix}"
        path.write_bytes(gzip.compress(bytes(content)) if suffix.endswith("gz") else bytes(content))
        read(path)


@given(st.lists(st.lists(odd_words, min_size=5, max_size=5), min_size=1, max_size=8))
@HOSTILE
def test_any_words_in_csv(rows):
    header = ["object_id", "galaxy", "distance_mpc", FLUX, ERROR]
    table = pa.table([[*column] for column in zip(*rows, strict=True)], names=header)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.csv"
        pyarrow.csv.write_csv(table, path)
        check(path, len(rows))
