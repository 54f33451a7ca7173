"""The stage `train`: one task, on a worker with the resource GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from batchflow import stages
from batchflow.cluster import GPU, Pool, require, run_units
from batchflow.errors import UserError
from batchflow.mocks.plan import plan_mocks
from batchflow.monitor import CONSOLE, listen, progress, send
from batchflow.paths import remove
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode
from batchflow.train.plan import plan_train

TOPIC = "batchflow-train"
SHOWN = ("rows_per_second", "train_loss", "held_out_loss", "rows", "cuda")


def train_stage(session: Session) -> StageReport:
    """Train the model, from its last checkpoint where there is one.

    Parameters
    ----------
    session : Session
        The job at work.

    Returns
    -------
    StageReport
        With the training's figures where it was trained.

    Raises
    ------
    UserError
        When mocks are missing.
    """
    job, run = session.job, session.run
    plan = apply_mode(plan_train(job, run), session.mode, lambda: remove(run.model))
    report = StageReport("train", 1)
    if plan.complete:
        return report
    shards = plan_mocks(job, run)
    if not shards.complete:
        raise UserError(f"{len(shards.left)} mock shards are missing; run `batchflow mocks` first")
    require(session.client, GPU, job.cluster.wait_minutes)
    paths = [str(unit.paths[0]) for unit in shards.wanted]
    unit = _with_arguments(plan, session, paths)
    report.failures = _train(session, unit, report.figures)
    report.made = 1 - len(report.failures)
    return report


def train_task(**arguments: Any) -> dict[str, float]:
    """Train on a worker, its progress sent to the client as it goes."""
    from batchflow.train.task import train_model

    return train_model(**arguments, report=lambda message: send(TOPIC, message))


def _train(session: Session, unit: Unit, figures: dict[str, Any]) -> list[tuple[str, str]]:
    def keep(_: Unit, result: dict[str, float]) -> None:
        figures.update({name: result[name] for name in SHOWN if name in result})

    with progress("train", 100) as advance:

        def show(message: dict[str, Any]) -> None:
            for line in message.get("lines", ()):
                CONSOLE.print(f"noise    {line}", soft_wrap=True, markup=False)
            losses = [
                f"{name} {message[name]:.3f}" for name in ("train_loss", "held_out_loss") if name in message
            ]
            advance(round(100 * message["fraction"]), "  ".join(losses))

        with listen(session.client, TOPIC, show):
            return run_units(session.client, train_task, [unit], Pool(GPU, 1), keep)


def _with_arguments(plan: Plan, session: Session, shards: list[str]) -> Unit:
    parts = [str(part.path) for part in session.parts] if session.job.catalogue else []
    arguments = {
        "job": stages.resolved(session.job),
        "folder": str(session.run.model),
        "inputs": {"shards": shards, "catalogue": parts},
        "settings": dict(plan.settings),
    }
    return replace(plan.wanted[0], arguments=arguments)
