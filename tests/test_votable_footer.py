"""Parquet files say their units to TOPCAT and astropy: VOParquet's footer, read by astropy itself."""

import io

import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import votable
from astropy.table import Table
from toy_runs import add_part, gaussian_draws

from batchflow import schema
from batchflow.paths import RunFolder, partition_folder
from batchflow.shards import write_table
from batchflow.train.history import Record, write_history
from batchflow.votable import CONTENT_KEY, VERSION_KEY, value_type, votable_unit


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard.parquet"
    names = ["log_age", "log_mass", "ebv", "flux_wfc3_f275w"]
    columns = [pa.array(np.arange(3.0) + i, pa.float32()) for i in range(len(names))]
    write_table(
        path, pa.table(columns, schema=schema.mocks_schema(names[:3], ["wfc3_f275w"])), {"stage": "mocks"}
    )
    return path


@pytest.mark.parametrize("reader", ["parquet", "parquet.votable"])
def test_astropy_reads_units_and_descriptions(shard, reader):
    table = Table.read(shard, format=reader)
    assert table["log_age"].unit == units.Unit("dex(yr)")
    assert table["flux_wfc3_f275w"].unit == units.mJy
    assert table["log_mass"].description == "log10 of the mass of stars formed"
    assert table["ebv"].tolist() == [2.0, 3.0, 4.0]


def test_plain_tables_are_described_as_they_are_written(tmp_path):
    write_history(tmp_path / "history.parquet", [Record(1, 0.1, -3.0, -2.9, 1e-3, 1000.0, 2.0)])
    table = Table.read(tmp_path / "history.parquet", format="parquet.votable")
    assert table["seconds"].unit == units.s
    assert pq.read_schema(tmp_path / "history.parquet").field("step").metadata[b"ucd"] == b"meta.number"


@pytest.fixture
def two_galaxies(tmp_path):
    centres, widths = {"log_age": 7.0, "log_mass": 4.0, "ebv": 0.2}, dict.fromkeys(("log_age", "ebv"), 0.1)
    for galaxy in ("NGC 628", "M33"):
        add_part(tmp_path, galaxy, gaussian_draws(centres, widths | {"log_mass": 0.1}, (4, 20), 1))
    return RunFolder(tmp_path)


@pytest.mark.parametrize("name", ["posterior", "draws"])
@pytest.mark.parametrize("reader", ["parquet", "parquet.votable"])
def test_astropy_reads_a_part_with_its_galaxy(two_galaxies, name, reader):
    part = partition_folder(getattr(two_galaxies, name), "NGC 628") / "part-00000.parquet"
    table = Table.read(part, format=reader)
    assert set(table["galaxy"]) == {"NGC 628"}
    named = {"posterior": "log_age_q50", "draws": "log_age"}[name]
    assert table[named].unit == units.Unit("dex(yr)")
    assert table[named].description
    if name == "draws":
        assert [len(row) for row in table["log_age"]] == [20] * 4


# pandas 3.1 warns of what dask 2026 does in it.
@pytest.mark.filterwarnings("ignore:The inplace keyword:pandas.errors.Pandas4Warning")
def test_a_tables_folder_is_read_whole_by_others(two_galaxies):
    folder = two_galaxies.posterior
    frames = [
        pd.read_parquet(folder, partitioning=None),
        ds.dataset(folder, partitioning="hive").to_table().to_pandas(),
        dd.read_parquet(folder).compute(),
        pl.read_parquet(folder).to_pandas(),
    ]
    for frame in frames:
        assert sorted(frame["galaxy"]) == ["M33"] * 4 + ["NGC 628"] * 4


@pytest.mark.parametrize("name", ["posterior", "draws"])
def test_the_votable_in_a_footer_matches_the_columns(tmp_path, name):
    centres, widths = (
        {"log_age": 7.0, "log_mass": 4.0, "ebv": 0.2},
        {"log_age": 0.1, "log_mass": 0.1, "ebv": 0.1},
    )
    add_part(tmp_path, "NGC 628", gaussian_draws(centres, widths, (4, 20), 1))
    (path,) = getattr(RunFolder(tmp_path), name).glob("*/*.parquet")
    written = pq.read_schema(path)
    assert written.metadata[VERSION_KEY] == b"1.0"
    found = votable.parse(io.BytesIO(written.metadata[CONTENT_KEY]), verify="exception").get_first_table()
    assert [field.name for field in found.fields] == written.names
    for field, column in zip(found.fields, written, strict=True):
        is_list = pa.types.is_list(column.type)
        kind = value_type(column.type)
        assert field.datatype == {"float": "float", "double": "double", "string": "unicodeChar"}.get(
            str(kind), {"int16": "short", "int32": "int"}.get(str(kind))
        )
        assert (field.arraysize == "*") == is_list
        assert field.ucd
        assert field.description


def test_a_string_is_as_wide_as_the_longest(tmp_path):
    write_table(
        tmp_path / "a.parquet", pa.table({"object_id": ["a", "bcd", None], "survey": ["", "", ""]}), {}
    )
    written = pq.read_schema(tmp_path / "a.parquet").metadata
    assert written[b"table::len::object_id"] == b"3"
    assert b'name="object_id" datatype="unicodeChar" arraysize="3"' in written[CONTENT_KEY]
    assert b'name="survey" datatype="unicodeChar" arraysize="1"' in written[CONTENT_KEY]


def test_metadata_of_a_users_own_stays(tmp_path):
    own = pa.schema([pa.field("ra", pa.float64(), metadata={"unit": "rad"}), pa.field("<&", pa.int64())])
    write_table(tmp_path / "a.parquet", pa.table([[1.0], [2]], schema=own), {})
    written = pq.read_schema(tmp_path / "a.parquet")
    assert written.field("ra").metadata[b"unit"] == b"rad"
    assert written.field("ra").metadata[b"ucd"] == b"pos.eq.ra;meta.main"
    assert votable.parse(io.BytesIO(written.metadata[CONTENT_KEY])).get_first_table().fields[1].name == "<&"


@pytest.mark.parametrize("unit", ["dex(yr)", "dex(solMass)", "mag", "mJy", "Mpc", "deg", "s", "1/s"])
def test_units_in_the_notation_of_votable(unit):
    assert units.Unit(votable_unit(unit), format="cds") == units.Unit(unit)
