"""What surrounds the stages of a run."""

from __future__ import annotations

import tomllib

import pytest
from distributed import Client

from batchflow.config import load_job
from batchflow.paths import RunFolder
from batchflow.pipeline import open_session, recorded
from batchflow.plan import OtherSettingsError


def test_dasks_report_of_a_client_that_is_not_the_default(tmp_path):
    path = tmp_path / "performance.html"
    with (
        Client(processes=False, n_workers=1, dashboard_address=":0", set_as_default=False) as client,
        recorded(client, path),
    ):
        assert client.submit(sum, [1, 2]).result() == 3
        assert not path.exists()
    assert "<html" in path.read_text(encoding="utf-8")


def refused(job):
    with open_session(job, "resume"):
        raise OtherSettingsError("shard-00000.parquet was made with other settings")


def test_the_job_of_a_run_that_was_refused_is_not_taken_for_that_of_its_files(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(f'name = "t"\noutput = "{tmp_path / "run"}"\n[model]\nbands = ["wfc3_f336w"]\n')
    run = RunFolder(tmp_path / "run")
    with open_session(load_job(path, ["seed=1"]), "resume"):
        pass
    with pytest.raises(OtherSettingsError, match="made with other settings"):
        refused(load_job(path, ["seed=2"]))
    assert tomllib.loads(run.job.read_text())["seed"] == 1
