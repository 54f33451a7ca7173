"""The normalised catalogue of a run: made once from the job's files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from batchflow import stages
from batchflow.catalogue.files import check_files
from batchflow.catalogue.galaxies import GalaxyTally
from batchflow.catalogue.index import INDEX, describe_part, find_catalogue
from batchflow.catalogue.partition import CatalogueWriter, Part
from batchflow.catalogue.read import CatalogueReader
from batchflow.catalogue.repeated import flag_repeated
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.made import made
from batchflow.monitor import CONSOLE
from batchflow.paths import RunFolder, remove
from batchflow.plan import Mode, differences, fingerprint, flatten
from batchflow.seal import damaged
from batchflow.stamped import write_stamped

LOG = logging.getLogger("batchflow")


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
        "parts": [describe_part(part, run) for part in parts],
        "surveys": {reader.entry.survey: sorted(reader.tally.surveys) for reader in readers},
        "made": made(),
    }
    write_stamped(run.catalogue / INDEX, index)
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
