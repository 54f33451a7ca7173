"""The only maker of Dask clusters and clients, and the way units of work are run on them."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, Nanny, Scheduler, SpecCluster, as_completed
from distributed.scheduler import KilledWorker

from batchflow.config import ClusterSettings
from batchflow.errors import UserError
from batchflow.plan import Unit

LOG = logging.getLogger("batchflow")

CPU, GPU = "CPU", "GPU"
"""Names of the workers' resources: plain work asks for CPU=1, training for GPU=1."""

DASK_SETTINGS = {
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.daemon": True,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.comm.timeouts.connect": "30s",
    # OpenMP threads spin while they wait: for ever, and torch is five times slower as soon as anything else
    # runs on the machine; never, and it is twice slower on a quiet one. A short while suits both (measured).
    "distributed.nanny.pre-spawn-environ.GOMP_SPINCOUNT": "50000",
}


Failure = tuple[str, str]
"""A unit that could not be made, and why."""


@dataclass(frozen=True)
class Pool:
    """Which workers do the work, and how many units each may have in flight."""

    resource: str
    in_flight: int


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
        When an existing scheduler does not answer.
    """
    with dask.config.set(DASK_SETTINGS):
        if settings.site == "address":
            with _existing(settings) as client:
                yield client
        else:
            with _local_cluster(settings, scratch) as cluster, Client(cluster) as client:
                yield client


def workers_with(client: Client, resource: str) -> list[str]:
    """Addresses of the workers that have a resource."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [address for address, info in workers.items() if info["resources"].get(resource, 0) >= 1]


def require(client: Client, resource: str, minutes: float) -> int:
    """Wait for a worker that has a resource.

    Parameters
    ----------
    client : distributed.Client
        From `connect`.
    resource : str
        `CPU` or `GPU`.
    minutes : float
        How long to wait at most.

    Returns
    -------
    int
        How many workers have it.

    Raises
    ------
    UserError
        When none comes: a task that asks for it would wait for ever.
    """
    deadline = time.monotonic() + 60 * minutes
    while not (found := workers_with(client, resource)):
        if time.monotonic() > deadline:
            raise UserError(
                f"no worker with the resource {resource}=1 came in {minutes:g} minutes; start one with "
                f'`dask worker ADDRESS --resources "{resource}=1"` or raise cluster.wait_minutes'
            )
        time.sleep(0.2)
    return len(found)


def run_units(
    client: Client,
    function: Callable[..., Any],
    units: Iterable[Unit],
    pool: Pool,
    on_done: Callable[[Unit, Any], None],
) -> list[Failure]:
    """Run a function for every unit, with a bounded number of them in flight.

    Parameters
    ----------
    client : distributed.Client
        From `connect`.
    function : callable
        A plain top-level function; called with the unit's arguments by name.
    units : iterable of Unit
        What to make.
    pool : Pool
        Where they run; units in flight are bounded so that memory does not grow with their number.
    on_done : callable
        Called with the unit and its result as each ends.

    Returns
    -------
    list of Failure
        Units that failed, every other one being done.

    Raises
    ------
    UserError
        As soon as a unit meets one, such as a full disk: the others would meet it too.
    """
    waiting = iter(units)
    width = pool.in_flight * max(1, len(workers_with(client, pool.resource)))
    wanted = {pool.resource: 1}
    running: dict[Future[Any], Unit] = {}
    failures: list[Failure] = []

    def submit(unit: Unit) -> Future[Any]:
        future = client.submit(function, **unit.arguments, resources=wanted, pure=False, retries=1)
        running[future] = unit
        return future

    completed = as_completed([submit(unit) for unit in islice(waiting, width)])
    try:
        for future in completed:
            unit = running.pop(future)
            failure = _outcome(future, unit, on_done)
            failures += [failure] if failure else []
            for following in islice(waiting, 1):
                completed.add(submit(following))
    finally:
        client.cancel(list(running))
    return failures


def _outcome(future: Future[Any], unit: Unit, on_done: Callable[[Unit, Any], None]) -> Failure | None:
    try:
        on_done(unit, future.result())
    except UserError:
        raise
    except KilledWorker:
        return (unit.key, "its worker died each time (out of memory?)")
    except Exception as error:  # any error of a unit is reported, and the other units go on
        LOG.exception("%s failed", unit.key)
        return (unit.key, f"{type(error).__name__}: {error}")
    return None


@contextmanager
def _existing(settings: ClusterSettings) -> Iterator[Client]:
    try:
        client = Client(settings.address, timeout=f"{60 * settings.wait_minutes:.0f}s")
    except (OSError, ValueError) as error:
        raise UserError(f"cluster.address = {settings.address!r}: no scheduler answers ({error})") from None
    with client:
        yield client


@contextmanager
def _local_cluster(settings: ClusterSettings, scratch: Path) -> Iterator[SpecCluster]:
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": settings.dashboard},
    }
    with warnings.catch_warnings():
        # The dashboard then takes a free port, and its address is printed in any case.
        warnings.filterwarnings("ignore", message="Port .* is already in use", category=UserWarning)
        cluster = SpecCluster(
            scheduler=scheduler, workers=local_workers(settings, scratch), silence_logs=logging.CRITICAL
        )
    with cluster:
        yield cluster


def local_workers(settings: ClusterSettings, scratch: Path) -> dict[str, dict[str, Any]]:
    """Worker processes of the site "local".

    Parameters
    ----------
    settings : ClusterSettings
        How many of each kind, and their memory.
    scratch : Path
        For their temporary files.

    Returns
    -------
    dict
        Specifications for `SpecCluster`: ``cpu-0 ...`` with CPU=1 and ``gpu-0 ...`` with GPU=1.
    """
    n_cpu = settings.cpu_workers or os.cpu_count() or 1
    names = [(f"cpu-{i}", CPU) for i in range(n_cpu)]
    names += [(f"gpu-{i}", GPU) for i in range(settings.gpu_workers)]
    return {name: _worker(name, resource, settings, scratch) for name, resource in names}


def _worker(name: str, resource: str, settings: ClusterSettings, scratch: Path) -> dict[str, Any]:
    options = {
        "name": name,
        "host": "127.0.0.1",
        "nthreads": 1,
        "resources": {resource: 1},
        "memory_limit": settings.memory_limit,
        "local_directory": str(scratch),
        "silence_logs": logging.CRITICAL,
    }
    return {"cls": Nanny, "options": options}


def failures_text(failures: Sequence[Failure]) -> str:
    """One line for each of the first failures."""
    shown = [f"  {unit}: {reason}" for unit, reason in failures[:10]]
    more = [f"  and {len(failures) - 10} more"] if len(failures) > 10 else []
    return "\n".join(shown + more)


def peak_memory(client: Client) -> dict[str, float]:
    """Peak resident memory of every worker and of this process [MiB]."""
    names = {
        address: str(info["name"]) for address, info in client.scheduler_info(n_workers=-1)["workers"].items()
    }
    found = {names.get(address, address): value for address, value in client.run(_own_peak).items()}
    return {"client": _own_peak()} | found


def _own_peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def has_cuda(client: Client) -> bool:
    """Whether every worker with the resource GPU has a CUDA device."""
    workers = workers_with(client, GPU)
    return bool(workers) and all(client.run(_sees_cuda, workers=workers).values())


def _sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
