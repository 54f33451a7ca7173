"""Commands for the batch system."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from batchflow.commands.options import JobFile, JsonOption, ModeName, ModeOption, RunPath, SetOption, Split
from batchflow.commands.printing import print_json, results
from batchflow.errors import UserError


def submit(
    job: JobFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the scripts, submit nothing.")] = False,
    after: Annotated[str | None, typer.Option(metavar="JOBID", help="Begin when this job has ended.")] = None,
    stages: Annotated[
        Split, typer.Option(help="One driver for all stages, or a job for each kind.")
    ] = Split.one,
    single_allocation: Annotated[
        bool, typer.Option("--single-allocation", help="Driver and workers in one Slurm job, by srun.")
    ] = False,
    mode: ModeOption = ModeName.resume,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand a job to the batch system; the driver itself becomes a batch job."""
    from batchflow.check import problems
    from batchflow.config import load_job
    from batchflow.submit import run as submission

    found = load_job(job, overrides or [])
    if wrong := problems(found):
        raise UserError("\n  ".join([f"{job}:", *wrong]))
    how = submission.Submission(stages.value, single_allocation, after, mode.value)
    if dry_run:
        texts = submission.scripts(found, how)
        if as_json:
            print_json(texts)
            return
        print("\n".join(f"### {title}\n{text}" for title, text in texts.items()))
        return
    made = submission.submit(found, how)
    if as_json:
        print_json([vars(item) for item in made])
    else:
        print(submission.how_to_follow(found, made))


def jobs(run: RunPath, as_json: JsonOption = False) -> None:
    """List the batch jobs of a run and how they stand."""
    from batchflow.submit.run import jobs_of

    rows = jobs_of(run)
    if as_json:
        print_json(rows)
        return
    table = Table("id", "kind", "name", "state")
    for row in rows:
        table.add_row(*map(str, row.values()))
    results().print(table)


def cancel(run: RunPath) -> None:
    """End the batch jobs of a run; what is done stays done."""
    from batchflow.submit.run import cancel_run

    ended = cancel_run(run)
    print(f"cancelled {', '.join(ended)}" if ended else "no job of this run was waiting or running")
