"""The posteriors beside other people's values, and beside the classical fit."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchflow.arrow import numbers
from batchflow.report.content import Absence, Block, Listing, Paragraph, Picture, Section, listing
from batchflow.report.data import MOST, ReportData
from batchflow.report.pictures import BLUE, LABELS, UNITS, Axis, new_figure, scatter, span
from batchflow.schema import Flag
from batchflow.validate.calibrate import robust_scatter
from batchflow.validate.compare import CATASTROPHIC, CLOSE, HALF_STEP, by_survey, headline

Floats = NDArray[np.float64]
REACH = {"log_age": 2.0, "log_mass": 1.5, "ebv": 0.8}
"""Differences beyond lie in the last bin of the histogram."""
THIN = 0.25
"""Of that width: where nearly all differences are nearer, the histogram is of them."""
FIT = "fit"


def against_published(data: ReportData) -> Section:
    """Posterior medians against the values that the catalogue came with."""
    title = "Against published values"
    names = [name for name in data.parameters if _both(data, name).any()]
    if not names:
        return Section(title, [Absence("The catalogue has no published values to compare with.")])
    pairs = {name: (data.column(f"published_{name}"), data.column(f"{name}_q50")) for name in names}
    look = (
        "Above: posterior median against the published value, with the line of equality; below: their "
        "difference. Look for: a ridge along the line. Clumps far from it are other modes (a young, red "
        f"cluster taken for an old one, or the reverse), not scatter.{data.sampled}"
    )
    blocks: list[Block] = [
        Paragraph("Published values come from other fits with other assumptions: they are no truth."),
        _picture("published", pairs, "published", look),
        _agreement(pairs, "published", _inside(data, names)),
    ]
    table = data.table("validation_comparison")
    if table is not None and table.num_rows:
        said = (
            "By survey, class and number of modes, all bands: median less published value [dex; mag]. "
            "Classes of each survey: validation_comparison of `batchflow query`."
        )
        blocks.append(listing(by_survey(headline(table)), said))
    return Section(title, [*blocks, *_why(data), *_methods(data, "published")])


def against_fit(data: ReportData) -> Section:
    """Posterior medians against those of the classical fit."""
    title = "Against the classical fit"
    joined = _joined(data)
    if joined is None:
        return Section(title, [Absence("This run has no classical fit: `batchflow fit JOB` makes it.")])
    if not joined.num_rows:
        return Section(title, [Absence("The classical fit and the posteriors have no cluster in common.")])
    names = [name for name in data.parameters if f"fit_{name}" in joined.column_names]
    pairs = {name: (numbers(joined, f"fit_{name}"), numbers(joined, f"own_{name}")) for name in names}
    pairs = {name: pair for name, pair in pairs.items() if np.isfinite(pair[0] - pair[1]).any()}
    if not pairs:
        return Section(title, [Absence("The classical fit has no cluster with a posterior.")])
    blocks: list[Block] = _against_exact(joined, pairs)
    best = {
        name: (numbers(joined, f"best_{name}"), pair[1]) for name, pair in pairs.items() if _has(joined, name)
    }
    if best:
        look = (
            "Posterior median against the model with the least chi2 on the classical fit's "
            "grid. Look for: a ridge on the line; clumps off it are clusters with several modes, of which a "
            "best fit takes one."
        )
        blocks += [_picture("best-fit", best, "best fit:", look), _agreement(best, "best fit", {})]
    return Section(title, [*blocks, *_methods(data, "exact grid")])


def _against_exact(joined: pa.Table, pairs: dict[str, tuple[Floats, Floats]]) -> list[Block]:
    """The draws' medians against those of the exact posterior, where the posterior's own are the draws'."""
    drawn = (numbers(joined, "flags").astype(np.int64) & Flag.SAMPLED_SUMMARY) > 0
    if not drawn.any():
        said = (
            "The medians of these posteriors come from the exact grid (see [infer] grid), as the fit's do: "
            "they are the same. What the network's own draws give is in the last table, where the run was "
            "validated and values are published."
        )
        return [Paragraph(said)]
    look = (
        "Median of the weighted draws against that of the exact posterior on the classical fit's grid. Both "
        "have the same likelihood and prior. Look for: a thin ridge on the line; what lies off it, the "
        f"draws or the grid got wrong. Clusters: the {int(drawn.sum()):,} with the flag SAMPLED_SUMMARY; "
        "the medians of others come from an exact grid, as the fit's do."
    )
    some = {name: (fit[drawn], own[drawn]) for name, (fit, own) in pairs.items()}
    return [_picture("fit", some, "fit:", look), _agreement(some, "classical fit", {})]


def _has(joined: pa.Table, name: str) -> bool:
    return f"best_{name}" in joined.column_names and bool(np.isfinite(numbers(joined, f"best_{name}")).any())


def _why(data: ReportData) -> list[Block]:
    """For which reasons posteriors and published values differ, all surveys together."""
    table = data.table("validation_reasons")
    if table is None or not {"survey", "reason", "n"} <= set(table.column_names):
        return []
    kept = table.filter(pc.equal(table["survey"], "all")).drop_columns("survey")
    said = (
        "Why they differ. By survey: validation_reasons of `batchflow query`; by object: validation_objects."
    )
    return [listing(kept, said)] if kept.num_rows else []


