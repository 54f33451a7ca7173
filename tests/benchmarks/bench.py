"""All benchmarks in turn: a table with ratios, and the figures beside it as JSON.

    python tests/benchmarks/bench.py [--only mocks,startup] [--quick] [--model RUN] [--large] [--peers PYTHON]

Each is a program of its own that prints JSON last; what it measures stands in its head. Together they take
some 35 minutes on two quiet cores, 9 of them for the training whose model others use (`--model` takes a
finished run of bench_reference.py instead). `--large` adds a million objects (half an hour, 3 GB).
`--quick` tries the plumbing: its figures mean nothing. Writes OUT/figures.json, as it goes, and
OUT/table.md; sections that were measured before stay there. sbi, zuko, emcee, nautilus and bagpipes are
asked of PYTHON (see README.md).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from harness import read_report
from tables import markdown

HERE = Path(__file__).parent
LIBRARIES = ("batchflow", "torch", "numpy", "pyarrow", "dask", "distributed", "duckdb", "scipy", "astropy")
PEERS = ("sbi", "zuko", "emcee", "nautilus-sampler", "bagpipes")


class Section(NamedTuple):
    """A benchmark: its program, what it is told, and what it is told with `--quick`."""

    script: str
    words: Sequence[str]
    quick: Sequence[str]
    one_thread: bool = False
    by_peers: bool = False
    """Runs in the interpreter that has the peers."""
    rare: bool = False
    """Only with `--large`, or named in `--only`."""


NO_GRID = ("--set", "infer.grid=fallback")
"""Weighted draws alone: the exact quantiles of every cluster take ten times longer."""
SECTIONS = {
    "startup": Section("startup", (), ("--repeats", "1")),
    "engine": Section("engine", (), (), one_thread=True),
    "mocks": Section("mocks", (), ("--rows", "300000"), one_thread=True),
    "cigale": Section("cigale", (), ("--rows", "50"), one_thread=True),
    "growth_mocks": Section("growth", ("mocks",), ("mocks", "100000", "200000")),
    "reference": Section("reference", ("8", "output={out}/reference"), ()),
    "train_step": Section("train_step", ("600",), ("40",)),
    "draws": Section(
        "draws",
        ("{model}",),
        (
            "{model}",
            "--draws",
            "100",
            "--total",
            "3200",
            "--objects",
            "1",
            "--seconds",
            "1",
            "--peers",
            "emcee",
        ),
        one_thread=True,
        by_peers=True,
    ),
    "certify": Section("certify", ("{model}", "200"), ("{model}", "8")),
    "fit": Section("fit", ("{model}", "2000"), ("{model}", "64"), one_thread=True),
    "overhead": Section(
        "overhead",
        ("{model}",),
        ("{model}", "--rows", "200000", "--objects", "200", "--draws", "50", "--turns", "1"),
        one_thread=True,
    ),
    "units": Section("cluster", ("--one", "5000"), ("--one", "200")),
    "growth_catalogue": Section(
        "growth",
        ("catalogue", "--run", "{model}", *NO_GRID),
        ("catalogue", "--run", "{model}", *NO_GRID, "--draws", "50", "100", "400"),
    ),
    "growth_large": Section(
        "growth",
        ("catalogue", "--run", "{model}", *NO_GRID, "1000000"),
        ("catalogue", "--run", "{model}", *NO_GRID, "200"),
        rare=True,
    ),
    "catalogue": Section("catalogue", ("1000000",), ("--types", "parquet,csv", "20000")),
    "query": Section("query", ("--rows", "200000"), ("--rows", "25000")),
    "peers": Section("peers", ("60",), ("1", "--peers", "zuko_plain"), by_peers=True),
}
"""In the order in which they run; `{model}` is the run whose model is used, `{out}` where figures go."""
NOT_QUICK = ("reference",)


def machine(peers: str) -> dict[str, Any]:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "gpu": gpu(),
        "system": platform.platform(),
        "load_before": os.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES} | _peer_versions(peers),
    }


def gpu() -> str | None:
    """Name of the GPU that torch would use."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _peer_versions(python: str) -> dict[str, str]:
    code = (
        "import json\nfrom importlib.metadata import distributions\n"
        f"wanted = {PEERS!r}\n"
        "print(json.dumps({d.name: d.version for d in distributions() if d.name in wanted}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def run_section(name: str, words: argparse.Namespace) -> dict[str, Any]:
    """Figures of a section, or why there are none."""
    section = SECTIONS[name]
    told = section.quick if words.quick else section.words
    places = {"model": words.model or words.out / "reference", "out": words.out}
    told = [text.format(**places) for text in told]
    if "{model}" in section.words and not (places["model"] / "model").is_dir():
        return {"left_out": f"no model in {places['model']}: run the section reference, or give --model RUN"}
    if name == "cigale" and not _importable("pcigale"):
        told += ["--double", "new"]
    python = words.peers if section.by_peers else sys.executable
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if section.one_thread else {})
    start = time.perf_counter()
    command = [python, str(HERE / f"bench_{section.script}.py"), *told]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    spent = {"benchmark_s": round(time.perf_counter() - start, 1), "exit_status": done.returncode}
    try:
        return read_report(done.stdout) | spent
    except ValueError:
        return {"failed": (done.stderr or done.stdout)[-2000:]} | spent


def _importable(module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def chosen_sections(words: argparse.Namespace) -> list[str]:
    """Names of sections, in their order."""
    asked = [name for name in words.only.split(",") if name]
    if unknown := [name for name in asked if name not in SECTIONS]:
        raise SystemExit(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if asked:
        return [name for name in SECTIONS if name in asked]
    left = {"reference"} if words.model else set(NOT_QUICK) if words.quick else set()
    return [
        name for name, section in SECTIONS.items() if name not in left and (words.large or not section.rare)
    ]


def main() -> None:
    """Run, gather, write; exit 1 when a section failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="sections, with commas between")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--model", type=lambda text: Path(text).resolve() if text else None)
    parser.add_argument("--peers", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--out", type=lambda text: Path(text).resolve(), default=Path("runs/bench").resolve())
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    path = words.out / ("quick.json" if words.quick else "figures.json")
    known = json.loads(path.read_text()) if path.exists() else {"sections": {}}
    here, failed = machine(words.peers), False
    for name in chosen_sections(words):
        print(f"{name} ...", end=" ", flush=True)
        found = run_section(name, words)
        failed |= "failed" in found
        print(
            "failed: " + found["failed"] if "failed" in found else f"{found.get('benchmark_s', 0):g} s",
            flush=True,
        )
        # Sections of another day keep the machine that they were measured on.
        known["sections"][name] = found | {"machine": here}
        path.write_text(json.dumps(known, indent=1) + "\n")
    table = markdown(known["sections"], here)
    path.with_name("quick.md" if words.quick else "table.md").write_text(table)
    print(table)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
