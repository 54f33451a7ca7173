"""Tables of a run that a person wants to see first."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchflow.arrow import numbers

COLUMNS = ("galaxy", "efficiency", "log_age_q50", "log_mass_q50", "ebv_q50", "n_modes")
"""Of the posterior, those that `galaxy_table` reads."""


def galaxy_table(posterior: pa.Table) -> pa.Table:
    """A line a galaxy: clusters, those inferred, median efficiency, and the spread of ages and masses.

    Parameters
    ----------
    posterior : pyarrow.Table
        `COLUMNS` of `schema.posterior_schema`.

    Returns
    -------
    pyarrow.Table
        Sorted by galaxy.
    """
    plain = posterior["galaxy"]
    names = sorted(pc.unique(plain).to_pylist())
    return pa.Table.from_pylist(
        [_galaxy_row(name, posterior.filter(pc.equal(plain, name))) for name in names]
    )


def coverage_table(description: dict[str, Any] | None) -> pa.Table:
    """A line a survey: clusters when the model was trained, and those unlike all that it was trained on.

    Parameters
    ----------
    description : dict or None
        Of the model, as `train.plan.read_description` gives it.

    Returns
    -------
    pyarrow.Table
        The largest share first; empty for a model of a job without catalogues.
    """
    found = (description or {}).get("coverage") or []
    names = ("survey", "clusters", "outside")
    rows = [
        {name: row[name] for name in names} | {"share": row["outside"] / max(row["clusters"], 1)}
        for row in found
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: -row["share"]))


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
