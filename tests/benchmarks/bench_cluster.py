"""What the cluster costs: overhead a unit, memory of client and scheduler, workers, Slurm against local.

    python tests/benchmarks/bench_cluster.py [--units 10000 100000] [--simulated 32] [--run RUN] [--site SITE]

Parts, each in processes of its own; a table at the end, or with `--json` its figures (some 20 minutes on two
quiet cores, most of them the 10^5 units; `--quick` tries the plumbing in two):
  units     units that do nothing, on simulated workers (all in one process): wall and CPU a unit, and the
            peak memory of the driver, which holds client and scheduler
  mocks     mocks a second with one worker and two
  infer     clusters a second with one worker and two, by the model of RUN, a finished quickstart
  slurm     the small job by `submit` against `run`; from `submit` to the first shard. On SITE, else on a
            Slurm that deploy/slurm-test starts for it; skipped where there is none
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from distributed import Worker
from tables import Row, table

from batchflow.cluster import CPU, Pool, connect, require, run_units, workers_with
from batchflow.plan import Unit
from batchflow.settings.cluster import ClusterSettings

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "jobs" / "quickstart.toml"
SLURM_TEST = ROOT / "deploy" / "slurm-test"
SMALL = (
    *(
        "mocks.rows=20000",
        "mocks.rows_per_shard=2000",
        "train.epochs=1",
        "flow.hidden=16",
        "flow.couplings=2",
    ),
    *("infer.draws=50", "infer.rows_per_part=60", "fit.draws=50", "validate.mocks=50", "validate.draws=20"),
    *("validate.exact=5", "cluster.dashboard=127.0.0.1:0"),
)
"""The small job: seconds of work in every stage, so that what shows is the cluster."""
SITE = """
system = "slurm"
interface = "lo"
scratch = "/tmp"
driver = {queue = "cpu", walltime = "00:30:00", memory = "1GiB"}
cpu = {queue = "cpu", walltime = "00:30:00", memory = "2GiB", most = 2}
gpu = {queue = "gpu", walltime = "00:30:00", memory = "2GiB", directives = ["--gres=gpu:1"]}
"""


def nothing(index: int, footer: dict[str, str]) -> int:
    """A unit that costs nothing; its arguments are as large as a real one's."""
    return index


def usage() -> tuple[float, float]:
    """CPU seconds and peak memory [MiB] of this process: client and scheduler."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def _units(count: int, footer: dict[str, str]) -> list[Unit]:
    return [Unit(f"u{i}", (), None, {"index": i, "footer": footer}) for i in range(count)]


async def work(address: str, count: int) -> None:
    """Workers of Dask that are tasks of this one process, until their scheduler has gone."""
    options: dict[str, Any] = {"nthreads": 1, "resources": {CPU: 1}, "memory_limit": 0, "dashboard": False}
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(Worker(address, host="127.0.0.1", name=f"sim-{i}", **options))
            for i in range(count)
        ]
        await asyncio.gather(*(worker.finished() for worker in made))


@contextmanager
def simulated(client: Any, count: int) -> Iterator[None]:
    """Simulated workers, in a process of their own."""
    command = [sys.executable, __file__, "--work", client.scheduler.address, "--simulated", str(count)]
    process = subprocess.Popen(command, cwd=tempfile.gettempdir())
    try:
        while len(workers_with(client, CPU)) < count:
            assert process.poll() is None
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(60)


def bench_units(count: int, workers: int) -> dict[str, float]:
    """Overhead of units, and what their number does to the driver's memory."""
    settings = ClusterSettings(cpu_workers=1, dashboard="off")
    footer = {f"settings.key_{i}": "a value of some length" for i in range(30)}
    with tempfile.TemporaryDirectory() as folder, connect(settings, Path(folder)) as client:
        require(client, CPU, 1)
        with simulated(client, workers):
            pool = Pool(CPU, settings.in_flight)
            run_units(client, nothing, _units(100, footer), pool, lambda *_: None)
            (cpu, memory), start = usage(), time.perf_counter()
            failures = run_units(client, nothing, _units(count, footer), pool, lambda *_: None)
            seconds = time.perf_counter() - start
    assert not failures, failures[:3]
    return {
        "wall_ms_a_unit": 1000 * seconds / count,
        "driver_cpu_ms_a_unit": 1000 * (usage()[0] - cpu) / count,
        "driver_mib_before": memory,
        "driver_mib_after": usage()[1],
    }


def batchflow(*words: str) -> str:
    """The program; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "batchflow", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"batchflow {' '.join(words)}: {done.stderr}")
    return done.stdout


def sets(*values: str) -> list[str]:
    """Overrides as words of a command."""
    return [word for value in values for word in ("--set", value)]


def bench_mocks(rows: int) -> dict[str, float]:
    """Mocks a second with one worker and with two; the stage's own figure, start-up left out."""
    found = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            more = (
                f"mocks.rows={rows}",
                f"mocks.rows_per_shard={max(100, rows // 100)}",
                "cluster.dashboard=off",
            )
            place = (f"output={folder}/run", f"cluster.cpu_workers={workers}")
            said = json.loads(batchflow("mocks", str(QUICKSTART), "--json", *sets(*place, *more)))
            found[f"rows_per_s_{workers}"] = said["mocks"]["figures"]["mocks_per_second"]
    return found | {"two_over_one": found["rows_per_s_2"] / found["rows_per_s_1"]}


