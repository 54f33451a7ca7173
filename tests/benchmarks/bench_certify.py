"""Draws a second raw, certified and rescued, and how far credible intervals are from the exact ones.

    python tests/benchmarks/bench_certify.py FOLDER [OBJECTS] [MINUTES]

The reference problem of bench_flow.py; FOLDER keeps the network trained for MINUTES (default 2), and is used
again when it holds one. Times are of the processor, on as many threads as torch has. An interval's error is
that of each end of the central 68 %, over its width, against 65,536 draws of the exact grid.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_flow import BANDS, PRIOR, make_shards, observe, reference_noise

from batchflow.config import FlowSettings, ModelSettings, TrainSettings
from batchflow.flow.checkpoint import load_model
from batchflow.flow.network import Specification
from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import Draws, Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.posterior import Model
from batchflow.infer.summary import summarise
from batchflow.physics.engine import Engine, open_engine
from batchflow.schema import Flag
from batchflow.train.data import open_shards
from batchflow.train.fit import Training, train

DRAWS = 512
EXACT = Rescue(0.0, 65_536, "always")
Way = tuple[int, bool, Rescue | None]
WAYS: dict[str, Way] = {
    "raw": (DRAWS, False, None),
    "certified": (DRAWS, True, None),
    "rescued below 0.05": (DRAWS, True, Rescue()),
    "rescued below 0.3": (DRAWS, True, Rescue(0.3)),
    "more draws below 0.3": (DRAWS, True, Rescue(0.3, 4096, "never")),
    "certified, 4096 draws": (4096, True, None),
    "grid, 512 draws": (DRAWS, True, Rescue(0.0, DRAWS, "always")),
    "grid, 4096 draws": (DRAWS, True, Rescue(0.0, 4096, "always")),
}
"""Draws kept, whether certified, rescue."""


def network_in(folder: Path, engine: Engine, minutes: float) -> Model:
    """The network of the folder, trained where there is none."""
    if not (folder / "model" / "model.json").is_file():
        shards = open_shards(make_shards(engine, folder / "shards", 1_000_000), BANDS, 0.02)
        settings = TrainSettings(epochs=1000, batch=1024, learning_rate=6e-3, max_minutes=minutes)
        specification = Specification(BANDS, PRIOR.boxes(), FlowSettings(), reference_noise())
        train(Training(specification, shards, settings, 0, "bench"), folder / "model")
    network = load_model(folder / "model")
    network.description["prior_settings"] = PRIOR.model_dump(mode="json")
    return Model(network, engine.table())


def reference_clusters(engine: Engine, n: int) -> Clusters:
    """Clusters with S/N > 3 in F555W at 15 Mpc."""
    _, seen = observe(engine)
    flux, error = (column[:n].double().numpy() for column in seen[:2])
    names = [f"cluster {i}" for i in range(n)]
    return Clusters(flux, error, np.zeros(flux.shape, bool), np.full(n, 15.0), names, ["reference"] * n)


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
    folder = Path(sys.argv[1])
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    engine = open_engine(ModelSettings(bands=BANDS))
    model = network_in(folder, engine, float(sys.argv[3]) if len(sys.argv) > 3 else 2.0)
    clusters = reference_clusters(engine, n)
    parts = [clusters.rows(np.arange(i, min(i + 8, n))) for i in range(0, n, 8)]
    known = [measure(model.proposal, part, (DRAWS, True, EXACT))[0] for part in parts]
    exact = np.concatenate([quantiles(each) for each in known])
    report = {}
    for name, way in WAYS.items():
        draws, cost = measure(model.proposal, clusters, way)
        made = way[2].max_draws if way[2] and way[2].grid == "always" else way[0]
        if not way[1]:
            draws = draws._replace(efficiency=np.ones(n))
        report[name] = figures(draws, cost, made, exact)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
