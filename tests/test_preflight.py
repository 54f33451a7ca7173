"""`check --cluster`: what is right is said, what is wrong is named with the way out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import Client, Nanny, Scheduler, SpecCluster

from batchflow import preflight as module
from batchflow.cluster import CPU
from batchflow.config import load_job
from batchflow.preflight import compare_versions, preflight, write_token

JOB = Path(__file__).resolve().parents[1] / "jobs" / "quickstart.toml"


def test_a_machine_that_can_do_the_job(tmp_path):
    sets = (f"output={tmp_path / 'run'}", "cluster.cpu_workers=1", "cluster.dashboard=off")
    words = [word for item in sets for word in ("--set", item)]
    of_a_run = tmp_path / "run" / "scratch" / "of-a-run-at-work"
    of_a_run.mkdir(parents=True)
    command = [sys.executable, "-m", "batchflow", "check", str(JOB), "--cluster", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["cluster"]
    states = {(item["where"].split()[0], item["what"]): item["state"] for item in found}
    assert {key for key in states if key[0] == "CPU"} == {
        ("CPU", what) for what in ("worker", "versions", "scratch", "shared files", "bandwidth")
    }
    assert states["GPU", "GPU"] in ("ok", "note")
    assert "wrong" not in states.values()
    assert not list((tmp_path / "run").glob("preflight-*"))
    assert of_a_run.is_dir()


@pytest.fixture
def without_gpu(tmp_path):
    """A scheduler that somebody else runs, whose only worker has no GPU."""
    options = {"host": "127.0.0.1", "nthreads": 1, "resources": {CPU: 1}, "local_directory": str(tmp_path)}
    place = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": Scheduler, "options": place}
    with (
        SpecCluster(scheduler=scheduler, workers={"only": {"cls": Nanny, "options": options}}) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(1)
        yield cluster.scheduler_address


def test_what_is_wrong_is_named(without_gpu, tmp_path, monkeypatch):
    sets = [f"output={tmp_path / 'run'}", "cluster.site=address", f"cluster.address={without_gpu}"]
    job = load_job(JOB, [*sets, "cluster.wait_minutes=0.02"])
    monkeypatch.setattr(module, "write_token", blind)
    found = {(item.where.split()[0], item.what): item for item in preflight(job)}
    assert found["CPU", "worker"].state == "ok"
    assert found["CPU", "shared files"].state == "wrong"
    assert "choose an output on a disk that all nodes share" in found["CPU", "shared files"].text
    assert found["GPU", "worker"].state == "wrong"
    assert "no worker with the resource GPU=1 came in 0.02 minutes" in found["GPU", "worker"].text


def blind(folder, token):
    return f"does not see {folder}"


def test_versions_that_differ_are_named():
    ours = {"python": "3.11.7", "dask": "1", "torch": "2"}
    assert compare_versions("w", ours, dict(ours)).state == "ok"
    found = compare_versions("w", ours, ours | {"dask": "0"})
    assert found.state == "wrong"
    assert "dask 0 there, 1 here" in found.text
    assert "torch 2" not in found.text


def test_a_folder_that_is_not_shared_is_seen_by_the_worker_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARED_SECONDS", 0.2)
    assert "does not see" in write_token(str(tmp_path / "elsewhere"), "t")
    (tmp_path / "driver.txt").write_text("other")
    assert "something else" in write_token(str(tmp_path), "t")
    (tmp_path / "driver.txt").write_text("t")
    assert write_token(str(tmp_path), "t") is None
    assert (tmp_path / "t.worker").read_text() == "t"
