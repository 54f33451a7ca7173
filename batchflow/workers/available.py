"""Which workers there are, and how to wait for those that a stage needs."""

from __future__ import annotations

import time

from distributed import Client

from batchflow.errors import UserError

CPU, GPU = "CPU", "GPU"
"""Names of the workers' resources: plain work asks for CPU=1, training for GPU=1."""


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
        if getattr(client.cluster, "trouble", None) or time.monotonic() > deadline:
            raise no_worker(client, resource, minutes)
        time.sleep(0.2)
    return len(found)


def no_worker(client: Client, resource: str, minutes: float) -> UserError:
    """Why there is no worker that has a resource, and what to do.

    Parameters
    ----------
    client : distributed.Client
        From `connect`.
    resource : str
        `CPU` or `GPU`.
    minutes : float
        How long it was waited for.

    Returns
    -------
    UserError
        To be raised.
    """
    if trouble := getattr(client.cluster, "trouble", None):
        return UserError(f"no worker with the resource {resource}=1 can come: {trouble}")
    way_out = _way_out(client, resource)
    return UserError(f"no worker with the resource {resource}=1 came in {minutes:g} minutes; {way_out}")


def _way_out(client: Client, resource: str) -> str:
    if hasattr(client.cluster, "demand"):
        return "see the queue (`batchflow jobs RUN`) and RUN/logs/workers, or raise cluster.wait_minutes"
    return f'start one with `dask worker ADDRESS --resources "{resource}=1"` or raise cluster.wait_minutes'


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
