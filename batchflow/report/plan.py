"""Whether the report of a run is there and newer than what it shows."""

from __future__ import annotations

from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit

OVERVIEW = "overview.png"


def plan_report(job: Job, run: RunFolder) -> Plan:
    """One unit: the overview.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.

    Returns
    -------
    Plan
        Present when the picture is; it is drawn anew by every `report`.
    """
    unit = Unit("overview", (run.report / OVERVIEW,))
    return Plan(
        "report", {"name": job.name}, (unit,), frozenset({unit.key} if unit.paths[0].is_file() else ())
    )
