"""The table of docs/validation.md, from finished runs: validation_table.py NAME=RUN [NAME=RUN ...]."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import batchflow
from batchflow.results.tables import Run

PARAMETERS = ("log_age", "log_mass", "ebv")
MAIN = ("agrees", "noise floor", "model library", "another mode")
Cell = Callable[[Run], str]


def ask(run: Run, table: str, column: str, **labels: str) -> list[float]:
    """Values of a column in the rows with these labels; none where the run lacks the table."""
    if not run.has(f"validation_{table}"):
        return []
    rows = run.table(f"validation_{table}").to_arrow().to_pylist()
    kept = [row for row in rows if all(row[key] == value for key, value in labels.items())]
    return [row[column] for row in kept if row[column] is not None]


def numbers(run: Run, table: str, column: str, key: str, names: tuple[str, ...], **labels: str) -> str:
    """One number for each of some labels, in their order; empty where there is none."""
    found = [ask(run, table, column, **{key: name}, **labels) for name in names]
    return " ".join(f"{value:.3f}" for values in found for value in values)


def figure(name: str, way: str) -> Cell:
    """A figure with its standard error, if it has one."""

    def cell(run: Run) -> str:
        values = ask(run, "figures", "value", figure=name, way=way)
        errors = ask(run, "figures", "error", figure=name, way=way)
        return f"{values[0]:.3f}" + (f" ± {errors[0]:.3f}" if errors else "") if values else ""

    return cell


def efficiency(run: Run) -> str:
    """Percentiles over mocks, none rescued."""
    names = tuple(f"efficiency_p{percent}" for percent in ("01", "10", "50"))
    return numbers(run, "figures", "value", "figure", names, way="weighted")


def of_clusters(run: Run) -> str:
    """Percentiles of the efficiency of the catalogue's clusters."""
    if not run.has("posterior"):
        return ""
    (row,) = run.query("SELECT quantile_cont(efficiency, [0.05, 0.5]) AS found FROM posterior").to_pylist()
    return " ".join(f"{value:.3f}" for value in row["found"])


def calibration(column: str, way: str, names: tuple[str, ...] = PARAMETERS) -> Cell:
    """A column of the calibration by parameter."""
    return lambda run: numbers(run, "calibration", column, "parameter", names, way=way)


def worst(run: Run) -> str:
    """The least p-value of any stratum, corrected for all that were looked at."""
    found = ask(run, "strata", "pvalue_corrected", way="delivered")
    return f"{min(found):.2f}" if found else ""


def method(estimate: str, reference: str, column: str, names: tuple[str, ...] = PARAMETERS) -> Cell:
    """One method against another, by parameter."""
    labels = {"survey": "all", "modes": "all", "estimate": estimate, "reference": reference}
    return lambda run: numbers(run, "methods", column, "parameter", names, **labels)


def reasons(run: Run) -> str:
    """Shares of the four that are usually the most frequent."""
    return numbers(run, "reasons", "share", "reason", MAIN, survey="all")


def below(column: str) -> Cell:
    """Share of clusters, then of mocks, with a p-value below a level."""
    return lambda run: numbers(run, "predictive", column, "by", ("all", "mocks"))


def pulls(run: Run) -> str:
    """Scatter of the pulls of clusters that were seen twice."""
    names = {"survey_1": "all", "survey_2": "all"}
    return numbers(run, "overlap_summary", "pull_scatter", "parameter", PARAMETERS, **names)


AGE = ("log_age",)
OTHER = "not as a test of either side: others fitted other models"
ROWS: tuple[tuple[str, Cell, str], ...] = (
    ("efficiency of mocks, 1st, 10th, 50th percentile", efficiency, "yes: counted"),
    ("efficiency of clusters, 5th, 50th percentile", of_clusters, "yes: counted"),
    ("gap to the exact posterior at truths [nats]", figure("gap_nats", "network"), "yes"),
    ("divergence from exact draws [nats]", figure("kl_exact", "network"), "yes: it agrees with the gap"),
    (
        "C2ST of the network alone",
        figure("c2st", "network"),
        "yes: the share that a classifier tells right; .5 is none",
    ),
    ("C2ST of weighted draws", figure("c2st", "weighted"), "yes: not told from exact draws"),
    ("C2ST of two exact sets", figure("c2st", "exact"), "yes: the floor"),
    ("68 % interval holds the truth", calibration("coverage_68", "delivered"), "yes, to ± .010"),
    ("95 % interval holds the truth", calibration("coverage_95", "delivered"), "yes, to ± .005"),
    (
        "p-value of ranks: parameters, TARP, density",
        calibration("pvalue", "delivered", (*PARAMETERS, "joint", "hpd")),
        "yes: fifteen looks, one of them near .05 by chance",
    ),
    ("the worst stratum's p-value, corrected", worst, "yes, for strata of 30 mocks or more"),
    (
        "network alone, shift_z of the density",
        calibration("shift_z", "network", ("hpd",)),
        "yes: its draws lie too far out; the weights mend it",
    ),
    (
        "network's draws less exact grid, scatter",
        method("network", "exact grid", "scatter"),
        "yes: the network adds nothing to what follows",
    ),
    ("exact grid less published, median", method("exact grid", "published", "median"), OTHER),
    ("exact grid less published, scatter", method("exact grid", "published", "scatter"), OTHER),
    (
        "classical best fit less published, scatter",
        method("classical best fit", "published", "scatter"),
        OTHER,
    ),
    ("published within .3", method("exact grid", "published", "within_0.3"), OTHER),
    ("published beyond 1", method("exact grid", "published", "beyond_1"), OTHER),
    (
        "published age in the 68 % interval",
        method("exact grid", "published", "in_68", AGE),
        "not as calibration: published values are no truths",
    ),
    ("published age in the 95 % interval", method("exact grid", "published", "in_95", AGE), "likewise"),
    (
        f"reasons: {', '.join(MAIN)}",
        reasons,
        "the first two yes; `model library` is what is left over, a guess at a cause",
    ),
    (
        "`ood_pvalue` < .001: clusters, mocks",
        below("ood_below_001"),
        "yes, counted; why, it does not say: tails of the noise, blends, stars, what models lack",
    ),
    ("predictive p < .001: clusters, mocks", below("ppc_below_001"), "yes; do not trust such intervals"),
    (
        "pulls of clusters seen twice, scatter",
        pulls,
        "not as a test of our errors: both have one model and prior, and modes outweigh the noise",
    ),
)
"""What the row says, its cell, and whether to believe it."""


def lines(runs: dict[str, Run]) -> Iterator[str]:
    """The table in Markdown, a column a run."""
    yield f"| figure | {' | '.join(runs)} | believe it? |"
    yield f"|---|{'---|' * (len(runs) + 1)}"
    for label, cell, word in ROWS:
        yield f"| {label} | {' | '.join(cell(run) for run in runs.values())} | {word} |"


def main() -> None:
    """Print the table."""
    if not sys.argv[1:] or not all("=" in word for word in sys.argv[1:]):
        sys.exit(__doc__)
    pairs = (word.split("=", 1) for word in sys.argv[1:])
    print("\n".join(lines({name: batchflow.open_run(folder) for name, folder in pairs})))


if __name__ == "__main__":
    main()
