"""The only maker of Dask clusters and clients, and the way units of work are run on them."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Future, as_completed, get_worker
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from batchflow.bundles import Bundles
from batchflow.cluster_settings import ClusterSettings
from batchflow.dashboard.state import latest
from batchflow.errors import UserError
from batchflow.machine import WORKER_SETTINGS, WORKER_VARIABLES
from batchflow.paths import remove
from batchflow.plan import Unit
from batchflow.watch import Limit, watched

LOG = logging.getLogger("batchflow")

CPU, GPU = "CPU", "GPU"
"""Names of the workers' resources: plain work asks for CPU=1, training for GPU=1."""

ATTEMPTS = 3
"""At the third death of a worker under it, the last time alone, a unit is held to be the cause."""

HUNG = Path("logs") / "hung"
"""Folder in RUN of what workers write down about units that hang."""
REFILL = 6
"""Units are handed out when one part in so many of those that may be in flight is free."""

DASK_SETTINGS = {
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.daemon": True,
    # `run_units` tries again itself: Dask cannot tell who killed a worker from who waited for it.
    "distributed.scheduler.allowed-failures": 0,
    "distributed.comm.timeouts.connect": "30s",
    # The scheduler keeps the last messages to each worker, arguments and all: 1000 of them are 5 MB a worker.
    "distributed.admin.low-level-log-length": 100,
    # Dask's own look at itself, every 20 ms and at each worker's stack every 10 ms: 9 % of a core (measured).
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.profile.interval": "100ms",
    # A worker that died comes again, on a busy machine not within the 15 s after which Dask gives it up.
    "distributed.deploy.lost-worker-timeout": "5 minutes",
    **WORKER_SETTINGS,
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_VARIABLES.items()},
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
    from batchflow.batch_site import allocation_client, batch_client
    from batchflow.local_site import existing_client, local_client

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


def demand(client: Client, resource: str, units: int) -> None:
    """Say how many units want workers with a resource, to a cluster that starts workers as they are needed.

    Parameters
    ----------
    client : distributed.Client
        From `connect`.
    resource : str
        `CPU` or `GPU`.
    units : int
        Not yet done.
    """
    if tell := getattr(client.cluster, "demand", None):
        tell(resource, units)


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
    demand(client, resource, 1)
    while not (found := workers_with(client, resource)):
        if trouble := getattr(client.cluster, "trouble", None):
            raise UserError(f"no worker with the resource {resource}=1 can come: {trouble}")
        if time.monotonic() > deadline:
            way_out = _way_out(client, resource)
            raise UserError(
                f"no worker with the resource {resource}=1 came in {minutes:g} minutes; {way_out}"
            )
        time.sleep(0.2)
    return len(found)


def _way_out(client: Client, resource: str) -> str:
    if hasattr(client.cluster, "demand"):
        return "see the queue (`batchflow jobs RUN`) and RUN/logs/workers, or raise cluster.wait_minutes"
    return f'start one with `dask worker ADDRESS --resources "{resource}=1"` or raise cluster.wait_minutes'


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
    left, failures = list(units), list[Failure]()
    counted = _Counted(client, pool.resource, on_done, len(left))
    try:
        # Whoever kills a worker takes with it all that was handed to that worker. So those that were there
        # are tried again one a worker, and at last one at a time: whoever still kills is set aside.
        for in_flight in (pool.in_flight, 1, 0):
            bundles = Bundles(left, single=in_flight < pool.in_flight)
            left, failed = _run_pass(client, function, bundles, Pool(pool.resource, in_flight), counted)
            failures += failed
    finally:
        demand(client, pool.resource, 0)
    latest().fail(len(left))
    return failures + [(unit.key, _reason(unit, _limit())) for unit in left]


def _limit() -> Limit:
    return Limit(dask.config.get("batchflow.hang-minutes"), dask.config.get("batchflow.hung"))


def _reason(unit: Unit, limit: Limit) -> str:
    if (trace := limit.trace(unit.key)).exists():
        return (
            f"it made no progress for {limit.minutes:g} minutes (cluster.hang_minutes), {ATTEMPTS} times; "
            f"set aside; {trace} says where it hung"
        )
    return f"its worker died {ATTEMPTS} times (out of memory? see cluster.memory_limit); set aside"


@dataclass(frozen=True)
class _Order:
    """All that a worker is told of units; Dask would look through a dict or a tuple, value by value."""

    function: Callable[..., Any]
    units: list[tuple[str, dict[str, Any]]]
    limit: Limit


