"""Whole small jobs through a real Slurm: the result is the local run's, whatever happens on the way."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from slurm_program import batchflow

from batchflow.submit.queue import is_over, states

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("mocks", "posterior", "draws")


def submit(job_file, folder, site, *options):
    """Submit a job; the ids of its drivers."""
    arguments = ("submit", job_file, "--json", "--set", f"output={folder}", "--set", f"cluster.site={site}")
    return [row["id"] for row in json.loads(batchflow(*arguments, *options).stdout)]


def state(id_):
    return (states("slurm", [id_]) or {}).get(id_)


def wait_until(found, seconds=300):
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.3)
    return value


def wait_for_end(id_, folder, seconds=400):
    wait_until(lambda: is_over(state(id_)), seconds)
    said = "\n".join(path.read_text() for path in (folder / "logs" / "driver").glob(f"*-{id_}.err"))
    return state(id_), said


def assert_same(folder, whole):
    for name in TABLES:
        files = sorted(path.relative_to(whole) for path in (whole / name).rglob("*.parquet"))
        assert files
        assert files == sorted(path.relative_to(folder) for path in (folder / name).rglob("*.parquet"))
        for path in files:
            ours, theirs = (pq.read_table(root / path, partitioning=None) for root in (folder, whole))
            assert ours.equals(theirs), path


def no_job_is_left(seconds=40):
    def none():
        return not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout.strip()

    wait_until(none, seconds)


def worker_jobs(folder):
    rows = json.loads(batchflow("jobs", folder, "--json").stdout)
    return {row["name"]: row["id"] for row in rows if row["kind"] == "worker"}


def test_a_job_through_submit_has_workers_on_both_partitions_and_the_local_result(
    slurm, local, job_file, site, tmp_path
):
    folder = tmp_path / "run"
    (id_,) = submit(job_file, folder, site())
    ended, said = wait_for_end(id_, folder)
    assert ended == "COMPLETED", said
    assert "ssh -N -L" in said
    assert {name.partition("-")[0] for name in worker_jobs(folder)} == {"cpu", "gpu"}
    gpu = next((folder / "logs" / "workers").glob("batchflow-gpu-*.err")).read_text()
    assert "tls://127.0.0.1" in gpu
    assert_same(folder, local)
    no_job_is_left()
    scripts_and_logs = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert not [path for path in scripts_and_logs if b"PRIVATE KEY" in path.read_bytes()]
    assert (folder / "logs" / "performance.html").stat().st_size > 10_000


def test_one_allocation_with_roles_by_rank(slurm, local, job_file, site, tmp_path):
    folder = tmp_path / "run"
    (id_,) = submit(job_file, folder, site(), "--single-allocation")
    ended, said = wait_for_end(id_, folder)
    assert ended == "COMPLETED", said
    assert_same(folder, local)


SCRIPTS = {"driver": ["--mem=1G"], "allocation": ["--ntasks=4", "--mem-per-cpu=1G", "--gres=gpu:1"]}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_of_jobs_do_what_submit_does(slurm, local, job_file, site, tmp_path, script):
    folder, path = tmp_path / "run", tmp_path / "mine.toml"
    cluster = f'[cluster]\nsite = "{site()}"\n' if script == "driver" else "[cluster]\n"
    path.write_text(job_file.read_text().replace('"unset"', f'"{folder}"').replace("[cluster]\n", cluster))
    bin_ = Path(sys.executable).parent
    command = [
        "sbatch",
        "--parsable",
        "-t",
        "20",
        *SCRIPTS[script],
        f"--export=ALL,INTERFACE=lo,TMPDIR={tmp_path}",
    ]
    done = subprocess.run(
        [*command, ROOT / "jobs" / f"slurm-{script}.sh", path],
        env=os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    id_ = done.stdout.strip()
    wait_until(lambda: is_over(state(id_)), 400)
    assert state(id_) == "COMPLETED", (tmp_path / f"batchflow-{id_}.err").read_text()
    assert_same(folder, local)
    no_job_is_left()


def test_stages_as_jobs_that_follow_each_other_a_worker_cancelled_and_a_driver_killed(
    slurm, local, job_file, site, tmp_path
):
    folder = tmp_path / "run"
    first, second, third = submit(job_file, folder, site(), "--stages", "separate")
    assert state(second) == state(third) == "PENDING"
    wait_until(lambda: list(folder.glob("mocks/shard-*.parquet")))
    subprocess.run(["scancel", worker_jobs(folder)["cpu-0"]], check=True)
    wait_until(lambda: list(folder.glob("posterior/*/part-*.parquet")))
    assert (state(first), state(second), state(third)) == ("COMPLETED", "COMPLETED", "RUNNING")
    # KILL to the batch script itself: nothing is left to clean up after it.
    subprocess.run(["scancel", "--signal=KILL", "--full", third], check=True)
    wait_until(lambda: is_over(state(third)))
    no_job_is_left(60)  # the workers find their scheduler gone
    (again,) = submit(job_file, folder, site())
    ended, said = wait_for_end(again, folder)
    assert ended == "COMPLETED", said
    assert_same(folder, local)


def test_cancel_ends_driver_and_workers(slurm, job_file, site, tmp_path):
    folder = tmp_path / "run"
    submit(job_file, folder, site())
    wait_until(lambda: worker_jobs(folder))
    assert "cancelled" in batchflow("cancel", folder).stdout
    no_job_is_left()
    assert "no job of this run" in batchflow("cancel", folder).stdout


def test_an_array_whose_time_is_up_hands_on_its_work(slurm, site, tmp_path):
    """The first job is wanted alone, the other two together: one array, two processes in each of its jobs.

    Workers live 25 s at most, the work takes longer: another array comes, and every unit is done once.
    """
    path = site(walltime="00:00:30")
    pool = 'memory = "2GiB"\nmost = 3\narray = true\ncores = 2\nprocesses = 2\n'
    path.write_text(path.read_text().replace('memory = "2GiB"\nmost = 2\n', pool))
    found = slow_units(path, tmp_path, 90)
    assert found["failures"] == []
    assert found["results"] == list(range(90))
    assert found["submitted"] > 2
    of_the_array = {f"cpu-1-{task}-{process}" for task in (1, 2) for process in (0, 1)}
    assert set(found["names"]) > {"cpu-0-0", "cpu-0-1"} | of_the_array
    no_job_is_left()


def slow_units(site_file, folder, units):
    """What became of units that take two seconds each."""
    program = folder / "slow_units.py"
    program.write_text(SLOW)
    command = [sys.executable, program, site_file, folder, str(units)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SLOW = """
