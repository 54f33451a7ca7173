"""Columns of the tables of ``validation/``, the same whatever a run holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from batchflow.schema import PUBLISHED, QUANTILES
from batchflow.validation_columns import describe_validation

DELIVERED, WEIGHTED, NETWORK = "delivered", "weighted", "network"
LABELS = ("galaxy", "survey", "object_id")
COMPARED = ("median", "scatter", "within_0.3", "beyond_1")
INSIDE = ("in_68", "in_95")
SHARES = ("poor_fit", "outside_training", "more_draws", "grid_posterior", "low_efficiency")
LIKELIHOOD = (
    *("chi2_best", "best_pvalue", "chi2_published_colours", "published_colours_pvalue", "chi2_published"),
    *("published_pvalue", "log_mass_at_published", "deviance", "deviance_colours"),
    *("error_growth", "error_growth_colours"),
)
Fields = list[tuple[str, pa.DataType]]


def validation_schemas(parameters: Sequence[str]) -> dict[str, pa.Schema]:
    """Columns of each table.

    Parameters
    ----------
    parameters : sequence of str
        Those that are inferred.

    Returns
    -------
    dict of str to pyarrow.Schema
        By the file's name, without its extension.
    """
    fields = {
        **_held_out(parameters),
        **_catalogue(parameters),
        "overlap": _overlap(parameters),
    }
    return {
        name: pa.schema([describe_validation(column).field(column, type_) for column, type_ in columns])
        for name, columns in fields.items()
    }


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a table whose columns are the same whatever is inferred.

    Parameters
    ----------
    name : str
        Of the file, without its extension.
    rows : sequence of mapping
        Values by column; one that is absent is null.

    Returns
    -------
    pyarrow.Table
        As `shaped` gives it.
    """
    return pa.Table.from_pylist(list(rows), schema=validation_schemas(())[name])


def shaped(name: str, table: pa.Table, parameters: Sequence[str]) -> pa.Table:
    """A table with the columns that its file has, in their order and of their types.

    Parameters
    ----------
    name : str
        Of the file, without its extension.
    table : pyarrow.Table
        Of an empty one the columns may be missing.
    parameters : sequence of str
        Those that are inferred.

    Returns
    -------
    pyarrow.Table
        The same rows.

    Raises
    ------
    KeyError
        When it holds a column that the file has not.
    """
    wanted = validation_schemas(parameters)[name]
    if unknown := set(table.column_names) - set(wanted.names):
        raise KeyError(f"columns {sorted(unknown)} of validation/{name} are not in its schema")
    if not table.num_rows:
        return wanted.empty_table()
    there = pa.schema([field for field in wanted if field.name in table.column_names])
    return table.select(there.names).cast(there)


def _held_out(parameters: Sequence[str]) -> dict[str, Fields]:
    summary = ("n", "ks_pvalue", "shift_z", "dispersion_z", "pvalue", "coverage_68", "coverage_95")
    recovered = ("bias", "scatter", "rms")
    return {
        "mocks": _mocks(parameters),
        "calibration": [*_text("way", "meaning", "parameter"), *_real(*summary), *_real(*recovered)],
        "coverage": [*_text("way", "parameter"), *_real("level", "coverage", "error", "n")],
        "ranks": [*_text("way", "parameter"), *_real("low", "high", "count", "expected", "sigma")],
        "strata": _strata(),
        "figures": [*_text("figure", "way"), *_real("value", "error", "ideal", "n"), *_text("meaning")],
        "recovery": [
            *_text("parameter"),
            *_real("n", *recovered, "coverage_68", "coverage_95", "rank_pvalue"),
            *_real("efficiency", "efficiency_network", "n_lost", "n_asked", "member_spread"),
        ],
    }


def _mocks(parameters: Sequence[str]) -> Fields:
    values = [
        column for p in parameters for column in (f"true_{p}", *(f"{p}_{q}" for q in ("q16", "q50", "q84")))
    ]
    trust = ("ppc_pvalue", "ood_pvalue", "gap_nats", "kl_exact")
    told = [f"c2st_{way}" for way in (NETWORK, WEIGHTED, DELIVERED, "exact")]
    ways = (DELIVERED, WEIGHTED, NETWORK)
    ranks = [f"rank_{name}_{way}" for way in ways for name in (*parameters, "hpd", "joint")]
    return [
        *_text("mock", "survey"),
        *_real("n_bands", "signal", "depth", *values, "efficiency", "efficiency_network"),
        *_text("method"),
        *_real(*trust, *told, *ranks),
    ]


