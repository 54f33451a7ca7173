"""How much of this machine is ours."""

from __future__ import annotations

import os

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
