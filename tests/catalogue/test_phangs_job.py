"""jobs/phangs.toml as a user runs it: beside FITS files of the release, here written to its schema."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import phangs_files as make
import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

from batchflow.catalogue.phangs_targets import known_targets
from batchflow.catalogue.read import read_with_summary
from batchflow.check import problems
from batchflow.cli import app
from batchflow.config import load_job

JOB = Path(__file__).resolve().parents[2] / "jobs" / "phangs.toml"
CLASS12, SED = "obs-human-cluster-class12", "sed-ground-halpha-human-cluster-class12"
ALL = sorted({target.name for target in known_targets().values()})
SOME = [*ALL[::4], "ngc1300", "ngc1672", "ngc3621", "ngc628c", "ngc628e"]
TARGETS = sorted(set(SOME))


@pytest.fixture
def place(tmp_path):
    """Puts the job file and the files of some targets where the job expects them."""

    def put(targets):
        job = tmp_path / "repository" / "jobs" / "phangs.toml"
        job.parent.mkdir(parents=True)
        shutil.copy(JOB, job)
        (tmp_path / "phangs").mkdir()
        for number, target in enumerate(targets):
            for table, what in ((make.obs(target, seed=number), CLASS12), (make.sed(), SED)):
                make.save(table, tmp_path / "phangs" / make.file_name(target, what))
        return job

    return put


def test_targets_are_read(place):
    job = load_job(place(TARGETS))
    assert len(ALL) == 39
    assert problems(job) == []
    (entry,) = job.catalogue
    table, summary = read_with_summary(entry, job.model.bands)
    assert len(summary.galaxies) == len(TARGETS) - 1  # two fields of ngc0628
    assert set(summary.surveys) == {f"phangs-{target}" for target in TARGETS}
    assert set(summary.bands) == set(job.model.bands)
    assert summary.n_rows == 5 * summary.n_left_out == 5 * len(TARGETS)
    assert "row without a row in sed_path" not in summary.sentinels
    assert table["published_log_age"].null_count == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_run(place, tmp_path):
    job, run = place(["ngc1566", "ngc628c"]), tmp_path / "run"
    sets = [
        *(f"output={run}", "cluster.dashboard=127.0.0.1:0", "cluster.cpu_workers=1", "mocks.rows=2000"),
        *("train.epochs=1", "train.batch=256", "flow.couplings=2", "flow.hidden=16", "infer.draws=20"),
        *("validate.mocks=20", "validate.draws=20"),
    ]
    words = [word for item in sets for word in ("--set", item)]
    done = CliRunner().invoke(app, ["run", str(job), *words, "--json"])
    assert done.exit_code == 0, done.output
    table = ds.dataset(run / "posterior", format="parquet").to_table().to_pydict()
    assert sorted(set(table["survey"])) == ["phangs-ngc1566", "phangs-ngc628c"]
    assert len(table["object_id"]) == 10
    assert np.isfinite(table["log_age_q50"]).all()
