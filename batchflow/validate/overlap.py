"""Clusters seen in two surveys: whether our posteriors from two sets of photometry agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.arrow import numbers
from batchflow.schema import PARAMETER_UNITS
from batchflow.validate.calibrate import robust_scatter
from batchflow.validate.schemas import table_of

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
FARTHEST, NEAR = 1.0, 0.25
"""Separation [arcsec] within which pairs tell the shift between two surveys' coordinates, and that of a pair
once it is taken out; clusters of nearby galaxies are some 0.1 arcsec across."""
LEAST_PAIRS = 3
"""For a shift to be known."""
ARCSEC = np.pi / 180 / 3600
COLUMNS = ("survey", "galaxy", "object_id", "ra", "dec", "n_bands", "n_modes", "flags")


def columns_needed(names: list[str]) -> list[str]:
    """Columns of the posterior table that `overlap_table` reads, of those that are there."""
    ends = ("q02", "q16", "q50", "q84", "q97")
    return [*COLUMNS, *(f"{p}_{end}" for p in PARAMETER_UNITS for end in ends if f"{p}_{end}" in names)]


def overlap_table(posterior: pa.Table) -> pa.Table:
    """Pairs of rows of different surveys that are one cluster.

    Parameters
    ----------
    posterior : pyarrow.Table
        `columns_needed` of `schema.posterior_schema`.

    Returns
    -------
    pyarrow.Table
        Both rows' survey and id, ``separation`` [arcsec] after the two surveys' median shift is taken out,
        and for each parameter both medians, ``difference_<p>`` (second less first), ``pull_<p>``, that
        over the two half widths of the 68 % intervals in quadrature, and ``agree_95_<p>``, whether the
        95 % intervals touch. Each row is in one pair of two surveys at most. Empty where surveys do not
        overlap.
    """
    known = [np.isfinite(numbers(posterior, name)) for name in ("log_age_q50", "ra", "dec")]
    posterior = posterior.filter(pa.array(np.logical_and.reduce(known)))
    first, second, separation = _pairs(posterior)
    one, two = posterior.take(first), posterior.take(second)
    columns: dict[str, Any] = {}
    for place, rows in (("1", one), ("2", two)):
        columns |= {f"{name}_{place}": rows[name] for name in ("galaxy", "survey", "object_id")}
        columns |= {f"{name}_{place}": numbers(rows, name) for name in ("n_bands", "n_modes", "flags")}
    columns["separation"] = separation
    for name in (name for name in PARAMETER_UNITS if f"{name}_q50" in posterior.column_names):
        columns |= _compare(one, two, name)
    return pa.table(columns)


def _compare(one: pa.Table, two: pa.Table, name: str) -> dict[str, Any]:
    middle = [numbers(rows, f"{name}_q50") for rows in (one, two)]
    width = [(numbers(rows, f"{name}_q84") - numbers(rows, f"{name}_q16")) / 2 for rows in (one, two)]
    low, high = ([numbers(rows, f"{name}_{end}") for rows in (one, two)] for end in ("q02", "q97"))
    away = middle[1] - middle[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = away / np.hypot(*width)
    return {
        f"{name}_1": middle[0],
        f"{name}_2": middle[1],
        f"difference_{name}": away,
        f"pull_{name}": pull,
        f"agree_95_{name}": (low[0] <= high[1]) & (low[1] <= high[0]),
    }


def overlap_summary(pairs: pa.Table) -> pa.Table:
    """Differences and pulls of each two surveys.

    Parameters
    ----------
    pairs : pyarrow.Table
        From `overlap_table`.

    Returns
    -------
    pyarrow.Table
        ``survey_1``, ``survey_2`` (and all), ``parameter``, ``n``, ``median`` and ``scatter`` of the
        difference [dex; mag], ``within_0.3``, ``beyond_1``, ``pull_median`` and ``pull_scatter`` (1.48
        MAD; 1 where errors are right and independent), ``pull_beyond_3``, ``agree_95``.
    """
    names = list(zip(pairs["survey_1"].to_pylist(), pairs["survey_2"].to_pylist(), strict=True))
    groups = [("all", "all"), *sorted(set(names))]
    parameters = [name for name in PARAMETER_UNITS if f"pull_{name}" in pairs.column_names]
    rows = []
    for group in groups:
        mask = np.array([group[0] == "all" or name == group for name in names], dtype=bool)
        for parameter in parameters if mask.any() else ():
            labels = {"survey_1": group[0], "survey_2": group[1], "parameter": parameter}
            rows.append(labels | _summary(pairs.filter(pa.array(mask)), parameter))
    return table_of("overlap_summary", rows)


def _summary(pairs: pa.Table, name: str) -> dict[str, Any]:
    away, pull = (numbers(pairs, f"{what}_{name}") for what in ("difference", "pull"))
    return {
        "n": pairs.num_rows,
        "median": float(np.median(away)),
        "scatter": robust_scatter(away),
        "within_0.3": float(np.mean(np.abs(away) <= 0.3)),
        "beyond_1": float(np.mean(np.abs(away) > 1.0)),
        "pull_median": float(np.median(pull)),
        "pull_scatter": robust_scatter(pull),
        "pull_beyond_3": float(np.mean(np.abs(pull) > 3)),
        "agree_95": float(np.mean(pairs[f"agree_95_{name}"].to_numpy(zero_copy_only=False))),
    }


def _pairs(posterior: pa.Table) -> tuple[Indices, Indices, Floats]:
    """Rows of each pair, and their separation [arcsec]."""
    survey = np.array(posterior["survey"].to_pylist(), dtype=object)
    ra, dec = (np.radians(numbers(posterior, name)) for name in ("ra", "dec"))
    place = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    names = sorted(set(survey))
    rows = {name: np.flatnonzero(survey == name) for name in names}
    found = [
        _match(place, rows[a], rows[b])
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if _near(place, rows[a], rows[b])
    ]
    empty = np.zeros(0, dtype=np.int64)
    if not found:
        return empty, empty, np.zeros(0)
    first, second, separation = zip(*found, strict=True)
    return np.concatenate(first), np.concatenate(second), np.concatenate(separation)


def _near(place: Floats, a: Indices, b: Indices) -> bool:
    """Whether two surveys' bounding boxes meet: spares the trees of fields far apart."""
    margin = FARTHEST * ARCSEC
    low, high = (np.array([getattr(place[rows], end)(0) for rows in (a, b)]) for end in ("min", "max"))
    return bool(np.all(low[0] <= high[1] + margin) and np.all(low[1] <= high[0] + margin))


def _match(place: Floats, a: Indices, b: Indices) -> tuple[Indices, Indices, Floats]:
    """Mutual nearest neighbours, the surveys' median shift taken out."""
    one, two, _ = _mutual(place[a], place[b], FARTHEST)
    shift = np.median(place[b][two] - place[a][one], axis=0) if len(one) >= LEAST_PAIRS else np.zeros(3)
    one, two, separation = _mutual(place[a] + shift, place[b], NEAR)
    return a[one], b[two], separation


def _mutual(first: Floats, second: Floats, reach: float) -> tuple[Indices, Indices, Floats]:
    from scipy.spatial import cKDTree

    away, nearest = cKDTree(second).query(first)
    back = cKDTree(first).query(second)[1]
    own = np.arange(len(first))
    kept = (back[nearest] == own) & (away <= reach * ARCSEC)
    return own[kept], np.asarray(nearest[kept], dtype=np.int64), away[kept] / ARCSEC
