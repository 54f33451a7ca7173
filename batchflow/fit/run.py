"""The stage `fit`: chi2 on a grid and the exact posterior of every cluster, by parts; needs no network."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from batchflow import stages
from batchflow.cluster import Pool, failures_text, require, run_units
from batchflow.errors import UserError
from batchflow.fit.part import Seconds, fit_part
from batchflow.fit.plan import plan_fit
from batchflow.fit.prepare import prepare_fit
from batchflow.infer.run import fastest_pool
from batchflow.mocks.flux_table import wants_table
from batchflow.mocks.table_run import ensure_table
from batchflow.monitor import count_units
from batchflow.paths import remove
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode

INPUTS = "inputs"
"""Folder in RUN/fit of what the workers share."""


def fit_stage(session: Session) -> StageReport:
    """Fit the parts that are left.

    Parameters
    ----------
    session : Session
        The job at work.

    Returns
    -------
    StageReport
        With `clusters_per_second`, and how many of each way a worker alone made (`classical_per_second`,
        `exact_per_second`), where any were made.

    Raises
    ------
    UserError
        When the noise model cannot be made from the catalogue, or CIGALE's flux table fails.
    """
    job, run = session.job, session.run
    if not job.catalogue:
        return StageReport("fit", 0)
    plan = apply_mode(lambda: plan_fit(job, run, session.parts), session.mode, lambda: remove(run.fit))
    if plan is None:
        raise UserError(f"{run.catalogue} holds no catalogue; see the [[catalogue]] of the job")
    report = StageReport("fit", len(plan.wanted))
    if plan.complete:
        return report
    pool = fastest_pool(session)
    settings = _settings(session, pool)
    spent: Counter[str] = Counter()
    start = time.perf_counter()
    units = [_with_arguments(unit, plan, settings) for unit in plan.left]
    with count_units("fit", plan) as on_done:

        def count(unit: Unit, seconds: Seconds) -> None:
            spent.update(seconds)
            on_done(unit, seconds)

        report.failures = run_units(session.client, fit_part, units, pool, count)
    report.made = len(plan.left) - len(report.failures)
    rows = plan.rows_made(key for key, _ in report.failures)
    report.figures["clusters_per_second"] = rows / (time.perf_counter() - start)
    report.figures |= {f"{way}_per_second": rows / took for way, took in spent.items() if took}
    return report


def _settings(session: Session, pool: Pool) -> dict[str, Any]:
    """What a worker needs of the job; noise model and flux table are made first, by one of them."""
    job, folder = session.job, session.run.fit / INPUTS
    if wants_table(job.model):
        require(session.client, pool.resource, job.cluster.wait_minutes)
        ensure_table(session)
    made: list[str] = []
    arguments = {
        "job": stages.resolved(job.model_copy(update={"output": session.run.root})),
        "folder": str(folder),
        "parts": [str(part.path) for part in session.parts],
    }
    task = Unit("noise model and flux table", (folder,), None, arguments)
    failures = run_units(session.client, prepare_fit, [task], pool, lambda _, found: made.append(found))
    if failures:
        raise UserError(f"the fit cannot begin:\n{failures_text(failures)}")
    return {
        "inputs": str(folder),
        "checksums": made[0],
        "prior": job.prior.model_dump_json(),
        "fit": job.fit.model_dump_json(),
        "seed": job.seed,
        "min_efficiency": job.infer.min_efficiency,
    }


def _with_arguments(unit: Unit, plan: Plan, settings: dict[str, Any]) -> Unit:
    output = str(unit.paths[0])
    return replace(
        unit,
        arguments={**unit.arguments, "output": output, "settings": settings, "footer": plan.footer(unit)},
    )
