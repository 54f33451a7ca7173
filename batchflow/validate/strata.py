"""Calibration by strata of what is SEEN: signal-to-noise, posterior age and reddening, bands, survey.

Ranks are uniform among mocks chosen by their data, and by nothing else: among mocks of one TRUE age they
are not, however right the posterior is. So ages and reddenings here are posterior medians.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.validate.uniformity import coverage_curve, family_pvalue, uniformity

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEAST_MOCKS = 30
"""In a stratum, for its figures to be tested: the normal law of means holds."""
EDGES = {
    "signal": (10.0, 30.0, 100.0, 300.0),
    "log_age": (6.7, 7.5, 8.5, 9.5),
    "ebv": (0.1, 0.3, 0.8),
    "efficiency": (0.05, 0.2, 0.5),
}
"""Between strata: S/N of the brightest band, posterior medians, efficiency of the network's draws."""
SURE = 0.01
"""Corrected p-value below which a stratum counts as not calibrated."""
LEVELS = np.array([0.68, 0.95])


class Stratum(NamedTuple):
    """Mocks that look alike."""

    by: str
    label: str
    mask: Mask
    """(n_mocks,)."""


def make_strata(seen: Mapping[str, Any]) -> list[Stratum]:
    """Part the mocks, once by each thing that is seen.

    Parameters
    ----------
    seen : mapping of str to ndarray, shape (n_mocks,)
        ``signal``, ``log_age``, ``ebv``, ``efficiency``, ``n_bands``, ``survey``, ``depth`` [mJy], or
        some of them.

    Returns
    -------
    list of Stratum
        Those of one `by` hold every mock once; empty ones are left out.
    """
    found: list[Stratum] = []
    for by, values in seen.items():
        parts = _ranges(by, np.asarray(values)) if by in EDGES or by == "depth" else _each(values)
        found += [Stratum(by, label, mask) for label, mask in parts if mask.any()]
    return found


def strata_table(strata: list[Stratum], ranks: Mapping[tuple[str, str], Floats], extra: pa.Table) -> pa.Table:
    """How well each stratum is calibrated, the worst first.

    Parameters
    ----------
    strata : list of Stratum
        Of n_mocks.
    ranks : mapping of (str, str) to ndarray, shape (n_mocks,)
        By way and parameter; NaN where a mock was lost.
    extra : pyarrow.Table
        Numbers of each mock whose median (mean, of `gap_nats`) is told: n_mocks rows.

    Returns
    -------
    pyarrow.Table
        One row a stratum, way and parameter. `pvalue` is of shift and dispersion together,
        `pvalue_corrected` that of the least of all tested of this way; both null where the stratum is
        too small, which `verdict` says.
    """
    others = {name: np.asarray(extra[name].to_numpy(zero_copy_only=False)) for name in extra.column_names}
    rows = [
        {"by": stratum.by, "stratum": stratum.label, "way": way, "parameter": parameter}
        | _figures(values[stratum.mask])
        | {name: _middle(name, column[stratum.mask]) for name, column in others.items()}
        for stratum in strata
        for (way, parameter), values in ranks.items()
    ]
    for way in {row["way"] for row in rows}:
        _correct([row for row in rows if row["way"] == way])
    order = {way: place for place, (way, _) in reversed(list(enumerate(ranks)))}
    rows.sort(key=lambda row: (order[row["way"]], np.inf if row["pvalue"] is None else row["pvalue"]))
    return pa.Table.from_pylist(rows)


def _figures(ranks: Floats) -> dict[str, Any]:
    kept = ranks[np.isfinite(ranks)]
    tested = uniformity(kept)
    covered, errors = coverage_curve(kept, LEVELS)
    enough = tested.n >= LEAST_MOCKS
    return {
        "n": tested.n,
        "shift_z": tested.shift_z if enough else None,
        "dispersion_z": tested.dispersion_z if enough else None,
        "pvalue": tested.pvalue if enough else None,
        "coverage_68": float(covered[0]),
        "coverage_68_error": float(errors[0]),
        "coverage_95": float(covered[1]),
        "coverage_95_error": float(errors[1]),
    }


def _correct(rows: list[dict[str, Any]]) -> None:
    """Correct for the number of strata and parameters looked at, and say what comes out."""
    tested = [row for row in rows if row["pvalue"] is not None]
    for row in rows:
        few = row["pvalue"] is None
        corrected = None if few else float(family_pvalue(row["pvalue"], len(tested)))
        row |= {"tests": len(tested), "pvalue_corrected": corrected, "verdict": _verdict(row, corrected)}


def _verdict(row: Mapping[str, Any], corrected: float | None) -> str:
    if corrected is None:
        return f"too few mocks: {row['n']} of {LEAST_MOCKS}"
    if corrected >= SURE:
        return "calibrated"
    shift, spread = row["shift_z"], row["dispersion_z"]
    if row["parameter"] == "joint":
        return "not calibrated"
    if row["parameter"] == "hpd":
        return "truths too far out" if shift > 0 else "draws too far out"
    if abs(shift) > abs(spread):
        return "too low" if shift > 0 else "too high"
    return "too narrow" if spread > 0 else "too wide"


def _middle(name: str, values: Floats) -> float | None:
    known = values[np.isfinite(values.astype(np.float64))]
    if not len(known):
        return None
    return float(np.mean(known) if name == "gap_nats" else np.median(known))


def _ranges(by: str, values: Floats) -> Iterator[tuple[str, Mask]]:
    known = np.isfinite(values)
    inner = np.nanquantile(values, [1 / 3, 2 / 3]) if by == "depth" and known.any() else EDGES.get(by, ())
    edges = [-np.inf, *np.unique(inner), np.inf]
    for low, high in pairwise(edges):
        yield _name(low, high), known & (values >= low) & (values < high)
    yield "not known", ~known


def _name(low: float, high: float) -> str:
    if not np.isfinite(low):
        return f"below {high:.3g}" if np.isfinite(high) else "all"
    return f"{low:.3g} or more" if not np.isfinite(high) else f"{low:.3g} to {high:.3g}"


def _each(values: Any) -> Iterator[tuple[str, Mask]]:
    named = np.array([str(value) for value in values], dtype=object)
    for name in sorted(set(named)):
        yield name, np.asarray(named == name, dtype=bool)
