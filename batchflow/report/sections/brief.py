"""What a reader who has one minute should know."""

from __future__ import annotations

from typing import Any

import numpy as np

from batchflow.report.content import Absence, Block, Listing, Paragraph, Section
from batchflow.report.data import ReportData
from batchflow.schema import Flag

BAD = (Flag.LOW_EFFICIENCY, Flag.POOR_FIT, Flag.OUT_OF_DISTRIBUTION, Flag.OUTSIDE_TRAINING, Flag.PRIOR_EDGE)
"""Flags that are told at the top."""


def in_brief(data: ReportData) -> Section:
    """The figures that decide whether to read on."""
    if not data.total:
        rows = [*_calibrated(data)]
        lacking = Absence("This run has no posteriors (yet): `batchflow infer JOB` makes them.")
        return Section("In brief", [lacking, *_table(rows)])
    galaxies = data.run.table("posterior").galaxies
    rows = [
        ("clusters", f"{data.total:,} in {len(galaxies):,} {_plural(galaxies, 'galaxy', 'galaxies')}"),
        *_inferred(data),
        *_flagged(data),
        *_calibrated(data),
        *_published(data),
    ]
    text = (
        "Every cluster has a posterior of its age, mass and reddening: a set of weighted draws. Its "
        "efficiency (effective draws over draws) says how well the network's draws fit the exact "
        "likelihood: near 1 they did, below 0.05 the summary rests on few draws." + data.sampled
    )
    return Section("In brief", [Paragraph(text), *_table(rows)])


def _table(rows: list[tuple[str, str]]) -> list[Block]:
    return [Listing("What this run found.", ("", ""), tuple(rows))] if rows else []


def _inferred(data: ReportData) -> list[tuple[str, str]]:
    known = np.isfinite(data.column("log_age_q50"))
    found = [("with a posterior", _share(data, known))]
    efficiency = data.column("efficiency")
    certified = efficiency[np.isfinite(efficiency)]
    if certified.size:
        low, middle = np.percentile(certified, [5, 50])
        found.append(("efficiency", f"median {middle:.2f}; 5 % of the clusters lie below {low:.2g}"))
    elif known.any():
        found.append(("efficiency", "not certified: the draws are the network's own, without weights"))
    modes = data.column("n_modes")
    if known.any():
        found.append(("several modes in age", _share(data, (modes > 1)[known])))
    return found


def _flagged(data: ReportData) -> list[tuple[str, str]]:
    bits = data.column("flags").astype(np.int64)
    found = {flag: (bits & flag.value) != 0 for flag in BAD}
    return [(f"flag {flag.name}", _share(data, mask)) for flag, mask in found.items() if mask.any()]


def _calibrated(data: ReportData) -> list[tuple[str, str]]:
    table = data.table("validation")
    if table is None or not {"parameter", "n", "coverage_68", "coverage_95"} <= set(table.column_names):
        return []
    rows: list[dict[str, Any]] = table.to_pylist()
    said = "; ".join(
        f"{row['parameter']} {100 * row['coverage_68']:.0f} and {100 * row['coverage_95']:.0f} %"
        for row in rows
    )
    return [("truths of held-out mocks in the 68 and 95 % intervals", said)] if rows else []


def _published(data: ReportData) -> list[tuple[str, str]]:
    difference = data.column("log_age_q50") - data.column("published_log_age")
    known = difference[np.isfinite(difference)]
    if not known.size:
        return []
    close = 100 * np.mean(np.abs(known) <= 0.3)
    median = round(float(np.median(known)), 2) + 0.0  # no -0.00
    said = f"median {median:+.2f} dex, {close:.0f} % within 0.3 dex ({known.size:,} clusters)"
    return [("log age less the published one", said)]


def _share(data: ReportData, mask: np.ndarray) -> str:
    """How many; of clusters evenly chosen among many, the share alone."""
    share = f"{100 * float(mask.mean()) if mask.size else 0.0:.3g} %"
    return share if data.sampled else f"{int(mask.sum()):,} ({share})"


def _plural(values: Any, one: str, several: str) -> str:
    return one if len(values) == 1 else several
