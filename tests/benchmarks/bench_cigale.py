"""What batchflow adds to a bare loop around CIGALE, and memory against the number of mocks.

    python tests/benchmarks/bench_cigale.py [--rows ROWS] [--double new|old] [--seconds 0.0005]

Runs on the installed pcigale; with `--double`, on the double of the tests, each SED of which takes
`--seconds` of computing. Both loops compute the same mocks, at ages that CIGALE has and random E(B-V), in
alternating turns; the bare loop is `get_sed` and `compute_fnu`, with what keeps its memory within bounds
(`nocache`, or `partial_clear_cache` and an emptied cache of modules). It computes the rows as they were
drawn, and again in the engine's order, which lets CIGALE reuse the stars of an age.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import BANDS, report

DOUBLES = Path(__file__).resolve().parents[1] / "physics" / "pcigale_double"


def open_warehouse(engine: Any) -> Any:
    """A warehouse that has read its spectra from the database."""
    from pcigale.warehouse import SedWarehouse

    chain = engine.chain
    recent = engine.describe()["pcigale"]["line"] == "2022"
    warehouse = SedWarehouse(nocache=[chain.varying[-1]]) if recent else SedWarehouse()
    bare_loop(engine, warehouse, [engine.steps["log_age"].codes[0]], [0.0])
    return warehouse


def bare_loop(engine: Any, warehouse: Any, codes: list[Any], ebv: list[float]) -> np.ndarray:
    """A plain loop around CIGALE."""
    chain = engine.chain
    age, screen = (chain.targets[name][0].to.split(".") for name in ("log_age", "ebv"))
    found = np.empty((len(codes), len(engine.filters)))
    for row, (code, reddening) in enumerate(zip(codes, ebv, strict=True)):
        parameters = [dict(values) for values in chain.fixed]
        parameters[chain.modules.index(age[0])][age[1]] = code
        parameters[chain.modules.index(screen[0])][screen[1]] = reddening
        sed = warehouse.get_sed(chain.modules, parameters)
        found[row] = [sed.compute_fnu(name) for name in engine.filters]
        if hasattr(warehouse, "partial_clear_cache"):
            warehouse.partial_clear_cache(len(chain.modules) - 1)
            if row % 128 == 0:
                for key in [k for k, m in warehouse.module_cache.items() if m.name in chain.varying]:
                    del warehouse.module_cache[key]
    return found


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor that a call takes, and what it gives."""
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def resident() -> float:
    """Resident memory of this process [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def draw(engine: Any, rows: int, seed: int) -> dict[str, np.ndarray]:
    """Mocks at ages that CIGALE has, below 1 Gyr: the time goes with age in a galaxy chain."""
    rng = np.random.default_rng(seed)
    drawn = {"log_age": rng.uniform(6, 9, rows), "ebv": rng.uniform(0, 1.5, rows)}
    single = {name: column.astype(np.float32) for name, column in drawn.items()}
    found: dict[str, np.ndarray] = engine.realise(single, {"log_age": (6.0, 9.0), "ebv": (0.0, 1.5)})
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--double", choices=["new", "old"])
    parser.add_argument("--seconds", default="0.0005")
    parser.add_argument("--memory", type=int, default=0, help="rows to make besides, for memory")
    options = parser.parse_args()
    if options.double:
        sys.path[:0] = [str(DOUBLES / options.double), str(DOUBLES)]
        os.environ["PCIGALE_DOUBLE_SECONDS"] = options.seconds
    warnings.simplefilter("ignore")
    from batchflow.physics.engine import open_engine

    engine: Any = open_engine({"engine": "cigale", "bands": list(BANDS)})
    print(engine.describe()["pcigale"], " ".join(engine.chain.modules))
    values = draw(engine, options.rows, 0)
    steps = engine.steps["log_age"]
    codes = [steps.codes[place] for place in steps.nearest(values["log_age"].astype(float))]
    ebv = values["ebv"].astype(float).tolist()
    order = np.lexsort([ebv, codes])
    runs: dict[str, list[float]] = {"engine": [], "bare, as drawn": [], "bare, same order": []}
    in_order = [codes[i] for i in order], [ebv[i] for i in order]
    for _ in range(5):
        seconds, ours = timed(lambda: engine.fluxes(values))
        runs["engine"].append(seconds)
        # A warehouse of its own each time: it keeps the stars of every age that it ever met.
        first, second = open_warehouse(engine), open_warehouse(engine)
        seconds, bare = timed(partial(bare_loop, engine, first, codes, ebv))
        runs["bare, as drawn"].append(seconds)
        seconds, _ = timed(partial(bare_loop, engine, second, *in_order))
        runs["bare, same order"].append(seconds)
        np.testing.assert_allclose(ours, bare, rtol=1e-12)
    for name, taken in runs.items():
        rate = options.rows / statistics.median(taken)
        relative = statistics.median(runs["engine"]) / statistics.median(taken) - 1
        print(f"{name:<18} {rate:>8.0f} SED/s; the engine takes {relative:+.1%}")
    memory = []
    for block in range(10 if options.memory else 0):
        engine.fluxes(draw(engine, options.memory // 10, block))
        memory.append(resident())
        print(f"{(block + 1) * options.memory // 10:>8} mocks  {memory[-1]:.0f} MiB")
    rates = {name: options.rows / statistics.median(taken) for name, taken in runs.items()}
    report({"double": options.double, "seds_per_s": rates, "memory_mib": memory})


if __name__ == "__main__":
    main()
