"""The stage `validate`: recovery of held-out mocks, and comparison with published values."""

from __future__ import annotations

from typing import Any

import numpy as np

from batchflow.cluster import CPU, Pool, require, run_units
from batchflow.errors import UserError
from batchflow.flow.card import refresh_card
from batchflow.infer.plan import plan_infer
from batchflow.mocks.plan import plan_mocks
from batchflow.monitor import CONSOLE, count_units
from batchflow.paths import remove
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode
from batchflow.shards import open_dataset
from batchflow.validate.catalogue import compare_catalogue
from batchflow.validate.held_out import recover_held_out
from batchflow.validate.plan import COMPARISON, RECOVERY, plan_validate
from batchflow.validate.say import print_summary


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
    work = {RECOVERY: _held_out_task, COMPARISON: _catalogue_task}
    for unit in plan.left:
        task = work[unit.key.split()[0]](session, plan, unit)
        report.failures += _run(session, plan, task)
    report.made = len(plan.left) - len(report.failures)
    refresh_card(run)
    print_summary(run)
    return report


def _run(session: Session, plan: Plan, unit: Unit) -> list[tuple[str, str]]:
    """Have a worker make the tables of a unit, and say what it has to say."""
    require(session.client, CPU, session.job.cluster.wait_minutes)
    function = compare_catalogue if unit.key.startswith(COMPARISON) else recover_held_out
    with count_units("validate", plan) as on_done:

        def done(unit: Unit, notes: list[str]) -> None:
            on_done(unit, notes)
            for note in notes:
                CONSOLE.print(f"validate: {note}", soft_wrap=True, markup=False)

        return run_units(session.client, function, [unit], Pool(CPU, 1), done)


def _held_out_task(session: Session, plan: Plan, unit: Unit) -> Unit:
    job, run = session.job, session.run
    shards = plan_mocks(job, run)
    if not shards.complete:
        raise UserError(f"{len(shards.left)} mock shards are missing; run `batchflow mocks` first")
    infer = job.infer
    settings: dict[str, Any] = {
        "model": str(run.model),
        "weights": plan.settings["weights"],
        "held_out": job.train.held_out,
        "mocks": job.validate_.mocks,
        "draws": job.validate_.draws,
        "exact": job.validate_.exact,
        "seed": job.seed,
        "distances": _distances(session),
        "certify": infer.certify,
        "min_efficiency": infer.min_efficiency,
        "max_draws": infer.max_draws,
        "grid": infer.grid,
    }
    arguments = {
        "outputs": [str(path) for path in unit.paths],
        "shards": [str(wanted.paths[0]) for wanted in shards.wanted],
        "settings": settings,
        "footer": plan.footer(unit),
    }
    return Unit(unit.key, unit.paths, None, arguments)


def _catalogue_task(session: Session, plan: Plan, unit: Unit) -> Unit:
    run = session.run
    posteriors = plan_infer(session.job, run, session.parts)
    if posteriors is None or not posteriors.complete:
        raise UserError("the posteriors are not complete; run `batchflow infer` first")
    places = [part.path.relative_to(run.catalogue) for part in session.parts]
    arguments = {
        "outputs": [str(path) for path in unit.paths],
        "parts": [
            (str(run.catalogue / place), str(run.posterior / place), str(run.fit / place)) for place in places
        ],
        "settings": {
            "model": str(run.model),
            "weights": plan.settings["weights"],
            "mocks": str(run.validation / "mocks.parquet"),
        },
        "footer": plan.footer(unit),
    }
    return Unit(unit.key, unit.paths, None, arguments)


def _distances(session: Session) -> dict[str, float]:
    """Median distance of each survey [Mpc]."""
    if not session.job.catalogue:
        return {}
    whole = open_dataset([part.path for part in session.parts])
    table = whole.to_table(columns=["survey", "distance_mpc"])
    surveys = np.array(table["survey"].to_pylist(), dtype=object)
    values = table["distance_mpc"].to_numpy()
    medians = {name: float(np.nanmedian(values[surveys == name])) for name in sorted(set(surveys))}
    return {name: value for name, value in medians.items() if np.isfinite(value)}
