"""The whole job through the command line, as a user would run it, with small numbers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from batchflow.paths import RunFolder
from batchflow.schema import Flag
from batchflow.shards import write_table

JOBS = Path(__file__).resolve().parents[1] / "jobs"
SMALL = [
    "mocks.rows=30000",
    "mocks.rows_per_shard=5000",
    "train.epochs=2",
    "train.checkpoint_seconds=0.5",
    "flow.hidden=32",
    "flow.couplings=3",
    "infer.draws=100",
    "infer.rows_per_part=60",
    "validate.mocks=200",
    "validate.exact=5",
    "fit.draws=50",
    "cluster.cpu_workers=2",
    "cluster.dashboard=127.0.0.1:0",
]


def batchflow(*arguments, overrides=(), timeout=240, check=True):
    """Run the program; its result."""
    sets = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "batchflow", *map(str, arguments), *sets]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


def small(folder, *more):
    return [*SMALL, f"output={folder}", *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder of the quickstart job with small numbers, and what the program said."""
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    return folder, batchflow("run", JOBS / "quickstart.toml", overrides=small(folder))


def posterior(folder):
    return ds.dataset(folder / "posterior", format="parquet").to_table().sort_by("object_id")


def test_the_demo_ends_with_results_tables_and_a_report(finished):
    folder, done = finished
    assert "dashboard http://127.0.0.1:" in done.stderr
    for words in (
        "Clusters by galaxy",
        "Recovery of held-out mocks",
        "published",
        "of 500 clusters (",
        "outside the training, by survey",
        str(folder),
        "report/index.html",
    ):
        assert words in done.stderr
    assert (folder / "report" / "index.html").read_text().rstrip().endswith("</html>")
    assert (folder / "report" / "pictures" / "trust.png").read_bytes().startswith(b"\x89PNG")


def test_every_cluster_of_the_catalogue_has_a_row_and_nothing_is_dropped(finished):
    folder, _ = finished
    catalogue = ds.dataset(folder / "catalogue", format="parquet").to_table()
    table = posterior(folder)
    assert table.num_rows == catalogue.num_rows == 500
    assert sorted(table["object_id"].to_pylist()) == sorted(catalogue["object_id"].to_pylist())
    assert sorted(path.name for path in (folder / "posterior").iterdir()) == [
        "galaxy=Demo-A",
        "galaxy=Demo-B",
        "galaxy=Demo-C",
    ]


def test_posteriors_lie_in_the_prior_and_know_something(finished):
    table = posterior(finished[0])
    for name, low, high in (("log_age", 6.0, 10.14), ("log_mass", 2.0, 8.0), ("ebv", 0.0, 1.5)):
        q02, q50, q97 = (table[f"{name}_{suffix}"].to_numpy() for suffix in ("q02", "q50", "q97"))
        assert ((low <= q02) & (q02 <= q50) & (q50 <= q97) & (q97 <= high)).all()
    difference = table["log_mass_q50"].to_numpy() - table["published_log_mass"].to_numpy()
    # The prior's own spread is 1.7 dex; even a network trained for seconds must beat it by far.
    assert np.median(np.abs(difference)) < 0.4


def test_draws_carry_their_weights(finished):
    table = ds.dataset(finished[0] / "draws", format="parquet").to_table()
    weights = np.exp(np.array(table["log_weight"].to_pylist(), dtype=float))
    assert weights.shape == (500, 100)
    assert weights.sum(1) == pytest.approx(np.ones(500), rel=1e-4)
    ages = np.array(table["log_age"].to_pylist())
    assert ages.min() >= 6.0
    assert ages.max() <= 10.14 + 1e-6