def _work(order: _Order) -> tuple[float, list[Any]]:
    """The task of a bundle of units: the function, an eye on it, and the seconds that all of them took."""
    worker = get_worker()
    task = worker.get_current_task()

    def is_wanted() -> bool:
        found = worker.state.tasks.get(task)
        return found is not None and found.state != "cancelled"

    start = time.perf_counter()
    results = [watched(order.function, *unit, order.limit, is_wanted) for unit in order.units]
    return time.perf_counter() - start, results


def _run_pass(
    client: Client, function: Callable[..., Any], bundles: Bundles, pool: Pool, counted: _Counted
) -> tuple[list[Unit], list[Failure]]:
    """Run units once; those whose worker died, and those that failed."""
    width, limit = _Width(client, pool), _limit()
    running: dict[Future[Any], list[Unit]] = {}
    killed, failures = list[Unit](), list[Failure]()

    def submit(count: int) -> Iterator[Future[Any]]:
        for _ in range(count):
            if not bundles:
                return
            bundle = bundles.take(width.known)
            order = _Order(function, [(unit.key, dict(unit.arguments)) for unit in bundle], limit)
            name = f"{getattr(function, '__name__', 'unit')}-{uuid.uuid4()}"
            future = client.submit(_work, order, key=name, resources={pool.resource: 1}, retries=1)
            running[future] = bundle
            yield future

    completed = as_completed(submit(width.now() if bundles else 0), loop=client.loop)
    try:
        for future in completed:
            bundle = running.pop(future)
            try:
                failures += _outcome(future, bundle, bundles, counted)
            except KilledWorker:
                killed += bundle
            # Workers come and go, and with them the number that may be in flight.
            # Several at once cost the scheduler half of what they cost one by one, and no worker runs dry.
            room = width.now() - len(running)
            for following in submit(room if REFILL * room >= width.known else 0):
                completed.add(following)
    finally:
        client.cancel(list(running))
    return killed, failures


class _Counted:
    """Passes on what is done, and tells the cluster how much is left."""

    def __init__(
        self, client: Client, resource: str, on_done: Callable[[Unit, Any], None], units: int
    ) -> None:
        self._client, self._resource, self._on_done, self._left = client, resource, on_done, units
        demand(client, resource, units)

    def __call__(self, unit: Unit, result: Any) -> None:
        self.settle()
        self._on_done(unit, result)

    def settle(self) -> None:
        """Count one unit less."""
        self._left -= 1
        demand(self._client, self._resource, self._left)


@dataclass
class _Width:
    """How many units may be in flight, asked of the scheduler once a second at most."""

    client: Client
    pool: Pool
    known: int = 0
    asked: float = -math.inf

    def now(self) -> int:
        if time.monotonic() - self.asked > 1.0:
            workers = len(workers_with(self.client, self.pool.resource))
            self.known = max(1, self.pool.in_flight * workers)
            self.asked = time.monotonic()
        return self.known


def _outcome(future: Future[Any], bundle: list[Unit], bundles: Bundles, counted: _Counted) -> list[Failure]:
    """Count what is done; a bundle with a unit that failed is handed out again, one by one."""
    try:
        seconds, results = future.result()
    except (UserError, KilledWorker, CancelledError):
        raise
    except Exception as error:  # any error of a unit is reported, and the other units go on
        if len(bundle) > 1:
            bundles.give_back(bundle)
            return []
        (unit,) = bundle
        LOG.exception("%s failed", unit.key)
        counted.settle()
        latest().fail()
        return [(unit.key, f"{type(error).__name__}: {error}")]
    bundles.took(bundle, seconds)
    for unit, result in zip(bundle, results, strict=True):
        counted(unit, result)
    return []


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
    # A worker may die at any moment.
    answers = client.run(_own_peak, on_error="ignore")
    found = {names.get(address, address): value for address, value in answers.items()}
    return {"client": _own_peak()} | found


def _own_peak() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def has_cuda(client: Client) -> bool:
    """Whether every worker with the resource GPU has a CUDA device; at a batch site, one is waited for."""
    if minutes := getattr(client.cluster, "patience_minutes", None):
        require(client, GPU, minutes)
        demand(client, GPU, 0)
    workers = workers_with(client, GPU)
    answers = client.run(_sees_cuda, workers=workers, on_error="ignore") if workers else {}
    return bool(answers) and all(answers.values())


def _sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
