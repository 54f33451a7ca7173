"""`/metrics` for Prometheus: Dask's own, and those of the run."""

from __future__ import annotations

from typing import Any

import dask
from distributed.http.prometheus import import_metrics_handler

from batchflow.dashboard.page import memory_by_worker
from batchflow.dashboard.state import RunState, shown

DASK_ROUTES = "distributed.http.scheduler.prometheus"


def metrics_text(state: RunState, memory: dict[str, float]) -> str:
    """Metrics of a run in Prometheus' text format.

    Parameters
    ----------
    state : RunState
        Of the run.
    memory : dict of str to float
        Of each worker [MiB].

    Returns
    -------
    str
        One family after the other; labels are escaped.
    """
    stages = state.stages.items()
    losses = state.losses[-1] if state.losses else None
    done = sum(done == wanted for done, wanted in state.galaxies.values())
    families: list[tuple[str, str, list[tuple[dict[str, str], float]]]] = [
        ("stage_units_done", "Units of a stage that are done", [({"stage": s}, i.done) for s, i in stages]),
        ("stage_units_left", "Units of a stage to be done", [({"stage": s}, i.left) for s, i in stages]),
        ("stage_units_failed", "Units of a stage that failed", [({"stage": s}, i.failed) for s, i in stages]),
        ("stage_rate", "Units of a stage a second", [({"stage": s}, i.rate) for s, i in stages]),
        ("train_loss_nats", "Training loss", [({}, losses[1])] if losses else []),
        ("held_out_loss_nats", "Held-out loss", [({}, losses[2])] if losses else []),
        ("galaxies_finished", "Galaxies with every part inferred", [({}, done)]),
        ("galaxies", "Galaxies of the catalogues", [({}, len(state.galaxies))]),
        (
            "worker_memory_bytes",
            "Memory of a worker",
            [({"worker": w}, m * 2**20) for w, m in memory.items()],
        ),
    ]
    return "".join(_family(*family) for family in families) + _histogram(state)


def use_routes() -> dict[str, Any]:
    """Dask settings by which a scheduler serves these metrics in place of its own alone."""
    routes = dask.config.get("distributed.scheduler.http.routes")
    return {
        "distributed.scheduler.http.routes": [__name__ if name == DASK_ROUTES else name for name in routes]
    }


def _family(name: str, text: str, samples: list[tuple[dict[str, str], float]]) -> str:
    lines = [f"# HELP batchflow_{name} {text}.", f"# TYPE batchflow_{name} gauge"]
    lines += [f"batchflow_{name}{_labels(labels)} {value:.10g}" for labels, value in samples]
    return "\n".join(lines) + "\n" if samples else ""


def _histogram(state: RunState) -> str:
    counts = state.efficiencies
    total, lines = (
        0,
        ["# HELP batchflow_efficiency Clusters by efficiency.", "# TYPE batchflow_efficiency histogram"],
    )
    for place, count in enumerate(counts):
        total += int(count)
        lines.append(f'batchflow_efficiency_bucket{{le="{(place + 1) / len(counts):g}"}} {total}')
    middle = sum(int(count) * (place + 0.5) / len(counts) for place, count in enumerate(counts))
    lines += [f'batchflow_efficiency_bucket{{le="+Inf"}} {total}', f"batchflow_efficiency_sum {middle:.10g}"]
    return "\n".join([*lines, f"batchflow_efficiency_count {total}"]) + "\n"


def _labels(labels: dict[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    inside = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    return f"{{{inside}}}" if inside else ""


_Base: Any = import_metrics_handler(f"{DASK_ROUTES}.core", "PrometheusHandler")


class MetricsHandler(_Base):  # type: ignore[misc]  # Dask's, chosen by what is installed
    """Dask's metrics where prometheus_client is installed, and the run's in any case."""

    def get(self) -> None:
        """Answer."""
        super().get()
        self.write("\n" + metrics_text(shown(self.server), memory_by_worker(self.server)))


routes: list[tuple[str, type[MetricsHandler], dict[str, Any]]] = [("/metrics", MetricsHandler, {})]
