"""The normalised catalogue of a run: made once from the job's files, and found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from batchflow import stages
from batchflow.catalogue.partition import Part, write_catalogue
from batchflow.catalogue.read import read_with_summary
from batchflow.config import Job
from batchflow.monitor import CONSOLE
from batchflow.paths import RunFolder, remove
from batchflow.plan import Mode, check_settings, fingerprint, flatten
from batchflow.shards import write_json

INDEX = "_index.json"
"""Readers of Parquet folders pass over names that begin with an underscore."""


def ensure_catalogue(job: Job, run: RunFolder, mode: Mode) -> list[Part]:
    """Have the normalised catalogue on disk.

    Parameters
    ----------
    job : Job
        With at least one catalogue.
    run : RunFolder
        Where it goes.
    mode : {"resume", "restart", "refuse"}
        "restart" makes it anew; otherwise what is there is used.

    Returns
    -------
    list of Part
        By galaxy, then in the order of the rows.

    Raises
    ------
    UserError
        When a file cannot be read, or was changed since the catalogue was made.
    """
    if mode != "restart" and (parts := find_catalogue(job, run)) is not None:
        return parts
    settings = stages.catalogue_settings(job)
    remove(run.catalogue)
    footer = {"stage": "catalogue", "fingerprint": fingerprint(settings), "settings": flatten(settings)}
    tables = []
    for entry in job.catalogue:
        table, summary = read_with_summary(entry, job.model.bands)
        CONSOLE.print("\n".join(summary.lines()), markup=False, soft_wrap=True)
        tables.append(table)
    parts = write_catalogue(tables, run.catalogue, job.infer.rows_per_part, footer)
    # The index is written last: a catalogue without it was broken off, and is made anew.
    write_json(
        run.catalogue / INDEX, {"settings": flatten(settings), "parts": [_plain(part, run) for part in parts]}
    )
    return parts


def find_catalogue(job: Job, run: RunFolder) -> list[Part] | None:
    """The parts that are there; None when they are not all.

    Parameters
    ----------
    job : Job
        With at least one catalogue.
    run : RunFolder
        Where they are.

    Returns
    -------
    list of Part or None
        As `ensure_catalogue` gives them.

    Raises
    ------
    UserError
        When they were made from other files or with other settings.
    """
    path = run.catalogue / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        parts = [_part(values, run) for values in index["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all(part.path.is_file() for part in parts):
        return None
    check_settings(path, index["settings"], stages.catalogue_settings(job), "infer")
    return parts


def survey_tables(parts: list[str]) -> Mapping[str, pa.Table]:
    """The normalised catalogue by survey, for the noise model.

    Parameters
    ----------
    parts : list of str
        Files of the normalised catalogue.

    Returns
    -------
    mapping of str to pyarrow.Table
        Rows of each survey.
    """
    whole = ds.dataset(parts, format="parquet").to_table()
    names = sorted(set(whole["survey"].to_pylist()))
    return {name: whole.filter(ds.field("survey") == name) for name in names}


def _plain(part: Part, run: RunFolder) -> dict[str, Any]:
    return vars(part) | {"path": str(part.path.relative_to(run.root))}


def _part(values: dict[str, Any], run: RunFolder) -> Part:
    return Part(**{**values, "path": run.root / Path(values["path"])})
