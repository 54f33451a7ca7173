"""Whether calibration and comparison of a run are there."""

from __future__ import annotations

from pathlib import Path

from batchflow import stages
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, fingerprint, make_plan
from batchflow.shards import read_footer
from batchflow.train.plan import read_description

RECOVERY, COMPARISON = "recovery", "comparison"
HELD_OUT_TABLES = ("mocks", "calibration", "coverage", "ranks", "strata", "figures", "recovery")
"""Tables of the held-out mocks, in the order in which they are written."""
CATALOGUE_TABLES = ("objects", "methods", "reasons", "predictive", "overlap", "overlap_summary", "comparison")
"""Tables of the catalogue, in the order in which they are written."""


def plan_validate(job: Job, run: RunFolder) -> Plan | None:
    """Two units: recovery of held-out mocks, and the comparison with published values.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.

    Returns
    -------
    Plan or None
        None while there is no model.

    Raises
    ------
    UserError
        When tables are there that were made with other settings.
    """
    model = read_description(run.model)
    if model is None:
        return None
    units = [Unit(RECOVERY, _paths(run, HELD_OUT_TABLES))]
    if job.catalogue:
        # A fit made since, or made anew, is compared with: the unit is then another one.
        units.append(Unit(f"{COMPARISON}{fit_state(run)}", _paths(run, CATALOGUE_TABLES)))
    return make_plan("validate", stages.validate_settings(job, str(model.get("weights_sha256"))), units)


def fit_state(run: RunFolder) -> str:
    """What there is of the classical fit, in a word; empty where there is nothing."""
    footers = {
        path.parent.name + path.name: read_footer(path) for path in sorted(run.fit.glob("*/*.parquet"))
    }
    whole = {name: footer[0].get("fingerprint") for name, footer in footers.items() if footer is not None}
    return f" with fit {fingerprint(whole)}" if whole else ""


def _paths(run: RunFolder, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(run.validation / f"{name}.parquet" for name in names)
