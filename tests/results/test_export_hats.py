"""A HATS catalogue, opened by lsdb itself; what needs lsdb, hats or cdshealpix skips without."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_runs import add_part, gaussian_draws

from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.results import write_hats as hats_module
from batchflow.results.export import Request, export_run
from batchflow.results.provenance import provenance
from batchflow.results.write_hats import TOP_ORDER, choose_pixels
from batchflow.shards import read_footer, write_table

N = 400


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Clusters over the sky, half of them within a degree of (150, 2); three have no position."""
    folder = tmp_path_factory.mktemp("run")
    widths = {"log_age": 0.1, "log_mass": 0.1, "ebv": 0.1}
    add_part(folder, "g", gaussian_draws({"log_age": 7.0, "log_mass": 4.0, "ebv": 0.3}, widths, (N, 4), 1))
    (path,) = RunFolder(folder).posterior.glob("*/*")
    table = pq.read_table(path, partitioning=None)
    rng = np.random.default_rng(3)
    ra = np.where(np.arange(N) % 2, 150 + rng.uniform(-1, 1, N), rng.uniform(0, 360, N))
    dec = np.where(np.arange(N) % 2, 2 + rng.uniform(-1, 1, N), np.degrees(np.arcsin(rng.uniform(-1, 1, N))))
    ra[:3] = np.nan
    for name, values in (("ra", ra), ("dec", dec)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    write_table(path, table, read_footer(path)[0])
    return folder


def positions(run):
    (path,) = RunFolder(run).posterior.glob("*/*")
    table = pq.read_table(path, partitioning=None)
    return table["object_id"].to_pylist(), table["ra"].to_numpy(), table["dec"].to_numpy()


def separation(ra, dec, at):
    """Great-circle distance [deg], by the haversine formula."""
    ra, dec, ra0, dec0 = (np.radians(value) for value in (ra, dec, *at))
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(half)))


def test_pixels_hold_every_row_once_and_no_more_than_asked_for():
    rng = np.random.default_rng(1)
    counts = Counter(rng.integers(0, 12 * 4**TOP_ORDER, 3000).tolist()) + Counter({7: 500})
    found = choose_pixels(counts, 100)
    held = Counter()
    for order, number in found:
        inside = [p for p in counts if p >> 2 * (TOP_ORDER - order) == number]
        rows = sum(counts[p] for p in inside)
        assert 0 < rows <= 100 or order == TOP_ORDER
        held.update(inside)
    assert held == Counter(counts.keys())


def test_a_catalogue_without_positions_is_refused(tmp_path):
    widths = {"log_age": 0.1, "log_mass": 0.1, "ebv": 0.1}
    run = tmp_path / "run"
    add_part(run, "g", gaussian_draws({"log_age": 7.0, "log_mass": 4.0, "ebv": 0.3}, widths, (3, 4), 1))
    with pytest.raises(UserError, match="no row of posterior has a position"):
        export_run(run, tmp_path / "hats", Request(format="hats"))
    with pytest.raises(UserError, match="dec is not among those chosen"):
        export_run(run, tmp_path / "hats", Request(columns=("ra",), format="hats"))
    with pytest.raises(UserError, match="ra is not among those of draws"):
        export_run(run, tmp_path / "hats", Request("draws", format="hats"))
    assert not (tmp_path / "hats").exists()


def test_without_cdshealpix_the_way_out_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cdshealpix.nested", None)
    with pytest.raises(UserError, match=r"pip install 'batchflow\[hats\]'"):
        export_run(run, tmp_path / "hats", Request(format="hats"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def catalogue(run, tmp_path, monkeypatch):
    pytest.importorskip("cdshealpix")
    monkeypatch.setattr(hats_module, "ROWS_IN_PIXEL", 50)
    figures = export_run(run, tmp_path / "hats", Request(format="hats"))
    assert (figures["rows"], figures["left_out"]) == (N - 3, 3)
    return tmp_path / "hats"


def test_partitions_are_in_order_and_know_where_they_come_from(catalogue):
    lines = (catalogue / "partition_info.csv").read_text().splitlines()[1:]
    assert len(lines) > 12
    for order, number in (map(int, line.split(",")) for line in lines):
        path = (
            catalogue
            / "dataset"
            / f"Norder={order}"
            / f"Dir={number // 10000 * 10000}"
            / f"Npix={number}.parquet"
        )
        index = pq.ParquetFile(path).read()["_healpix_29"].to_numpy()
        assert (np.diff(index) >= 0).all()
        assert (index >> 2 * (29 - order) == number).all()
    assert provenance(catalogue)["export"]["table"] == "posterior"
    assert pq.read_schema(catalogue / "dataset" / "_common_metadata").field("ra").metadata[b"unit"] == b"deg"


def test_only_a_hats_catalogue_is_replaced(run, catalogue, tmp_path):
    with pytest.raises(UserError, match="is there already"):
        export_run(run, catalogue, Request(format="hats"))
    export_run(run, catalogue, Request(format="hats", force=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="no HATS catalogue"):
        export_run(run, tmp_path / "mine", Request(format="hats", force=True))
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("at", "radius"), [((150.0, 2.0), 0.4), ((150.5, 1.5), 0.1), ((0.0, 80.0), 15.0)])
def test_a_cone_search_of_lsdb_gives_the_right_rows(run, catalogue, at, radius):
    lsdb = pytest.importorskip("lsdb", reason="lsdb is not installed: pip install lsdb")
    opened = lsdb.open_catalog(catalogue)
    assert len(opened) == N - 3
    ids, ra, dec = positions(run)
    inside = separation(ra, dec, at) <= radius
    found = opened.cone_search(ra=at[0], dec=at[1], radius_arcsec=3600 * radius).compute()
    assert set(found["object_id"]) == {name for name, ok in zip(ids, inside, strict=True) if ok}
    assert len(found) == inside.sum() > 0


@pytest.mark.filterwarnings("default")
def test_a_crossmatch_of_lsdb_finds_every_cluster_at_its_own_place(catalogue):
    lsdb = pytest.importorskip("lsdb", reason="lsdb is not installed: pip install lsdb")
    opened = lsdb.open_catalog(catalogue)
    found = opened.crossmatch(opened, radius_arcsec=0.1, suffixes=("_1", "_2")).compute()
    assert len(found) == N - 3
    assert (found["object_id_1"] == found["object_id_2"]).all()


@pytest.mark.filterwarnings("default")
def test_hats_itself_finds_the_catalogue_valid(catalogue):
    validation = pytest.importorskip("hats.io.validation", reason="hats is not installed: pip install hats")
    assert validation.is_valid_catalog(catalogue, strict=True)
    (catalogue / "partition_info.csv").write_text("Norder,Npix\n0,0\n")
    assert not validation.is_valid_catalog(catalogue, strict=True)


@pytest.mark.filterwarnings("default")
def test_pixels_are_those_of_hats(run, catalogue):
    reason = "hats is not installed: pip install hats"
    index = pytest.importorskip("hats.pixel_math.spatial_index", reason=reason)
    _, ra, dec = positions(run)
    has = np.isfinite(ra)
    expected = index.compute_spatial_index(ra[has], dec[has])
    np.testing.assert_array_equal(hats_module.healpix(ra[has], dec[has]), expected)
