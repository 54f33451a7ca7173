"""Whether the report of a run is there and newer than what it shows."""

from __future__ import annotations

from batchflow.config import Job
from batchflow.paths import RunFolder
from batchflow.plan import Plan, Unit

PAGE = "index.html"


def plan_report(job: Job, run: RunFolder) -> Plan:
    """One unit: the page.

    Parameters
    ----------
    job : Job
        The job.
    run : RunFolder
        Its run folder.

    Returns
    -------
    Plan
        Present when the page is; it is made anew by every `report`.
    """
    unit = Unit("page", (run.report / PAGE,))
    return Plan(
        "report", {"name": job.name}, (unit,), frozenset({unit.key} if unit.paths[0].is_file() else ())
    )
