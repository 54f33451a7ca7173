"""A whole run with a unit that kills its workers, and one without a dashboard."""

import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from batchflow.cluster import connect
from batchflow.settings.cluster import ClusterSettings


def kill_at_shard_two(**arguments):
    if arguments["unit"]["index"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_with_a_unit_set_aside_names_it_and_ends_with_status_3(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from batchflow.cli import app

    monkeypatch.setattr("batchflow.mocks.run.make_shard", kill_at_shard_two)
    job = Path(__file__).resolve().parents[2] / "jobs" / "quickstart.toml"
    sets = ("mocks.rows=500", "mocks.rows_per_shard=100", "cluster.cpu_workers=1", "cluster.dashboard=off")
    words = [word for item in (*sets, f"output={tmp_path / 'run'}") for word in ("--set", item)]
    done = CliRunner().invoke(app, ["run", str(job), *words])
    assert done.exit_code == 3
    assert "1 unit failed, the rest is done" in done.stderr
    assert "shard-00002: its worker died 3 times" in done.stderr
    assert not (tmp_path / "run" / "model").exists()


def test_a_dashboard_that_is_off_serves_nothing(tmp_path):
    settings = ClusterSettings(cpu_workers=1, dashboard="off")
    with connect(settings, tmp_path) as client:
        port = client.cluster.scheduler.http_server.port
        for page in ("status", "batchflow", "metrics", "info/main/workers.html"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}")
