"""Commands about what goes in: the model and the catalogues."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from batchflow.commands.options import JobFile, JsonOption, RunPath, SetOption
from batchflow.commands.printing import print_json, print_table, results


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
        print_json(table.to_pylist())
    else:
        print_table(by_band(table), "Flux densities in mJy at 10 pc, a column a point")
    if plot:
        print(f"picture  {draw_model(found, points, picture)}", file=sys.stderr)


def model_card_command(run: RunPath) -> None:
    """Describe a trained model in Markdown: bands, prior, physics, noise, training, calibration."""
    from batchflow.flow.card import card_of

    print(card_of(run), end="")


def catalogue(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="A file, several, or a pattern; default: all of JOB."),
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", help="legus, phangs, phatter or table.")] = None,
    bands: Annotated[str | None, typer.Option(help="Its bands, with commas between.")] = None,
    galaxy: Annotated[str | None, typer.Option(help="For rows without a galaxy of their own.")] = None,
    distance: Annotated[float | None, typer.Option(help="For rows without a distance [Mpc].")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of [[catalogue]]; repeatable."),
    ] = None,
    job: Annotated[Path | None, typer.Option(metavar="JOB", help="A job: its entries and its model.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw errors and colours.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in a catalogue, as batchflow reads it, and how to put it into a job."""
    from batchflow.catalogue.command import Request, describe_file, understand_all
    from batchflow.catalogue.pictures import draw_catalogue
    from batchflow.catalogue.tell import print_description, to_json
    from batchflow.paths import escape

    named = tuple(filter(None, map(str.strip, (bands or "").split(","))))
    request = Request(tuple(files or ()), format_, named, galaxy, distance, overrides or [], job)
    ways = understand_all(request)
    told = []
    for way in ways:
        found = describe_file(way)
        if as_json:
            told.append(to_json(way, found))
        else:
            print_description(results(), way, found)
        if plot is not None:
            own = plot if len(ways) == 1 else plot.with_stem(f"{plot.stem}-{escape(way.entry.survey)}")
            print(f"picture  {draw_catalogue(own, found, way.model)}", file=sys.stderr)
    if as_json:
        print_json(told[0] if len(told) == 1 else told)
