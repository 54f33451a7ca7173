"""The stage `train`: a task for each member of the ensemble, on workers with the resource GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from batchflow import stages
from batchflow.cluster import GPU, Pool, require, run_units, workers_with
from batchflow.errors import UserError
from batchflow.mocks.plan import plan_mocks
from batchflow.monitor import CONSOLE, listen, progress, send
from batchflow.paths import remove
from batchflow.pipeline import Session, StageReport
from batchflow.plan import Plan, Unit, apply_mode
from batchflow.train.assemble import finish_model, is_finished
from batchflow.train.plan import WHOLE, plan_train

TOPIC = "batchflow-train"
MEMBERS_IN_FLIGHT = 2
"""Trainings assigned to a worker at once: one runs, the next is ready."""
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

    Notes
    -----
    Of an ensemble, only members that are not there are trained; `rows_per_second` and the losses are
    the members' mean.
    """
    job, run = session.job, session.run
    plan = apply_mode(lambda: plan_train(job, run), session.mode, lambda: remove(run.model))
    report = StageReport("train", len(plan.wanted))
    if plan.complete:
        if not is_finished(run.model, _members(plan)):
            finish_model(run.model, _members(plan))
        return report
    shards = plan_mocks(job, run)
    if not shards.complete:
        raise UserError(f"{len(shards.left)} mock shards are missing; run `batchflow mocks` first")
    require(session.client, GPU, job.cluster.wait_minutes)
    paths = [str(unit.paths[0]) for unit in shards.wanted]
    units = _with_arguments(plan, session, paths)
    report.failures = _train(session, units, report.figures)
    if not report.failures:
        finish_model(run.model, _members(plan))
    report.made = len(plan.left) - len(report.failures) - bool(report.failures and job.train.members > 1)
    return report


def _members(plan: Plan) -> list[str]:
    return [unit.key for unit in plan.wanted if unit.key != WHOLE]


def train_task(**arguments: Any) -> dict[str, float]:
    """Train a member on a worker, its progress sent to the client as it goes."""
    from batchflow.train.task import train_model

    member = arguments["place"]["member"]
    return train_model(**arguments, report=lambda message: send(TOPIC, {"member": member, **message}))


def _train(session: Session, units: list[Unit], figures: dict[str, Any]) -> list[tuple[str, str]]:
    results: list[dict[str, float]] = []
    told: dict[int, dict[str, Any]] = {}

    def keep(_: Unit, result: dict[str, float]) -> None:
        results.append(result)

    with progress("train", 100) as advance:

        def show(message: dict[str, Any]) -> None:
            for line in message.get("lines", ()):
                CONSOLE.print(f"noise    {line}", soft_wrap=True, markup=False)
            told[message["member"]] = message
            losses = [
                f"{name} {message[name]:.3f}" for name in ("train_loss", "held_out_loss") if name in message
            ]
            done = sum(item["fraction"] for item in told.values()) / len(units)
            advance(round(100 * done), "  ".join(losses))

        with listen(session.client, TOPIC, show):
            failures = run_units(session.client, train_task, units, Pool(GPU, MEMBERS_IN_FLIGHT), keep)
    if results:
        figures |= {name: fmean(result[name] for result in results) for name in SHOWN if name in results[0]}
    return failures


def _with_arguments(plan: Plan, session: Session, shards: list[str]) -> list[Unit]:
    """The trainings that are left; a single model is its own only member."""
    parts = [str(part.path) for part in session.parts] if session.job.catalogue else []
    arguments = {
        "job": stages.resolved(session.job),
        "folder": str(session.run.model),
        "inputs": {"shards": shards, "catalogue": parts},
        "settings": dict(plan.settings),
    }
    names = _members(plan) or [WHOLE]
    left = [unit for unit in plan.left if unit.key in names]
    sharing = min(len(left), _most_on_a_machine(workers_with(session.client, GPU)))
    return [
        replace(unit, arguments=arguments | {"place": {"member": names.index(unit.key), "sharing": sharing}})
        for unit in left
    ]


def _most_on_a_machine(addresses: Sequence[str]) -> int:
    """The largest number of workers that one machine has, by their addresses' hosts."""
    counts = Counter(address.rpartition(":")[0] for address in addresses)
    return max(counts.values(), default=1)