def bench_infer(run: Path, draws: int) -> dict[str, float]:
    """Clusters a second with one worker and with two, by a model that is there."""
    found = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(run / "model", Path(folder, "run", "model"))
            shutil.copy(run / "job.toml", Path(folder, "job.toml"))
            catalogue = f"catalogue.0.path={QUICKSTART.parent / 'quickstart_clusters.ecsv'}"
            more = (f"infer.draws={draws}", "infer.rows_per_part=25", "cluster.dashboard=off", catalogue)
            place = (
                f"output={folder}/run",
                f"cluster.cpu_workers={workers}",
                f"cluster.gpu_workers={workers}",
            )
            batchflow("infer", f"{folder}/job.toml", *sets(*place, *more))
            stage = json.loads(Path(folder, "run", "logs", "stages.json").read_text())["infer"]
            found[f"clusters_per_s_{workers}"] = 500 / stage["seconds"]
    return found | {"two_over_one": found["clusters_per_s_2"] / found["clusters_per_s_1"]}


@contextmanager
def slurm(site: str | None) -> Iterator[str | None]:
    """A site file, and a Slurm behind it; None where there is none."""
    if site:
        yield site
        return
    if os.getuid() or not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="batchflow-slurm-"))
    folder.chmod(0o755)
    subprocess.run([SLURM_TEST / "start.sh", folder], check=True, capture_output=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    (folder / "site.toml").write_text(SITE)
    try:
        yield str(folder / "site.toml")
    finally:
        subprocess.run([SLURM_TEST / "stop.sh", folder], check=True, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def bench_slurm(site: str) -> dict[str, float]:
    """The small job through the batch system, and without it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run, begun = Path(folder, "run"), time.time()
        where = sets(f"output={run}", f"cluster.site={site}", *SMALL)
        (made,) = json.loads(batchflow("submit", str(QUICKSTART), "--json", *where))
        submitted = time.time()
        while not list(run.glob("mocks/shard-*.parquet")):
            time.sleep(0.05)
        first, state = time.time(), "RUNNING"
        while state in ("RUNNING", "PENDING", "COMPLETING"):
            time.sleep(0.3)
            rows = json.loads(batchflow("jobs", str(run), "--json"))
            state = next(row["state"] for row in rows if row["id"] == made["id"])
        assert state in ("COMPLETED", "gone"), state
        through, start = time.time() - begun, time.time()
        batchflow("run", str(QUICKSTART), *sets(f"output={folder}/local", "cluster.cpu_workers=2", *SMALL))
        local = time.time() - start
    return {
        "submit_s": submitted - begun,
        "submit_to_first_shard_s": first - submitted,
        "slurm_s": through,
        "local_s": local,
        "overhead_s": through - local,
    }


def parts(words: argparse.Namespace) -> dict[str, Any]:
    """Every part; `units` each in a process of its own, since peak memory does not go down again."""
    found: dict[str, Any] = {}
    for count in words.units:
        command = [sys.executable, __file__, "--one", str(count), "--simulated", str(words.simulated)]
        found[f"units_{count}"] = json.loads(
            subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        )
        print(f"units {count}: {found[f'units_{count}']}", file=sys.stderr, flush=True)
    found["mocks"] = bench_mocks(200_000 if words.quick else 10_000_000)
    print(f"mocks: {found['mocks']}", file=sys.stderr, flush=True)
    there = (words.run / "model").is_dir()
    found["infer"] = bench_infer(words.run, 100 if words.quick else 2000) if there else "no finished run"
    print(f"infer: {found['infer']}", file=sys.stderr, flush=True)
    with slurm(words.site) as site:
        found["slurm"] = bench_slurm(site) if site else "no Slurm here"
    return found


def rows(found: dict[str, Any]) -> Iterator[Row]:
    """The figures as lines of a table."""
    for name, one in found.items():
        if isinstance(one, str):
            yield Row(f"{name}: {one}", None, "")
        elif name.startswith("units_"):
            count = f"{int(name.removeprefix('units_')):,} empty units"
            yield Row(f"{count}, each", one["wall_ms_a_unit"], "ms")
            yield Row(f"{count}, processor of client and scheduler, each", one["driver_cpu_ms_a_unit"], "ms")
            memory = one["driver_mib_after"], "MiB", "before", one["driver_mib_before"]
            yield Row(f"{count}, memory of client and scheduler", *memory)
        elif name == "slurm":
            yield Row("the small job through Slurm", one["slurm_s"], "s", "local", one["local_s"])
            yield Row("`batchflow submit` itself", one["submit_s"], "s")
            yield Row("from submission to the first shard", one["submit_to_first_shard_s"], "s")
        else:
            unit = {"mocks": "rows", "infer": "clusters"}[name] + "_per_s"
            yield Row(f"{name}, two workers", one[f"{unit}_2"], "1/s", "one worker", one[f"{unit}_1"])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--units", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--simulated", type=int, default=32, help="simulated workers")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "quickstart")
    parser.add_argument("--site", help="a site file of a Slurm that is there")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="figures as JSON in place of the table")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.work:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        asyncio.run(work(words.work, words.simulated))
        return
    if words.one:
        print(json.dumps(bench_units(words.one, words.simulated)))
        return
    words.units = [1000, 2000] if words.quick else words.units
    found = parts(words)
    print(json.dumps(found, indent=1) if words.json else "\n".join(table(list(rows(found)))))


if __name__ == "__main__":
    main()
