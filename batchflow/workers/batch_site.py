"""The sites whose workers are batch jobs, or the other ranks of one allocation."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
from distributed import Client, Scheduler, SpecCluster
from distributed.utils import get_ip

from batchflow.errors import UserError
from batchflow.settings.cluster import ClusterSettings
from batchflow.shards import write_bytes
from batchflow.submit.ledger import ledger_path, remember
from batchflow.workers import security
from batchflow.workers.jobs import array_options, job_class, job_options, resources
from batchflow.workers.pools import BatchCluster, PoolPlan
from batchflow.workers.sites import SiteSettings, load_site

WORKER_LOGS = Path("logs") / "workers"


def pool_plans(site: SiteSettings, logs: Path, tls: Any = None, ledger: Path | None = None) -> list[PoolPlan]:
    """What the jobs of each pool of a site are.

    Parameters
    ----------
    site : SiteSettings
        The site.
    logs : Path
        Folder of the jobs' output.
    tls : distributed.Security, optional
        Of the connections.
    ledger : Path, optional
        Where each job is remembered when it is submitted.

    Returns
    -------
    list of PoolPlan
        Of the pools that the site has.
    """
    job = job_class(site.system, _remembering(ledger, site.system) if ledger else None)
    plans = []
    for name in ("cpu", "gpu"):
        if (pool := getattr(site, name)) is None:
            continue
        plans.append(
            PoolPlan(
                name,
                resources(name, site),
                job,
                job_options(site, name, logs, tls),
                site.system,
                processes=pool.processes,
                least=pool.least,
                most=pool.most,
                idle_seconds=60 * pool.idle_minutes,
                array=pool.array,
            )
        )
    return plans


def _remembering(ledger: Path, system: str) -> Callable[[str, str], None]:
    return lambda name, id_: remember(ledger, id_, system, "worker", name)


def worker_scripts(site: SiteSettings, logs: Path, tls: Any = None) -> dict[str, str]:
    """The job script of a worker of each pool, as it would be submitted; an array as large as it may be."""
    texts = {}
    for plan in pool_plans(site, logs, tls):
        name, options = f"{plan.name}-0", dict(plan.options)
        if plan.array and plan.most > 1:
            options = array_options(options, plan.system, name, plan.most)
        texts[plan.name] = plan.job("SCHEDULER_ADDRESS", name=name, **options).job_script()
    return texts


@contextmanager
def batch_client(settings: ClusterSettings, scratch: Path) -> Iterator[Client]:
    """Have a client whose workers are batch jobs.

    Parameters
    ----------
    settings : ClusterSettings
        Its site is a batch system or a site file.
    scratch : Path
        In the run folder, whose ``logs/workers`` takes the jobs' output.

    Yields
    ------
    distributed.Client
        Its jobs end with the block.
    """
    site = load_site(settings)
    logs = scratch.parent / WORKER_LOGS
    with _tls(settings, site) as tls:
        scheduler = _scheduler(settings, site, tls)
        plans = pool_plans(site, logs, tls, ledger_path(scratch.parent))
        with (
            _taken_port_is_fine(),
            BatchCluster(
                scheduler, plans, settings.wait_minutes, security=tls, silence_logs=logging.CRITICAL
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


@contextmanager
def allocation_client(settings: ClusterSettings, scratch: Path) -> Iterator[Client]:
    """Have a client whose workers are the other ranks of our own allocation.

    Parameters
    ----------
    settings : ClusterSettings
        With the `scheduler_file` through which they find us.
    scratch : Path
        In the run folder.

    Yields
    ------
    distributed.Client
        The file goes with the block, and the ranks end.
    """
    path = settings.scheduler_file or scratch.parent / "scheduler.json"
    secrets = Path(os.environ.get("BATCHFLOW_SECRETS", "~/.cache/batchflow")).expanduser()
    interface = os.environ.get("BATCHFLOW_INTERFACE") or None
    site = SiteSettings(system="slurm", interface=interface, secrets=str(secrets))
    with _tls_folder(settings, site) as folder:
        tls = security.from_folder(folder) if folder else None
        scheduler = _scheduler(settings, site, tls)
        with (
            _taken_port_is_fine(),
            SpecCluster(scheduler=scheduler, security=tls, silence_logs=logging.CRITICAL) as cluster,
        ):
            found = {"address": cluster.scheduler.address, "tls": str(folder) if folder else None}
            write_bytes(path, json.dumps(found).encode())
            try:
                with Client(cluster, set_as_default=False) as client:
                    yield client
            finally:
                path.unlink(missing_ok=True)


@contextmanager
def _taken_port_is_fine() -> Iterator[None]:
    """The dashboard then takes a free port, and its address is printed in any case."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Port .* is already in use", category=UserWarning)
        yield


def _scheduler(settings: ClusterSettings, site: SiteSettings, tls: Any) -> dict[str, Any]:
    place = {"interface": site.interface} if site.interface else {"host": get_ip()}
    options = {
        **place,
        "port": 0,
        "protocol": "tls://" if tls else "tcp://",
        "security": tls,
        "dashboard": settings.dashboard_address is not None,
        "dashboard_address": settings.dashboard_address or "127.0.0.1:0",
    }
    return {"cls": Scheduler, "options": options}


@contextmanager
def _tls(settings: ClusterSettings, site: SiteSettings) -> Iterator[distributed.Security | None]:
    with _tls_folder(settings, site) as folder:
        yield security.from_folder(folder) if folder else None


@contextmanager
def _tls_folder(settings: ClusterSettings, site: SiteSettings) -> Iterator[Path | None]:
    if settings.tls is False:
        yield None
    elif site.certificates:
        yield _expanded(site.certificates)
    else:
        with security.temporary_folder(_expanded(site.secrets)) as folder:
            yield folder


def _expanded(path: str) -> Path:
    expanded = Path(os.path.expandvars(path)).expanduser()
    if "$" in str(expanded):
        raise UserError(f"{path!r}: the variable is not set here; give a path")
    return expanded
