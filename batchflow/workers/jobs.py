"""Worker jobs: a site's settings into dask-jobqueue's own job classes and their options."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed import Status

from batchflow.errors import UserError
from batchflow.machine import WORKER_SETTINGS, WORKER_VARIABLES
from batchflow.workers.sites import ARRAYS, JobSettings, PoolSettings, SiteSettings, seconds

CLASSES = {
    "slurm": "SLURMJob",
    "pbs": "PBSJob",
    "lsf": "LSFJob",
    "sge": "SGEJob",
    "htcondor": "HTCondorJob",
    "oar": "OARJob",
}
ACCOUNT = {"slurm": "account", "pbs": "account", "lsf": "project", "sge": "project", "oar": "project"}
"""What dask-jobqueue calls the account; HTCondor has none."""

WORKER_ENVIRONMENT = {
    **WORKER_VARIABLES,
    **{f"DASK_{name.replace('.', '__').upper()}": str(value) for name, value in WORKER_SETTINGS.items()},
}
"""What `cluster.DASK_SETTINGS` gives to workers of this machine."""

ORPHAN_SECONDS = 120
"""A worker ends when it finds no scheduler for so long: its driver is gone."""

OF_A_JOB = re.compile(r"^(SLURM_(?!CONF$)|PBS_(JOB|NODE|TASK|O_|ENVIRONMENT|QUEUE|MOM))")
"""Variables that describe the driver's own job: a job submitted from there must not inherit them."""


def job_class(system: str, on_submit: Callable[[str, str], None] | None = None) -> type[Any]:
    """The job class of a batch system.

    Parameters
    ----------
    system : str
        Of `settings.cluster.BATCH_SYSTEMS`.
    on_submit : callable, optional
        Called with the name and the id of each job that is submitted.

    Returns
    -------
    type
        dask-jobqueue's own, submitted with a clean environment.

    Raises
    ------
    UserError
        When dask-jobqueue is not installed.
    """
    try:
        import dask_jobqueue
        from dask_jobqueue.core import Job
    except ImportError:
        raise UserError(f"site {system!r} needs dask-jobqueue: pip install 'batchflow[hpc]'") from None
    base: type[Job] = getattr(getattr(dask_jobqueue, system), CLASSES[system])

    class CleanJob(base):  # type: ignore[misc, valid-type]  # the base is chosen when it runs
        """Calls the batch system in the environment that batchflow was started in."""

        @staticmethod
        async def _call(cmd: list[str], **kwargs: Any) -> str:
            return await base._call(cmd, env=outer_environment(os.environ), **kwargs)

        async def start(self) -> None:
            await super().start()
            if on_submit is not None:
                on_submit(str(self.name), str(self.job_id))

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    CleanJob.__name__ = base.__name__
    if system == "pbs":
        CleanJob.job_id_regexp = r"(?P<job_id>\d+(\[\])?)"  # without its brackets an array is not found
    return CleanJob


def outer_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment without what describes the batch job that we are ourselves in."""
    return {name: value for name, value in environment.items() if not OF_A_JOB.match(name)}


def resources(pool: str, site: SiteSettings) -> dict[str, int]:
    """Dask resources of a worker of a pool: at a site of GPU nodes only, they do the CPUs' work too."""
    return {"CPU": 1} if pool == "cpu" else {"GPU": 1} if site.cpu else {"GPU": 1, "CPU": 1}


def job_options(site: SiteSettings, pool: str, logs: Path, security: Any = None) -> dict[str, Any]:
    """Options of dask-jobqueue's job class for the jobs of a pool.

    Parameters
    ----------
    site : SiteSettings
        The site.
    pool : {"cpu", "gpu"}
        Which of its pools.
    logs : Path
        Folder of the jobs' output.
    security : distributed.Security, optional
        Whose certificates are files.

    Returns
    -------
    dict
        For the job's ``__init__``; nothing in it needs quoting in a script.

    Raises
    ------
    UserError
        When the log folder cannot stand in a job script.
    """
    settings: PoolSettings = getattr(site, pool)
    exports = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    options: dict[str, Any] = {
        "cores": settings.cores,
        "memory": settings.memory,
        "processes": settings.processes,
        "python": shlex.quote(sys.executable),
        "job_name": f"batchflow-{pool}",
        "interface": site.interface,
        "death_timeout": ORPHAN_SECONDS,
        "local_directory": f'"{site.scratch}"' if site.scratch.startswith("$") else site.scratch,
        "log_directory": harmless(logs),
        "job_script_prologue": [*site.prologue, *exports],
        "worker_extra_args": worker_arguments(site, pool),
        "security": security,
        "protocol": "tls://" if security else None,
    }
    return {**options, **of_system(site.system, settings, logs)}


