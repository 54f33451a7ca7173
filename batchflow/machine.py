"""How much of this machine is ours."""

from __future__ import annotations

import os

WORKER_VARIABLES = {
    # OpenMP threads spin while they wait: for ever, and torch is five times slower as soon as anything else
    # runs on the machine; never, and it is twice slower on a quiet one. A short while suits both (measured).
    "GOMP_SPINCOUNT": "50000",
    # Dask has each freed stretch of 64 KiB given back to the system, and with that glibc asks the system for
    # every array anew: a training step took 1.6 times as long (measured). glibc comes to these by itself.
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
}
"""Environment of every worker process."""
WORKER_SETTINGS = {
    # Results are small, so there is nothing to spill, and a worker that pauses would never go on.
    **{f"distributed.worker.memory.{share}": False for share in ("target", "spill", "pause")},
    # Dask's own look at itself, every 20 ms, and at each worker's stack, every 10 ms: 9 % of a core. The
    # stack every 100 ms was still some 10 % of a worker that makes mocks (both measured).
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.profile.interval": "1s",
}
"""Dask's settings of every worker, of this machine or of a batch job."""

GRANTED = ("SLURM_CPUS_PER_TASK", "NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS")
"""Where Slurm, PBS, LSF and Grid Engine say how many cores they gave; not all of them bind a job to these."""


def cores() -> int:
    """Cores that this process may use: a batch system often gives fewer than the machine has.

    Returns
    -------
    int
        The least of the machine's, those that the process is bound to, the container's quota, and what
        the batch system says it gave; at least 1.
    """
    from dask.system import cpu_count

    given = [int(value) for name in GRANTED if (value := os.environ.get(name, "")).isdecimal()]
    return max(1, min([cpu_count(), *given]))
