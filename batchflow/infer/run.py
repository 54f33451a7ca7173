"""The stage `infer`: posteriors of every cluster, by parts, on GPU workers where there is a GPU."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from batchflow.cluster import CPU, GPU, Pool, has_cuda, require, run_units
from batchflow.errors import UserError
from batchflow.infer.part import infer_part
from batchflow.infer.plan import plan_infer
from batchflow.monitor import count_units
from batchflow.paths import remove
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode


def infer_stage(session: Session) -> StageReport:
    """Infer the parts that are left.

    Parameters
    ----------
    session : Session
        The job at work.

    Returns
    -------
    StageReport
        With `clusters_per_second` and `draws_per_second` where any were made.

    Raises
    ------
    UserError
        When there is no trained model.
    """
    job, run = session.job, session.run
    if not job.catalogue:
        return StageReport("infer", 0)
    plan = apply_mode(
        lambda: plan_infer(job, run, session.parts), session.mode, lambda: remove(run.posterior, run.draws)
    )
    if plan is None:
        raise UserError(f"{run.model} holds no trained model; run `batchflow train` first")
    report = StageReport("infer", len(plan.wanted))
    if plan.complete:
        return report
    start = time.perf_counter()
    settings = _settings(plan, session)
    units = [_with_arguments(unit, plan, settings) for unit in plan.left]
    with count_units("infer", plan) as on_done:
        report.failures = run_units(session.client, infer_part, units, fastest_pool(session), on_done)
    report.made = len(plan.left) - len(report.failures)
    rate = plan.rows_made(key for key, _ in report.failures) / (time.perf_counter() - start)
    report.figures |= {"clusters_per_second": rate, "draws_per_second": rate * job.infer.draws}
    return report


def fastest_pool(session: Session) -> Pool:
    """GPU workers when they have a GPU; without one, the CPU workers are more."""
    cluster = session.job.cluster
    if has_cuda(session.client):
        return Pool(GPU, cluster.in_flight)
    require(session.client, CPU, cluster.wait_minutes)
    return Pool(CPU, cluster.in_flight)


def _settings(plan: Plan, session: Session) -> dict[str, Any]:
    """What every unit is told; one object for all of them."""
    infer = session.job.infer
    return {
        "model": str(session.run.model),
        "weights": plan.settings["weights"],
        "draws": infer.draws,
        "certify": infer.certify,
        "seed": session.job.seed,
        "min_efficiency": infer.min_efficiency,
        "max_draws": infer.max_draws,
        "grid": infer.grid,
    }


def _with_arguments(unit: Unit, plan: Plan, settings: dict[str, Any]) -> Unit:
    outputs = tuple(map(str, unit.paths))
    arguments = {**unit.arguments, "outputs": outputs, "settings": settings, "footer": plan.footer(unit)}
    return replace(unit, arguments=arguments)