def test_a_finished_run_does_nothing_again(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    done = batchflow("run", JOBS / "quickstart.toml", "--json", overrides=small(folder))
    assert "dashboard" not in done.stderr
    reports = json.loads(done.stdout)
    assert [reports[stage]["made"] for stage in ("mocks", "train", "infer", "validate")] == [0, 0, 0, 0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")} == before


def test_status_tells_done_from_left_without_a_cluster(finished, tmp_path):
    folder, _ = finished
    rows = json.loads(batchflow("status", JOBS / "quickstart.toml", "--json", overrides=small(folder)).stdout)
    assert {row["stage"]: row["state"] for row in rows} == dict.fromkeys(
        ("mocks", "train", "infer", "fit", "validate", "report"), "done"
    )
    new = small(tmp_path / "new")
    rows = json.loads(batchflow("status", JOBS / "quickstart.toml", "--json", overrides=new).stdout)
    assert (rows[0]["done"], rows[0]["wanted"], rows[2]["wanted"]) == (0, 6, None)
    assert not (tmp_path / "new").exists()


def test_query_answers(finished):
    sql = "SELECT galaxy, count(*) AS n FROM posterior GROUP BY galaxy ORDER BY galaxy"
    found = json.loads(batchflow("query", finished[0], sql, "--json").stdout)
    assert found == [
        {"galaxy": f"Demo-{name}", "n": n} for name, n in zip("ABC", (150, 200, 150), strict=True)
    ]
    shown = batchflow("query", finished[0], "SELECT * FROM history", "--rows", "1").stdout
    assert "held_out_loss" in shown


def test_every_cluster_says_whether_it_is_like_the_training(finished):
    table = posterior(finished[0])
    pvalue, flags = (table[name].to_numpy() for name in ("ood_pvalue", "flags"))
    assert ((pvalue > 0) & (pvalue <= 1)).all()
    assert ((pvalue < 0.001) == ((flags & Flag.OUT_OF_DISTRIBUTION.value) > 0)).all()
    # The catalogue is simulated with the same physics: some 0.001 of 500 by chance.
    assert (pvalue < 0.001).sum() <= 5
    assert (table["log_evidence_error"].to_numpy() >= 0).all()


def test_flags_reweight_and_population_of_a_run(finished):
    folder, _ = finished
    assert "OUT_OF_DISTRIBUTION" in batchflow("flags").stdout
    rows = json.loads(batchflow("flags", folder, "--json").stdout)
    assert rows[0] | {"share": 1} == rows[0] | {"flag": "clusters", "all": 500, "Demo-B": 200}
    prior = ("--prior", "log_mass.power_law=[-2,2,8]", "--out", "steep")
    found = json.loads(batchflow("reweight", folder, *prior, "--json").stdout)
    assert (found["clusters"], found["folder"]) == (500, str(folder / "reweighted" / "steep"))
    steep, flat = posterior(folder / "reweighted" / "steep"), posterior(folder)
    assert np.median(steep["log_mass_q50"].to_numpy() - flat["log_mass_q50"].to_numpy()) <= 0
    assert "is there already" in batchflow("reweight", folder, *prior, check=False).stderr
    found = json.loads(batchflow("population", folder, "--json").stdout)
    assert [item["clusters"] for item in found["galaxies"]] == [150, 200, 150]
    assert "not corrected" in found["note"]
    shutil.rmtree(folder / "reweighted")
    shutil.rmtree(folder / "population")


def test_a_reference_that_was_altered_is_refused(finished, tmp_path):
    from batchflow import open_model
    from batchflow.errors import UserError

    shutil.copytree(finished[0] / "model", tmp_path / "model")
    path = tmp_path / "model" / "reference.safetensors"
    for damage in (lambda: path.write_bytes(path.read_bytes()[:-4] + b"xxxx"), path.unlink):
        damage()
        with pytest.raises(UserError, match="is not the reference of this model"):
            open_model(tmp_path)


def test_other_settings_are_named_and_nothing_is_touched(finished):
    folder, _ = finished
    done = batchflow("run", JOBS / "quickstart.toml", overrides=small(folder, "seed=8"), check=False)
    assert done.returncode == 2
    assert "seed: 1 there, 8 in the job" in done.stderr
    done = batchflow(
        "mocks", JOBS / "quickstart.toml", "--mode", "refuse", overrides=small(folder), check=False
    )
    assert done.returncode == 2
    assert "6 of 6 units are there" in done.stderr


def test_settings_of_a_later_stage_leave_the_earlier_ones(finished):
    folder, _ = finished
    done = batchflow(
        "infer", JOBS / "quickstart.toml", overrides=small(folder, "infer.draws=50"), check=False
    )
    assert done.returncode == 2
    assert "infer.draws: 100 there, 50 in the job" in done.stderr


HOSTILE = """object_id,galaxy,distance_mpc,{fluxes},{errors}
a,../x,9.8,1e-3,1e-3,1e-3,1e-3,1e-3,1e-4,1e-4,1e-4,1e-4,1e-4
a,../x,9.8,-1e-5,1e-3,1e-3,1e-3,1e-3,1e-4,1e-4,1e-4,1e-4,1e-4
c,../x,9.8,,,,,,,,,,
d,Ωmega/\u2764,9.8,1e-3,,1e-3,1e-3,1e-3,1e-4,,0,1e-4,1e-4
e,Ωmega/\u2764,,1e-3,1e-3,1e-3,1e-3,1e-3,1e-4,1e-4,1e-4,1e-4,1e-4
"""


def test_a_hostile_catalogue_is_inferred_and_flagged_and_stays_in_its_folder(finished, tmp_path):
    """`infer` alone, with a model made elsewhere and brought here."""
    bands = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
    text = HOSTILE.format(
        fluxes=",".join(f"flux_{band}" for band in bands), errors=",".join(f"error_{band}" for band in bands)
    )
    (tmp_path / "hostile.csv").write_text(text, encoding="utf-8")
    folder = tmp_path / "runs" / "deep" / "run"
    shutil.copytree(finished[0] / "model", folder / "model")
    path = f"catalogue.0.path={tmp_path / 'hostile.csv'}"
    batchflow("infer", JOBS / "quickstart.toml", overrides=small(folder, path, "catalogue.0.columns={}"))
    rows = {}
    for row in posterior(folder).to_pylist():
        rows.setdefault(row["object_id"], []).append((row, Flag(row["flags"])))
    assert sorted(rows) == ["a", "c", "d", "e"]
    assert len(rows["a"]) == 2
    assert all(Flag.DUPLICATE_ID in flags and row["log_age_q50"] > 6 for row, flags in rows["a"])
    assert sum(Flag.NEGATIVE_FLUX in flags for _, flags in rows["a"]) == 1
    assert {Flag.NO_BAND, Flag.NOT_INFERRED} <= set(rows["c"][0][1])
    assert {Flag.MISSING_BAND, Flag.BAD_ERROR} <= set(rows["d"][0][1])
    assert rows["d"][0][0]["n_bands"] == 3
    assert {Flag.NO_DISTANCE, Flag.NOT_INFERRED} <= set(rows["e"][0][1])
    assert sorted({row["galaxy"] for (row, _), *_ in rows.values()}) == ["../x", "Ωmega/\u2764"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["hostile.csv", "runs"]
    assert [item.name for item in (tmp_path / "runs" / "deep").iterdir()] == ["run"]
    found = batchflow("query", folder, "SELECT count(*) AS n FROM posterior WHERE galaxy = '../x'", "--json")
    assert json.loads(found.stdout) == [{"n": 3}]


def test_rows_that_cannot_be_inferred_stay_with_a_reason(finished):
    from batchflow import open_model

    model = open_model(finished[0])
    fluxes = np.full((5, 5), 1e-3)
    errors = np.full((5, 5), 1e-4)
    fluxes[1], errors[2], fluxes[3, 0], fluxes[4, 1] = np.nan, 0.0, -2e-4, np.inf
    distance = [9.8, 9.8, 9.8, -1.0, 9.8]
    summary = model.posterior(fluxes, errors, distance_mpc=distance, draws=50).summary
    flags = [Flag(value) for value in summary["flags"].to_pylist()]
    assert [Flag.NOT_INFERRED in value for value in flags] == [False, True, True, True, False]
    assert Flag.NO_BAND in flags[1]
    assert Flag.NO_BAND in flags[2]
    assert Flag.NO_DISTANCE in flags[3]
    assert np.isfinite(summary["log_age_q50"].to_numpy()).tolist() == [True, False, False, False, True]
    assert summary["n_bands"].to_pylist() == [5, 0, 0, 5, 4]


BAD = {
    "absent": ("catalogue.0.path=absent.csv", "absent.csv"),
    "folder": ("catalogue.0.path=.", "folder"),
    "band": ('model.bands=["wfc3_f275"]', "did you mean 'wfc3_f275w'"),
    "unknown key": ("mocks.row=3", "did you mean 'rows'"),
    "prior": ("prior.log_age={uniform = [3.0, 9.0]}", "prior.log_age = [3, 9]"),
    "metallicity": ("model.metallicity=-1", "model.metallicity"),
    "law": ("model.extinction=CCM88", "CCM89"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_status_2(case, tmp_path):
    override, words = BAD[case]
    for command in ("check", "run"):
        done = batchflow(
            command, JOBS / "quickstart.toml", overrides=[f"output={tmp_path / 'r'}", override], check=False
        )
        assert done.returncode == 2
        assert words in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_job_file_that_is_a_folder(tmp_path):
    done = batchflow("run", tmp_path, check=False)
    assert done.returncode == 2
    assert "is a folder" in done.stderr


def test_two_runs_in_one_folder_at_once_are_refused(tmp_path):
    import fcntl

    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        done = batchflow("mocks", JOBS / "quickstart.toml", overrides=small(tmp_path / "run"), check=False)
    assert done.returncode == 2
    assert "is in use by another batchflow" in done.stderr


def test_help_status_and_query_load_no_heavy_library():
    code = "import sys, batchflow.cli, batchflow.results.query, batchflow.status\n"
    code += "print({'torch', 'dask', 'distributed', 'astropy', 'scipy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert "JOB" in batchflow("run", "--help").stdout


def test_json_for_programs_has_no_nan(capsys):
    from batchflow.commands.printing import print_json

    print_json({"a": [float("nan"), np.float32("inf"), np.int64(2)], "b": (Path("x"), None, True, 1.5)})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [None, None, 2],
        "b": ["x", None, True, 1.5],
    }


def test_a_query_is_answered_without_pandas(tmp_path):
    """pyarrow.dataset imports it where it is installed: a third of the time that a query takes to start."""
    write_table(RunFolder(tmp_path).shard(0), pa.table({"ebv": [0.1]}), {})
    code = "import sys; from batchflow.cli import app; sys.argv = ['batchflow', *sys.argv[1:]]\n"
    code += "app(standalone_mode=False); print({'pandas', 'pyarrow.dataset'} & set(sys.modules))"
    words = [sys.executable, "-c", code, "query", str(tmp_path), "SELECT count(*) FROM mocks"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


@pytest.mark.parametrize("command", ["check", "query", "jobs", "provenance"])
@pytest.mark.parametrize("path", ["x" * 300, "circle"], ids=["too long", "circle"])
def test_a_path_that_the_file_system_refuses_is_one_message(command, path, tmp_path, monkeypatch, capsys):
    from batchflow.cli import main

    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["batchflow", command, path, *(["SELECT 1"] if command == "query" else [])]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert path in capsys.readouterr().err
