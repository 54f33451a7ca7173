"""Parts: every row once, in order, in a folder that is harmless."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchflow.catalogue.files import checksum
from batchflow.catalogue.normalise import RawCatalogue, normalise
from batchflow.catalogue.partition import CatalogueWriter, write_catalogue
from batchflow.errors import UserError
from batchflow.schema import Flag
from batchflow.shards import read_footer

BANDS = ("acs_f435w",)
PART = {"fingerprint": "abc", "galaxy": "a", "first_id": "100", "last_id": "101"}


def survey(name, galaxies, first_id=0):
    n_rows = len(galaxies)
    raw = RawCatalogue(
        galaxy=galaxies,
        object_id=[str(first_id + i) for i in range(n_rows)],
        ra=np.zeros(n_rows),
        dec=np.zeros(n_rows),
        distance_mpc=np.ones(n_rows),
        flux={"acs_f435w": np.arange(1.0, n_rows + 1)},
        error={"acs_f435w": np.ones(n_rows)},
    )
    return normalise(raw, name, BANDS)


@pytest.fixture
def tables():
    return [survey("early", ["a", "a", "c", "a"], first_id=100), survey("late", ["a", "b", "a"])]


def test_galaxies_that_differ_by_case_share_no_file_name(tmp_path):
    parts = write_catalogue([survey("s", ["NGC628", "ngc628", "NGC628"])], tmp_path, 5, {})
    assert [(part.galaxy, part.n_rows) for part in parts] == [("NGC628", 2), ("ngc628", 1)]
    assert len({str(part.path).lower() for part in parts}) == 2


def test_every_row_once_by_galaxy_survey_and_file(tmp_path, tables):
    parts = write_catalogue(tables, tmp_path, 2, {"seed": 1})
    assert [(part.galaxy, part.n_rows, part.first_id, part.last_id) for part in parts] == [
        ("a", 2, "100", "101"),
        ("a", 2, "103", "0"),
        ("a", 1, "2", "2"),
        ("b", 1, "1", "1"),
        ("c", 1, "102", "102"),
    ]
    assert [part.path.relative_to(tmp_path).as_posix() for part in parts] == [
        "galaxy=a/part-00000.parquet",
        "galaxy=a/part-00001.parquet",
        "galaxy=a/part-00002.parquet",
        "galaxy=b/part-00000.parquet",
        "galaxy=c/part-00000.parquet",
    ]
    written = pa.concat_tables([pq.ParquetFile(part.path).read() for part in parts])
    assert sorted(written["object_id"].to_pylist()) == ["0", "1", "100", "101", "102", "103", "2"]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_pieces_do_not_matter(tmp_path, tables, rows):
    first = write_catalogue(tables, tmp_path / "1" / "catalogue", 2, {})
    pieces = [table.slice(start, rows) for table in tables for start in range(0, table.num_rows, rows)]
    second = write_catalogue(pieces, tmp_path / "2" / "catalogue", 2, {})
    for one, other in zip(first, second, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()


def test_waiting_rows_are_bounded_and_none_is_lost(tmp_path):
    writer = CatalogueWriter(tmp_path, 100, {}, most_waiting=5)
    for i in range(20):
        writer.add(survey("s", ["a", "a", "b"], first_id=10 * i))
        assert sum(part.n_rows for part in writer.parts) >= 3 * (i + 1) - 5
    parts = writer.finish()
    ids = [id_ for part in parts for id_ in pq.ParquetFile(part.path).read()["object_id"].to_pylist()]
    assert ids == [str(10 * i + j) for i in range(20) for j in (0, 1)] + [str(10 * i + 2) for i in range(20)]


def test_other_galaxies_do_not_matter(tmp_path, tables):
    (alone,) = write_catalogue([survey("late", ["b"])], tmp_path / "1" / "catalogue", 10, {})
    among = write_catalogue(
        [survey("late", ["b"]), survey("early", ["a", "c"])], tmp_path / "2" / "catalogue", 10, {}
    )
    assert alone.path.read_bytes() == among[1].path.read_bytes()


def test_footer_says_what_the_part_is(tmp_path, tables):
    part = write_catalogue(tables, tmp_path, 2, {"fingerprint": "abc"})[0]
    assert read_footer(part.path) == (
        PART | {"file": f"{tmp_path.name}/galaxy=a/{part.path.name}"},
        2,
    )


@pytest.mark.parametrize("galaxy", ["../x", "/etc", "a=b/c", "NGC 1313", "Malin 1 β", ".."])
def test_galaxy_never_leaves_the_folder(tmp_path, galaxy):
    folder = tmp_path / "catalogue"
    (part,) = write_catalogue([survey("s", [galaxy])], folder, 10, {})
    assert part.galaxy == galaxy
    assert part.path.resolve().parent.parent == folder.resolve()
    assert list(tmp_path.iterdir()) == [folder]
    assert pq.ParquetFile(part.path).read()["galaxy"].to_pylist() == [galaxy]


def test_id_repeated_in_another_file_is_flagged(tmp_path):
    parts = write_catalogue([survey("one", ["a", "b"]), survey("two", ["a", "a"])], tmp_path, 10, {})
    flags = {part.galaxy: pq.ParquetFile(part.path).read()["flags"].to_pylist() for part in parts}
    duplicate = int(Flag.DUPLICATE_ID)
    assert flags == {"a": [duplicate, duplicate, 0], "b": [0]}


@pytest.mark.parametrize("rows_at_once", [1, 4, 1000])
def test_repeated_ids_are_found_in_whatever_shares_they_are_sought(tmp_path, monkeypatch, rows_at_once):
    monkeypatch.setattr("batchflow.catalogue.repeated.ROWS_AT_ONCE", rows_at_once)
    generator = np.random.default_rng(8)
    pieces = [survey(f"s{k}", generator.choice(["a", "b"], 9).tolist(), first_id=5 * k) for k in range(4)]
    rows = [row for piece in pieces for row in piece.select(["galaxy", "object_id"]).to_pylist()]
    parts = write_catalogue(pieces, tmp_path, 3, {})
    flagged = 0
    for part in parts:
        for row in pq.ParquetFile(part.path).read().to_pylist():
            is_repeated = rows.count({name: row[name] for name in ("galaxy", "object_id")}) > 1
            assert bool(row["flags"] & Flag.DUPLICATE_ID) == is_repeated
            flagged += is_repeated
    assert 0 < flagged < len(rows)


def test_checksum_is_sha256(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes(b"abc")
    assert checksum(path) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(UserError, match="does not exist"):
        checksum(tmp_path / "other.csv")
