"""The stage `validate`: recovery of held-out mocks, and comparison with published values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from batchflow.cluster import CPU, Failure, Pool, require, run_units
from batchflow.errors import UserError
from batchflow.flow.card import refresh_card
from batchflow.infer.plan import plan_infer
from batchflow.mocks.plan import plan_mocks
from batchflow.monitor import CONSOLE, count_units
from batchflow.paths import remove
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode
from batchflow.shards import open_dataset
from batchflow.validate.catalogue import compare_catalogue, compare_part
from batchflow.validate.held_out import recover_held_out
from batchflow.validate.plan import COMPARISON, OBJECTS, RECOVERY, plan_validate
from batchflow.validate.say import print_summary


def validate_stage(session: Session) -> StageReport:
    """Make the tables that are left: of held-out mocks, of the objects of each part, of all objects.

    Parameters
    ----------
    session : Session
        The job at work.

    Returns
    -------
    StageReport
        Its units.

    Raises
    ------
    UserError
        When there is no trained model, or the posteriors are not complete.
    """
    job, run = session.job, session.run
    parts = session.parts if job.catalogue else []
    plan = apply_mode(lambda: plan_validate(job, run, parts), session.mode, lambda: remove(run.validation))
    if plan is None:
        raise UserError(f"{run.model} holds no trained model; run `batchflow train` first")
    report = StageReport("validate", len(plan.wanted))
    with count_units("validate", plan) as on_done:
        for kind in WORK:
            units = [unit for unit in plan.left if unit.key.split()[0] == kind]
            # What sums up the objects needs those of every part.
            awaited = kind == COMPARISON and any(key.startswith(OBJECTS) for key, _ in report.failures)
            if units and not awaited:
                report.failures += _run(session, plan, units, on_done)
                report.made += len(units)
    report.made -= len(report.failures)
    refresh_card(run)
    print_summary(run)
    return report


def _run(
    session: Session, plan: Plan, units: list[Unit], on_done: Callable[[Unit, Any], None]
) -> list[Failure]:
    """Have workers make units of one kind, and say what they have to say."""
    cluster = session.job.cluster
    function, settings = WORK[units[0].key.split()[0]]
    shared = settings(session, plan)
    require(session.client, CPU, cluster.wait_minutes)

    def done(unit: Unit, notes: list[str]) -> None:
        on_done(unit, notes)
        for note in notes:
            CONSOLE.print(f"validate: {note}", soft_wrap=True, markup=False)

    tasks = [_with_arguments(unit, plan, shared) for unit in units]
    return run_units(session.client, function, tasks, Pool(CPU, cluster.in_flight), done)


def _with_arguments(unit: Unit, plan: Plan, shared: dict[str, Any]) -> Unit:
    outputs = [str(path) for path in unit.paths]
    return replace(
        unit, arguments={**unit.arguments, **shared, "outputs": outputs, "footer": plan.footer(unit)}
    )


def _held_out(session: Session, plan: Plan) -> dict[str, Any]:
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
    return {"shards": [str(wanted.paths[0]) for wanted in shards.wanted], "settings": settings}


def _objects(session: Session, plan: Plan) -> dict[str, Any]:
    _need_posteriors(session)
    return {"settings": {"model": str(session.run.model), "weights": plan.settings["weights"]}}


def _comparison(session: Session, _: Plan) -> dict[str, Any]:
    _need_posteriors(session)
    run = session.run
    places = [part.path.relative_to(run.catalogue) for part in session.parts]
    folders = (run.posterior, run.validation / OBJECTS, run.fit, run.draws)
    parts = [tuple(str(folder / place) for folder in folders) for place in places]
    return {"parts": parts, "mocks": str(run.validation / "mocks.parquet")}


def _need_posteriors(session: Session) -> None:
    """Draws may be gone: they are large, and little is lost without them."""
    posteriors = plan_infer(session.job, session.run, session.parts)
    if posteriors is None or not all(unit.paths[0].is_file() for unit in posteriors.wanted):
        raise UserError("the posteriors are not complete; run `batchflow infer` first")


WORK: dict[str, tuple[Callable[..., list[str]], Callable[[Session, Plan], dict[str, Any]]]] = {
    RECOVERY: (recover_held_out, _held_out),
    OBJECTS: (compare_part, _objects),
    COMPARISON: (compare_catalogue, _comparison),
}
"""What makes the units of each kind, in order, and what every one of them is told."""


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
