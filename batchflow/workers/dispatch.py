"""Units of work on workers: a bounded number in flight, tried again where a worker dies."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Future, as_completed, get_worker
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

from batchflow.dashboard.state import latest
from batchflow.errors import UserError
from batchflow.plan import Unit
from batchflow.workers.available import demand, no_worker, workers_with
from batchflow.workers.bundles import Bundles
from batchflow.workers.watch import Limit, watched

LOG = logging.getLogger("batchflow")

ATTEMPTS = 3
"""At the third death of a worker under it, the last time alone, a unit is held to be the cause."""
REFILL = 6
"""Units are handed out when one part in so many of those that may be in flight is free."""

NOBODY = (NoValidWorkerError, NoWorkerError)
"""What Dask says of a task when every worker has gone and none has come for `cluster.wait_minutes`."""

Failure = tuple[str, str]
"""A unit that could not be made, and why."""


@dataclass(frozen=True)
class Pool:
    """Which workers do the work, and how many units each may have in flight."""

    resource: str
    in_flight: int


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
        As soon as a unit meets one, such as a full disk: the others would meet it too. When every worker
        has gone, and no other came in time.
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
            except NOBODY as error:
                raise no_worker(client, pool.resource, error.timeout / 60) from error
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
    except (UserError, KilledWorker, CancelledError, *NOBODY):
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
