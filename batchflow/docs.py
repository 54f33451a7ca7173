"""Pages of docs/ that are made from the code: ``python -m batchflow.docs [FOLDER]`` writes them anew."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pyarrow as pa
from pydantic.fields import FieldInfo

from batchflow import schema
from batchflow.columns import describe
from batchflow.config import Job
from batchflow.results.flags import explain_flags
from batchflow.settings.base import Settings
from batchflow.settings.prior import Distribution
from batchflow.shards import write_text
from batchflow.train.history import SCHEMA as HISTORY
from batchflow.validate.schemas import validation_schemas
from batchflow.votable import described, text_of

NOTE = "<!-- Written by `python -m batchflow.docs`: change the descriptions in the code, not this page. -->\n"
JOB_HEAD = """\
# The job file

One TOML file describes a run. `jobs/quickstart.toml` and `jobs/legus.toml` are examples. An unknown key is
an error that names the nearest right one; `batchflow check JOB` says everything else that can be known to be
wrong before anything runs. Input paths are relative to the job file, `output` to the working directory. Any
setting can be overridden for one run: `--set train.epochs=4`.
"""
COLUMNS_HEAD = """\
# Columns and flags

Units are in the notation of astropy; UCDs say to programs what a column is. `[...]` marks a list. Every
Parquet file holds this in its own metadata (Arrow's fields, and a VOTable in the footer by the VOParquet
convention); `batchflow export` writes it into FITS, VOTable and ECSV, and beside CSV. A missing number is
NaN.

Where a table has columns for each parameter they are shown for `log_age`; `log_mass`, `ebv`, and of the
others those that are inferred have the same. Columns for each band are shown for `wfc3_f275w`.
"""


def pages() -> dict[str, str]:
    """Text of each page by file name."""
    return {"job-file.md": job_page(), "columns.md": columns_page()}


def job_page() -> str:
    """The reference of the job file, from the settings' own descriptions."""
    parts = [NOTE, JOB_HEAD]
    for title, section in sections(Job, ""):
        heading, _, words = (section.__doc__ or "").splitlines()[0].partition(": ")
        name = title or "The job itself"
        shown = f"{words[:1].upper()}{words[1:]}\n\n" if words else f"{heading}\n\n" if title else ""
        parts.append(f"## {name}\n\n{shown}{_settings_table(section)}")
    return "\n".join(parts)


def columns_page() -> str:
    """Every column of every table, and the bits of `flags`."""
    band = "wfc3_f275w"
    tables = {
        "posterior": schema.posterior_schema(["log_age"]),
        "draws": schema.draws_schema(["log_age"]),
        "fit": schema.fit_schema(["log_age"]),
        "catalogue": schema.catalogue_schema([band], ["log_age"]),
        "mocks": schema.mocks_schema(["log_age"], [band]),
        "history": HISTORY,
        **{f"validation_{name}": columns for name, columns in validation_schemas(["log_age"]).items()},
    }
    parameters = [
        [f"`{name}`", unit, describe(name).description] for name, unit in schema.PARAMETER_UNITS.items()
    ]
    flags = [[str(row["bit"]), f"`{row['name']}`", row["meaning"]] for row in explain_flags().to_pylist()]
    parts = [NOTE, COLUMNS_HEAD, "## Parameters\n", _table(["name", "unit", "what it is"], parameters)]
    for name, columns in tables.items():
        parts += [
            f"## Table `{name}`\n",
            _table(["column", "type", "unit", "UCD", "what it is"], _rows(columns)),
        ]
    return "\n".join([*parts, "## Flags\n", _table(["bit", "name", "meaning"], flags)])


def sections(of: type[Settings], path: str) -> Iterator[tuple[str, type[Settings]]]:
    """The sections of a job file: its name in TOML, and its settings.

    Parameters
    ----------
    of : type
        The settings to begin with.
    path : str
        Their place in the file; empty for the job itself.

    Yields
    ------
    tuple of (str, type)
        Each before those within it.
    """
    listed = path == "catalogue"
    yield (f"[[{path}]]" if listed else f"[{path}]" if path else ""), of
    for name, info in of.model_fields.items():
        inner = _inner(info.annotation)
        if inner is Distribution:
            continue
        if inner is not None and get_origin(info.annotation) is not dict:
            key = info.alias or name
            yield from sections(inner, f"{path}.{key}" if path else key)
    if path == "prior":
        yield "A distribution of [prior]", Distribution


def _inner(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next((found for item in get_args(annotation) if (found := _inner(item))), None)


def _settings_table(section: type[Settings]) -> str:
    rows = []
    for name, info in section.model_fields.items():
        inner = _inner(info.annotation)
        if inner is not None and inner is not Distribution and get_origin(info.annotation) is not dict:
            continue
        values = [f"`{info.alias or name}`", _type(info.annotation), _default(info), info.description or ""]
        rows.append([value.replace("|", "\\|") for value in values])
    return _table(["key", "value", "default", "what it is"], rows)


def _type(annotation: Any) -> str:
    """What TOML holds there, in words."""
    arguments = [item for item in get_args(annotation) if item is not NoneType]
    origin = get_origin(annotation)
    if origin is None and isinstance(annotation, type):
        return _plain_type(annotation)
    if origin is Literal:
        return ", ".join(f'"{item}"' if isinstance(item, str) else str(item) for item in arguments)
    if origin is tuple:
        kinds = [_type(item) for item in arguments if item is not Ellipsis]
        return f"list of {kinds[0]}" if Ellipsis in arguments else f"[{', '.join(kinds)}]"
    if origin is dict:
        return f"table: name = {_type(arguments[1])}"
    # An annotated type stands before its conditions; what is left is a union.
    several = arguments[:1] if hasattr(annotation, "__metadata__") else arguments
    return " or ".join(dict.fromkeys(map(_type, several)))


def _plain_type(type_: type) -> str:
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    if issubclass(type_, Settings) and type_ is not Distribution:
        return f"{{{', '.join(type_.model_fields)}}}"
    return names.get(type_, "distribution")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.default
    if isinstance(value, Distribution):
        return f"`{value.shape} = {list(getattr(value, value.shape))}`"
    if value is None or value in ((), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _rows(columns: pa.Schema) -> Iterator[list[str]]:
    for item in described(columns):
        is_list = pa.types.is_list(item.type)
        kind = str(item.type.value_type if is_list else item.type)
        shown = f"[{kind}]" if is_list else kind
        yield [f"`{item.name}`", shown, *(text_of(item, key) for key in ("unit", "ucd", "description"))]


def _table(names: list[str], rows: Iterable[list[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def write_pages(folder: Path) -> None:
    """Write the pages.

    Parameters
    ----------
    folder : Path
        Made when absent.
    """
    for name, text in pages().items():
        write_text(folder / name, text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pages that the command line asks for.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line; its own when not given.
    """
    parser = ArgumentParser(
        prog="python -m batchflow.docs", description="Write the manual's pages that come from the code."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs"), help="where to (default: docs)")
    write_pages(parser.parse_args(arguments).folder)


if __name__ == "__main__":
    main()