def worker_arguments(site: SiteSettings, pool: str) -> list[str]:
    """Arguments of ``dask worker`` besides those that dask-jobqueue gives itself.

    Parameters
    ----------
    site : SiteSettings
        The site.
    pool : {"cpu", "gpu"}
        Which of its pools.

    Returns
    -------
    list of str
        Among them ``--lifetime``: workers hand on their work before the walltime ends, not all at once.
    """
    settings: PoolSettings = getattr(site, pool)
    wanted = " ".join(f"{name}={count}" for name, count in resources(pool, site).items())
    lifetime, stagger = lifetime_seconds(settings.walltime)
    return [
        "--nthreads 1",
        f"--resources {shlex.quote(wanted)}",
        f"--lifetime {lifetime}s",
        f"--lifetime-stagger {stagger}s",
        "--no-dashboard",
    ]


def lifetime_seconds(walltime: str) -> tuple[int, int]:
    """How long a worker lives and the spread of it [s]: it ends before its job does, whatever the draw."""
    total = seconds(walltime)
    margin, stagger = min(300, total // 10), min(180, total // 20)
    return total - margin - stagger, stagger


def array_options(options: dict[str, Any], system: str, name: str, count: int) -> dict[str, Any]:
    """Options that make one job an array of `count`, its workers called ``name-1``, ``name-2`` ..."""
    directive, index = ARRAYS[system]
    directives = [*options["job_extra_directives"], directive.format(count=count)]
    arguments = [*options["worker_extra_args"], f'--name "{name}-${{{index}}}"']
    return {**options, "job_extra_directives": directives, "worker_extra_args": arguments}


def harmless(path: Path) -> str:
    """A path that can stand in a job script's directives, which no batch system quotes alike.

    Parameters
    ----------
    path : Path
        Of the run folder.

    Returns
    -------
    str
        The same.

    Raises
    ------
    UserError
        When it holds blanks or other characters that some batch system would misread.
    """
    if not re.fullmatch(r"[A-Za-z0-9_./+,=@-]+", str(path)):
        raise UserError(
            f"output: {str(path)!r} cannot stand in a batch script; "
            "choose a folder whose path is of letters, digits and _./+,=@- only"
        )
    return str(path)


def of_system(system: str, settings: JobSettings, logs: Path, more: Sequence[str] = ()) -> dict[str, Any]:
    """Options of a job class that each batch system names in its own way.

    Parameters
    ----------
    system : str
        The batch system.
    settings : JobSettings
        Of the job.
    logs : Path
        Folder of its output.
    more : sequence of str
        Directives besides those of the settings.

    Returns
    -------
    dict
        For the job's ``__init__``.
    """
    total = seconds(settings.walltime)
    directives = [*_always(system, logs), *settings.directives, *more]
    if system == "htcondor":
        pairs = [line.partition("=")[::2] for line in directives]
        said = {"+MaxRuntime": str(total)}
        said |= {"accounting_group": settings.account} if settings.account else {}
        return {
            "disk": "1GiB",
            "job_extra_directives": said | {key.strip(): value.strip() for key, value in pairs},
        }
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    found: dict[str, Any] = {
        "queue": settings.queue,
        ACCOUNT[system]: settings.account,
        "walltime": f"{hours:02d}:{minutes:02d}" + ("" if system == "lsf" else f":{rest:02d}"),
        "job_extra_directives": directives,
    }
    if system == "oar":
        found["memory_per_core_property_name"] = (
            "not_applicable"  # resource_spec says it, where a site wants it
        )
    if system in ("pbs", "sge", "oar") and settings.resource_spec:
        found["resource_spec"] = settings.resource_spec
    return found


def _always(system: str, logs: Path) -> list[str]:
    """Directives that dask-jobqueue leaves to the user, and our scripts need."""
    if system in ("sge", "pbs"):  # they pass over the script's first line, and take the user's own shell
        return ["-S /bin/bash"]
    if system == "oar":  # it would write them where `oarsub` was called
        return [
            f"{option} {harmless(logs)}/%jobname%-%jobid%.{end}"
            for option, end in (("-O", "out"), ("-E", "err"))
        ]
    return []