import json, sys, time
from pathlib import Path

def slow(index):
    from distributed import get_worker
    time.sleep(2)
    return index, get_worker().name

def main():
    from batchflow.cluster import CPU, Pool, connect, require, run_units
    from batchflow.settings.cluster import ClusterSettings
    from batchflow.plan import Unit
    settings = ClusterSettings(site=sys.argv[1], dashboard="off", wait_minutes=2)
    results = []
    with connect(settings, Path(sys.argv[2], "run", "scratch")) as client:
        require(client, CPU, 2)
        units = [Unit(f"u{i}", (), None, {"index": i}) for i in range(int(sys.argv[3]))]
        failures = run_units(client, slow, units, Pool(CPU, 2), lambda unit, value: results.append(value))
        submitted = client.cluster.states["cpu"].submitted
    found = {"results": sorted(index for index, _ in results), "names": sorted({name for _, name in results})}
    print(json.dumps({**found, "failures": failures, "submitted": submitted}))

if __name__ == "__main__":
    main()
"""


def test_a_partition_that_is_not_there_is_an_error_and_not_a_wait(slurm, job_file, site, tmp_path):
    wrong = site().with_name("wrong.toml")
    wrong.write_text(site().read_text().replace('queue = "cpu"', 'queue = "nowhere"'))
    arguments = ("--set", f"output={tmp_path / 'run'}", "--set", f"cluster.site={wrong}")
    done = batchflow("submit", job_file, *arguments, check=False)
    assert done.returncode == 2
    assert "invalid partition" in done.stderr.lower()
    done = batchflow("mocks", job_file, *arguments, check=False, timeout=100)
    assert done.returncode == 2
    assert "invalid partition" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_jobs_that_end_before_their_workers_come_are_noticed(slurm, job_file, site, tmp_path):
    broken = site().with_name("broken.toml")
    broken.write_text('prologue = ["exit 3"]\n' + site().read_text())
    arguments = ("--set", f"output={tmp_path / 'run'}", "--set", f"cluster.site={broken}")
    done = batchflow("mocks", job_file, *arguments, check=False, timeout=200)
    assert done.returncode == 2
    assert "worker jobs of the pool cpu were lost one after the other" in done.stderr


def test_slurm_listens_on_loopback_only(slurm):
    ports = {
        line.split("=")[1] for line in Path(slurm, "slurm.conf").read_text().splitlines() if "dPort=" in line
    }
    ports |= {
        line.split("=")[1] for line in Path(slurm, "slurm.conf").read_text().splitlines() if "ldPort" in line
    }
    listening = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state_ = line.split()[1], line.split()[3]
        if state_ == "0A" and str(int(local.split(":")[1], 16)) in ports:
            listening.add(local.split(":")[0])
    assert listening == {"0100007F"}
