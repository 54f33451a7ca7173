"""Posteriors against published values: differences by survey, class, bands and number of modes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchflow.arrow import numbers
from batchflow.schema import PUBLISHED
from batchflow.validate.calibrate import robust_scatter

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

CLOSE, CATASTROPHIC = 0.3, 1.0
"""Differences [dex, or mag for E(B-V)] that count as agreement, and as failure."""
HALF_STEP = {"log_age": 0.05, "ebv": 0.005}
"""Published values are nodes of their fit's grid, often the first one (1 Myr, no reddening), which no
interval between two quantiles holds: they count as inside within half a step (LEGUS: 43 ages, 0.01 mag)."""
ESTIMATES = ("q50", "map")
"""Posterior median, and the draw of highest posterior density: the nearest to a classical best fit."""


def compare_published(posterior: pa.Table) -> pa.Table:
    """Compare posteriors with the catalogue's published values.

    Parameters
    ----------
    posterior : pyarrow.Table
        `published_columns` of `schema.posterior_schema`.

    Returns
    -------
    pyarrow.Table
        One row for each survey, class, number of bands, number of modes, parameter and estimate that has
        clusters: `n`, `median` and `scatter` (1.48 MAD) of the estimate less the published value
        [dex; mag], `within_0.3`, `beyond_1`, and `in_68`, `in_95`, the shares of published values in
        the central posterior intervals, to half a step of the published fit's grid. Empty when
        nothing is published.
    """
    columns = {name: numbers(posterior, name) for name in ("class_", "n_bands", "n_modes")}
    groups = list(_groups(posterior, columns))
    rows = [
        row
        for (labels, mask), parameter, estimate in product(groups, PUBLISHED, ESTIMATES)
        if (row := _compare(posterior, mask, parameter, estimate)) and row.update(labels) is None
    ]
    order = ["survey", "class", "bands", "modes", "parameter", "estimate"]
    if not rows:
        return pa.table({name: pa.array([], pa.string()) for name in order})
    table = pa.Table.from_pylist(rows)
    return table.select([*order, *(name for name in table.column_names if name not in order)])


def published_columns() -> list[str]:
    """Columns of the posterior that `compare_published` reads."""
    own = [f"{name}_{kind}" for name in PUBLISHED for kind in (*ESTIMATES, "q02", "q16", "q84", "q97")]
    return ["survey", "class_", "n_bands", "n_modes", *(f"published_{name}" for name in PUBLISHED), *own]


def headline(comparison: pa.Table) -> pa.Table:
    """The lines to print: clusters with most bands, posterior medians, all parameters in a row.

    Parameters
    ----------
    comparison : pyarrow.Table
        From `compare_published`.

    Returns
    -------
    pyarrow.Table
        For every survey by class, and for all surveys by number of modes: `n`, and for each parameter
        the median difference and its scatter [dex; mag]; of the age also the share within 0.3 dex and
        the share of published values in the 95 % interval.
    """
    kept: dict[tuple[str, str, str], dict[str, object]] = {}
    for row in comparison.to_pylist():
        if row["bands"] != "all" and row["estimate"] == "q50" and _leads(row):
            line = kept.setdefault((row["survey"], row["class"], row["modes"]), _labels(row))
            line |= {row["parameter"]: row["median"], f"{row['parameter']} scatter": row["scatter"]}
            if row["parameter"] == "log_age":
                line |= {"within 0.3": row["within_0.3"], "in 95 %": row["in_95"]}
    distinct = {tuple(line.values())[3:]: line for line in reversed(kept.values())}
    return pa.Table.from_pylist(list(reversed(distinct.values())))


def by_survey(lines: pa.Table) -> pa.Table:
    """Of a `headline`, all surveys together by class and modes, and each survey in a single line."""
    if not lines.num_rows:
        return lines
    return lines.filter(pc.or_(pc.equal(lines["survey"], "all"), pc.equal(lines["class"], "all")))


def _labels(row: dict[str, object]) -> dict[str, object]:
    return {name: row[name] for name in ("survey", "class", "modes", "n")}


def _leads(row: dict[str, str]) -> bool:
    return row["modes"] == "all" or (row["survey"] == "all" and row["class"] == "all")


def _groups(posterior: pa.Table, columns: dict[str, Floats]) -> Iterator[tuple[dict[str, str], Mask]]:
    """Labels and rows of each group; each label also has a group of all."""
    survey = np.array(posterior["survey"].to_pylist(), dtype=object)
    everything = np.ones(len(survey), dtype=bool)
    surveys = [("all", everything), *((name, survey == name) for name in sorted(set(survey)))]
    class_, most = columns["class_"], np.nanmax(columns["n_bands"], initial=0)
    classes = [("all", everything), ("1-2", (class_ == 1) | (class_ == 2)), ("3", class_ == 3)]
    bands = [("all", everything), (f"{most:.0f}", columns["n_bands"] == most)]
    modes = [("all", everything), ("1", columns["n_modes"] == 1), (">1", columns["n_modes"] > 1)]
    for (name, a), (kind, b), (number, c), (count, d) in product(surveys, classes, bands, modes):
        yield {"survey": name, "class": kind, "bands": number, "modes": count}, a & b & c & d


def _compare(posterior: pa.Table, mask: Mask, parameter: str, estimate: str) -> dict[str, object] | None:
    published = numbers(posterior, f"published_{parameter}")
    found = numbers(posterior, f"{parameter}_{estimate}")
    use = mask & np.isfinite(published) & np.isfinite(found)
    if not use.any():
        return None
    difference = (found - published)[use]
    return {
        "parameter": parameter,
        "estimate": estimate,
        "n": int(use.sum()),
        "median": float(np.median(difference)),
        "scatter": robust_scatter(difference),
        "within_0.3": float(np.mean(np.abs(difference) <= CLOSE)),
        "beyond_1": float(np.mean(np.abs(difference) > CATASTROPHIC)),
        "in_68": _inside(posterior, parameter, ("q16", "q84"), use),
        "in_95": _inside(posterior, parameter, ("q02", "q97"), use),
    }


def _inside(posterior: pa.Table, parameter: str, interval: tuple[str, str], use: Mask) -> float:
    low, high = (numbers(posterior, f"{parameter}_{name}")[use] for name in interval)
    published = numbers(posterior, f"published_{parameter}")[use]
    step = HALF_STEP.get(parameter, 0.0)
    return float(np.mean((published >= low - step) & (published <= high + step)))
