"""What the stage `validate` prints: the worst stratum first."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from batchflow.monitor import CONSOLE
from batchflow.paths import RunFolder
from batchflow.shards import read_table

STRATA_SHOWN = 5
SHOWN = {
    "strata": ("by", "stratum", "parameter", "n", "shift_z", "dispersion_z", "pvalue_corrected", "verdict"),
    "calibration": (
        "way",
        "parameter",
        "n",
        "ks_pvalue",
        "shift_z",
        "dispersion_z",
        "coverage_68",
        "coverage_95",
    ),
    "figures": ("figure", "way", "value", "error", "ideal", "n"),
    "methods": (
        *("parameter", "estimate", "n", "median", "scatter"),
        *("within_0.3", "beyond_1", "in_68", "in_95"),
    ),
    "reasons": ("reason", "n", "share", "meaning"),
    "overlap_summary": (
        "survey_1",
        "survey_2",
        "parameter",
        "n",
        "median",
        "scatter",
        "pull_median",
        "pull_scatter",
    ),
}
"""Columns printed of each table."""
TITLES = {
    "strata": "Held-out mocks, the delivered posteriors: strata with the worst calibration first "
    "(pvalue_corrected: for the number of strata and parameters looked at)",
    "calibration": "Held-out mocks by way (joint: TARP, hpd: highest density; shift > 0: too low, "
    "dispersion > 0: too narrow)",
    "figures": "Held-out mocks: efficiency, and distance from the exact posterior",
    "methods": "Each method less the published values [dex; mag for E(B-V)]",
    "reasons": "Posterior median and published values of the catalogue",
    "overlap_summary": "Clusters seen in two surveys: second less first",
}


def print_summary(run: RunFolder) -> None:
    """Print the tables of a run's validation that a person wants to see first; those that are there."""
    for name, columns in SHOWN.items():
        path = run.validation / f"{name}.parquet"
        if not path.is_file():
            continue
        rows = [row for row in read_table(path).to_pylist() if _wanted(name, row)]
        if name == "strata":
            rows = rows[:STRATA_SHOWN]
        if rows:
            _print(TITLES[name], columns, rows)


def _wanted(name: str, row: dict[str, Any]) -> bool:
    if name == "strata":
        return bool(row["way"] == "delivered")
    if name == "methods":
        return bool(row["survey"] == row["modes"] == "all" and row["reference"] == "published")
    return name != "reasons" or row["survey"] == "all"


def _print(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    shown = Table(*columns, title=title, title_justify="left")
    for row in rows:
        # Surveys' names are a catalogue's: brackets in them are no markup.
        shown.add_row(*(escape(_cell(row[name])) for name in columns))
    CONSOLE.print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.{3 if abs(value) < 1000 else 4}g}" if isinstance(value, float) else str(value)
