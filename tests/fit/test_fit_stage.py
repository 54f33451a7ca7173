"""The stage: parts, resume, provenance; and real clusters against what was published of them."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from fit_models import BANDS, fitter, observe, one_thread
from pandas.testing import assert_frame_equal

from batchflow import stages
from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.fit import run as fit_run
from batchflow.fit.part import fit_clusters
from batchflow.fit.plan import plan_fit
from batchflow.fit.prepare import NOISE_FILE, make_fitter, prepare_fit
from batchflow.mocks.noise import NoiseModel
from batchflow.paths import RunFolder
from batchflow.physics.engine import open_engine
from batchflow.pipeline import Session
from batchflow.plan import Plan, Unit
from batchflow.shards import read_footer
from batchflow.status import status_of

_one_thread = pytest.fixture(autouse=True)(one_thread)

JOB = f"""
name = "s"
output = "run"
[model]
bands = {list(BANDS)}
[infer]
rows_per_part = 4
[fit]
draws = 50
nodes = {{log_age = [6.0, 7.0, 8.0, 9.0, 10.0]}}
steps = {{ebv = 0.25}}
[[catalogue]]
path = "c.csv"
format = "table"
distance_mpc = 10.0
[catalogue.columns]
galaxy = "galaxy"
id = "id"
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of eleven clusters of two galaxies, in three parts."""
    seen = observe(fitter().table, 11, log_age=7.5, ebv=0.1)
    columns = {"galaxy": ["a"] * 7 + ["b"] * 4, "id": list(range(11))}
    columns |= {f"flux_{band}": seen.flux[:, i] for i, band in enumerate(BANDS)}
    columns |= {f"error_{band}": seen.error[:, i] for i, band in enumerate(BANDS)}
    pa.csv.write_csv(pa.table(columns), tmp_path / "c.csv")
    (tmp_path / "job.toml").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    return load_job(tmp_path / "job.toml")


@pytest.fixture
def made(monkeypatch):
    """Units made, in this process: Dask has tests of its own."""
    keys = []

    def run_units(client, function, units, pool, on_done):
        for unit in units:
            keys.append(unit.key)
            on_done(unit, function(**unit.arguments))
        return []

    monkeypatch.setattr(fit_run, "run_units", run_units)
    monkeypatch.setattr(fit_run, "fastest_pool", lambda session: SimpleNamespace(resource="CPU"))
    return keys


def fit(job, mode="resume"):
    run = RunFolder(job.output.resolve())
    run.root.mkdir(exist_ok=True)
    session = Session(job, run, mode, ExitStack())
    session.__dict__["client"] = None
    return fit_run.fit_stage(session)


def tables(job):
    run = RunFolder(job.output.resolve())
    paths = sorted(run.fit.glob("galaxy=*/part-*.parquet"))
    return {str(path.relative_to(run.fit)): pq.read_table(path, partitioning=None) for path in paths}


def test_parts_are_those_of_the_catalogue_and_say_where_they_come_from(job, made):
    report = fit(job)
    found = tables(job)
    assert list(found) == [
        f"galaxy={name}.parquet" for name in ("a/part-00000", "a/part-00001", "b/part-00000")
    ]
    assert sum(table.num_rows for table in found.values()) == 11
    assert report.wanted == report.made == 3
    assert {"clusters_per_second", "classical_per_second", "exact_per_second"} <= set(report.figures)
    path = RunFolder(job.output.resolve()).fit / "galaxy=b/part-00000.parquet"
    footer, rows = read_footer(path)
    assert rows == 4
    assert footer["stage"] == "fit"
    assert footer["settings"]["fit.draws"] == 50


def test_a_resumed_run_equals_an_unbroken_one(job, made):
    fit(job)
    whole = tables(job)
    run = RunFolder(job.output.resolve())
    (run.fit / "galaxy=a/part-00001.parquet").unlink()
    truncated = run.fit / "galaxy=b/part-00000.parquet"
    truncated.write_bytes(truncated.read_bytes()[:200])
    made.clear()
    assert fit(job).made == 2
    assert len(made) == 3  # the noise model, and two parts
    for name, table in tables(job).items():
        assert_frame_equal(table.to_pandas(), whole[name].to_pandas(), check_exact=True)
    made.clear()
    assert fit(job).made == 0
    assert made == []


def test_other_settings_are_named(job, made):
    fit(job)
    other = job.model_copy(update={"fit": job.fit.model_copy(update={"draws": 60})})
    with pytest.raises(UserError, match=r"fit\.draws"):
        fit(other)
    assert fit(other, "restart").made == 3


def test_no_model_is_needed_and_status_knows(job, made):
    assert plan_fit(job, RunFolder(job.output.resolve())) is None
    waiting = {row["stage"]: row["state"] for row in status_of(job)}
    assert waiting["fit"] == "waits for the catalogue"
    fit(job)
    done = {row["stage"]: row["state"] for row in status_of(job)}
    assert done["fit"] == "done"
    assert done["infer"] == "waits for the model"
    without = job.model_copy(update={"fit": job.fit.model_copy(update={"enabled": False})})
    assert "fit" not in {row["stage"] for row in status_of(without)}


def test_without_a_catalogue_there_is_nothing_to_do(job, made):
    assert fit(job.model_copy(update={"catalogue": ()})).wanted == 0


FIELDS = {
    "ngc628-c": ("acs-wfc3", ("acs_f435w", "acs_f555w", "acs_f814w"), 679),
    "ngc3344": ("wfc3", ("wfc3_f438w", "wfc3_f555w", "wfc3_f814w"), 236),
}
PUBLISHED = {
    "ngc628-c": {"log_age": (0.10, 0.16), "log_mass": (0.09, 0.10), "ebv": (-0.02, 0.06), "near": 0.80},
    "ngc3344": {"log_age": (0.08, 0.15), "log_mass": (0.10, 0.13), "ebv": (0.0, 0.08), "near": 0.79},
}
"""Median and scatter of best fit less published value, and share of ages within 0.3 dex, of an earlier,
independent fit; with the tolerances of `test_exact_fit`, whose brute-force grid has the same to meet."""


@pytest.mark.parametrize("field", FIELDS)
def test_published_values_of_legus(field, shared, tmp_path):
    """The whole way but Dask: catalogue, noise model, fit; the classical answer alone."""
    from batchflow.catalogue.ingest import ensure_catalogue

    camera, optical, n = FIELDS[field]
    name = f"hlsp_legus_hst_{camera}_{field}_multiband_v1_padagb-mwext-avgapcor.tab"
    path = tmp_path / "job.toml"
    path.write_text(
        f'name = "l"\noutput = "{tmp_path}/run"\n'
        f"[model]\nbands = {['wfc3_f275w', 'wfc3_f336w', *optical]}\n"
        "[fit]\nexact = false\nsteps = {log_age = 0.02, ebv = 0.02}\n"
        f'[[catalogue]]\nformat = "legus"\nclasses = [1, 2]\npath = "{shared}/data/legus/tab/{name}"\n'
    )
    job = load_job(path)
    run = RunFolder(job.output.resolve())
    parts = [str(part.path) for part in ensure_catalogue(job, run, "resume")]
    prepare_fit(stages.resolved(job), str(tmp_path), parts)
    noise = NoiseModel.from_dict(json.loads((tmp_path / NOISE_FILE).read_text()))
    own = make_fitter(open_engine(job.model).table(), noise, job.prior, job.fit)
    catalogue = pa.concat_tables([pq.read_table(part, partitioning=None) for part in parts])
    table, _ = fit_clusters(own, catalogue, seed=1, least=0.05)
    five = (table["n_bands"].to_numpy() == 5) & np.isfinite(table["published_log_age"].to_numpy())
    assert five.sum() == n
    assert np.median(table["best_reduced_chi2"].to_numpy()[five]) == pytest.approx(1.0, abs=0.2)
    off = {
        name: (table[f"best_{name}"].to_numpy() - table[f"published_{name}"].to_numpy())[five]
        for name in ("log_age", "log_mass", "ebv")
    }
    for name, values in off.items():
        median, scatter = PUBLISHED[field][name]
        assert np.median(values) == pytest.approx(median, abs=0.05)
        assert 1.48 * np.median(np.abs(values - np.median(values))) == pytest.approx(scatter, abs=0.04)
    assert np.mean(np.abs(off["log_age"]) < 0.3) == pytest.approx(PUBLISHED[field]["near"], abs=0.07)


def test_the_rate_counts_no_cluster_of_a_unit_that_failed():
    units = tuple(Unit(name, (Path(name),), rows) for name, rows in (("a", 3), ("b", 5), ("c", 7)))
    plan = Plan("fit", {}, units, frozenset({"a"}))
    assert plan.rows_made([]) == 12
    assert plan.rows_made(["c"]) == 5
