"""Commands for what leaves a run: exported tables, where they come from, what to cite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from batchflow.commands.options import JsonOption, RunPath
from batchflow.commands.printing import print_json, print_pairs


def export(
    run: RunPath,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=".fits .vot .ecsv .csv .parquet; hats: a folder.")
    ],
    table: Annotated[
        str, typer.Option(help="posterior, catalogue, fit, draws, mocks, history, validation.")
    ] = "posterior",
    columns: Annotated[str, typer.Option(help="Names, with commas between; default all.")] = "",
    galaxy: Annotated[list[str] | None, typer.Option(help="Only this galaxy; repeatable.")] = None,
    format_: Annotated[
        str, typer.Option("--format", help="Where the name does not say; hats: a folder.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a table for other programs, with units, descriptions, UCDs and provenance."""
    from batchflow.results.export import Request, export_run

    named = tuple(filter(None, map(str.strip, columns.split(","))))
    found = export_run(run, file, Request(table, named, tuple(galaxy or ()), format_.lower(), force))
    if as_json:
        print_json(found)
        return
    print(f"{found['file']}: {found['rows']:,} rows, {found['columns']} columns of {table}")
    if found["left_out"]:
        print(f"{found['left_out']:,} rows have no position and were left out", file=sys.stderr)


def provenance(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of a run, exported, or a model folder.")],
    as_json: JsonOption = False,
) -> None:
    """Say where a file comes from: job, model, engine, versions, checksums of catalogues, commands."""
    from batchflow.results.provenance import provenance as origin

    found = origin(file)
    if as_json:
        print_json(found)
        return
    for title, values in _sections(found).items():
        if values:
            print_pairs(title, values)


def _files(item: dict[str, Any]) -> list[str]:
    """Each file of a catalogue over its checksum."""
    given = item.get("path", item.get("files")) or ()
    paths = [given] if isinstance(given, str | Path) else list(given)
    sums = [f"sha256 {checksum}" for checksum in item["sha256"]]
    if len(paths) != len(sums):
        return [*map(str, paths), *sums]
    return [line for pair in zip(map(str, paths), sums, strict=True) for line in pair]


def _sections(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What people read of it; `--json` has all."""
    model, made, exported = (found.get(name) or {} for name in ("model", "made", "export"))
    plain = {key: found[key] for key in ("stage", "unit", "fingerprint", "rows") if found.get(key)}
    exports = {key: value for key, value in exported.items() if key in ("table", "query", "command", "date")}
    commands = {
        step["stage"]: f"{step['date']}  {step['command'] or '(Python)'}"
        for step in found.get("commands", [])
    }
    catalogues = {str(item["survey"]): "\n".join(_files(item)) for item in found.get("catalogues", [])}
    engine = {
        key: value for key, value in (found.get("engine") or {}).items() if not isinstance(value, dict | list)
    }
    # Runs of before this record say nothing of their own: then the versions are the export's, or training's.
    of = {"": made, " of the export": exported, " of the training": model}
    whose, versions = next(((w, s["versions"]) for w, s in of.items() if s.get("versions")), ("", {}))
    of_model = {"weights": model.get("weights_sha256"), "note": model.get("note")}
    return {
        str(found["file"]): plain,
        "Exported": exports,
        "Commands": commands,
        "Model": {key: value for key, value in of_model.items() if value},
        "Engine": engine,
        "Catalogues": catalogues,
        f"Versions{whose}": dict(versions),
    }


def cite(
    run: RunPath,
    as_bibtex: Annotated[bool, typer.Option("--bibtex", help="Entries for BibTeX.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what to cite: the models, laws, data and programs that a run used."""
    from batchflow.results.citations import bibtex, citations

    found = citations(run)
    if as_json:
        print_json([item._asdict() for item in found])
    elif as_bibtex:
        print(bibtex(found), end="")
    else:
        print("\n".join(f"{item.text}\n    {item.purpose}" for item in found))
