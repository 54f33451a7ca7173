"""Which parts of the catalogue have their classical fit."""

from __future__ import annotations

from batchflow import stages
from batchflow.catalogue.index import find_catalogue
from batchflow.catalogue.partition import Part
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, make_plan


def plan_fit(job: Job, run: RunFolder, parts: list[Part] | None = None) -> Plan | None:
    """One unit a catalogue part.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.
    parts : list of Part, optional
        The normalised catalogue; looked for when not given.

    Returns
    -------
    Plan or None
        None while there is no normalised catalogue; a trained model is not needed.

    Raises
    ------
    UserError
        When fits are there that were made with other settings.
    """
    found = parts if parts is not None else find_catalogue(job, run) if job.catalogue else []
    if found is None:
        return None
    return make_plan("fit", stages.fit_settings(job), [_unit(part, run) for part in found])


def _unit(part: Part, run: RunFolder) -> Unit:
    place = part.path.relative_to(run.catalogue)
    key = f"{part.galaxy}/{part.path.stem} {part.first_id}..{part.last_id}"
    return Unit(key, (run.fit / place,), part.n_rows, {"catalogue": str(part.path)})