def _strata() -> Fields:
    covered = [name for level in (68, 95) for name in (f"coverage_{level}", f"coverage_{level}_error")]
    return [
        *_text("by", "stratum", "way", "parameter"),
        *_real("n", "shift_z", "dispersion_z", "pvalue", *covered),
        *_real("efficiency", "gap_nats", "c2st_network", "tests", "pvalue_corrected"),
        *_text("verdict"),
    ]


def _catalogue(parameters: Sequence[str]) -> dict[str, Fields]:
    below = [f"{kind}_below_{level}" for kind in ("ppc", "ood") for level in ("001", "01", "05")]
    pulls = ("pull_median", "pull_scatter", "pull_beyond_3", "agree_95")
    return {
        "objects": _objects(parameters),
        "methods": [
            *_text("survey", "modes", "parameter", "estimate", "reference"),
            *_real("n", *COMPARED, *INSIDE),
        ],
        "reasons": [*_text("survey", "reason"), *_real("n", "share"), *_text("meaning")],
        "predictive": [
            *_text("by", "name"),
            *_real("n", "n_inferred", "ppc_median", *below[:3], "ppc_ks_pvalue", *below[3:]),
            *_real("ood_excess_pvalue", "ood_excess_corrected", "efficiency_median", *SHARES),
        ],
        "overlap_summary": [*_text("survey_1", "survey_2", "parameter"), *_real("n", *COMPARED, *pulls)],
        "comparison": [
            *_text("survey", "class", "bands", "modes", "parameter", "estimate"),
            *_real("n", *COMPARED, *INSIDE),
        ],
    }


def _objects(parameters: Sequence[str]) -> Fields:
    return [
        *_text(*LABELS),
        *_real("ra", "dec", "class_", "n_bands", "flags", "n_modes"),
        *_real(*(column for name in parameters for column in _estimates(name))),
        *_real("efficiency", "ppc_pvalue", "ood_pvalue", "best_chi2", "best_reduced_chi2"),
        *_real("published_mode", "median_mode", "published_mode_weight", "published_mode_distance"),
        *_real(*LIKELIHOOD, "n_published"),
        ("published_outside_prior", pa.bool_()),
        *_text("reason"),
    ]


def _estimates(name: str) -> Iterable[str]:
    yield from (f"{name}_{suffix}" for suffix in (*QUANTILES, "map"))
    yield from (f"{way}_{name}_{suffix}" for way in ("network", "exact") for suffix in QUANTILES)
    yield from (f"best_{name}", f"bayes_{name}")
    if name in PUBLISHED:
        yield from (f"published_{name}", f"difference_{name}")


def _overlap(parameters: Sequence[str]) -> Fields:
    found: Fields = []
    for place in ("1", "2"):
        found += _text(*(f"{name}_{place}" for name in LABELS))
        found += _real(*(f"{name}_{place}" for name in ("n_bands", "n_modes", "flags")))
    found += _real("separation")
    for name in parameters:
        found += _real(f"{name}_1", f"{name}_2", f"difference_{name}", f"pull_{name}")
        found.append((f"agree_95_{name}", pa.bool_()))
    return found


COUNTS = {
    **dict.fromkeys(("n", "n_lost", "n_asked", "n_inferred", "tests", "count"), pa.int64()),
    **dict.fromkeys(("class_", "n_bands", "n_modes", "n_published"), pa.int16()),
    **dict.fromkeys(("published_mode", "median_mode"), pa.int16()),
    **dict.fromkeys(("n_bands_1", "n_bands_2", "n_modes_1", "n_modes_2"), pa.int16()),
    **dict.fromkeys(("flags", "flags_1", "flags_2"), pa.int32()),
}
"""Columns of whole numbers."""


def _real(*names: str) -> Fields:
    return [(name, COUNTS.get(name, pa.float64())) for name in names]


def _text(*names: str) -> Fields:
    return [(name, pa.string()) for name in names]
