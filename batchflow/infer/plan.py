"""Which parts of the catalogue have their posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchflow import stages
from batchflow.catalogue.index import find_catalogue
from batchflow.catalogue.partition import Part
from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, differences, make_plan
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
        When posteriors are there that were made with other settings, or the model was trained for other
        bands, another engine or another prior than the job's.
    """
    model = read_description(run.model)
    found = parts if parts is not None else find_catalogue(job, run) if job.catalogue else []
    if model is None or found is None:
        return None
    _check_model(job, run, model)
    settings = stages.infer_settings(job, str(model.get("weights_sha256")))
    return make_plan("infer", settings, [_unit(part, run) for part in found])


def _check_model(job: Job, run: RunFolder, model: Mapping[str, Any]) -> None:
    """Refuse a model of another physics or prior: its posteriors would bear this job's name."""
    mocks = stages.mocks_settings(job)
    trained = model.get("settings", {})
    there = {key: value for key, value in trained.items() if key.startswith(("model.", "prior."))}
    lines = differences(there, {name: mocks[name] for name in ("model", "prior")})
    if there and lines:
        raise UserError(
            f"{run.model} was trained for another model or prior than the job's:\n  "
            + "\n  ".join(lines)
            + "\nrun `batchflow train --mode restart`, or give the job what the model was trained for"
        )


def _unit(part: Part, run: RunFolder) -> Unit:
    place = part.path.relative_to(run.catalogue)
    key = f"{part.galaxy}/{part.path.stem} {part.first_id}..{part.last_id}"
    return Unit(key, (run.posterior / place, run.draws / place), part.n_rows, {"catalogue": str(part.path)})
