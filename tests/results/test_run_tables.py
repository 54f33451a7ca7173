"""Results in Python: each form equal to the files, by galaxy and id, without torch or dask."""

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from asked_run import SIZES, make_asked_run
from toy_runs import add_part, gaussian_draws

import batchflow
from batchflow.errors import UserError
from batchflow.paths import RunFolder, partition_folder
from batchflow.results.unfinished import unfinished_stages
from batchflow.shards import write_table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return batchflow.open_run(make_asked_run(tmp_path_factory.mktemp("asked")).root)


def test_every_form_holds_the_same(run):
    chosen = run.posterior.where(columns=["galaxy", "object_id", "log_age_q50", "flags"])
    rows = chosen.to_arrow().to_pylist()
    assert len(rows) == len(chosen) == 24
    ages = np.array([row["log_age_q50"] for row in rows])
    frame = chosen.to_pandas()
    assert list(frame.columns) == ["galaxy", "object_id", "log_age_q50", "flags"]
    np.testing.assert_array_equal(frame.log_age_q50, ages)
    table = chosen.to_astropy()
    assert str(table["log_age_q50"].unit) == "dex(yr)"
    np.testing.assert_array_equal(table["log_age_q50"].value, ages)
    assert table["object_id"].dtype.kind == "U"
    assert table["flags"].tolist() == [row["flags"] for row in rows]


def test_dask_reads_a_partition_a_file(run):
    pytest.importorskip("dask.dataframe")
    lazy = run.posterior.to_dask()
    assert lazy.npartitions == 3
    assert lazy.log_age_q50.mean().compute(scheduler="sync") == pytest.approx(
        np.nanmean(run.posterior.to_pandas().log_age_q50), rel=1e-5
    )
    one = run.posterior.where(galaxy="../b", object_id="../b-3").to_dask().compute(scheduler="sync")
    assert one[["galaxy", "object_id"]].values.tolist() == [["../b", "../b-3"]]


def test_polars_keeps_lists(run):
    pytest.importorskip("polars")
    frame = run.draws.where(galaxy="628").to_polars()
    assert frame.shape == (5, 6)
    assert len(frame["log_age"][0]) == 80


@pytest.mark.parametrize(
    ("form", "lacking"), [("to_polars", "polars"), ("to_dask", "dask.dataframe"), ("to_pandas", "pandas")]
)
def test_a_library_that_is_not_there_is_named_with_the_way_to_get_it(run, monkeypatch, form, lacking):
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(UserError, match=rf"{lacking} is not installed; pip install 'batchflow\[tables\]'"):
        getattr(run.posterior, form)()


def test_a_galaxy_is_its_own_files(run):
    assert run.posterior.galaxies == ["../b", "628", "Demo-A"]
    chosen = run.draws.where(galaxy="../b")
    assert [Path(file).parent.name for file in chosen.dataset.files] == ["galaxy=..%2Fb"]
    assert len(chosen) == SIZES["../b"]
    assert len(run.draws.where(galaxy=["628", "../b"])) == SIZES["628"] + SIZES["../b"]


def test_a_galaxy_of_a_table_whose_file_holds_all_of_them(tmp_path):
    rows = pa.table({"galaxy": ["a", "b", "b"], "low": [1.0, 2.0, 3.0]})
    write_table(tmp_path / "population" / "population.parquet", rows, {})
    table = batchflow.open_run(tmp_path).population
    chosen = table.where(galaxy="b", columns=["low"])
    assert (len(table), len(chosen), chosen.to_arrow()["low"].to_pylist()) == (3, 2, [2.0, 3.0])
    assert chosen.to_dask().compute(scheduler="sync").low.tolist() == [2.0, 3.0]
    with pytest.raises(UserError, match=r"population has no galaxy 'c'; known: a, b"):
        table.where(galaxy="c")


def test_an_id_that_is_not_there_names_the_nearest(run):
    with pytest.raises(UserError, match=r"no cluster 'Demo-A-111'; nearest: Demo-A-11, "):
        run.posterior.where(object_id="Demo-A-111").to_arrow()
    with pytest.raises(UserError, match="no cluster 'Demo-B-1'"):
        run.corner("Demo-B-1")
    with pytest.raises(UserError, match="no galaxy 'demo-A'; did you mean 'Demo-A'"):
        run.posterior.where(galaxy="demo-A")
    with pytest.raises(UserError, match="no column 'log_age_q5'; did you mean 'log_age_q50'"):
        run.posterior.where(columns=["log_age_q5"])


