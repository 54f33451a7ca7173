"""Whether calibration and comparison of a run are there."""

from __future__ import annotations

from pathlib import Path

from batchflow import stages
from batchflow.catalogue.index import find_catalogue
from batchflow.catalogue.partition import Part
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, fingerprint, make_plan
from batchflow.shards import read_footer
from batchflow.train.plan import read_description

RECOVERY, OBJECTS, COMPARISON = "recovery", "objects", "comparison"
"""First words of the units' keys, in the order in which they are made."""
HELD_OUT_TABLES = ("mocks", "calibration", "coverage", "ranks", "strata", "figures", "recovery")
"""Tables of the held-out mocks, in the order in which they are written."""
CATALOGUE_TABLES = ("methods", "reasons", "predictive", "overlap", "overlap_summary", "comparison")
"""Tables of the catalogue, in the order in which they are written; `OBJECTS` is a file a part."""


def plan_validate(job: Job, run: RunFolder, parts: list[Part] | None = None) -> Plan | None:
    """Recovery of held-out mocks, the objects of each catalogue part, and the comparison of all of them.

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
        When tables are there that were made with other settings.
    """
    model = read_description(run.model)
    found = parts if parts is not None else find_catalogue(job, run) if job.catalogue else []
    if model is None or found is None:
        return None
    units = [Unit(RECOVERY, _paths(run, HELD_OUT_TABLES))]
    if job.catalogue:
        # A fit made since, or made anew, is compared with: the units are then other ones.
        fits = _fits(run)
        units += [_part_unit(part, run, fits) for part in found]
        units.append(Unit(f"{COMPARISON}{_state(fits)}", _paths(run, CATALOGUE_TABLES)))
    return make_plan("validate", stages.validate_settings(job, str(model.get("weights_sha256"))), units)


def _part_unit(part: Part, run: RunFolder, fits: dict[Path, str]) -> Unit:
    place = part.path.relative_to(run.catalogue)
    fit = run.fit / place
    own = {fit: fits[fit]} if fit in fits else {}
    key = f"{OBJECTS} {part.galaxy}/{part.path.stem} {part.first_id}..{part.last_id}{_state(own)}"
    files = tuple(map(str, (part.path, run.posterior / place, fit, run.draws / place)))
    return Unit(key, (run.validation / OBJECTS / place,), None, {"part": files})


def _fits(run: RunFolder) -> dict[Path, str]:
    """Fingerprint of each file of the classical fit."""
    footers = {path: read_footer(path) for path in sorted(run.fit.glob("galaxy=*/part-*.parquet"))}
    return {path: found[0].get("fingerprint", "") for path, found in footers.items() if found is not None}


def _state(fits: dict[Path, str]) -> str:
    """What there is of the classical fit, in a word; empty where there is nothing."""
    named = {path.parent.name + path.name: made for path, made in fits.items()}
    return f" with fit {fingerprint(named)}" if named else ""


def _paths(run: RunFolder, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(run.validation / f"{name}.parquet" for name in names)
