"""A catalogue's description for people: tables for the terminal, and TOML for a job file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from batchflow.catalogue.command import USUAL, Understood
from batchflow.catalogue.files import find_files
from batchflow.catalogue.legus_fields import field_in
from batchflow.catalogue.statistics import REASONS, BandFigures, Description

MOST_GALAXIES = 12
"""Galaxies listed; those with most clusters."""
MAG_PER_FRACTION = 1.0857


def print_description(console: Console, understood: Understood, found: Description) -> None:
    """Print what was understood of a catalogue.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    understood : Understood
        How the file was read.
    found : Description
        What is in it.
    """
    for line in _head(understood, found):
        console.print(line, markup=False, soft_wrap=True)
    for table in (_bands(found), _galaxies(found), _flags(found), _surveys(found)):
        if table.row_count:
            console.print(table)
    console.print("For a job file:\n", markup=False)
    console.print(snippet(understood), markup=False, soft_wrap=True)


def to_json(understood: Understood, found: Description) -> dict[str, Any]:
    """The same for programs.

    Parameters
    ----------
    understood : Understood
        How the file was read.
    found : Description
        What is in it.

    Returns
    -------
    dict
        JSON-able.
    """
    how = {
        "format": understood.entry.format,
        "unit": understood.entry.unit if understood.entry.format == "table" else None,
        "detected": list(understood.found),
        "assumed": list(understood.assumed),
        "lacking": list(understood.lacking),
        "not_read": [str(path) for path in understood.aside],
        "snippet": snippet(understood),
    }
    return how | found.to_dict()


def snippet(understood: Understood) -> str:
    """The catalogue as an entry of a job file.

    Parameters
    ----------
    understood : Understood
        How the file was read.

    Returns
    -------
    str
        TOML; what the file lacks is marked for the user to fill in.
    """
    values = understood.entry.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    # The path comes first.
    values = {"path": values["path"], "format": understood.entry.format} | values
    columns = values.pop("columns", {})
    lines = ["[[catalogue]]", *(_line(key, value, understood) for key, value in values.items())]
    if columns := {key: value for key, value in columns.items() if value != {}}:
        lines += ["", "[catalogue.columns]", *(_line(key, value) for key, value in columns.items())]
    return "\n".join([*lines, *_snippet_aside(understood)]) + "\n"


def _snippet_aside(understood: Understood) -> Iterator[str]:
    """Entries of the files that were not read, one each: their bands may differ."""
    for path in understood.aside:
        yield ""
        yield "[[catalogue]]"
        yield f"path = {_toml(str(Path.cwd() / path))}"
        yield f"format = {_toml(understood.entry.format)}"
        yield f"bands = {_toml(USUAL)}  # not known: put the right ones"


def _line(key: str, value: Any, understood: Understood | None = None) -> str:
    missing = understood is not None and key in understood.lacking
    return f"{key} = {_toml(value)}" + ("  # not in the file: put the right one" if missing else "")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON's strings, numbers and truth values are TOML's; its escapes too.
    return json.dumps(value, ensure_ascii=False)


def _head(understood: Understood, found: Description) -> Iterator[str]:
    summary = found.summary
    left_out = f", {summary.n_left_out} of other classes left out" if summary.n_left_out else ""
    yield f"{summary.path}: {summary.n_rows:,} rows{left_out}"
    for text in understood.found:
        yield f"  found    {text}"
    for text in understood.assumed:
        yield f"  ASSUMED  {text}"
    for key in understood.lacking:
        stand_in = getattr(understood.entry, key)
        yield f"  LACKING  {key}: {stand_in!r} stands in for it here; a job needs the right one"
    named: dict[str, Mapping[Any, int]] = {"classes": summary.classes, "sentinels": summary.sentinels}
    if set(summary.classes) == {0}:
        del named["classes"]
    for name, counts in named.items():
        if counts:
            yield f"  {name:<9}  " + ", ".join(f"{key} ({count})" for key, count in counts.items())
    for unit, bands in summary.bands_by_unit().items():
        yield f"  unit     {bands}: {unit}"
    absent = [band for band in understood.model.bands if band not in found.noise.bands]
    if absent:
        yield f"  missing  {', '.join(absent)}: no row is measured"
    for text in summary.warnings:
        yield f"  warning  {text}"
    if understood.aside:
        yield _not_read(understood)


def _not_read(understood: Understood) -> str:
    n_aside = len(understood.aside)
    n_files = n_aside + len(find_files(understood.entry.paths))
    names = ", ".join(field_in(path.name) or path.name for path in understood.aside)
    return (
        f"  NOT READ {n_aside} of {n_files} files, whose B, V and I filters are not known: {names}; look at "
        f"each with --bands {','.join(USUAL)} or others, and give it an entry of its own, as below"
    )


def _bands(found: Description) -> Table:
    table = Table(title="Bands", title_justify="left")
    for name in ("band", "measured", "limits", "missing", "S/N 5-50-95 %"):
        table.add_column(name, justify="left" if name == "band" else "right", no_wrap=True)
    for name in ("5 sigma [AB]", "floor [mag]", "scatter [dex]", "AB - Vega"):
        table.add_column(name, justify="right", no_wrap=True)
    for band in found.bands:
        table.add_row(*_band_cells(band))
    return table


def _band_cells(band: BandFigures) -> tuple[str, ...]:
    return (
        band.band,
        f"{band.measured:,}",
        f"{band.limits:,}",
        f"{band.missing:,}",
        "" if band.signal is None else "  ".join(f"{value:.1f}" for value in band.signal),
        _cell(band.depth_ab, ".2f"),
        _cell(None if band.floor is None else MAG_PER_FRACTION * band.floor, ".3f"),
        _cell(band.scatter_dex, ".2f"),
        _cell(band.zero_point, "+.4f"),
    )


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _galaxies(found: Description) -> Table:
    galaxies = sorted(found.galaxies, key=lambda galaxy: -galaxy.clusters)
    title = f"Galaxies: {len(galaxies):,}"
    if len(galaxies) > MOST_GALAXIES:
        title += f", the {MOST_GALAXIES} with most clusters"
    table = Table("galaxy", "clusters", "distance [Mpc]", title=title, title_justify="left")
    for galaxy in galaxies[:MOST_GALAXIES]:
        # Names are a catalogue's: brackets in them are no markup.
        table.add_row(escape(galaxy.galaxy), f"{galaxy.clusters:,}", _span(galaxy.distance_mpc))
    return table


def _span(span: tuple[float, float] | None) -> str:
    if span is None:
        return "none"
    low, high = span
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _flags(found: Description) -> Table:
    table = Table("flag", "rows", "why", title="Rows that will be flagged", title_justify="left")
    for name, count in found.flags.items():
        table.add_row(name, f"{count:,}", REASONS.get(name, ""))
    return table


def _surveys(found: Description) -> Table:
    table = Table(title="Noise model: how well it knows the errors", title_justify="left")
    for name in ("survey", "measured", "outside training", "median deviation of an error"):
        table.add_column(name)
    for figures in found.coverage:
        worst = max(figures.residual.values(), default=float("nan"))
        outside = f"{figures.n_outside:,}"
        table.add_row(escape(figures.survey), f"{figures.n_rows:,}", outside, f"{worst:.3f} dex or less")
    return table
