"""The calibration tables: by way and parameter, curves and histograms, and the figures on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.infer.summary import weighted_quantiles
from batchflow.validate.calibrate import coverage, robust_scatter
from batchflow.validate.exactness import Sample
from batchflow.validate.uniformity import (
    BINS,
    LEVELS,
    coverage_curve,
    expected_coverage,
    histogram,
    uniformity,
)
from batchflow.validate.ways import HPD, JOINT, WAYS

Floats = NDArray[np.float64]
Ranks = Mapping[tuple[str, str], Floats]
TOGETHER = (JOINT, HPD)
PERCENTILES = (1, 5, 10, 25, 50, 75, 90)


def calibration_table(ranks: Ranks, ways: Mapping[str, Sample], truth: Mapping[str, Floats]) -> pa.Table:
    """Calibration of each way and parameter.

    Parameters
    ----------
    ranks : mapping of (str, str) to ndarray, shape (n_mocks,)
        From `ways.all_ranks`.
    ways : mapping of str to Sample
        The posteriors.
    truth : mapping of str to ndarray, shape (n_mocks,)
        True parameters.

    Returns
    -------
    pyarrow.Table
        ``way``, ``meaning``, ``parameter`` (``joint`` is TARP's, of all
        together; ``hpd`` the share of the posterior denser than the truth), ``n``, ``ks_pvalue``,
        ``shift_z``, ``dispersion_z``, ``pvalue`` (of the two together), ``coverage_68``, ``coverage_95``;
        of single parameters ``bias``, ``scatter`` (of the median about the truth) and ``rms``.
    """
    return pa.Table.from_pylist(
        [
            {"way": way, "meaning": WAYS.get(way, ""), "parameter": name}
            | _uniform(name, values)
            | _errors(ways[way], name, truth)
            for (way, name), values in ranks.items()
        ]
    )


def _uniform(name: str, ranks: Floats) -> dict[str, Any]:
    kept = ranks[np.isfinite(ranks)]
    covered = [_covered(name, kept, level) for level in (0.68, 0.95)]
    return uniformity(kept)._asdict() | dict(zip(("coverage_68", "coverage_95"), covered, strict=True))


def _covered(name: str, ranks: Floats, level: float) -> float:
    """Of TARP's credibilities, those below the level; of ranks, those in the central interval."""
    if not len(ranks):
        return np.nan
    return float(np.mean(ranks <= level)) if name in TOGETHER else coverage(ranks, level)


def _errors(sample: Sample, name: str, truth: Mapping[str, Floats]) -> dict[str, Any]:
    kept = np.isfinite(sample.weights).all(1)
    if name in TOGETHER or not kept.any():
        return {"bias": None, "scatter": None, "rms": None}
    median = weighted_quantiles(sample.values[name][kept], sample.weights[kept], [0.5])[:, 0]
    away = median - truth[name][kept]
    rms = float(np.sqrt(np.mean(np.square(away))))
    return {"bias": float(np.median(away)), "scatter": robust_scatter(away), "rms": rms}


def coverage_table(ranks: Ranks) -> pa.Table:
    """Expected coverage at many levels: ``way``, ``parameter``, ``level``, ``coverage``, ``error``, ``n``.

    The central interval of single parameters; of ``joint``, TARP's; of ``hpd``, the region of
    highest density. ``error`` is the standard error of a
    right posterior's.
    """
    rows: list[dict[str, Any]] = []
    for (way, name), values in ranks.items():
        kept = values[np.isfinite(values)]
        curve = expected_coverage if name in TOGETHER else coverage_curve
        levels = np.sort(LEVELS)
        for level, found, error in zip(levels, *curve(kept, levels), strict=True):
            row = {"way": way, "parameter": name, "level": float(level), "coverage": float(found)}
            rows.append(row | {"error": float(error), "n": len(kept)})
    return pa.Table.from_pylist(rows)


def ranks_table(ranks: Ranks) -> pa.Table:
    """Histogram of ranks: ``way``, ``parameter``, ``low``, ``high``, ``count``, ``expected``, ``sigma``."""
    rows: list[dict[str, Any]] = []
    for (way, name), values in ranks.items():
        kept = values[np.isfinite(values)]
        expected = len(kept) / BINS
        sigma = float(np.sqrt(expected * (1 - 1 / BINS)))
        for place, count in enumerate(histogram(kept)):
            row = {"way": way, "parameter": name, "low": place / BINS, "high": (place + 1) / BINS}
            rows.append(row | {"count": int(count), "expected": expected, "sigma": sigma})
    return pa.Table.from_pylist(rows)


def figures_table(mocks: Mapping[str, Any], asked: int) -> pa.Table:
    """The figures that sum mocks up.

    Parameters
    ----------
    mocks : mapping of str to ndarray, shape (n_mocks,)
        Columns of ``validation/mocks.parquet``.
    asked : int
        Mocks asked for.

    Returns
    -------
    pyarrow.Table
        ``figure``, ``way``, ``value``, ``error``, ``ideal``, ``n``, ``meaning``.
    """
    n = len(mocks["efficiency"])
    rows = [_row("mocks", "", [n], asked, "held-out mocks inferred; ideal: as many as asked for")]
    for name, way in (("efficiency_network", "weighted"), ("efficiency", "delivered")):
        rows += _quantiles(name, way, mocks[name])
    rows.append(
        _row("gap_nats", "network", mocks["gap_nats"], 0.0, "ln exact - ln network density at truths")
    )
    rows.append(_row("kl_exact", "network", mocks["kl_exact"], 0.0, "divergence [nats], from exact draws"))
    for column in [name for name in mocks if name.startswith("c2st_")]:
        way = column.removeprefix("c2st_")
        meaning = "accuracy of telling from exact draws" if way != "exact" else "two exact sets: the floor"
        rows.append(_row("c2st", way, mocks[column], 0.5, meaning))
    for way in ("flow", "more draws", "grid"):
        share = np.array([method == way for method in mocks["method"]], dtype=float)
        rows.append(_row("share", way, share, None, "of mocks whose delivered draws were had so"))
    return pa.Table.from_pylist(rows)


def _quantiles(name: str, way: str, values: Floats) -> list[dict[str, Any]]:
    known = values[np.isfinite(values)]
    found = np.percentile(known, PERCENTILES) if len(known) else np.full(len(PERCENTILES), np.nan)
    return [
        _row(f"efficiency_p{percent:02d}", way, [value], 1.0, f"percentile {percent} of {name}")
        | {"n": len(known), "error": None}
        for percent, value in zip(PERCENTILES, found, strict=True)
    ]


def _row(
    figure: str, way: str, values: Sequence[float] | Floats, ideal: float | None, meaning: str
) -> dict[str, Any]:
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    n = len(known)
    return {
        "figure": figure,
        "way": way,
        "value": float(known.mean()) if n else None,
        "error": float(known.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        "ideal": ideal,
        "n": n,
        "meaning": meaning,
    }
