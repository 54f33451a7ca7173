"""The normalised catalogue of a run: made once from the job's files, and found again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchflow import stages
from batchflow.catalogue.files import check_files
from batchflow.catalogue.galaxies import GalaxyTally
from batchflow.catalogue.partition import CatalogueWriter, Part
from batchflow.catalogue.read import CatalogueReader
from batchflow.catalogue.repeated import flag_repeated
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.made import made
from batchflow.monitor import CONSOLE
from batchflow.paths import RunFolder, partition_folder, remove
from batchflow.plan import Mode, check_settings, differences, fingerprint, flatten, is_in_place
from batchflow.seal import damaged
from batchflow.shards import read_footer, read_table, write_json

LOG = logging.getLogger("batchflow")
CHECKSUM = "index_checksum"
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
        if not (wrong := damaged(part.path for part in parts)):
            return parts
        LOG.warning("%s is damaged; the catalogue is made anew", wrong[0])
    settings = stages.catalogue_settings(job)
    remove(run.catalogue)
    footer = {"stage": "catalogue", "fingerprint": fingerprint(settings), "settings": flatten(settings)}
    writer = CatalogueWriter(run.catalogue, job.infer.rows_per_part, footer)
    # By name, so that the order of the entries in the job file does not matter.
    readers = [
        CatalogueReader(entry, job.model.bands, job.model.curves)
        for entry in sorted(job.catalogue, key=lambda entry: entry.survey)
    ]
    check_files(job.catalogue)
    for reader in readers:
        for piece in reader.pieces():
            writer.add(piece)
    _check_surveys(readers)
    check_unchanged(job, settings)
    parts = writer.finish()
    repeated = flag_repeated(parts, run.catalogue)
    _tell(readers, repeated)
    # The index is written last: a catalogue without it was broken off, and is made anew.
    index = {
        "settings": flatten(settings),
        "parts": [_plain(part, run) for part in parts],
        "surveys": {reader.entry.survey: sorted(reader.tally.surveys) for reader in readers},
        "made": made(),
    }
    write_json(run.catalogue / INDEX, index | {CHECKSUM: _checksum(index)})
    return parts


def check_unchanged(job: Job, settings: Mapping[str, Any]) -> None:
    """See that the files are still those that settings name.

    Parameters
    ----------
    job : Job
        With at least one catalogue.
    settings : mapping
        As `stages.catalogue_settings` gave them before the files were read.

    Raises
    ------
    UserError
        Naming what is another one by now.
    """
    if lines := differences(flatten(settings), stages.catalogue_settings(job)):
        raise UserError(
            "a catalogue was changed while it was read:\n  " + "\n  ".join(lines) + "\nrun the job again"
        )


def _check_surveys(readers: Sequence[CatalogueReader]) -> None:
    """Refuse two entries whose rows bear the name of one survey: each has a noise of its own."""
    owners: dict[str, str] = {}
    for reader in readers:
        for survey in reader.tally.surveys:
            if survey in owners:
                raise UserError(
                    f"the survey {survey!r} is in two catalogues, {owners[survey]!r} and "
                    f"{reader.entry.survey!r}: is a file listed in both?"
                )
            owners[survey] = reader.entry.survey


def _tell(readers: Sequence[CatalogueReader], repeated: Mapping[str, int]) -> None:
    """Print what was understood of each catalogue, and of all of them together."""
    together = GalaxyTally()
    told: set[str] = set()
    for reader in readers:
        reader.tally.count_duplicates(sum(repeated.get(name, 0) for name in reader.tally.surveys))
        summary = reader.summary()
        together.merge(reader.tally.galaxies)
        told.update(summary.warnings)
        CONSOLE.print("\n".join(summary.lines()), markup=False, soft_wrap=True)
    for text in together.warnings():
        if text not in told:
            CONSOLE.print(f"warning: {text}", markup=False, soft_wrap=True)


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
    index = read_index(run.catalogue)
    if index is None:
        return None
    check_settings(path, index["settings"], stages.catalogue_settings(job), "infer")
    parts = [_part(values, run) for values in index["parts"]]
    wanted = fingerprint(stages.catalogue_settings(job))
    return parts if all(_is_there(part, run, wanted) for part in parts) else None


def read_index(folder: Path) -> dict[str, Any] | None:
    """What the index of a normalised catalogue says.

    Parameters
    ----------
    folder : Path
        ``RUN/catalogue``.

    Returns
    -------
    dict or None
        ``settings``, ``parts``, ``surveys``; None when it is absent, cut short or altered.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return index if index.pop(CHECKSUM) == _checksum(index) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(index: Mapping[str, Any]) -> str:
    return fingerprint(json.loads(json.dumps(index)))


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
    index = read_index(Path(parts[0]).parents[1]) or {}
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
        table = read_table(path)
        for name in sorted(pc.unique(table["survey"]).to_pylist()):
            yield name, table.filter(pc.equal(table["survey"], name))


def _plain(part: Part, run: RunFolder) -> dict[str, Any]:
    return vars(part) | {"path": str(part.path.relative_to(run.root))}


def _part(values: dict[str, Any], run: RunFolder) -> Part:
    return Part(**{**values, "path": run.root / Path(values["path"])})
