"""The stage `report`: pictures, and the tables that a person wants to see first."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from batchflow.monitor import CONSOLE
from batchflow.pipeline import Session, StageReport
from batchflow.report.pictures import draw_overview, numbers, terminal_map
from batchflow.report.plan import OVERVIEW
from batchflow.results.tables import Run, open_run
from batchflow.train.plan import read_description
from batchflow.validate.compare import headline


def report_stage(session: Session) -> StageReport:
    """Draw the overview and print the headline tables.

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
    if not run.has("posterior"):
        CONSOLE.print("no posterior to report yet")
        return StageReport("report", 0)
    posterior = run.posterior.to_arrow()
    path = session.run.report / OVERVIEW
    draw_overview(path, posterior, run.history.to_arrow() if run.has("history") else None)
    _print_tables(run, posterior)
    _print_map(session, posterior)
    CONSOLE.print(f"results  {session.run.root}\npicture  {path}", soft_wrap=True, markup=False)
    example = "SELECT * FROM posterior"
    CONSOLE.print(f'ask      batchflow query {session.job.output} "{example}"', soft_wrap=True, markup=False)
    return StageReport("report", 1, made=1)


def galaxy_table(posterior: pa.Table) -> pa.Table:
    """A line a galaxy: clusters, those inferred, median efficiency, and the spread of ages and masses.

    Parameters
    ----------
    posterior : pyarrow.Table
        Columns of `schema.posterior_schema`.

    Returns
    -------
    pyarrow.Table
        Sorted by galaxy.
    """
    names = sorted(set(posterior["galaxy"].to_pylist()))
    rows = [
        _galaxy_row(name, posterior.filter(pc.equal(posterior["galaxy"].cast(pa.string()), name)))
        for name in names
    ]
    return pa.Table.from_pylist(rows)


def _galaxy_row(name: str, rows: pa.Table) -> dict[str, Any]:
    def quantile(column: str, probability: float) -> float | None:
        value: float | None = pc.quantile(rows[column], probability, skip_nulls=True)[0].as_py()
        return value

    inferred = int((numbers(rows, "log_age_q50") == numbers(rows, "log_age_q50")).sum())
    return {
        "galaxy": name,
        "clusters": rows.num_rows,
        "inferred": inferred,
        "efficiency": quantile("efficiency", 0.5),
        "log age 16-84 %": _span(quantile("log_age_q50", 0.16), quantile("log_age_q50", 0.84)),
        "log mass 16-84 %": _span(quantile("log_mass_q50", 0.16), quantile("log_mass_q50", 0.84)),
        "median E(B-V)": quantile("ebv_q50", 0.5),
        "several modes": int((numbers(rows, "n_modes") > 1).sum()),
    }


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.2f} - {high:.2f}"


def coverage_table(description: dict[str, Any] | None) -> pa.Table:
    """A line a survey: clusters when the model was trained, and those unlike all that it was trained on.

    Parameters
    ----------
    description : dict or None
        Of the model, as `train.plan.read_description` gives it.

    Returns
    -------
    pyarrow.Table
        Empty for a model of a job without catalogues.
    """
    found = (description or {}).get("coverage") or []
    return pa.Table.from_pylist([{**row, "share": row["outside"] / max(row["clusters"], 1)} for row in found])


def _print_tables(run: Run, posterior: pa.Table) -> None:
    _show(galaxy_table(posterior), "Clusters by galaxy (spread of the posterior medians)")
    coverage = coverage_table(read_description(run.folder.model))
    if coverage.num_rows:
        _show(coverage, "Clusters outside the training, by survey (flag OUTSIDE_TRAINING)")
    if run.has("validation"):
        _show(run.validation.to_arrow(), "Recovery of held-out mocks")
    if run.has("validation_comparison"):
        comparison = headline(run.table("validation_comparison").to_arrow())
        if comparison.num_rows:
            _show(comparison, "Posterior median less published value (clusters with all bands; dex, mag)")


def _show(table: pa.Table, title: str) -> None:
    shown = Table(*table.column_names, title=title, title_justify="left")
    for row in table.to_pylist():
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    CONSOLE.print(shown)


def _print_map(session: Session, posterior: pa.Table) -> None:
    boxes = session.job.prior.boxes()
    age, mass = numbers(posterior, "log_age_q50"), numbers(posterior, "log_mass_q50")
    CONSOLE.print("log mass over log age, posterior medians:")
    CONSOLE.print(terminal_map(age, mass, boxes["log_age"], boxes["log_mass"]), markup=False)
