"""Sections of the report: each a function of `ReportData` that gives a `Section`.

To add one, write such a function in a module here and name it in `SECTIONS`. It says in one line (`Absence`)
what the run lacks for it, and draws at most `data.MOST` clusters.
"""

from __future__ import annotations

from collections.abc import Callable

from batchflow.report.content import Section
from batchflow.report.data import ReportData
from batchflow.report.sections.brief import in_brief
from batchflow.report.sections.calibration import calibration, other_tables
from batchflow.report.sections.chosen import chosen_clusters
from batchflow.report.sections.clusters import all_clusters, by_galaxy, colours_by_galaxy
from batchflow.report.sections.comparison import against_fit, against_published
from batchflow.report.sections.population import populations
from batchflow.report.sections.training import training
from batchflow.report.sections.trust import flags, trust, worst_objects
from batchflow.report.sections.what_ran import model_card_section, what_ran

SectionMaker = Callable[[ReportData], Section]

SECTIONS: tuple[SectionMaker, ...] = (
    in_brief,
    all_clusters,
    by_galaxy,
    colours_by_galaxy,
    populations,
    chosen_clusters,
    against_published,
    against_fit,
    calibration,
    other_tables,
    trust,
    flags,
    worst_objects,
    training,
    what_ran,
    model_card_section,
)
"""In the order of the page."""

__all__ = ["SECTIONS", "SectionMaker"]
