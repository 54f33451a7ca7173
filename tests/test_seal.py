"""The checksum in a Parquet file: every byte counts, and readers do not mind it."""

from __future__ import annotations

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchflow.plan import Plan, Unit, apply_mode, make_plan
from batchflow.seal import damaged, is_intact
from batchflow.shards import DamagedError, open_dataset, read_footer, read_table, write_table

TABLE = pa.table(
    {
        "galaxy": pa.array(["a", "b"] * 200),
        "x": np.random.default_rng(0).normal(size=400).astype("f4"),
        "draws": pa.array([[float(i), 2.0] for i in range(400)], pa.list_(pa.float32())),
    }
)


@pytest.fixture
def path(tmp_path):
    write_table(tmp_path / "part.parquet", TABLE, {"stage": "mocks"})
    return tmp_path / "part.parquet"


def flipped(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    other = path.with_name(f"flipped-{place}.parquet")
    other.write_bytes(content)
    return other


def test_others_read_it_as_any_parquet_file(path):
    assert is_intact(path)
    assert pq.read_table(path).equals(TABLE)
    assert read_table(path).equals(TABLE)
    assert polars.read_parquet(path).height == 400
    ((total,),) = duckdb.sql(f"SELECT sum(x) FROM '{path}'").fetchall()
    assert total == pytest.approx(float(np.sum(TABLE["x"].to_numpy(), dtype=float)))


def test_a_flip_of_any_byte_is_seen(path):
    assert [i for i in range(path.stat().st_size) if is_intact(flipped(path, i))] == []


def test_any_file_cut_short_is_seen(path):
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        assert not is_intact(path)
        assert read_footer(path) is None


def test_what_is_read_of_a_flipped_file_is_right_or_refused(path):
    refused = 0
    for place in range(0, path.stat().st_size, 13):
        other = flipped(path, place)
        try:
            found = read_table(other)
        except DamagedError:
            refused += 1
        else:
            assert found.equals(TABLE), place
    assert refused > 50


def test_a_table_of_files_names_the_damaged_one(path):
    write_table(path.with_name("sound.parquet"), TABLE, {})
    other = flipped(path, 100)
    with pytest.raises(DamagedError, match=r"flipped-100\.parquet is damaged.*makes it anew"):
        open_dataset([path.with_name("sound.parquet"), other])
    assert open_dataset([path]).to_table().equals(TABLE)


def test_of_many_bytes_only_the_footers_are_looked_at_unless_asked(path):
    early, late = flipped(path, 100), flipped(path, path.stat().st_size - 60)
    assert damaged([path, early, late], most=10) == [late]
    assert damaged([path, early, late], most=None) == [early, late]


def test_a_file_without_a_seal_is_taken_as_it_is(tmp_path):
    pq.write_table(TABLE, tmp_path / "foreign.parquet")
    assert is_intact(tmp_path / "foreign.parquet")
    assert not is_intact(tmp_path / "absent.parquet")


def test_a_damaged_unit_is_left_to_be_made(path, caplog):
    unit = Unit("u", (path,), 400)
    write_table(path, TABLE, Plan("mocks", {}, (), frozenset()).footer(unit))
    flipped(path, 100).replace(path)
    plan = apply_mode(lambda: make_plan("mocks", {}, [unit]), "resume", lambda: None)
    assert plan.left == (unit,)
    assert f"{path} is damaged" in caplog.text


def test_tables_of_one_unit_are_not_taken_for_each_other(tmp_path):
    unit = Unit("u", (tmp_path / "posterior" / "p.parquet", tmp_path / "draws" / "p.parquet"), 400)
    for path in unit.paths:
        write_table(path, TABLE, Plan("infer", {}, (), frozenset()).footer(unit))
    assert make_plan("infer", {}, [unit]).complete
    unit.paths[0].write_bytes(unit.paths[1].read_bytes())
    assert make_plan("infer", {}, [unit]).left == (unit,)


@pytest.mark.parametrize(
    "read", [read_table, lambda path: open_dataset([path]).to_table()], ids=["file", "dataset"]
)
def test_a_copy_that_another_program_writes_of_the_rows_is_whole(path, read, tmp_path):
    pq.write_table(read(path).slice(3, 5), tmp_path / "copy.parquet")
    assert read_table(tmp_path / "copy.parquet").num_rows == 5
    footer, rows = read_footer(tmp_path / "copy.parquet")
    assert (footer["stage"], rows) == ("mocks", 5)
