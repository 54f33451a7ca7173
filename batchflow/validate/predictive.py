"""Posterior predictive checks and strange clusters of the catalogue, by survey and by galaxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.arrow import numbers
from batchflow.infer.ood import OOD_PVALUE
from batchflow.schema import Flag
from batchflow.validate.uniformity import family_pvalue

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEVELS = {"001": 0.001, "01": 0.01, "05": 0.05}
COLUMNS = ("galaxy", "survey", "efficiency", "ppc_pvalue", "ood_pvalue", "flags")
SHARES = {
    "poor_fit": Flag.POOR_FIT,
    "outside_training": Flag.OUTSIDE_TRAINING,
    "more_draws": Flag.MORE_DRAWS,
    "grid_posterior": Flag.GRID_POSTERIOR,
    "low_efficiency": Flag.LOW_EFFICIENCY,
}


def predictive_table(posterior: pa.Table, mocks: Mapping[str, Floats]) -> pa.Table:
    """How well the model describes the clusters of each survey and galaxy.

    Parameters
    ----------
    posterior : pyarrow.Table
        `COLUMNS` of `schema.posterior_schema`.
    mocks : mapping of str to ndarray, shape (n_mocks,)
        ``ppc_pvalue`` and ``ood_pvalue`` of held-out mocks, that the model describes by design; empty
        where there are none.

    Returns
    -------
    pyarrow.Table
        ``by`` (all, survey, galaxy, and mocks), ``name``, ``n``, ``n_inferred``, ``ppc_median``, the
        shares of posterior predictive p-values below 0.001, 0.01 and 0.05 (``ppc_below_...``), likewise
        ``ood_below_...``; ``ppc_ks_pvalue``, whether the p-values are distributed as those of the mocks;
        ``ood_excess_pvalue``, whether more clusters than a thousandth lie below 0.001, and
        ``ood_excess_corrected``, for the least of all surveys or galaxies; shares of flags. The worst
        first within each kind.
    """
    columns = {name: numbers(posterior, name) for name in ("efficiency", "ppc_pvalue", "ood_pvalue", "flags")}
    rows = []
    for by, name, mask in _groups(posterior):
        own = {key: values[mask] for key, values in columns.items()}
        rows.append({"by": by, "name": name} | _row(own, mocks.get("ppc_pvalue", np.zeros(0))))
    for by in ("survey", "galaxy"):
        _correct([row for row in rows if row["by"] == by])
    if any(len(values) for values in mocks.values()):
        n = len(next(iter(mocks.values())))
        blank = {"efficiency": np.full(n, np.nan), "flags": np.zeros(n)}
        rows.append(
            {"by": "mocks", "name": "held out"} | _row(blank | dict(mocks), np.zeros(0)) | _no_flags()
        )
    order = ["all", "mocks", "survey", "galaxy"]
    rows.sort(key=lambda row: (order.index(row["by"]), -(row["ood_below_001"] or 0.0)))
    return pa.Table.from_pylist(rows)


def _groups(posterior: pa.Table) -> Iterator[tuple[str, str, Mask]]:
    yield "all", "all", np.ones(posterior.num_rows, dtype=bool)
    for by in ("survey", "galaxy"):
        values = np.array(posterior[by].to_pylist(), dtype=object)
        for name in sorted(set(values)):
            yield by, str(name), np.asarray(values == name, dtype=bool)


def _row(own: Mapping[str, Floats], mocks: Floats) -> dict[str, Any]:
    from scipy.stats import binom, ks_2samp

    ppc, ood = (own[name][np.isfinite(own[name])] for name in ("ppc_pvalue", "ood_pvalue"))
    flags = own["flags"].astype(np.int64)
    reference = mocks[np.isfinite(mocks)]
    same = float(ks_2samp(ppc, reference).pvalue) if len(ppc) and len(reference) else None
    strange = int((ood < OOD_PVALUE).sum())
    return {
        "n": len(flags),
        "n_inferred": len(ppc),
        "ppc_median": float(np.median(ppc)) if len(ppc) else None,
        **{f"ppc_below_{name}": _share(ppc < level) for name, level in LEVELS.items()},
        "ppc_ks_pvalue": same,
        **{f"ood_below_{name}": _share(ood < level) for name, level in LEVELS.items()},
        "ood_excess_pvalue": float(binom.sf(strange - 1, len(ood), OOD_PVALUE)) if len(ood) else None,
        "ood_excess_corrected": None,
        "efficiency_median": _median(own["efficiency"]),
        **{name: _share((flags & bit) > 0) for name, bit in SHARES.items()},
    }


def _no_flags() -> dict[str, None]:
    return dict.fromkeys((*SHARES, "efficiency_median"))


def _correct(rows: list[dict[str, Any]]) -> None:
    tested = [row for row in rows if row["ood_excess_pvalue"] is not None]
    for row in tested:
        row["ood_excess_corrected"] = float(family_pvalue(row["ood_excess_pvalue"], len(tested)))


def _share(mask: Mask) -> float | None:
    return float(mask.mean()) if len(mask) else None


def _median(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
