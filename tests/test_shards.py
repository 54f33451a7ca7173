"""A final name means a finished file."""

import errno
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchflow.errors import UserError
from batchflow.shards import read_footer, sweep, write_atomic, write_table

TABLE = pa.table({"galaxy": pa.array(["a", "b"]), "x": pa.array([1.0, 2.0], pa.float32())})


def test_rows_and_footer_come_back(tmp_path):
    path = tmp_path / "deep" / "file.parquet"
    write_table(path, TABLE, {"stage": "mocks", "n": 3})
    assert pq.read_table(path).equals(TABLE)
    assert read_footer(path) == ({"stage": "mocks", "n": 3, "file": "deep/file.parquet"}, 2)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.parquet"
    write_table(path, TABLE, {"version": 1})

    def full_disk(temporary):
        temporary.write_bytes(b"half a fi")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match="No space left"):
        write_atomic(path, full_disk)
    assert read_footer(path) == ({"version": 1, "file": f"{tmp_path.name}/file.parquet"}, 2)
    assert [item.name for item in tmp_path.iterdir()] == ["file.parquet"]


def test_what_was_half_written_is_swept_files_and_folders(tmp_path):
    left = [tmp_path / f".{name}.{'0a' * 16}.tmp" for name in ("steep", "part-00000.parquet")]
    left[0].mkdir()
    left[1].touch()
    (left[0] / left[1].name).touch()
    (tmp_path / ".mine.tmp").touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".mine.tmp"]


def test_an_error_that_is_no_ones_fault_passes_and_leaves_nothing(tmp_path):
    def broken(temporary):
        temporary.write_bytes(b"x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "file", broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["absent", "empty", "truncated", "garbage", "foreign"])
def test_a_file_that_is_not_whole_has_no_footer(tmp_path, damage):
    path = tmp_path / "file.parquet"
    write_table(path, TABLE, {"version": 1})
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "foreign":
        pq.write_table(TABLE, path)
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-9], "garbage": b"x" * 400}[damage])
    assert read_footer(path) is None


def test_row_groups_are_bounded_in_bytes_compressed_and_have_statistics(tmp_path, monkeypatch):
    monkeypatch.setattr("batchflow.shards.LISTS_GROUP_BYTES", 4000)
    lists = pa.array([[float(i)] * 100 for i in range(64)], pa.list_(pa.float32()))
    table = pa.table({"x": pa.array(range(64), pa.float32()), "draws": lists})
    write_table(tmp_path / "file.parquet", table, {})
    found = pq.read_metadata(tmp_path / "file.parquet")
    assert 6 <= found.num_row_groups <= 8
    columns = [found.row_group(0).column(i) for i in range(2)]
    assert {column.compression for column in columns} == {"ZSTD"}
    assert (columns[0].statistics.min, columns[0].statistics.max) == (0.0, found.row_group(0).num_rows - 1)
    assert pq.read_table(tmp_path / "file.parquet").equals(table)
