"""Job scripts of drivers: text by pure functions."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchflow.errors import UserError
from batchflow.workers.jobs import harmless, job_class, of_system
from batchflow.workers.sites import SiteSettings

DEPENDENCY = {
    "slurm": ("--dependency=afterok:{}", "--kill-on-invalid-dep=yes"),
    "pbs": ("-W depend=afterok:{}",),
    "lsf": ('-w "done({})"',),
    "sge": ("-hold_jid {}",),
    "oar": ("-a {}",),
}
"""Directives of a job that begins when another has ended well."""
AFTER_ANY = {
    "slurm": ("--dependency=afterany:{}",),
    "pbs": ("-W depend=afterany:{}",),
    "lsf": ('-w "ended({})"',),
    "sge": ("-hold_jid {}",),
    "oar": ("-a {}",),
}
"""... when another has ended, however it did: a run resumes."""


@dataclass(frozen=True)
class Driver:
    """A driver to be: what it runs, and after which job."""

    name: str
    """Of the run."""
    job_file: Path
    stages: tuple[str, ...]
    mode: str
    logs: Path
    after: str | None = None
    only_after_success: bool = False


def driver_command(driver: Driver) -> str:
    """Shell command of a driver, its arguments quoted; a stage begins when the one before has ended well."""
    program = [sys.executable, "-m", "batchflow"]
    commands = [
        shlex.join([*program, stage, str(driver.job_file), "--mode", driver.mode]) for stage in driver.stages
    ]
    # exec: the batch system's signal then reaches the program itself, which ends its workers' jobs.
    return " && ".join(commands) if len(commands) > 1 else f"exec {commands[0]}"


def driver_job(site: SiteSettings, driver: Driver) -> Any:
    """A driver as a job of dask-jobqueue's, to be printed or submitted.

    Parameters
    ----------
    site : SiteSettings
        Whose ``[driver]`` says what the job may use.
    driver : Driver
        What it runs.

    Returns
    -------
    dask_jobqueue.core.Job
        Its ``job_script()`` is the script.

    Raises
    ------
    UserError
        When the site's batch system knows no dependencies, or a path cannot stand in a script.
    """
    return _job(site, driver, "driver", dependency(site.system, driver), driver_command(driver))


def allocation_job(site: SiteSettings, driver: Driver) -> Any:
    """A whole run as one Slurm allocation: `srun` starts driver and workers, their roles by rank.

    Parameters
    ----------
    site : SiteSettings
        Whose ``[allocation]`` says how many of each.
    driver : Driver
        What rank 0 runs.

    Returns
    -------
    dask_jobqueue.core.Job
        Its ``job_script()`` is the script.

    Raises
    ------
    UserError
        When the batch system is not Slurm.
    """
    if site.system != "slurm":
        raise UserError(f"one allocation needs srun, and {site.system} has none; submit without it")
    settings = site.allocation
    ranks = 1 + settings.cpu_workers + settings.gpu_workers
    directives = [
        f"--ntasks={ranks}",
        f"--cpus-per-task={settings.cores}",
        f"--mem-per-cpu={settings.megabytes}M",
        *dependency(site.system, driver),
    ]
    replaced = ["-n 1", "--cpus-per-task", "--mem="]
    command = _ranks_command(site, driver, ranks)
    return _job(site, driver, "allocation", directives, command, job_directives_skip=replaced)


def _job(
    site: SiteSettings,
    driver: Driver,
    role: Literal["driver", "allocation"],
    directives: Sequence[str],
    command: str,
    **options: Any,
) -> Any:
    """A job of dask-jobqueue's that runs a shell command, with what the site says of its role."""
    settings = site.driver if role == "driver" else site.allocation
    job = job_class(site.system)(
        "",
        name=role,
        cores=settings.cores,
        memory=settings.memory,
        processes=1,
        job_name=job_name(driver.name),
        log_directory=harmless(driver.logs),
        job_script_prologue=list(site.prologue),
        **options,
        **of_system(site.system, settings, driver.logs, directives),
    )
    job._command_template = command
    return job


def job_name(run: str) -> str:
    """Name of a driver's job in the queue."""
    return "batchflow-" + re.sub(r"[^A-Za-z0-9_.-]", "_", run)


def dependency(system: str, driver: Driver) -> list[str]:
    """Directives by which a job waits for another.

    Parameters
    ----------
    system : str
        The batch system.
    driver : Driver
        With the job it comes after, if any.

    Returns
    -------
    list of str
        Empty without one.

    Raises
    ------
    UserError
        When the system knows no dependencies, or the job id is not one.
    """
    if driver.after is None:
        return []
    if not re.fullmatch(r"[A-Za-z0-9_.\[\]-]+", driver.after):
        raise UserError(f"--after {driver.after!r} is no job id; give the one that the batch system printed")
    known = DEPENDENCY if driver.only_after_success else AFTER_ANY
    if system not in known:
        raise UserError(f"{system} knows no dependent jobs: submit one job at a time (--stages one)")
    return [directive.format(driver.after) for directive in known[system]]


def _ranks_command(site: SiteSettings, driver: Driver, ranks: int) -> str:
    settings = site.allocation
    program = [sys.executable, "-m", "batchflow.submit.ranks"]
    arguments = [
        *("--workers", f"{settings.cpu_workers}", f"{settings.gpu_workers}"),
        *("--memory", settings.memory, "--scratch", site.scratch, "--secrets", site.secrets),
        *("--interface", site.interface or "", "--logs", str(driver.logs)),
        *("--mode", driver.mode, str(driver.job_file)),
    ]
    return f"exec srun --ntasks={ranks} --kill-on-bad-exit=0 {shlex.join([*program, *arguments])}"
