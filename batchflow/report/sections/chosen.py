"""Single clusters: the best, the middling and the worst of the run, and one with several modes."""

from __future__ import annotations

from typing import Any

from batchflow.errors import UserError
from batchflow.report.cluster_pictures import corner_picture, sed_picture
from batchflow.report.content import Absence, Block, Paragraph, Picture, Row, Section
from batchflow.report.data import ReportData
from batchflow.report.one_cluster import flag_names
from batchflow.schema import Flag

TITLE = "Chosen clusters"
RESCUED = Flag.MORE_DRAWS | Flag.GRID_POSTERIOR
# Not `NOT isnan(...)`: DuckDB 2.0 takes it to be true of whole Parquet files that have NaN.
KNOWN = "isfinite(log_age_q50)"
CERTIFIED = f"{KNOWN} AND isfinite(efficiency)"
WIDTH = "log_age_q84 - log_age_q16"

HELP = (
    "Corner plots show each parameter against each: dark 68 %, light 95 % of the posterior (dots: draws "
    "outside), dashed lines the 16, 50 and 84 % quantiles. SED plots show what was observed against what "
    "the posterior predicts. Look for: observed points in the blue bars, limits (triangles) above them, "
    "residuals mostly within the dotted lines (one standard deviation, unreported errors included)."
)


def chosen_clusters(data: ReportData) -> Section:
    """Corner plots and SEDs of a few clusters."""
    if not data.total:
        return Section(TITLE, [Absence("This run has no posteriors (yet).")])
    choices = _choices(data)
    if not choices:
        return Section(TITLE, [Absence("None of the clusters has a posterior.")])
    if not data.run.has("draws"):
        lacking = "This run stores no draws: there are no corner plots, and SEDs need the draws as well."
        return Section(TITLE, [Absence(lacking)])
    blocks: list[Block] = [Paragraph(HELP)]
    for name, (words, row) in choices.items():
        blocks.append(_cluster(data, name, words, row))
    return Section(TITLE, blocks)


def _choices(data: ReportData) -> dict[str, tuple[str, dict[str, Any]]]:
    """Clusters by the name of their pictures, none twice, with why they were chosen."""
    certified = _first(data, CERTIFIED, "efficiency")
    measure, where, word = (
        ("efficiency", CERTIFIED, "efficiency") if certified else (WIDTH, KNOWN, "age interval")
    )
    down = "DESC" if certified else "ASC"
    own = f"{where} AND flags & {int(RESCUED)} = 0"
    found = {
        "best": (f"The best {word}", _first(data, own, f"{measure} {down}")),
        "median": (f"The median {word}", _middle(data, where, measure)),
        "worst": (f"The worst {word}", _first(data, where, f"{measure} {'ASC' if certified else 'DESC'}")),
        "modes": (
            "Several modes, the most even",
            _first(data, f"{where} AND n_modes > 1", "mode_weight[1], efficiency DESC"),
        ),
    }
    kept: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, (words, row) in found.items():
        if row and not any(_same(row, other) for _, other in kept.values()):
            kept[name] = (words, row)
    return kept


def _cluster(data: ReportData, name: str, words: str, row: dict[str, Any]) -> Block:
    galaxy, object_id = str(row["galaxy"]), str(row["object_id"])
    title = f"{words}: {galaxy}, object {object_id}"
    pictures, lacking = [], []
    for kind, draw in (("corner", corner_picture), ("sed", sed_picture)):
        try:
            figure = draw(data.run, object_id, galaxy)
        except UserError as error:
            lacking.append(f"no {kind} plot: {error}")
            continue
        alt = f"{kind} plot of {galaxy} {object_id}"
        pictures.append(Picture(f"cluster-{name}-{kind}", figure, alt, _caption(kind, row)))
    if not pictures:
        return Absence(f"{title}: {'; '.join(lacking)}.")
    return Row(title + (f" ({'; '.join(lacking)})" if lacking else ""), tuple(pictures))


def _caption(kind: str, row: dict[str, Any]) -> str:
    if kind == "sed":
        chi2, n_bands = row["ppc_chi2"], row["n_bands"]
        return "Observed fluxes and the posterior's." + (
            "" if chi2 is None else f" chi2 {chi2:.1f}, {n_bands} bands."
        )
    flags = flag_names(int(row["flags"] or 0))
    return (
        f"The posterior; {row['n_modes']} mode{'' if row['n_modes'] == 1 else 's'}. Flags: {flags or 'none'}."
    )


def _first(data: ReportData, where: str, order: str) -> dict[str, Any]:
    return _one(data, where, f"{order}, galaxy, object_id", 0)


def _middle(data: ReportData, where: str, measure: str) -> dict[str, Any]:
    count = data.run.query(f"SELECT count(*) AS n FROM posterior WHERE {where}")["n"][0].as_py()  # noqa: S608
    return _one(data, where, f"{measure}, galaxy, object_id", count // 2)


def _one(data: ReportData, where: str, order: str, skip: int) -> dict[str, Any]:
    # The words are this module's own; nothing of a catalogue is among them.
    rows = data.run.query(
        f"SELECT galaxy, object_id, ppc_chi2, n_bands, n_modes, flags FROM posterior WHERE {where} "  # noqa: S608
        f"ORDER BY {order} LIMIT 1 OFFSET {int(skip)}"
    ).to_pylist()
    return dict(rows[0]) if rows else {}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (one["galaxy"], one["object_id"]) == (other["galaxy"], other["object_id"])
