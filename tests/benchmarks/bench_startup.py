"""Seconds that `batchflow --help`, `status` and `query` take to start: on the clock and of the processor.

    python tests/benchmarks/bench_startup.py [--repeats 5]

The best of some; `modules` counts what each has imported, `heavy` names what no short command may import.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import report

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy_runs import add_part, toy_draws

QUICKSTART = Path(__file__).resolve().parents[2] / "jobs" / "quickstart.toml"
HEAVY = ("torch", "dask", "distributed", "astropy", "scipy", "matplotlib")
LIMIT_S = 1.0
PROBE = """
import sys
from batchflow.cli import app
sys.argv = ["batchflow", *{words!r}]
try:
    app(standalone_mode=False)
except SystemExit:
    pass
names = set(sys.modules)
print("\\nMODULES", len(names), *sorted(names & set({heavy!r})))
"""


def make_run(folder: Path) -> Path:
    """A small run to ask."""
    chance = np.random.default_rng(0)
    centres = {"log_age": 7.5, "log_mass": 4.0, "ebv": 0.3}
    values = {name: chance.normal(centre, 0.1, (20, 50)) for name, centre in centres.items()}
    add_part(folder, "toy", toy_draws(values, np.zeros((20, 50))))
    return folder


def seconds(command: list[str]) -> tuple[float, float]:
    """On the clock, and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(words: list[str], repeats: int) -> dict[str, Any]:
    """Figures of one command."""
    found = [seconds([sys.executable, "-m", "batchflow", *words]) for _ in range(repeats)]
    wall, cpu = (min(column) for column in zip(*found, strict=True))
    code = PROBE.format(words=words, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, count, *heavy = done.stdout.rpartition("\n")[0].rpartition("\n")[2].split()
    return {"wall_s": wall, "cpu_s": cpu, "modules": int(count), "heavy": heavy}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    bare = [seconds([sys.executable, "-c", "pass"]) for _ in range(repeats)]
    with tempfile.TemporaryDirectory() as name:
        run = str(make_run(Path(name) / "run"))
        commands = {
            "--help": ["--help"],
            "status": ["status", str(QUICKSTART), "--set", f"output={name}/none"],
            "query": ["query", run, "SELECT count(*) FROM posterior"],
        }
        figures = {shown: measure(words, repeats) for shown, words in commands.items()}
    report({"limit_s": LIMIT_S, "python_alone_s": min(wall for wall, _ in bare), "commands": figures})


if __name__ == "__main__":
    main()
