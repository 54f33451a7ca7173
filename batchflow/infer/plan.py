"""Which parts of the catalogue have their posteriors."""

from __future__ import annotations

from batchflow import stages
from batchflow.catalogue.ingest import find_catalogue
from batchflow.catalogue.partition import Part
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, make_plan
from batchflow.train.plan import read_description


def plan_infer(job: Job, run: RunFolder, parts: list[Part] | None = None) -> Plan | None:
    """One unit a catalogue part: its posterior and its draws.

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
        None while there is no model or no normalised catalogue.

    Raises
    ------
    UserError
        When posteriors are there that were made with other settings.
    """
    model = read_description(run.model)
    found = parts if parts is not None else find_catalogue(job, run) if job.catalogue else []
    if model is None or found is None:
        return None
    settings = stages.infer_settings(job, str(model.get("weights_sha256")))
    return make_plan("infer", settings, [_unit(part, run) for part in found])


def _unit(part: Part, run: RunFolder) -> Unit:
    place = part.path.relative_to(run.catalogue)
    key = f"{part.galaxy}/{part.path.stem} {part.first_id}..{part.last_id}"
    return Unit(key, (run.posterior / place, run.draws / place), part.n_rows, {"catalogue": str(part.path)})
