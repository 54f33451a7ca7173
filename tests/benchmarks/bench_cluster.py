"""What the cluster costs: overhead a unit, memory of client and scheduler, from submit to the first task.

python tests/benchmarks/bench_cluster.py units 10000 [WORKERS]
python tests/benchmarks/bench_cluster.py submit JOB SITE     (a Slurm must be there)
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batchflow.cluster import CPU, Pool, connect, require, run_units
from batchflow.config import ClusterSettings
from batchflow.plan import Unit


def nothing(index: int, footer: dict[str, str]) -> int:
    """A unit that costs nothing; its arguments are as large as a real one's."""
    return index


def rss() -> float:
    """Peak memory of this process: client and scheduler [MiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench_units(count: int, workers: int) -> dict[str, float]:
    settings = ClusterSettings(cpu_workers=workers, dashboard="off")
    with tempfile.TemporaryDirectory() as folder, connect(settings, Path(folder)) as client:
        require(client, CPU, 1)
        footer = {f"settings.key_{i}": "a value of some length" for i in range(30)}
        pool = Pool(CPU, settings.in_flight)
        run_units(client, nothing, _units(100, footer), pool, lambda *_: None)
        before, start = rss(), time.perf_counter()
        units = _units(count, footer)
        failures = run_units(client, nothing, units, pool, lambda *_: None)
        seconds = time.perf_counter() - start
        return {
            "units": count,
            "workers": workers,
            "ms_a_unit": 1000 * seconds / count,
            "mib_before": before,
            "mib_after": rss(),
            "failures": len(failures),
        }


def _units(count: int, footer: dict[str, str]) -> list[Unit]:
    return [Unit(f"u{i}", (), None, {"index": i, "footer": footer}) for i in range(count)]


def bench_submit(job: str, site: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as folder:
        run, begun = Path(folder, "run"), time.time()
        words = ["--set", f"output={run}", "--set", f"cluster.site={site}"]
        command = [sys.executable, "-m", "batchflow", "submit", job, "--json", *words]
        id_ = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]["id"]
        submitted = time.time()
        while not list(run.glob("mocks/shard-*.parquet")):
            time.sleep(0.1)
        first = time.time()
        state = "RUNNING"
        while state in ("RUNNING", "PENDING", "COMPLETING"):
            time.sleep(0.5)
            ask = ["squeue", "--noheader", "--states=all", f"--jobs={id_}", "--format=%T"]
            state = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
        slurm = time.time() - begun
        start = time.time()
        local = ["run", job, "--set", f"output={folder}/local", "--set", "cluster.cpu_workers=2"]
        subprocess.run([sys.executable, "-m", "batchflow", *local], capture_output=True, check=True)
        return {
            "submit_s": submitted - begun,
            "first_shard_s": first - submitted,
            "slurm_s": slurm,
            "local_s": time.time() - start,
        }


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "units":
        print(json.dumps(bench_units(int(rest[0]), int(rest[1]) if len(rest) > 1 else 1)))
    else:
        print(json.dumps(bench_submit(*rest)))


if __name__ == "__main__":
    main()
