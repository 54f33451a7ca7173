"""Commands that ask a run for its results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from batchflow.commands.options import JsonOption, RunPath
from batchflow.commands.printing import print_json, print_pairs, print_table


def flags(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The run folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain the bits of the column `flags`; of a run, count them by galaxy."""
    from batchflow.results.flags import count_flags, explain_flags

    table = explain_flags() if run is None else count_flags(run)
    if as_json:
        print_json(table.to_pylist())
    else:
        print_table(table)


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
        print_json({"folder": str(folder)} | figures)
        return
    print_pairs(str(folder), {name.replace("_", " "): value for name, value in figures.items()})
    if figures["too_few_draws"]:
        print("too few effective draws: flag LOW_EFFICIENCY; infer again under this prior", file=sys.stderr)


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
        print_json({"note": NOTE} | found)
        return
    for galaxy in found["galaxies"]:
        print_pairs(galaxy["galaxy"], {name: value for name, value in galaxy.items() if name != "galaxy"})
    print("\n".join(found["tables"]))
    print(f"note: {NOTE}", file=sys.stderr)
