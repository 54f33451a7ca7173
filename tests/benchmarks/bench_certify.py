"""Draws a second raw, certified and rescued, and how far credible intervals are from the exact ones.

    python tests/benchmarks/bench_certify.py RUN [OBJECTS]

RUN is a finished run of bench_reference.py. Times are of the processor, on as many threads as torch has. An
interval's error is that of each end of the central 68 %, over its width, against 65,536 draws of the grid.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_reference import DISTANCE, observe

import batchflow
from batchflow.config import load_job
from batchflow.infer.clusters import Clusters, from_arrays
from batchflow.infer.draw import Draws, Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.summary import summarise
from batchflow.mocks.noise import DEFAULT_SURVEY
from batchflow.schema import Flag

DRAWS = 512
EXACT = Rescue(0.0, 1, "always")
KNOWN = 65_536
"""Draws of the grid that tell the exact intervals."""
Way = tuple[int, bool, Rescue | None]
WAYS: dict[str, Way] = {
    "raw": (DRAWS, False, None),
    "certified": (DRAWS, True, None),
    "rescued below 0.05": (DRAWS, True, Rescue(grid="fallback")),
    "rescued below 0.3": (DRAWS, True, Rescue(0.3, grid="fallback")),
    "more draws below 0.3": (DRAWS, True, Rescue(0.3, 4096, "never")),
    "grid for summaries": (DRAWS, True, Rescue(grid="summary")),
    "certified, 4096 draws": (4096, True, None),
    "grid, 512 draws": (DRAWS, True, Rescue(0.0, DRAWS, "always")),
    "grid, 4096 draws": (4096, True, Rescue(0.0, 4096, "always")),
}
"""Draws kept, whether certified, rescue."""


def reference_clusters(run: Path, n: int) -> Clusters:
    """Clusters of the reference problem."""
    _, flux, error, _ = observe(load_job(run / "job.toml", []), n)
    clusters = from_arrays(flux, error, DISTANCE, flux.shape[1])
    return replace(clusters, surveys=[DEFAULT_SURVEY] * n)


def quantiles(draws: Draws) -> np.ndarray:
    """Ends of the 68 % intervals, (n_clusters, n_parameters, 2)."""
    columns = []
    for name, values in draws.values.items():
        own = summarise(values, draws.weights)
        unknown = np.full(len(values), np.nan)
        better = {suffix: draws.refined.get(f"{name}_{suffix}", unknown) for suffix in own}
        columns.append([np.where(np.isfinite(better[q]), better[q], own[q]) for q in ("q16", "q84")])
    return np.array(columns).transpose(2, 0, 1)


def measure(proposal: Proposal, clusters: Clusters, way: Way) -> tuple[Draws, float]:
    """Draws, and milliseconds a cluster."""
    kept, certify, rescue = way
    start = time.process_time()
    draws = draw_posteriors(proposal, clusters, Options(kept, certify, 1, rescue))
    return draws, 1e3 * (time.process_time() - start) / len(clusters.keys)


def figures(draws: Draws, cost: float, made: int, exact: np.ndarray) -> dict[str, Any]:
    """What is printed of one way."""
    width = exact[..., 1] - exact[..., 0]
    error = np.abs(quantiles(draws) - exact) / width[..., None]
    method = np.zeros(len(exact), int) if draws.method is None else draws.method
    found = {
        "ms_a_cluster": cost,
        "draws_per_s": 1e3 * made / cost,
        "efficiency_p01": float(np.nanpercentile(draws.efficiency, 1)),
        "efficiency_p50": float(np.nanmedian(draws.efficiency)),
        "by_more_draws": float((method & Flag.MORE_DRAWS > 0).mean()),
        "by_grid": float((method & Flag.GRID_POSTERIOR > 0).mean()),
        "interval_error_p50": float(np.percentile(error, 50)),
        "interval_error_p99": float(np.percentile(error, 99)),
        "intervals_within_2_percent": float((error.max(2) < 0.02).mean()),
        "clusters_with_all_within": float((error.max((1, 2)) < 0.02).mean()),
    }
    return {name: round(value, 4) for name, value in found.items()}


def main() -> None:
    """Print the figures as JSON."""
    run = Path(sys.argv[1])
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    model, clusters = batchflow.open_model(run), reference_clusters(run, n)
    parts = [clusters.rows(np.arange(i, min(i + 8, n))) for i in range(0, n, 8)]
    known = [measure(model.proposal, part, (KNOWN, True, EXACT))[0] for part in parts]
    exact = np.concatenate([quantiles(each._replace(refined={})) for each in known])
    report = {}
    for name, way in WAYS.items():
        draws, cost = measure(model.proposal, clusters, way)
        if not way[1]:
            draws = draws._replace(efficiency=np.ones(n))
        report[name] = figures(draws, cost, way[0], exact)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
