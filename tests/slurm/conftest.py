"""A real Slurm on this machine for the time of the tests."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from astropy.table import Table
from slurm_program import batchflow

ROOT = Path(__file__).resolve().parents[2]
SLURM_TEST = ROOT / "deploy" / "slurm-test"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")

CLUSTERS = 150
"""Of the quickstart's, in three parts: each test runs the whole job."""

SITE = """
system = "slurm"
interface = "lo"
scratch = "/tmp"
[driver]
queue = "cpu"
walltime = "00:20:00"
memory = "1GiB"
[cpu]
queue = "cpu"
walltime = "{walltime}"
memory = "2GiB"
most = 2
idle_minutes = 0.2
[gpu]
queue = "gpu"
walltime = "00:20:00"
memory = "2GiB"
directives = ["--gres=gpu:1"]
[allocation]
walltime = "00:20:00"
memory = "2GiB"
cpu_workers = 2
directives = ["--gres=gpu:1"]
"""

JOB = """
name = "tiny"
output = "unset"
seed = 1
[cluster]
dashboard = "127.0.0.1:0"
wait_minutes = 3
[model]
bands = ["wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w"]
[mocks]
rows = 2000
rows_per_shard = 200
[flow]
couplings = 2
hidden = 16
bins = 4
[train]
epochs = 1
batch = 256
[[catalogue]]
path = "{catalogue}"
format = "table"
columns = {{published = {{log_age = "true_log_age", log_mass = "true_log_mass", ebv = "true_ebv"}}}}
[infer]
draws = 20
rows_per_part = 60
[fit]
draws = 20
[validate]
mocks = 50
draws = 20
exact = 5
"""


def pytest_collection_modifyitems(items):
    """Mark all of this folder, and skip it where Slurm cannot run."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    reason = f"not installed: {', '.join(missing)}" if missing else "needs root" if os.getuid() else None
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.timeout(900))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def slurm():
    """Slurm's folder; it is stopped in the end, and its jobs with it."""
    # Not pytest's: munged runs as a user of its own, and those are root's only.
    folder = Path(tempfile.mkdtemp(prefix="batchflow-slurm-"))
    folder.chmod(0o755)
    started = subprocess.run([SLURM_TEST / "start.sh", folder], capture_output=True, text=True, check=False)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([known] if known else [])])
    try:
        assert started.returncode == 0, started.stderr
        yield folder
    finally:
        subprocess.run([SLURM_TEST / "stop.sh", folder], check=True, timeout=120)
        del os.environ["SLURM_CONF"]
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def job_file(slurm):
    path, some = slurm / "tiny.toml", slurm / "clusters.ecsv"
    Table.read(ROOT / "jobs" / "quickstart_clusters.ecsv")[:CLUSTERS].write(some)
    path.write_text(JOB.format(catalogue=some))
    return path


@pytest.fixture
def site(tmp_path):
    """Write a site file of the test Slurm; its path."""

    def write(walltime="00:20:00", more=""):
        path = tmp_path / "site.toml"
        path.write_text(SITE.format(walltime=walltime) + more)
        return path

    return write


@pytest.fixture(scope="session")
def local(job_file, tmp_path_factory):
    """The same job run without a batch system."""
    folder = tmp_path_factory.mktemp("local") / "run"
    batchflow("run", job_file, "--set", f"output={folder}", "--set", "cluster.cpu_workers=2")
    return folder
