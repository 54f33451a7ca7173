"""Mocks per second on one core: `OMP_NUM_THREADS=1 python tests/benchmarks/bench_engine.py`."""

from __future__ import annotations

import time

import numpy as np

from batchflow.physics.embedded import EmbeddedEngine

BANDS = (
    "wfc3_f275w",
    "wfc3_f336w",
    "wfc3_f438w",
    "wfc3_f555w",
    "wfc3_f814w",
    "acs_f435w",
    "acs_f555w",
    "acs_f814w",
)
CIGALE_RATE = 2000.0
"""SEDs a second of CIGALE's ssp + bc03_ssp + dustext in one process, five bands (1680 to 2350)."""


def seconds(rows: int, repeats: int = 5) -> float:
    """Best time of filling a block of mocks."""
    engine = EmbeddedEngine(BANDS)
    rng = np.random.default_rng(0)
    values = {"log_age": rng.uniform(6, 10.14, rows), "ebv": rng.uniform(0, 1.5, rows)}
    engine.fluxes(values)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        engine.fluxes(values)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print rates and their ratio to CIGALE's."""
    start = time.perf_counter()
    EmbeddedEngine(BANDS).table()
    print(f"first table, imports of the extinction laws included: {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    EmbeddedEngine(BANDS, metallicity=0.004).table()
    print(f"next table: {time.perf_counter() - start:.3f} s")
    for rows in (1, 1000, 500_000):
        rate = rows / seconds(rows)
        print(f"{rows} rows, {len(BANDS)} bands: {rate:,.0f} mocks/s, {rate / CIGALE_RATE:,.0f} x CIGALE")


if __name__ == "__main__":
    main()
