"""The stage `report`: the page, and the tables that a person wants to see first."""

from __future__ import annotations

import pyarrow as pa
from rich.markup import escape
from rich.table import Column, Table

from batchflow.arrow import numbers
from batchflow.monitor import CONSOLE
from batchflow.pipeline import Session, StageReport
from batchflow.report.page import write_page
from batchflow.report.pictures import LONGEST_NAME, terminal_map
from batchflow.report.tables import COLUMNS, coverage_table, galaxy_table
from batchflow.results.tables import Run, open_run
from batchflow.train.plan import read_description
from batchflow.validate.compare import by_survey, headline


def report_stage(session: Session) -> StageReport:
    """Write the page and print the headline tables.

    Parameters
    ----------
    session : Session
        The job at work.

    Returns
    -------
    StageReport
        One unit, made each time: it takes seconds.
    """
    run = open_run(session.run.root)
    path = write_page(run)
    if run.has("posterior"):
        posterior = run.posterior.dataset.to_table(columns=list(COLUMNS))
        _print_tables(run, posterior)
        _print_map(session, posterior)
    else:
        CONSOLE.print("no posterior to report yet")
    CONSOLE.print(f"results  {session.run.root}\nreport   {path}", soft_wrap=True, markup=False)
    example = "SELECT * FROM posterior"
    CONSOLE.print(f'ask      batchflow query {session.job.output} "{example}"', soft_wrap=True, markup=False)
    return StageReport("report", 1, made=1)


def _print_tables(run: Run, posterior: pa.Table) -> None:
    _show(galaxy_table(posterior), "Clusters by galaxy (spread of the posterior medians)")
    coverage = coverage_table(read_description(run.folder.model))
    if coverage.num_rows:
        _show(coverage, "Clusters outside the training, by survey (flag OUTSIDE_TRAINING)")
    if run.has("validation"):
        _show(run.validation.to_arrow(), "Recovery of held-out mocks")
    if run.has("validation_comparison"):
        comparison = by_survey(headline(run.table("validation_comparison").to_arrow()))
        if comparison.num_rows:
            _show(comparison, "Posterior median less published value (clusters with all bands; dex, mag)")


def _show(table: pa.Table, title: str) -> None:
    # Folded: cut short, coverage_68 and coverage_95 would read the same.
    shown = Table(*(Column(name, overflow="fold") for name in table.column_names))
    # Fields of one galaxy differ at the end of their names.
    shown.columns[0].min_width = min(LONGEST_NAME, max(map(len, map(str, table.column(0).to_pylist()))))
    for row in table.to_pylist():
        # Names are a catalogue's: brackets in them are no markup.
        shown.add_row(
            *(f"{value:.3f}" if isinstance(value, float) else escape(str(value)) for value in row.values())
        )
    # Not the table's own title, which is broken where the table is narrow.
    CONSOLE.print(title, style="italic", soft_wrap=True, markup=False)
    CONSOLE.print(shown)


def _print_map(session: Session, posterior: pa.Table) -> None:
    boxes = session.job.prior.boxes()
    age, mass = numbers(posterior, "log_age_q50"), numbers(posterior, "log_mass_q50")
    CONSOLE.print("log mass over log age, posterior medians:")
    CONSOLE.print(terminal_map(age, mass, boxes["log_age"], boxes["log_mass"]), markup=False)
