"""Whether calibration and comparison of a run are there."""

from __future__ import annotations

from batchflow import stages
from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit, make_plan
from batchflow.train.plan import read_description

RECOVERY, COMPARISON = "recovery", "comparison"


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
    names = [RECOVERY, COMPARISON] if job.catalogue else [RECOVERY]
    units = [Unit(name, (run.validation / f"{name}.parquet",)) for name in names]
    return make_plan("validate", stages.validate_settings(job, str(model.get("weights_sha256"))), units)
