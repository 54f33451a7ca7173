"""The stage `mocks`: shards of mock clusters, made by the CPU workers."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchflow.cluster import CPU, Pool, require, run_units
from batchflow.mocks.flux_table import wants_table
from batchflow.mocks.make import make_shard
from batchflow.mocks.plan import check_installation, plan_mocks
from batchflow.mocks.table_run import ensure_table
from batchflow.monitor import count_units
from batchflow.paths import remove
from batchflow.physics.engine import open_engine
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode
from batchflow.settings.model import ModelSettings


def mocks_stage(session: Session) -> StageReport:
    """Make the shards that are left.

    Parameters
    ----------
    session : Session
        The job at work.

    Returns
    -------
    StageReport
        With `mocks_per_second` where any were made.
    """
    run = session.run
    plan = apply_mode(lambda: plan_mocks(session.job, run), session.mode, lambda: remove(run.mocks))
    report = StageReport("mocks", len(plan.wanted))
    if plan.complete:
        return report
    installed = _installed(session.job.model)
    present = [unit for unit in plan.wanted if unit.key in plan.present]
    check_installation(present, installed)
    client, cluster = session.client, session.job.cluster
    require(client, CPU, cluster.wait_minutes)
    table = ensure_table(session) if wants_table(session.job.model) else None
    start = time.perf_counter()
    units = [_with_arguments(unit, plan, table) for unit in plan.left]
    with count_units("mocks", plan) as on_done:
        report.failures = run_units(client, make_shard, units, Pool(CPU, cluster.in_flight), on_done)
    # Workers may have another CIGALE than this process.
    check_installation(plan.left, installed)
    report.made = len(plan.left) - len(report.failures)
    rows = plan.rows_made(key for key, _ in report.failures)
    report.figures["mocks_per_second"] = rows / (time.perf_counter() - start)
    return report


def _installed(model: ModelSettings) -> dict[str, Any]:
    """What makes the fluxes here, as far as it is the user's own installation."""
    if model.engine != "cigale":
        return {}
    found: dict[str, Any] = open_engine(model).describe()["pcigale"]
    return found


def _with_arguments(unit: Unit, plan: Plan, table: Path | None) -> Unit:
    arguments = {
        "path": str(unit.paths[0]),
        "unit": {**unit.arguments, "rows": unit.rows},
        "settings": dict(plan.settings),
        "footer": plan.footer(unit),
        "table": str(table) if table else None,
    }
    return replace(unit, arguments=arguments)
