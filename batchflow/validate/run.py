"""The stage `validate`: recovery of held-out mocks, and comparison with published values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.dataset as ds

from batchflow.cluster import CPU, Pool, require, run_units
from batchflow.errors import UserError
from batchflow.infer.plan import plan_infer
from batchflow.mocks.plan import plan_mocks
from batchflow.monitor import count_units
from batchflow.paths import remove
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode
from batchflow.results.tables import open_run
from batchflow.shards import write_table
from batchflow.validate.compare import compare_published
from batchflow.validate.held_out import recover_held_out
from batchflow.validate.plan import COMPARISON, RECOVERY, plan_validate


def validate_stage(session: Session) -> StageReport:
    """Make the tables that are left.

    Parameters
    ----------
    session : Session
        The job at work.

    Returns
    -------
    StageReport
        With the recovery's units.

    Raises
    ------
    UserError
        When there is no trained model, or the posteriors are not complete.
    """
    job, run = session.job, session.run
    plan = apply_mode(lambda: plan_validate(job, run), session.mode, lambda: remove(run.validation))
    if plan is None:
        raise UserError(f"{run.model} holds no trained model; run `batchflow train` first")
    report = StageReport("validate", len(plan.wanted))
    left = {unit.key: unit for unit in plan.left}
    if RECOVERY in left:
        report.failures = _recover(session, plan, left[RECOVERY])
    if COMPARISON in left:
        _compare(session, plan, left[COMPARISON])
    report.made = len(left) - len(report.failures)
    return report


def _recover(session: Session, plan: Plan, unit: Unit) -> list[tuple[str, str]]:
    job, run = session.job, session.run
    shards = plan_mocks(job, run)
    if not shards.complete:
        raise UserError(f"{len(shards.left)} mock shards are missing; run `batchflow mocks` first")
    settings: dict[str, Any] = {
        "model": str(run.model),
        "weights": plan.settings["weights"],
        "held_out": job.train.held_out,
        "mocks": job.validate_.mocks,
        "draws": job.validate_.draws,
        "seed": job.seed,
        "distances": _distances(session),
    }
    arguments = {
        "output": str(unit.paths[0]),
        "shards": [str(wanted.paths[0]) for wanted in shards.wanted],
        "settings": settings,
        "footer": plan.footer(unit),
    }
    require(session.client, CPU, job.cluster.wait_minutes)
    with count_units("validate", plan) as on_done:
        task = Unit(unit.key, unit.paths, None, arguments)
        return run_units(session.client, recover_held_out, [task], Pool(CPU, 1), on_done)


def _distances(session: Session) -> dict[str, float]:
    """Median distance of each survey [Mpc]."""
    if not session.job.catalogue:
        return {}
    whole = ds.dataset([str(part.path) for part in session.parts], format="parquet")
    table = whole.to_table(columns=["survey", "distance_mpc"])
    surveys = np.array(table["survey"].to_pylist(), dtype=object)
    values = table["distance_mpc"].to_numpy()
    medians = {name: float(np.nanmedian(values[surveys == name])) for name in sorted(set(surveys))}
    return {name: value for name, value in medians.items() if np.isfinite(value)}


def _compare(session: Session, plan: Plan, unit: Unit) -> None:
    posteriors = plan_infer(session.job, session.run, session.parts)
    if posteriors is None or not posteriors.complete:
        raise UserError("the posteriors are not complete; run `batchflow infer` first")
    table = compare_published(open_run(session.run.root).posterior.to_arrow())
    write_table(unit.paths[0], table, plan.footer(unit))
