"""Network, exact grid, classical best fit and published values, each against each, and why they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.arrow import numbers
from batchflow.schema import PUBLISHED
from batchflow.validate.calibrate import robust_scatter
from batchflow.validate.compare import CATASTROPHIC, CLOSE, HALF_STEP
from batchflow.validate.reasons import MEANINGS
from batchflow.validate.schemas import table_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
ESTIMATES = {
    "posterior": "{}_q50",
    "posterior map": "{}_map",
    "network": "network_{}_q50",
    "exact grid": "exact_{}_q50",
    "classical best fit": "best_{}",
    "classical mean": "bayes_{}",
}
"""Column of each. `network` is of the stored draws: the posterior's own quantiles may be the exact grid's."""
REFERENCES = {"published": "published_{}", "exact grid": "exact_{}_q50", "classical best fit": "best_{}"}
"""What estimates are compared with."""
REGIONS = {"posterior": "{}_{}", "network": "network_{}_{}", "exact grid": "exact_{}_{}"}
"""Columns of the quantiles, for estimates that have any."""


def methods_columns(names: Sequence[str]) -> list[str]:
    """Of the columns of the objects, those that `methods_table` and `reasons_table` read."""
    columns = (*ESTIMATES.values(), *REFERENCES.values())
    edges = (REGIONS[way].format("{0}", edge) for way in REGIONS for edge in ("q02", "q16", "q84", "q97"))
    wanted = {text.format(name) for text in (*columns, *edges) for name in PUBLISHED}
    return [name for name in names if name in wanted | {"survey", "n_modes", "reason"}]


def methods_table(objects: pa.Table) -> pa.Table:
    """Differences between the methods.

    Parameters
    ----------
    objects : pyarrow.Table
        `methods_columns` of those of `objects.objects_table`.

    Returns
    -------
    pyarrow.Table
        One row for each survey (and all), number of modes (and all), parameter, estimate and reference
        that have objects: ``n``, ``median`` and ``scatter`` (1.48 MAD) of estimate less reference [dex;
        mag], ``within_0.3``, ``beyond_1``, and ``in_68``, ``in_95``, the shares of reference values
        within the estimate's central intervals, to half a step of the published fit's grid; null for
        estimates without any.
    """
    rows = [
        labels | {"parameter": parameter, "estimate": estimate, "reference": reference} | found
        for labels, mask in _groups(objects)
        for parameter, estimate, reference in product(PUBLISHED, ESTIMATES, REFERENCES)
        if estimate != reference and (found := _difference(objects, mask, (parameter, estimate, reference)))
    ]
    return table_of("methods", rows)


def _groups(objects: pa.Table) -> Iterator[tuple[dict[str, str], Mask]]:
    survey = np.array(objects["survey"].to_pylist(), dtype=object)
    modes, everything = numbers(objects, "n_modes"), np.ones(len(survey), dtype=bool)
    surveys = [("all", everything), *((str(name), survey == name) for name in sorted(set(survey)))]
    counts = [("all", everything), ("1", modes == 1), (">1", modes > 1)]
    for (name, own), (count, these) in product(surveys, counts):
        yield {"survey": name, "modes": count}, own & these


def _difference(objects: pa.Table, mask: Mask, what: tuple[str, str, str]) -> dict[str, Any] | None:
    parameter, estimate, reference = what
    names = (ESTIMATES[estimate].format(parameter), REFERENCES[reference].format(parameter))
    if any(name not in objects.column_names for name in names):
        return None
    found, known = (numbers(objects, name) for name in names)
    use = mask & np.isfinite(found) & np.isfinite(known)
    if not use.any():
        return None
    away = (found - known)[use]
    return {
        "n": int(use.sum()),
        "median": float(np.median(away)),
        "scatter": robust_scatter(away),
        "within_0.3": float(np.mean(np.abs(away) <= CLOSE)),
        "beyond_1": float(np.mean(np.abs(away) > CATASTROPHIC)),
        "in_68": _inside(objects, use, what, ("q16", "q84")),
        "in_95": _inside(objects, use, what, ("q02", "q97")),
    }


def _inside(objects: pa.Table, use: Mask, what: tuple[str, str, str], edges: tuple[str, str]) -> float | None:
    parameter, estimate, reference = what
    if estimate not in REGIONS:
        return None
    low, high = (numbers(objects, REGIONS[estimate].format(parameter, edge))[use] for edge in edges)
    known = numbers(objects, REFERENCES[reference].format(parameter))[use]
    step = HALF_STEP.get(parameter, 0.0) if reference == "published" else 0.0
    return float(np.mean((known >= low - step) & (known <= high + step)))


def reasons_table(objects: pa.Table) -> pa.Table:
    """How many objects of each survey differ for which reason.

    Parameters
    ----------
    objects : pyarrow.Table
        With ``survey`` and ``reason``.

    Returns
    -------
    pyarrow.Table
        ``survey`` (and all), ``reason``, ``n``, ``share``, ``meaning``; a survey's most frequent first.
    """
    pairs = Counter(zip(objects["survey"].to_pylist(), objects["reason"].to_pylist(), strict=True))
    totals = Counter(reason for _, reason in pairs.elements())
    counted = {("all", reason): n for reason, n in totals.items()} | dict(pairs)
    sums = Counter(objects["survey"].to_pylist()) | Counter({"all": objects.num_rows})
    rows = [
        {"survey": survey, "reason": reason, "n": n, "share": n / sums[survey], "meaning": MEANINGS[reason]}
        for (survey, reason), n in counted.items()
    ]
    rows.sort(key=lambda row: (row["survey"] != "all", str(row["survey"]), -int(row["n"])))
    return table_of("reasons", rows)
