"""The only maker of Dask clusters and clients; with it what stages need of them, `run_units` above all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client
from distributed.comm.core import CommClosedError

from batchflow.errors import UserError
from batchflow.machine import WORKER_SETTINGS, WORKER_VARIABLES
from batchflow.paths import remove
from batchflow.settings.cluster import ClusterSettings
from batchflow.workers.available import CPU, GPU, demand, has_cuda, peak_memory, require, workers_with
from batchflow.workers.batch_site import allocation_client, batch_client
from batchflow.workers.dispatch import Failure, Pool, failures_text, run_units
from batchflow.workers.local_site import existing_client, local_client

__all__ = [
    "CPU",
    "GPU",
    "Failure",
    "Pool",
    "connect",
    "demand",
    "failures_text",
    "has_cuda",
    "peak_memory",
    "require",
    "run_units",
    "workers_with",
]

LOG = logging.getLogger("batchflow")

HUNG = Path("logs") / "hung"
"""Folder in RUN of what workers write down about units that hang."""

DASK_SETTINGS = {
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.daemon": True,
    # `run_units` tries again itself: Dask cannot tell who killed a worker from who waited for it.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.comm.timeouts.connect": "30s",
    # The scheduler keeps the last messages to each worker, arguments and all: 1000 of them are 5 MB a worker.
    "distributed.admin.low-level-log-length": 100,
    # A worker that died comes again, on a busy machine not within the 15 s after which Dask gives it up.
    "distributed.deploy.lost-worker-timeout": "5 minutes",
    **WORKER_SETTINGS,
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_VARIABLES.items()},
}


@contextmanager
def connect(settings: ClusterSettings, scratch: Path) -> Iterator[Client]:
    """Have a Dask client for as long as the block runs.

    Parameters
    ----------
    settings : ClusterSettings
        The job's ``[cluster]``.
    scratch : Path
        Where workers started here keep their temporary files.

    Yields
    ------
    distributed.Client
        Of workers started here, on loopback only, or of an existing scheduler.

    Raises
    ------
    UserError
        When an existing scheduler does not answer, or goes away while the block runs.
    """
    # Reached only when every worker has gone: those that are waited for at first are `require`d.
    patience = {"distributed.scheduler.no-workers-timeout": f"{60 * settings.wait_minutes:.0f}s"}
    limit = {"batchflow.hang-minutes": settings.hang_minutes, "batchflow.hung": str(scratch.parent / HUNG)}
    remove(scratch.parent / HUNG)
    with (
        dask.config.set(DASK_SETTINGS | patience | limit | _dashboard_settings(settings)),
        _open(settings, scratch) as client,
    ):
        try:
            yield client
        except (CommClosedError, CancelledError) as error:
            LOG.error("the connection to the scheduler is lost: %s", error)
            where = settings.address or settings.scheduler_file or "of this run"
            raise UserError(
                f"the scheduler {where} went away while the job ran; what is done stays done: "
                "start it again, and the same command goes on from there"
            ) from error


def _open(settings: ClusterSettings, scratch: Path) -> AbstractContextManager[Client]:
    if settings.site == "address":
        return existing_client(settings)
    if settings.site == "allocation":
        return allocation_client(settings, scratch)
    return batch_client(settings, scratch) if settings.is_batch else local_client(settings, scratch)


def _dashboard_settings(settings: ClusterSettings) -> dict[str, Any]:
    """Our page and metrics in Dask's dashboard; without a dashboard no page is served at all."""
    if settings.dashboard_address is None:
        return {"distributed.scheduler.http.routes": []}
    from batchflow.dashboard import metrics, page

    page.install()
    return metrics.use_routes()