def _methods(data: ReportData, reference: str) -> list[Block]:
    """Each method against one of them, by parameter and mode, all surveys together."""
    table = data.table("validation_methods")
    if table is None or not {"survey", "modes", "parameter", "estimate", "reference"} <= set(
        table.column_names
    ):
        return []
    kept = table.filter(pc.and_(pc.equal(table["survey"], "all"), pc.equal(table["reference"], reference)))
    kept = kept.filter(pc.is_in(kept["parameter"], pa.array(data.parameters, pa.string())))
    if not kept.num_rows:
        return []
    said = (
        f"Each method less {reference} [dex; mag for E(B-V)], by number of modes of the posterior. in 68, "
        "in 95: share inside the method's own intervals. By survey: validation_methods of `batchflow query`."
    )
    rows = kept.drop_columns(["survey", "reference"]).to_pylist()
    rows.sort(key=lambda row: (data.parameters.index(row["parameter"]), row["modes"] != "all"))
    first = {"parameter": None, "modes": None, "estimate": None}
    return [listing(pa.Table.from_pylist([first | row for row in rows]), said)]


def _picture(name: str, pairs: dict[str, tuple[Floats, Floats]], word: str, caption: str) -> Picture:
    figure = new_figure(3.3 * len(pairs) + 0.4, 5.4)
    panels = figure.subplots(2, len(pairs), squeeze=False, height_ratios=(2, 1))
    for (above, below), (parameter, (other, own)) in zip(panels.T, pairs.items(), strict=True):
        label = LABELS.get(parameter, parameter)
        limits = span(np.concatenate([other[np.isfinite(own)], own[np.isfinite(other)]]), 0.04, 0.1)
        scatter(above, Axis(other, f"{word} {label}", limits), Axis(own, label, limits))
        above.plot(limits, limits, color="k", lw=0.8, ls="--")
        difference = (own - other)[np.isfinite(own - other)]
        reach = _reach(parameter, difference)
        below.hist(np.clip(difference, -reach, reach), bins=np.linspace(-reach, reach, 41), color=BLUE)
        below.axvline(0, color="k", lw=0.8, ls="--")
        short = f"difference in {label.split(' [')[0]}"
        below.set(xlabel=f"{short} [{UNITS[parameter]}]" if parameter in UNITS else short, ylabel="clusters")
    alt = f"Posterior medians against those of {word.rstrip(':')}, and histograms of their differences."
    return Picture(f"against-{name}", figure, alt, caption)


def _reach(parameter: str, difference: Floats) -> float:
    """Half the width of a histogram of differences: of one parameter always the same, but for thin ones."""
    away = np.abs(difference)
    most = REACH.get(parameter, float(away.max(initial=1e-3)))
    usual = float(np.quantile(away, 0.99)) if away.size else most
    return most if usual > THIN * most else max(2 * usual, 1e-3)


def _agreement(
    pairs: dict[str, tuple[Floats, Floats]], word: str, inside: dict[str, tuple[float, float]]
) -> Listing:
    head = ["parameter", "clusters", "median", "scatter", f"within {CLOSE:g}", f"beyond {CATASTROPHIC:g}"]
    rows = []
    for name, (other, own) in pairs.items():
        difference = (own - other)[np.isfinite(own - other)]
        share = [
            float(np.mean(np.abs(difference) <= CLOSE)),
            float(np.mean(np.abs(difference) > CATASTROPHIC)),
        ]
        row = [name, len(difference), float(np.median(difference)), robust_scatter(difference), *share]
        rows.append(tuple(row + list(inside.get(name, ()))))
    if inside:
        head += ["in 68 %", "in 95 %"]
    caption = (
        f"Posterior median less {word} value: median and scatter (1.48 MAD) [dex; mag for E(B-V)], shares "
        f"within {CLOSE:g} and beyond {CATASTROPHIC:g}"
        + ("; share inside the posterior's intervals." if inside else ".")
    )
    return Listing(caption, tuple(head), tuple(rows))


def _inside(data: ReportData, names: list[str]) -> dict[str, tuple[float, float]]:
    """Share of published values in the 68 and 95 % intervals, to half a step of their fit's grid."""
    found = {}
    for name in names:
        use, step = _both(data, name), HALF_STEP.get(name, 0.0)
        value = data.column(f"published_{name}")[use]
        edges = [data.column(f"{name}_{suffix}")[use] for suffix in ("q16", "q84", "q02", "q97")]
        within = [(value >= edges[i] - step) & (value <= edges[i + 1] + step) for i in (0, 2)]
        found[name] = (float(within[0].mean()), float(within[1].mean()))
    return found


def _both(data: ReportData, name: str) -> NDArray[np.bool_]:
    return np.isfinite(data.column(f"published_{name}")) & np.isfinite(data.column(f"{name}_q50"))


def _joined(data: ReportData) -> pa.Table | None:
    """Medians of the posterior and of the fit for the same clusters; None where there is no fit.

    Rows whose id is another's too are left out: which fit is whose, the id does not tell.
    """
    if not data.run.has(FIT) or not data.total:
        return None
    known = data.run.table(FIT).dataset.schema.names
    names = [name for name in data.parameters if f"{name}_q50" in known]
    columns = [f"p.{name}_q50 AS own_{name}, f.{name}_q50 AS fit_{name}" for name in names]
    columns.append("p.flags")
    columns += [f"f.best_{name}" for name in names if f"best_{name}" in known]
    step = -(-data.total // MOST)
    return data.run.query(
        f"SELECT {', '.join(columns)} FROM posterior p JOIN {FIT} f USING (galaxy, object_id) "  # noqa: S608
        f"WHERE hash(p.object_id) % {step} = 0 AND p.flags & {int(Flag.DUPLICATE_ID)} = 0"
    )
