"""Whether the posteriors are right: on held-out mocks, whose truth is known.

Tables of ``validation/`` are told by their columns, not by their names: a new one is drawn when it has the
columns of a kind known here, and listed when not.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchflow.report.content import NOTHING, Absence, Block, Listing, Paragraph, Picture, Section, listing
from batchflow.report.data import ReportData
from batchflow.report.pictures import BLUE, GREEN, GREY, LABELS, ORANGE, PURPLE, new_figure
from batchflow.results.query import table_files

if TYPE_CHECKING:
    pass

TITLE = "Calibration on held-out mocks"
RECOVERED = {"parameter", "n", "coverage_68", "coverage_95"}
CURVE = {"parameter", "level", "coverage"}
RANKS = {"parameter", "low", "high", "count", "expected"}
STRATA = {"stratum"}
OWN_SECTION = ("validation_comparison", "validation_methods", "validation_reasons")
NAMES = LABELS | {"hpd": "highest density", "joint": "joint (TARP)"}
"""Of what is tested: parameters, the posterior's density, all parameters together."""
ABOUT = {
    "validation_figures": (
        "Held-out mocks: efficiency, distance from the exact posterior in nats, and a classifier's accuracy.",
        ("figure", "way", "value", "error", "ideal", "n", "meaning"),
    ),
    "validation_predictive": (
        "Predictive checks and strange clusters, beside those of the mocks; the strangest survey first. "
        "ppc, ood below 001: share of p-values below 0.001, and so on; look for those of the mocks.",
        (
            *("by", "name", "n", "ppc_median", "ppc_below_001", "ppc_ks_pvalue"),
            *("ood_below_001", "ood_below_05", "ood_excess_corrected"),
        ),
    ),
    "validation_overlap_summary": (
        "Clusters seen in two surveys: second less first; pulls in standard deviations of both.",
        (
            *("survey_1", "survey_2", "parameter", "n", "median", "scatter", "within_0.3", "beyond_1"),
            *("pull_median", "pull_scatter", "agree_95"),
        ),
    ),
}
"""Caption and columns of tables that are known."""
ONLY_NAMED = ("validation_overlap", "validation_mocks", "validation_objects")
"""Tables of objects that other tables sum up."""
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
MARKERS = "os^Dv"
STRATA_COLUMNS = (
    *("by", "stratum", "parameter", "n", "coverage_68", "coverage_95"),
    *("pvalue", "pvalue_corrected", "verdict"),
)
MOST_LINES, MOST_STRATA, MOST_COLUMNS, MOST_PANELS = 30, 10, 12, 8
LARGE = 200
"""Rows above which a table is counted, not listed."""

LOOK = (
    "Look for: the points lie on the dashed line of their level. Below it, the intervals are too narrow; "
    "above, too wide. Bars: what chance alone does (one standard deviation)."
)


def calibration(data: ReportData) -> Section:
    """Recovery, coverage curves and ranks, as far as `validate` made them."""
    tables = _recovered_once(dict(_tables(data)))
    blocks: list[Block] = []
    for kind, maker in ((RECOVERED, _recovery), (CURVE, _curves), (RANKS, _ranks)):
        for name, table in tables.items():
            if _is(table, kind):
                blocks += maker(name, table)
    blocks = [*(_strata(table) for table in tables.values() if _is(table, STRATA)), *blocks]
    if not blocks:
        lacking = (
            "No calibration has been measured: `batchflow validate JOB` infers mocks whose truth is known."
        )
        return Section(TITLE, [Absence(lacking)])
    words = (
        "Mocks that the network was not trained on are inferred like a catalogue. Where the posteriors are "
        "right, 68 % of the true values lie in the 68 % intervals, and ranks of the truth among the draws "
        "are even. This tests the inference, not the stellar library: mocks obey the model exactly."
    )
    return Section(TITLE, [Paragraph(words), *blocks])


def other_tables(data: ReportData) -> Section:
    """Tables of ``validation/`` that have no picture: the first lines of small ones, counts of large ones."""
    title = "Further checks"
    blocks: list[Block] = []
    for name, table in _tables(data):
        if not any(_is(table, kind) for kind in (RECOVERED, CURVE, RANKS, STRATA)):
            blocks += _others(name, table)
    return Section(title, blocks or [Absence("There are no further tables in validation/.")])


