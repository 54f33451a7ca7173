"""`batchflow submit`, `jobs` and `cancel`: a run's drivers as batch jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import tomli_w

from batchflow import stages
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.shards import write_text
from batchflow.submit.ledger import BatchJob, ledger_path, remember, remembered
from batchflow.submit.queue import cancel, is_over, states
from batchflow.submit.script import Driver, allocation_job, driver_job
from batchflow.workers.batch_site import WORKER_LOGS, worker_scripts
from batchflow.workers.jobs import harmless
from batchflow.workers.sites import SiteSettings, load_site

DRIVER_LOGS = Path("logs") / "driver"
SEPARATE = (("mocks",), ("train",), ("infer", "fit", "validate", "report"))
"""Stages that one job each runs, so that no GPU waits for CPUs."""


@dataclass(frozen=True)
class Submission:
    """How a job is submitted."""

    stages: Literal["one", "separate"] = "one"
    single_allocation: bool = False
    after: str | None = None
    mode: str = "resume"


def scripts(job: Job, how: Submission) -> dict[str, str]:
    """Every script that `submit` would hand to the batch system, drivers first.

    Parameters
    ----------
    job : Job
        The job; its site is a batch system.
    how : Submission
        How it would be submitted.

    Returns
    -------
    dict of str to str
        Title to script. Nothing is written or submitted.
    """
    site, root = _site(job), job.output.resolve()
    harmless(root)
    # dask-jobqueue makes the folder of the logs as soon as it makes a script: here another takes its place.
    with TemporaryDirectory() as stand_in:
        shown = job.model_copy(update={"output": Path(stand_in).resolve()})
        drivers = {driver.stages: _make(site, how, driver) for driver in _drivers(shown, how, site)}
        texts = {f"driver: {' '.join(stages_)}": made.job_script() for stages_, made in drivers.items()}
        if not _alone(site, how):
            workers = worker_scripts(site, shown.output / WORKER_LOGS)
            texts |= {f"worker: {pool}": text for pool, text in workers.items()}
        return {title: str(text).replace(str(shown.output), str(root)) for title, text in texts.items()}


def submit(job: Job, how: Submission) -> list[BatchJob]:
    """Hand a job to the batch system.

    Parameters
    ----------
    job : Job
        The job, checked; the driver runs it as it is now, whatever becomes of the job file.
    how : Submission
        As one driver or several.

    Returns
    -------
    list of BatchJob
        The drivers, in order.

    Raises
    ------
    UserError
        When the batch system refuses, in its own words.
    """
    site, ledger = _site(job), ledger_path(job.output.resolve())
    made: list[BatchJob] = []
    for planned in _drivers(job, how, site):
        planned.logs.mkdir(parents=True, exist_ok=True)
        write_text(planned.job_file, tomli_w.dumps(stages.resolved(_absolute(job))))
        driver = replace(planned, after=made[-1].id) if made else planned
        id_ = asyncio.run(_hand_over(_make(site, how, driver)))
        remember(ledger, id_, site.system, "driver", " ".join(driver.stages))
        made.append(remembered(ledger)[-1])
    return made


def jobs_of(run: Path) -> list[dict[str, Any]]:
    """The batch jobs of a run and how they stand.

    Parameters
    ----------
    run : Path
        The run folder.

    Returns
    -------
    list of dict
        ``id``, ``kind``, ``name``, ``state`` in the batch system's words.

    Raises
    ------
    UserError
        When nothing was submitted from that folder.
    """
    known = _known(run)
    found = _states(known)
    return [
        {"id": job.id, "kind": job.kind, "name": job.name, "state": found.get((job.system, job.id), "gone")}
        for job in known
    ]


def cancel_run(run: Path) -> list[str]:
    """End the batch jobs of a run: drivers first, which end their workers; then what is left.

    Parameters
    ----------
    run : Path
        The run folder.

    Returns
    -------
    list of str
        The jobs that were not over.

    Raises
    ------
    UserError
        When nothing was submitted from that folder, or jobs cannot be cancelled here.
    """
    known = sorted(_known(run), key=lambda job: job.kind == "worker")
    found = _states(known)
    left = [job for job in known if not is_over(found.get((job.system, job.id)))]
    for kind in ("driver", "worker"):
        for system in {job.system for job in left}:
            cancel(system, [job.id for job in left if job.kind == kind and job.system == system])
    return [job.id for job in left]


def how_to_follow(job: Job, made: list[BatchJob]) -> str:
    """What a person wants to know of a job just submitted."""
    root = job.output.resolve()
    ids = ", ".join(f"{item.id} ({item.name})" for item in made)
    return "\n".join(
        (
            f"submitted {ids}",
            f"jobs      batchflow jobs {root}",
            f"progress  tail -F {root / DRIVER_LOGS}/*{made[0].id}*",
            f"cancel    batchflow cancel {root}",
            "the address of the dashboard, and how to reach it, stand in the driver's output when it starts",
        )
    )


def _site(job: Job) -> SiteSettings:
    if not job.cluster.is_batch:
        raise UserError(
            f"cluster.site = {job.cluster.site!r} is no batch system; "
            "name one (--set cluster.site=slurm), or a site file like those in deploy/sites"
        )
    return load_site(job.cluster)


def _alone(site: SiteSettings, how: Submission) -> bool:
    return how.single_allocation or not site.may_submit


def _make(site: SiteSettings, how: Submission, driver: Driver) -> Any:
    return (allocation_job if _alone(site, how) else driver_job)(site, driver)


def _drivers(job: Job, how: Submission, site: SiteSettings) -> Iterable[Driver]:
    run = RunFolder(job.output.resolve())
    several = SEPARATE if how.stages == "separate" else (("run",),)
    if len(several) > 1 and _alone(site, how):
        raise UserError(
            "--stages separate needs compute nodes that may submit; one allocation runs all stages"
        )
    for number, names in enumerate(several):
        after = how.after if number == 0 else "PREVIOUS_JOB"
        file = run.logs / "submitted.toml"
        kept = tuple(name for name in names if name in ("run", *job.stages))
        yield Driver(job.name, file, kept, how.mode, run.root / DRIVER_LOGS, after, number > 0)


def _absolute(job: Job) -> Job:
    return job.model_copy(update={"output": job.output.resolve()})


async def _hand_over(job: Any) -> str:
    try:
        with job.job_file() as script:
            return str(job._job_id_from_submit_output(await job._submit_job(script)))
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"the batch system refuses the job: {said}") from None
    except OSError as error:
        raise UserError(
            f"{job.submit_command} cannot be called here: {error.strerror}; try a login node"
        ) from None


def _known(run: Path) -> list[BatchJob]:
    if found := remembered(ledger_path(run.resolve())):
        return found
    raise UserError(
        f"no batch job was submitted for {str(run)!r}; expected the run folder of a `batchflow submit`"
    )


def _states(jobs: Iterable[BatchJob]) -> dict[tuple[str, str], str]:
    by_system: dict[str, list[str]] = {}
    for job in jobs:
        by_system.setdefault(job.system, []).append(job.id)
    found: dict[tuple[str, str], str] = {}
    for system, ids in by_system.items():
        answer = states(system, ids)
        if answer is None:
            raise UserError(
                f"{system} does not say how its jobs stand; ask it yourself, on a login node: {' '.join(ids)}"
            )
        found |= {(system, id_): state for id_, state in answer.items()}
    return found
