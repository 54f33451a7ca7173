"""Workers on this machine, and schedulers that are there already."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.utils import silence_logging_cmgr

from batchflow.errors import UserError
from batchflow.machine import cores
from batchflow.monitor import CONSOLE
from batchflow.settings.cluster import ClusterSettings
from batchflow.workers import security
from batchflow.workers.available import CPU, GPU


@contextmanager
def existing_client(settings: ClusterSettings) -> Iterator[Client]:
    """A client of the scheduler that the job names, for as long as the block runs.

    Parameters
    ----------
    settings : ClusterSettings
        With ``address`` or ``scheduler_file``.

    Yields
    ------
    distributed.Client
        Connected.

    Raises
    ------
    UserError
        When no scheduler answers.
    """
    try:
        patience = f"{60 * settings.wait_minutes:.0f}s"
        client = Client(
            settings.address,
            scheduler_file=_text(settings.scheduler_file),
            timeout=patience,
            set_as_default=False,
        )
    except (OSError, ValueError) as error:
        where = settings.address or str(settings.scheduler_file)
        raise UserError(f"cluster.address = {where!r}: no scheduler answers ({error})") from None
    # The patience is for its start: a question to one that went away would wait for it as long.
    client.rpc.timeout = parse_timedelta(dask.config.get("distributed.comm.timeouts.connect"))
    # A scheduler that goes away is an error of its own, with a message of its own.
    with silence_logging_cmgr(logging.CRITICAL), client, _told(client, settings):
        yield client


@contextmanager
def _told(client: Client, settings: ClusterSettings) -> Iterator[None]:
    """Have the page and the metrics in the dashboard of a scheduler that is not ours, where it allows it."""
    if settings.dashboard_address is None:
        yield
        return
    from batchflow.dashboard.distant import share

    with share(client) as problem:
        page = client.dashboard_link.rpartition("/")[0]
        text = f"this run     {page}/batchflow, metrics {page}/metrics"
        if problem:
            text = f"the dashboard shows Dask's own pages only: {problem}"
        CONSOLE.print(text, soft_wrap=True)
        yield


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


@contextmanager
def local_client(settings: ClusterSettings, scratch: Path) -> Iterator[Client]:
    """A client of workers started here, on loopback only, for as long as the block runs.

    Parameters
    ----------
    settings : ClusterSettings
        How many of each kind, and their memory.
    scratch : Path
        For their temporary files.

    Yields
    ------
    distributed.Client
        Connected.
    """
    shown = settings.dashboard_address
    tls = security.temporary() if settings.tls else None
    options = {
        "host": "127.0.0.1",
        "port": 0,
        "protocol": "tls://" if tls else "tcp://",
        "security": tls,
        "dashboard": shown is not None,
        "dashboard_address": shown or "127.0.0.1:0",
    }
    scheduler = {"cls": Scheduler, "options": options}
    with warnings.catch_warnings(), _deaf_to_interrupts():
        # The dashboard then takes a free port, and its address is printed in any case.
        warnings.filterwarnings("ignore", message="Port .* is already in use", category=UserWarning)
        cluster = SpecCluster(
            scheduler=scheduler,
            workers=local_workers(settings, scratch, tls),
            security=tls,
            silence_logs=logging.CRITICAL,
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: it is for this one, which ends its workers.

    Threads and processes inherit what the thread that starts them has blocked.
    """
    # Its start would unblock them again in the thread that starts the workers.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def local_workers(settings: ClusterSettings, scratch: Path, tls: Any = None) -> dict[str, dict[str, Any]]:
    """Worker processes of the site "local".

    Parameters
    ----------
    settings : ClusterSettings
        How many of each kind, and their memory.
    scratch : Path
        For their temporary files.
    tls : distributed.Security, optional
        Of the connections.

    Returns
    -------
    dict
        Specifications for `SpecCluster`: ``cpu-0 ...`` with CPU=1 and ``gpu-0 ...`` with GPU=1.
    """
    n_cpu = settings.cpu_workers or cores()
    names = [(f"cpu-{i}", CPU) for i in range(n_cpu)]
    names += [(f"gpu-{i}", GPU) for i in range(settings.gpu_workers or 1)]
    connections = {"security": tls, "protocol": "tls://"} if tls else {}
    return {name: _worker(name, resource, settings, scratch, connections) for name, resource in names}


def _worker(
    name: str, resource: str, settings: ClusterSettings, scratch: Path, connections: dict[str, Any]
) -> dict[str, Any]:
    options = {
        **connections,
        "name": name,
        "host": "127.0.0.1",
        "nthreads": 1,
        "resources": {resource: 1},
        "memory_limit": settings.memory_limit,
        "local_directory": str(scratch),
        "silence_logs": logging.CRITICAL,
    }
    return {"cls": Nanny, "options": options}
