"""Page and metrics in the dashboard of a scheduler that runs in another process."""

import contextlib
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from batchflow.cluster import connect
from batchflow.dashboard import distant
from batchflow.dashboard.state import reset
from batchflow.settings.cluster import ClusterSettings


@contextlib.contextmanager
def scheduler(folder: Path, *options):
    """Somebody else's scheduler; the file that names it."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--scheduler-file", str(file), *options], stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        wait_for(file.exists)
        yield file
    finally:
        process.terminate()
        process.wait(20)


def wait_for(found, seconds=30):
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def read(address):
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode()


def test_a_scheduler_that_is_not_ours_shows_our_run_live_and_at_its_end(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(distant, "TELL_SECONDS", 0.05)
    stage = reset("far away").begin("mocks", 40, 0)
    with scheduler(tmp_path, "--dashboard-address", "127.0.0.1:0") as file:
        settings = ClusterSettings(site="address", scheduler_file=file)
        with connect(settings, tmp_path) as client:
            root = client.dashboard_link.rpartition("/")[0]
            assert f"{root}/batchflow" in capfd.readouterr().err
            for done in (7, 23):
                stage.done = done
                line = f'batchflow_stage_units_done{{stage="mocks"}} {done}\n'
                wait_for(lambda line=line: line in read(f"{root}/metrics"))
            stage.done = 40
        assert 'units_left{stage="mocks"} 0\n' in read(f"{root}/metrics")
        assert "bokeh" in read(f"{root}/batchflow")
        reset("the next").begin("infer", 5, 0)
        with connect(settings, tmp_path):
            wait_for(lambda: 'units_left{stage="infer"} 5\n' in read(f"{root}/metrics"))
            assert "mocks" not in read(f"{root}/metrics")


def test_a_scheduler_without_a_dashboard_is_used_all_the_same_and_it_is_said(tmp_path, capfd):
    with scheduler(tmp_path, "--no-dashboard", "--dashboard-address", "127.0.0.1:0") as file:
        with connect(ClusterSettings(site="address", scheduler_file=file), tmp_path) as client:
            assert client.run_on_scheduler(len, "abc") == 3
        assert "Dask's own pages only: its dashboard is off" in capfd.readouterr().err
        settings = ClusterSettings(site="address", scheduler_file=file, dashboard="off")
        with connect(settings, tmp_path):
            assert "Dask's own pages" not in capfd.readouterr().err


def test_a_scheduler_that_lacks_batchflow_is_no_obstacle():
    class Bare:
        def run_on_scheduler(self, function):
            raise ModuleNotFoundError("No module named 'batchflow'")

    with distant.share(Bare()) as problem:
        assert problem == "ModuleNotFoundError: No module named 'batchflow'"


@pytest.fixture(autouse=True)
def _leave_no_run_behind():
    yield
    reset("")
