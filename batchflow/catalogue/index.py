"""The index of a run's normalised catalogue: which parts there are, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchflow import stages
from batchflow.catalogue.partition import Part
from batchflow.config import Job
from batchflow.paths import RunFolder, partition_folder
from batchflow.plan import check_settings, fingerprint, is_in_place
from batchflow.shards import read_footer, read_table
from batchflow.stamped import read_stamped

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
    index = read_stamped(path)
    if index is None:
        return None
    check_settings(path, index["settings"], stages.catalogue_settings(job), "infer")
    parts = [_part(values, run) for values in index["parts"]]
    wanted = fingerprint(stages.catalogue_settings(job))
    return parts if all(_is_there(part, run, wanted) for part in parts) else None


def _is_there(part: Part, run: RunFolder, wanted: str) -> bool:
    """Whether a part's file is the one that the index names."""
    footer, rows = read_footer(part.path) or ({}, 0)
    said = {"fingerprint": wanted, "galaxy": part.galaxy, "first_id": part.first_id, "last_id": part.last_id}
    return (
        part.path == partition_folder(run.catalogue, part.galaxy) / part.path.name
        and rows == part.n_rows
        and all(footer.get(name) == value for name, value in said.items())
        and is_in_place(part.path, footer)
    )


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
    index = read_stamped(Path(parts[0]).parents[1] / INDEX) or {}
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
    import pyarrow.compute as pc  # `status` needs this module, and not the time that this takes

    for path in parts:
        table = read_table(path)
        for name in sorted(pc.unique(table["survey"]).to_pylist()):
            yield name, table.filter(pc.equal(table["survey"], name))


def describe_part(part: Part, run: RunFolder) -> dict[str, Any]:
    """A part as the index has it: its path is relative to the run folder."""
    return vars(part) | {"path": str(part.path.relative_to(run.root))}


def _part(values: dict[str, Any], run: RunFolder) -> Part:
    return Part(**{**values, "path": run.root / Path(values["path"])})