def _tables(data: ReportData) -> Iterator[tuple[str, pa.Table]]:
    for name in sorted(table_files(data.folder)):
        if name.startswith("validation_") and name not in OWN_SECTION:
            table = data.sample(name)
            if table is not None and table.num_rows:
                yield name, table


def _recovered_once(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Without tables of recovery that another says by way of inference, in more words."""
    recovered = {name: table for name, table in tables.items() if _is(table, RECOVERED)}
    by_way = {name for name, table in recovered.items() if "way" in table.column_names}
    spare = set(recovered) - by_way if by_way else set()
    return {name: table for name, table in tables.items() if name not in spare}


def _is(table: pa.Table, kind: Set[str]) -> bool:
    return kind <= set(table.column_names) and (kind is not RECOVERED or not _is(table, STRATA))


def _recovery(name: str, table: pa.Table) -> list[Block]:
    rows = _first_way(table).to_pylist()
    figure = new_figure(1.6 + 1.1 * len(rows), 3.4)
    axes = figure.subplots()
    place = np.arange(len(rows))
    for level, color, marker in ((0.68, BLUE, "o"), (0.95, ORANGE, "s")):
        found = np.array([row[f"coverage_{100 * level:.0f}"] for row in rows], dtype=float)
        chance = [np.sqrt(level * (1 - level) / max(row["n"], 1)) for row in rows]
        axes.axhline(level, color=color, ls="--", lw=1)
        label = f"{100 * level:.0f} % interval"
        axes.errorbar(place, found, chance, fmt=marker, color=color, capsize=3, label=label)
    lowest = min(0.5, 0.95 * min(float(row["coverage_68"]) for row in rows))
    axes.set_xticks(place, [NAMES.get(row["parameter"], row["parameter"]).split(" [")[0] for row in rows])
    axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(lowest, 1.02), ylabel="share of truths inside")
    axes.legend(fontsize=9, loc="lower left")
    caption = f"Share of true values inside the posterior intervals{_way(table)}, by parameter. {LOOK}"
    alt = "Share of true values inside the 68 and 95 per cent intervals, by parameter."
    shown = table.select([column for column in table.column_names if column != "meaning"])
    said = (
        "Recovery of true values. bias and scatter: median and 1.48 MAD of posterior median less truth "
        "[dex; mag for E(B-V)]; a p-value below 0.01 says that the ranks are not even. joint: all parameters "
        "together (TARP); hpd: by posterior density."
    )
    return [Picture(f"{_stem(name)}-coverage", figure, alt, caption), listing(shown, said)]


def _curves(name: str, table: pa.Table) -> list[Block]:
    kept = _first_way(table)
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="k", lw=0.8, ls="--")
    right.axhline(0, color="k", lw=0.8, ls="--")
    for i, parameter in enumerate(_values(kept, "parameter")[:MOST_PANELS]):
        own = kept.filter(pc.equal(kept["parameter"], parameter)).sort_by("level")
        level, found = (np.array(own[column].to_pylist(), dtype=float) for column in ("level", "coverage"))
        color, label = COLORS[i % len(COLORS)], NAMES.get(parameter, parameter).split(" [")[0]
        left.plot(level, found, MARKERS[i % len(MARKERS)] + "-", ms=3, lw=1.2, color=color, label=label)
        right.plot(level, found - level, MARKERS[i % len(MARKERS)] + "-", ms=3, lw=1.2, color=color)
        if "error" in own.column_names and i == 0:
            error = np.array(own["error"].to_pylist(), dtype=float)
            right.fill_between(
                level, -2 * error, 2 * error, color=GREY, alpha=0.25, lw=0, label="chance, 2 sigma"
            )
    left.set(xlabel="level of the interval", ylabel="share of truths inside", xlim=(0, 1), ylim=(0, 1))
    right.set(xlabel="level of the interval", ylabel="share less level", xlim=(0, 1))
    left.legend(fontsize=9)
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize=9)
    caption = (
        f"Expected coverage{_way(table)}: share of truths inside an interval of each level; right, its "
        "difference from the level. Look for: lines on the dashed one. Below, the posteriors are too "
        "narrow; above, too wide."
    )
    return [
        Picture(f"{_stem(name)}-curve", figure, "Expected coverage against the level, by parameter.", caption)
    ]


def _ranks(name: str, table: pa.Table) -> list[Block]:
    kept = _first_way(table)
    parameters = _values(kept, "parameter")[:MOST_PANELS]
    figure = new_figure(3.2 * min(len(parameters), 4), 2.6 * -(-len(parameters) // 4))
    panels = figure.subplots(-(-len(parameters) // 4), min(len(parameters), 4), squeeze=False).ravel()
    for panel in panels[len(parameters) :]:
        panel.set_visible(False)
    for panel, parameter in zip(panels, parameters, strict=False):
        own = kept.filter(pc.equal(kept["parameter"], parameter)).sort_by("low")
        low, high, count, expected = (
            np.array(own[column].to_pylist(), dtype=float) for column in ("low", "high", "count", "expected")
        )
        panel.stairs(count, [*low, high[-1]], fill=True, color=BLUE, alpha=0.8)
        panel.axhline(expected[0], color="k", lw=1, ls="--")
        reach = 2 * np.sqrt(expected[0])
        panel.axhspan(expected[0] - reach, expected[0] + reach, color=GREY, alpha=0.3, lw=0)
        panel.set(title=NAMES.get(parameter, parameter).split(" [")[0], xlabel="rank of the truth")
    panels[0].set_ylabel("mocks")
    caption = (
        f"Ranks of the truth among the posterior draws{_way(table)}. Look for: even bars within the grey "
        "band (two standard deviations). A hump: posteriors too wide; a bowl: too narrow; a slope: biased."
    )
    return [
        Picture(f"{_stem(name)}-ranks", figure, "Histograms of ranks of the truth, by parameter.", caption)
    ]


def _others(name: str, table: pa.Table) -> list[Block]:
    if name in ONLY_NAMED:
        return [_named(name, table)]
    return _counted(name, table) if table.num_rows > LARGE else [_listed(name, table)]


def _strata(table: pa.Table) -> Listing:
    """Kinds of mocks, those first whose posteriors are least likely to be right."""
    kept = _first_way(table)
    known = [name for name in STRATA_COLUMNS if name in kept.column_names]
    order = [(name, "ascending") for name in ("pvalue_corrected", "pvalue") if name in known]
    if order:
        kept = kept.sort_by(order)
    said = (
        f"Calibration by kind of mock{_way(table)}, the worst first; a p-value below 0.01, corrected "
        "for all tests, says that posteriors of this kind are wrong."
    )
    return listing(kept.select(known), said, MOST_STRATA)


def _listed(name: str, table: pa.Table) -> Listing:
    flat = [item.name for item in table.schema if not pa.types.is_nested(item.type)]
    about, wanted = ABOUT.get(name, ("", ()))
    if wanted and set(wanted) <= set(flat):
        return listing(table.select(wanted), about, MOST_LINES)
    said = f"Table {name.removeprefix('validation_')}"
    if len(flat) > MOST_COLUMNS:
        said += f", the first {MOST_COLUMNS} of {len(flat)} columns"
    return listing(table.select(flat[:MOST_COLUMNS]), f"{said}.", MOST_LINES)


def _counted(name: str, table: pa.Table) -> list[Block]:
    """Of a table of objects, how often each word of its columns of few words occurs."""
    short = name.removeprefix("validation_")
    found: list[Block] = []
    for column in table.schema:
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            counted = pc.value_counts(table[column.name].cast(pa.string())).to_pylist()
            if 2 <= len(counted) <= MOST_COLUMNS:
                ordered = sorted(counted, key=lambda item: -item["counts"])
                rows = tuple((item["values"] or NOTHING, item["counts"]) for item in ordered)
                found.append(Listing(f"Table {short}: rows by {column.name}.", (column.name, "rows"), rows))
    return [_named(name, table), *found]


def _named(name: str, table: pa.Table) -> Paragraph:
    short = name.removeprefix("validation_")
    return Paragraph(
        f"Table {short} has {table.num_rows:,} rows; it is the table {name} of `batchflow query`."
    )


def _first_way(table: pa.Table) -> pa.Table:
    """Where several ways of inference were tested, the first: what `infer` delivers."""
    if "way" not in table.column_names:
        return table
    return table.filter(pc.equal(table["way"], table["way"][0]))


def _way(table: pa.Table) -> str:
    return f" ({table['way'][0].as_py()})" if "way" in table.column_names else ""


def _values(table: pa.Table, column: str) -> list[str]:
    return [str(value) for value in pc.unique(table[column]).to_pylist()]


def _stem(name: str) -> str:
    """Of a picture's file: letters, digits and dashes alone."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
