"""Mocks per second on one core: `OMP_NUM_THREADS=1 python tests/benchmarks/bench_engine.py`.

The whole of a shard: draws from the prior, fluxes off the table, Parquet on disk.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from harness import report

from batchflow.mocks.make import make_shard
from batchflow.physics.engine import open_engine
from batchflow.settings.prior import PriorSettings

BANDS = [
    *("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w"),
    *("acs_f435w", "acs_f555w", "acs_f814w"),
]
CIGALE_RATE = 2000.0
"""SEDs a second of CIGALE's ssp + bc03_ssp + dustext in one process, five bands (1680 to 2350)."""
ROWS = 100_000
CASES: dict[str, dict[str, Any]] = {
    "age and reddening": {},
    "+ R(V)": {"rv": {"uniform": [2.5, 4.0]}},
    "+ metallicity": {"metallicity": {"uniform": [0.004, 0.02]}},
    "+ covering": {"covering": {"uniform": [0.0, 1.0]}},
    "all three": {
        "metallicity": {"uniform": [0.004, 0.02]},
        "rv": {"truncated_normal": [3.1, 0.3, 2.5, 4.0]},
        "covering": {"uniform": [0.0, 1.0]},
    },
    "all three, full ranges": {
        "metallicity": {"uniform": [0.0001, 0.1]},
        "rv": {"uniform": [2.0, 6.0]},
        "covering": {"uniform": [0.0, 1.0]},
    },
}


def settings_of(prior: dict[str, Any]) -> dict[str, Any]:
    """Settings of a shard, as a job gives them."""
    vary = {name: PriorSettings.model_validate(prior).distributions()[name].box for name in prior}
    return {"seed": 1, "model": {"bands": BANDS, "vary": vary}, "prior": prior}


def seconds(settings: dict[str, Any], folder: Path, repeats: int = 5) -> float:
    """Best time of making and writing a shard."""
    times = []
    for index in range(repeats):
        start = time.perf_counter()
        make_shard(str(folder / "shard.parquet"), {"index": index, "rows": ROWS}, settings, {})
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print rates, their ratios to the plain case and to CIGALE, and the size of each table."""
    plain, figures = None, dict[str, float]()
    print(f"{'case':<24} {'table':>8} {'made in':>8} {'mocks/s':>10} {'slower':>7} {'x CIGALE':>9}")
    for name, prior in CASES.items():
        settings = settings_of(prior)
        start = time.perf_counter()
        size = open_engine(settings["model"]).table().log_flux.nbytes / 1e6
        made = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder:
            rate = ROWS / seconds(settings, Path(folder))
        plain = plain or rate
        figures[name] = rate
        print(
            f"{name:<24} {size:>5.0f} MB {made:>6.2f} s {rate:>10,.0f} {plain / rate:>7.2f} "
            f"{rate / CIGALE_RATE:>9,.0f}"
        )
    report({"mocks_per_s": figures, "cigale_per_s": CIGALE_RATE})


if __name__ == "__main__":
    main()
