"""The command line: thin commands over the package."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from batchflow.errors import UserError

if TYPE_CHECKING:
    from batchflow.config import Job

app = typer.Typer(
    help="Star-cluster catalogues into certified posteriors of age, mass and reddening.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INPUT_WRONG, UNITS_FAILED = 2, 3


class ModeName(StrEnum):
    """What to do with what an earlier run left."""

    resume = "resume"
    restart = "restart"
    refuse = "refuse"


class Split(StrEnum):
    """How many drivers a submitted job has."""

    one = "one"
    separate = "separate"


JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file (TOML).")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable."),
]
ModeOption = Annotated[ModeName, typer.Option("--mode", help="What to do with what is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Show the log.")]


def main() -> NoReturn:
    """Run the program: the entry point, which turns errors into messages and exit statuses."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"batchflow: {error}")
        _leave(INPUT_WRONG)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    _leave(0)


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    raise SystemExit(status)


def _stage_command(name: str, stages: tuple[str, ...], text: str) -> Callable[..., None]:
    def command(
        job: JobFile,
        mode: ModeOption = ModeName.resume,
        overrides: SetOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        _run_stages(job, stages, mode, overrides or [], as_json, verbose)

    command.__doc__ = text
    return app.command(name, help=text)(command)


_STAGE_HELP = {
    "mocks": "Make the mock clusters.",
    "train": "Train the flow on the mocks.",
    "infer": "Infer the posterior of every cluster in the catalogues.",
    "validate": "Measure recovery on held-out mocks and compare with published values.",
    "report": "Draw the pictures and print the tables of a run.",
}
_stage_command(
    "run", tuple(_STAGE_HELP), "Run every stage of a job in order; what is done is not done again."
)
for _name, _text in _STAGE_HELP.items():
    _stage_command(_name, (_name,), _text)


def _run_stages(
    path: Path, stages: tuple[str, ...], mode: ModeName, overrides: list[str], as_json: bool, verbose: bool
) -> None:
    from batchflow.check import problems
    from batchflow.config import load_job
    from batchflow.pipeline import run_stages

    _log_to_terminal(verbose)
    signal.signal(signal.SIGTERM, _terminated)
    job = load_job(path, overrides)
    if found := problems(job):
        raise UserError("\n  ".join([f"{path}:", *found]))
    reports = run_stages(job, stages, mode.value)
    if as_json:
        _print_json({report.stage: vars(report) for report in reports})
    failures = [failure for report in reports for failure in report.failures]
    if failures:
        lines = "\n".join(f"  {unit}: {reason}" for unit, reason in failures[:10])
        print(f"batchflow: {len(failures)} units failed, the rest is done:\n{lines}", file=sys.stderr)
        raise typer.Exit(UNITS_FAILED)


def _terminated(number: int, _: Any) -> NoReturn:
    """Leave by the usual way when a batch system ends us, so that the workers' jobs end too."""
    raise SystemExit(128 + number)


@app.command()
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
    if as_json:
        _print_json({"problems": found.problems, "job": found.description})
    elif not found.problems:
        _print_pairs(f"{job} is in order", found.description)
    if found.problems:
        raise UserError("\n  ".join([f"{job}:", *found.problems]))
    if cluster:
        _check_cluster(given, as_json)


def _check_cluster(job: Job, as_json: bool) -> None:
    from batchflow.preflight import preflight

    findings = preflight(job)
    if as_json:
        _print_json([vars(item) for item in findings])
    else:
        table = Table("where", "what", "", "found")
        for item in findings:
            table.add_row(item.where, item.what, item.state, item.text)
        _results().print(table)
    if wrong := [f"{item.where}: {item.what}: {item.text}" for item in findings if item.state == "wrong"]:
        raise UserError("\n  ".join(["the cluster cannot do this job:", *wrong]))


@app.command()
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
        print("\n".join(f"### {title}\n{text}" for title, text in texts.items()))
        return
    made = submission.submit(found, how)
    if as_json:
        _print_json([vars(item) for item in made])
    else:
        print(submission.how_to_follow(found, made))


@app.command()
def jobs(run: RunPath, as_json: JsonOption = False) -> None:
    """List the batch jobs of a run and how they stand."""
    from batchflow.submit.run import jobs_of

    rows = jobs_of(run)
    if as_json:
        _print_json(rows)
        return
    table = Table("id", "kind", "name", "state")
    for row in rows:
        table.add_row(*map(str, row.values()))
    _results().print(table)


@app.command()
def cancel(run: RunPath) -> None:
    """End the batch jobs of a run; what is done stays done."""
    from batchflow.submit.run import cancel_run

    ended = cancel_run(run)
    print(f"cancelled {', '.join(ended)}" if ended else "no job of this run was waiting or running")


@app.command()
def status(job: JobFile, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Say what of a job is done and what is left; starts no cluster."""
    from batchflow.config import load_job
    from batchflow.status import status_of

    rows = status_of(load_job(job, overrides or []))
    if as_json:
        _print_json(rows)
        return
    table = Table("stage", "done", "wanted", "state")
    for row in rows:
        table.add_row(row["stage"], _count(row["done"]), _count(row["wanted"]), row["state"])
    _results().print(table)


@app.command("model")
def model_command(
    job: JobFile,
    picture: Annotated[Path | None, typer.Argument(metavar="[FILE.png]", help="Where --plot draws.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw spectra and colours.")] = False,
    at: Annotated[
        str, typer.Option("--at", metavar="NAME=VALUE,...", help="Parameters, e.g. log_age=7,ebv=0.3.")
    ] = "",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the model's band fluxes at chosen parameters; with --plot, draw them."""
    from batchflow.config import load_job
    from batchflow.report.sed_pictures import by_band, chosen_points, draw_model, flux_table

    found = load_job(job, overrides or [])
    points = chosen_points(found, at)
    table = flux_table(found, points)
    if as_json:
        _print_json(table.to_pylist())
    else:
        print_table(by_band(table), "Flux densities in mJy at 10 pc, a column a point")
    if plot:
        print(f"picture  {draw_model(found, points, picture)}", file=sys.stderr)


@app.command("model-card")
def model_card_command(run: RunPath) -> None:
    """Describe a trained model in Markdown: bands, prior, physics, noise, training, calibration."""
    from batchflow.flow.card import card_of

    print(card_of(run), end="")


@app.command()
def catalogue(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="One catalogue: a file, several, or a pattern.")
    ],
    format_: Annotated[str | None, typer.Option("--format", help="legus, phangs, phatter or table.")] = None,
    bands: Annotated[str | None, typer.Option(help="Its bands, with commas between.")] = None,
    galaxy: Annotated[str | None, typer.Option(help="For rows without a galaxy of their own.")] = None,
    distance: Annotated[float | None, typer.Option(help="For rows without a distance [Mpc].")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of [[catalogue]]; repeatable."),
    ] = None,
    job: Annotated[Path | None, typer.Option(metavar="JOB", help="A job: its entry and its model.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw errors and colours.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in a catalogue, as batchflow reads it, and how to put it into a job."""
    from batchflow.catalogue.command import Request, describe_file, understand
    from batchflow.catalogue.pictures import draw_catalogue
    from batchflow.catalogue.tell import print_description, to_json

    named = tuple(filter(None, map(str.strip, (bands or "").split(","))))
    request = Request(tuple(files), format_, named, galaxy, distance, overrides or [], job)
    understood = understand(request)
    found = describe_file(understood)
    if as_json:
        _print_json(to_json(understood, found))
    else:
        print_description(_results(), understood, found)
    if plot is not None:
        print(f"picture  {draw_catalogue(plot, found, understood.model)}", file=sys.stderr)


@app.command()
def query(
    run: RunPath,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT statement.")],
    as_json: JsonOption = False,
    rows: Annotated[int, typer.Option(help="Rows to print at most; 0 for all.", min=0)] = 40,
) -> None:
    """Ask a question in SQL: tables mocks, catalogue, posterior, draws, history, validation."""
    from batchflow.results.query import query as answer

    table = answer(run, sql)
    if as_json:
        _print_json(table.to_pylist())
        return
    print_table(table.slice(0, rows or None))
    if rows and table.num_rows > rows:
        print(f"... {table.num_rows - rows} more rows; --rows 0 prints all", file=sys.stderr)


@app.command()
def flags(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The run folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain the bits of the column `flags`; of a run, count them by galaxy."""
    from batchflow.results.flags import count_flags, explain_flags

    table = explain_flags() if run is None else count_flags(run)
    if as_json:
        _print_json(table.to_pylist())
    else:
        print_table(table)


@app.command()
def reweight(
    run: RunPath,
    priors: Annotated[
        list[str],
        typer.Option("--prior", metavar="NAME.SHAPE=VALUE", help="log_mass.power_law=[-2,2,7]; repeatable."),
    ],
    out: Annotated[str, typer.Option("--out", help="A name under RUN/reweighted/, or a path.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Posteriors under another prior, from the stored draws; never overwrites."""
    from batchflow.results.reweight import reweight_run

    folder, figures = reweight_run(run, priors, out)
    if as_json:
        _print_json({"folder": str(folder)} | figures)
        return
    _print_pairs(str(folder), {name.replace("_", " "): value for name, value in figures.items()})
    if figures["too_few_draws"]:
        print("too few effective draws: flag LOW_EFFICIENCY; infer again under this prior", file=sys.stderr)


@app.command()
def population(
    run: RunPath,
    width: Annotated[float, typer.Option(help="Width of the bins [dex].")] = 0.25,
    joint: Annotated[bool, typer.Option("--joint", help="Age and mass together as well.")] = False,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="FLAG", help="Leave these out; repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Age and mass distributions of each galaxy, every posterior folded in; Parquet and pictures."""
    from batchflow.report.population_pictures import population_run
    from batchflow.results.population import NOTE, PopulationOptions

    options = PopulationOptions(width=width, joint=joint, without=tuple(without or ()))
    found = population_run(run, options)
    if as_json:
        _print_json({"note": NOTE} | found)
        return
    for galaxy in found["galaxies"]:
        _print_pairs(galaxy["galaxy"], {name: value for name, value in galaxy.items() if name != "galaxy"})
    print("\n".join(found["tables"]))
    print(f"note: {NOTE}", file=sys.stderr)


def print_table(table: Any, title: str | None = None) -> None:
    """Print an Arrow table for people to read."""
    shown = Table(*table.column_names, title=title, title_justify="left")
    for row in table.to_pylist():
        shown.add_row(*(_cell(value) for value in row.values()))
    _results().print(shown)


def _results() -> Console:
    """Standard output; a table that goes to a file or a program is never cut."""
    return Console(width=None if sys.stdout.isatty() else 10_000)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        head = ", ".join(_cell(item) for item in value[:4])
        return f"[{head}, ... {len(value)}]" if len(value) > 4 else f"[{head}]"
    return "" if value is None else str(value)


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _print_pairs(title: str, values: dict[str, Any]) -> None:
    print(title)
    for key, value in values.items():
        print(f"  {key:<12} {value}")


def _print_json(values: Any) -> None:
    print(json.dumps(values, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _log_to_terminal(verbose: bool) -> None:
    if verbose:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
        )