def test_an_id_in_two_galaxies_asks_which(tmp_path):
    draws = gaussian_draws(
        {"log_age": 7.0, "log_mass": 4.0, "ebv": 0.3},
        dict.fromkeys(("log_age", "log_mass", "ebv"), 0.05),
        (3, 20),
        1,
    )
    for galaxy in ("A", "B"):
        add_part(tmp_path, galaxy, draws)
    found = batchflow.open_run(tmp_path)
    with pytest.raises(UserError, match="'0-1' is a cluster of A and of B; say which: galaxy='A'"):
        found.sed("0-1")
    assert found.galaxy_of("0-1", "B") == "B"
    assert found.posterior.where(object_id="0-1").to_arrow().num_rows == 2


def test_ids_may_be_numbers(tmp_path):
    centres = {"log_age": 7.0, "log_mass": 4.0, "ebv": 0.3}
    draws = gaussian_draws(centres, dict.fromkeys(centres, 0.05), (3, 20), 1)
    add_part(tmp_path, "A", draws)
    one = batchflow.open_run(tmp_path).posterior
    with pytest.raises(UserError, match="'7'"):
        one.where(object_id=7).to_arrow()
    with pytest.raises(UserError, match="'7'"):
        one.where(object_id=[7]).to_arrow()


def test_pictures_are_asked_of_the_report_with_the_galaxy(run, monkeypatch):
    asked = []
    module = types.ModuleType("cluster_pictures")
    for name in ("corner_picture", "sed_picture"):
        setattr(module, name, lambda *given, name=name: asked.append((name, *given)) or name)
    monkeypatch.setitem(sys.modules, "batchflow.report.cluster_pictures", module)
    assert run.corner("628-2") == "corner_picture"
    assert run.sed("628-2", "628") == "sed_picture"
    assert asked == [("corner_picture", run, "628-2", "628"), ("sed_picture", run, "628-2", "628")]


def test_the_real_corner_picture(run):
    pytest.importorskip("corner")
    pictures = pytest.importorskip("batchflow.report.cluster_pictures")
    assert pictures
    assert len(run.corner("628-2").axes) >= 9


def test_a_run_says_what_is_there(run):
    text = repr(run)
    assert "posterior: 24 rows of 3 galaxies; columns galaxy, survey, object_id" in text
    assert "draws: 24 rows" in text
    assert "train: there is no model" not in text
    assert run.tables == ["catalogue", "draws", "posterior"]
    with pytest.raises(UserError, match=r"no table 'fit' .yet.; `batchflow fit` makes it"):
        _ = run.fit


def test_neither_torch_nor_dask_is_started(run):
    code = (
        "import sys, batchflow\n"
        f"run = batchflow.open_run({str(run.folder.root)!r})\n"
        "run.posterior.to_arrow(), run.posterior.to_astropy()\n"
        "run.posterior.where(galaxy='628').to_pandas()\n"
        "run.query(\"FROM sample_draws('628-1', 3)\")\n"
        "repr(run)\n"
        "print([name for name in ('torch', 'dask', 'distributed', 'matplotlib') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unfinished_stages_are_named(tmp_path):
    run = make_asked_run(tmp_path)
    assert unfinished_stages(run) == []
    next(partition_folder(run.draws, "../b").glob("*")).unlink()
    assert unfinished_stages(run) == ["infer: 2 of 3 parts of the catalogue are done; lacking ../b"]
    assert "unfinished: infer: 2 of 3" in repr(batchflow.open_run(tmp_path))
    rows = pa.table({"log_age": [7.0]})
    write_table(run.shard(0), rows, {})
    run.job.write_text("[mocks]\nrows = 25\nrows_per_shard = 10\n", encoding="utf-8")
    assert unfinished_stages(run)[:2] == ["mocks: 1 of 3 shards are made", "train: there is no model"]
    write_table(partition_folder(tmp_path / "fit", "628") / "part-00000.parquet", rows, {})
    assert unfinished_stages(run)[-1] == "fit: 1 of 3 parts of the catalogue are done; lacking ../b, Demo-A"


def test_a_folder_without_results_has_nothing_unfinished(tmp_path):
    assert unfinished_stages(RunFolder(tmp_path)) == []
