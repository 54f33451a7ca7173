"""The flux table of the engine `cigale`, computed once by the CPU workers before the mocks that need it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from batchflow.cluster import CPU, Pool, failures_text, run_units
from batchflow.errors import UserError
from batchflow.mocks.flux_table import finish_table, is_finished, make_part, plan_table
from batchflow.monitor import CONSOLE, count_units
from batchflow.paths import remove
from batchflow.physics.table import TABLE_FILE
from batchflow.pipeline import Session
from batchflow.plan import Plan, Unit, apply_mode


def ensure_table(session: Session) -> Path:
    """Have the flux table in the run folder.

    Parameters
    ----------
    session : Session
        The job at work; a CPU worker is there.

    Returns
    -------
    Path
        The table; what was there already is not made again.

    Raises
    ------
    UserError
        When CIGALE fails, or the table's nodes lie too far apart.
    """
    run = session.run
    path = run.flux_table / TABLE_FILE
    plan = apply_mode(lambda: plan_table(session.job, run), session.mode, lambda: remove(run.flux_table))
    if plan.complete and is_finished(path, plan):
        return path
    pool = Pool(CPU, session.job.cluster.in_flight)
    with count_units("flux table", plan) as on_done:
        units = [_with_arguments(unit, plan) for unit in plan.left]
        failures = run_units(session.client, make_part, units, pool, on_done)
    if not failures:
        failures = run_units(session.client, finish_table, [_finish(path, plan)], pool, _say)
    if failures:
        raise UserError(f"CIGALE's flux table could not be made:\n{failures_text(failures)}")
    return path


def _with_arguments(unit: Unit, plan: Plan) -> Unit:
    arguments = {
        **unit.arguments,
        "path": str(unit.paths[0]),
        "model": plan.settings["model"],
        "footer": plan.footer(unit),
    }
    return replace(unit, arguments=arguments)


def _finish(path: Path, plan: Plan) -> Unit:
    parts = [str(unit.paths[0]) for unit in plan.wanted]
    return Unit("table", (path,), None, {"parts": parts, "path": str(path), "settings": dict(plan.settings)})


def _say(unit: Unit, error: float) -> None:
    CONSOLE.print(f"CIGALE's flux table interpolates to {error:.5f} mag")
