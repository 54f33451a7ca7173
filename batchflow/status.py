"""What of a job is done and what is left, from the files alone: no cluster, no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchflow.config import Job
from batchflow.fit.plan import plan_fit
from batchflow.infer.plan import plan_infer
from batchflow.mocks.plan import plan_mocks
from batchflow.paths import RunFolder
from batchflow.plan import Plan, without_damaged
from batchflow.report.plan import plan_report
from batchflow.train.plan import plan_train
from batchflow.validate.plan import plan_validate


def status_of(job: Job, verify: bool = False) -> list[dict[str, Any]]:
    """State of each stage.

    Parameters
    ----------
    job : Job
        The job.
    verify : bool
        Read every table again, however large, and count what is damaged as not done.

    Returns
    -------
    list of dict
        For each stage: ``stage``, units ``done`` and ``wanted`` (None when it depends on a stage
        that is not done), ``state`` in words.
    """
    run = RunFolder(job.output.resolve())
    planners: dict[str, Callable[[Job, RunFolder], Plan | None]] = {
        "mocks": plan_mocks,
        "train": plan_train,
        "infer": plan_infer,
        "fit": plan_fit,
        "validate": plan_validate,
        "report": plan_report,
    }
    plans = {stage: planners[stage](job, run) for stage in job.stages}
    if verify:
        plans = {stage: plan and without_damaged(plan, most=None) for stage, plan in plans.items()}
    return [_row(stage, plan) for stage, plan in plans.items()]


def _row(stage: str, plan: Plan | None) -> dict[str, Any]:
    if plan is None:
        awaited = "catalogue" if stage == "fit" else "model"
        return {"stage": stage, "done": 0, "wanted": None, "state": f"waits for the {awaited}"}
    done, wanted = len(plan.present), len(plan.wanted)
    state = "done" if plan.complete else "to do" if not done else f"{wanted - done} left"
    return {"stage": stage, "done": done, "wanted": wanted, "state": state}
