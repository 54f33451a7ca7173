"""Commands that run, check and follow a job here."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

from batchflow.commands.options import JobFile, JsonOption, ModeName, ModeOption, SetOption, VerboseOption
from batchflow.commands.printing import count, print_json, print_pairs, results
from batchflow.errors import UserError

if TYPE_CHECKING:
    from batchflow.config import Job
    from batchflow.preflight import Finding

UNITS_FAILED = 3


STAGE_HELP = {
    "mocks": "Make the mock clusters.",
    "train": "Train the flow on the mocks.",
    "infer": "Infer the posterior of every cluster in the catalogues.",
    "fit": "Fit every cluster the classical way: chi2 on a grid, and the exact posterior.",
    "validate": "Measure recovery on held-out mocks and compare with published values.",
    "report": "Draw the pictures and print the tables of a run.",
}
RUN_HELP = "Run every stage of a job in order; what is done is not done again."


def stage_command(stages: tuple[str, ...]) -> Callable[..., None]:
    """Make the command that runs some stages."""

    def command(
        job: JobFile,
        mode: ModeOption = ModeName.resume,
        overrides: SetOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        _run_stages(job, stages, mode, overrides or [], as_json, verbose)

    return command


def _run_stages(
    path: Path, stages: tuple[str, ...], mode: ModeName, overrides: list[str], as_json: bool, verbose: bool
) -> None:
    from batchflow.check import problems
    from batchflow.config import load_job
    from batchflow.pipeline import run_stages

    _log_to_terminal(verbose)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Ignored is what nohup and a shell's background have it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    job = load_job(path, overrides)
    if found := problems(job):
        raise UserError("\n  ".join([f"{path}:", *found]))
    wanted = stages if len(stages) == 1 else job.stages
    reports = run_stages(job, wanted, mode.value)
    if as_json:
        print_json({report.stage: vars(report) for report in reports})
    failures = [failure for report in reports for failure in report.failures]
    if failures:
        from batchflow.cluster import failures_text

        text = failures_text(failures)
        units = "1 unit" if len(failures) == 1 else f"{len(failures)} units"
        print(f"batchflow: {units} failed, the rest is done:\n{text}", file=sys.stderr)
        raise typer.Exit(UNITS_FAILED)


def _stop(number: int, _: Any) -> NoReturn:
    """Leave by the usual way when somebody ends us, so that the workers and their jobs end too."""
    name = signal.Signals(number).name
    # Not by `print`: the signal may have come in the midst of one.
    said = f"batchflow: stopped by {name}; what is done stays done, and the same command goes on from there\n"
    os.write(2, said.encode())
    raise SystemExit(128 + number)


def check(
    job: JobFile,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Start a worker of each pool and look at it.")
    ] = False,
) -> None:
    """Say everything that can be known to be wrong with a job before anything runs."""
    from batchflow.check import examine
    from batchflow.config import load_job

    given = load_job(job, overrides or [])
    found = examine(given)
    if not (as_json or found.problems):
        print_pairs(f"{job} is in order", found.description)
    findings = _preflight(given) if cluster and not found.problems else None
    if as_json:
        told = {} if findings is None else {"cluster": [vars(item) for item in findings]}
        print_json({"problems": found.problems, "job": found.description} | told)
    elif findings is not None:
        table = Table("where", "what", "", "found")
        for item in findings:
            table.add_row(item.where, item.what, item.state, item.text)
        results().print(table)
    if found.problems:
        raise UserError("\n  ".join([f"{job}:", *found.problems]))
    wrong = [f"{item.where}: {item.what}: {item.text}" for item in findings or () if item.state == "wrong"]
    if wrong:
        raise UserError("\n  ".join(["the cluster cannot do this job:", *wrong]))


def _preflight(job: Job) -> list[Finding]:
    from batchflow.preflight import preflight

    return preflight(job)


def status(
    job: JobFile,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every table again and compare it with its checksum.")
    ] = False,
) -> None:
    """Say what of a job is done and what is left; starts no cluster."""
    from batchflow.config import load_job
    from batchflow.status import status_of

    rows = status_of(load_job(job, overrides or []), verify)
    if as_json:
        print_json(rows)
        return
    table = Table("stage", "done", "wanted", "state")
    for row in rows:
        table.add_row(row["stage"], count(row["done"]), count(row["wanted"]), row["state"])
    results().print(table)


def _log_to_terminal(verbose: bool) -> None:
    if verbose:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
        )
