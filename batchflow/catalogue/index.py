"""The index of a run's normalised catalogue: which parts there are, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchflow import stages
from batchflow.catalogue.partition import Part
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import check_settings

INDEX = "_index.json"
"""Readers of Parquet folders pass over names that begin with an underscore."""


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


def surveys_of_entries(parts: Sequence[str | Path]) -> dict[str, list[str]]:
    """Surveys that each catalogue of the job turned out to hold.

    Parameters
    ----------
    parts : sequence of str or Path
        Files of the normalised catalogue.

    Returns
    -------
    dict of str to list of str
        Names of surveys by that of the catalogue; empty where there is no index beside the parts.
    """
    if not parts:
        return {}
    try:
        index = json.loads((Path(parts[0]).parents[1] / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): list(found) for name, found in index.get("surveys", {}).items()}


def survey_pieces(parts: Iterable[str | Path]) -> Iterator[tuple[str, pa.Table]]:
    """The normalised catalogue by survey, a part at a time: memory does not grow with it.

    Parameters
    ----------
    parts : iterable of str or Path
        Files of the normalised catalogue.

    Yields
    ------
    tuple of (str, pyarrow.Table)
        Name of a survey, and some of its rows: every row of the parts once, in their order.
    """
    for path in parts:
        table = pq.ParquetFile(path).read()
        for name in sorted(pc.unique(table["survey"]).to_pylist()):
            yield name, table.filter(pc.equal(table["survey"], name))


def describe_part(part: Part, run: RunFolder) -> dict[str, Any]:
    """A part as the index has it: its path is relative to the run folder."""
    return vars(part) | {"path": str(part.path.relative_to(run.root))}


def _part(values: dict[str, Any], run: RunFolder) -> Part:
    return Part(**{**values, "path": run.root / Path(values["path"])})
