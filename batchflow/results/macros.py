"""SQL macros over the tables of a run: posteriors from draws, flags in words, places on the sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from batchflow.schema import Flag

READS = {"cone": "posterior", "sample_draws": "draws"}
"""By macro that stands after FROM: the view that it reads."""


@dataclass(frozen=True)
class Macro:
    """A helper for queries."""

    name: str
    arguments: str
    """As declared; those with ``:=`` may be left out."""
    body: str
    meaning: str
    example: str

    @property
    def reads(self) -> str:
        """The view that it reads, where it stands after FROM rather than within an expression."""
        return READS.get(self.name, "")

    @property
    def statement(self) -> str:
        """What defines it, as DuckDB reads it."""
        kind = "AS TABLE" if self.reads else "AS"
        return f"CREATE MACRO {self.name}({self.arguments}) {kind} {self.body}"


def _probability(condition: str, edges: str) -> str:
    """Share of weight of the draws that fulfil a condition on ``value_``, the draw; NULL where an edge is."""
    # Names of lambda arguments are odd, so that no column of a query's own is taken for them.
    chosen = f"list_transform(draws, lambda value_: CASE WHEN {condition} THEN 1::DOUBLE ELSE 0 END)"
    return f"CASE WHEN {edges} IS NOT NULL THEN list_inner_product({chosen}, {_WEIGHTS}) / {_TOTAL} END"


_WEIGHTS = "list_transform(log_weights, lambda weight_: exp(weight_::DOUBLE))"
# NULL where another prior left no draw any weight, so that what it divides is: to DuckDB NaN is above 0.9.
_TOTAL = f"nullif(list_sum({_WEIGHTS}), 0)"
_MEAN = f"(list_inner_product(draws::DOUBLE[], {_WEIGHTS}) / {_TOTAL})"
_SHIFTED = "list_transform(draws, lambda value_: (value_ - draws[1])::DOUBLE)"
_SQUARES = "list_transform(draws, lambda value_: ((value_ - draws[1])::DOUBLE) ** 2)"
_VARIANCE = (
    f"list_inner_product({_SQUARES}, {_WEIGHTS}) / {_TOTAL} - "
    f"pow(list_inner_product({_SHIFTED}, {_WEIGHTS}) / {_TOTAL}, 2)"
)
# A sum over all draws within a lambda would be made anew for each: so the aim is carried from draw to draw.
_STATE = "{{'value': {}, 'weight': {}, 'before': {}, 'aim': {}, 'found': {}}}"
_SORTED = (
    "list_transform(list_sort(list_zip(draws, log_weights)), lambda pair_: "
    + _STATE.format("pair_[1]::DOUBLE", "exp(pair_[2]::DOUBLE)", "0::DOUBLE", "0::DOUBLE", "NULL::DOUBLE")
    + ")"
)
_REACHED = "CASE WHEN sum_.found IS NULL OR sum_.before < sum_.aim THEN next_.value ELSE sum_.found END"
_NEXT = _STATE.format("next_.value", "next_.weight", "sum_.before + next_.weight", "sum_.aim", _REACHED)
_START = _STATE.format("0::DOUBLE", "0::DOUBLE", "0::DOUBLE", f"probability * {_TOTAL}", "NULL::DOUBLE")
_QUANTILE = (
    "CASE WHEN NOT (probability BETWEEN 0 AND 1) THEN error('a probability lies between 0 and 1, not ' || "
    f"probability) WHEN {_TOTAL} > 0 THEN list_reduce({_SORTED}, lambda sum_, next_: {_NEXT}, "
    f"{_START}).found END"
)
_BOTH = "lambda one_, other_: list_transform(one_, lambda is_, at_: is_ {} other_[at_])"
_ALL = f"list_reduce(conditions, {_BOTH})"
_JOINT = f"list_inner_product(list_transform({_ALL}, lambda yes_: yes_::INT::DOUBLE), {_WEIGHTS}) / {_TOTAL}"
# Vincenty's formula on a sphere: exact at the poles, across right ascension 0, and at the antipodes.
_SEPARATION = (
    "degrees(atan2(sqrt(pow(cos(radians(dec2)) * sin(radians(ra2 - ra1)), 2) + "
    "pow(cos(radians(dec1)) * sin(radians(dec2)) - "
    "sin(radians(dec1)) * cos(radians(dec2)) * cos(radians(ra2 - ra1)), 2)), "
    "sin(radians(dec1)) * sin(radians(dec2)) + cos(radians(dec1)) * cos(radians(dec2)) * "
    "cos(radians(ra2 - ra1))))"
)
_BITS = " ".join(f"WHEN '{flag.name}' THEN {flag.value}" for flag in Flag)
_NAMES = ", ".join(str(flag.name) for flag in Flag)
_HAS_FLAG = f"(flags & CASE flag {_BITS} ELSE error('no flag ' || flag || '; known: {_NAMES}') END) != 0"
_FLAG_NAMES = (
    "list_filter(["
    + ", ".join(f"CASE WHEN flags & {flag.value} != 0 THEN '{flag.name}' END" for flag in Flag)
    + "], lambda name_: name_ IS NOT NULL)"
)

SCALARS = (
    Macro(
        "p_between",
        "draws, log_weights, low, high",
        _probability("value_ BETWEEN low AND high", "low + high"),
        "probability that a parameter lies in a range",
        "p_between(log_age, log_weight, 6, 7)",
    ),
    Macro(
        "p_above",
        "draws, log_weights, edge",
        _probability("value_ >= edge", "edge"),
        "probability that a parameter is at least so much",
        "p_above(log_mass, log_weight, 5)",
    ),
    Macro(
        "p_below",
        "draws, log_weights, edge",
        _probability("value_ < edge", "edge"),
        "probability that a parameter is less",
        "p_below(log_age, log_weight, 7)",
    ),
    Macro(
        "each_between",
        "draws, low, high",
        "list_transform(draws, lambda value_: value_ BETWEEN low AND high)",
        "condition on each draw, for p_all and p_any",
        "each_between(ebv, 0, 0.3)",
    ),
    Macro(
        "each_above",
        "draws, edge",
        "list_transform(draws, lambda value_: value_ >= edge)",
        "condition on each draw, for p_all and p_any",
        "each_above(log_mass, 4)",
    ),
    Macro(
        "each_below",
        "draws, edge",
        "list_transform(draws, lambda value_: value_ < edge)",
        "condition on each draw, for p_all and p_any",
        "each_below(log_age, 7)",
    ),
    Macro(
        "p_all",
        "conditions, log_weights",
        _JOINT.format("AND"),
        "joint probability: all conditions at once",
        "p_all([each_below(log_age, 7), each_above(log_mass, 4)], log_weight)",
    ),
    Macro(
        "p_any",
        "conditions, log_weights",
        _JOINT.format("OR"),
        "probability that one condition holds at least",
        "p_any([each_below(log_age, 7), each_above(ebv, 1)], log_weight)",
    ),
    Macro(
        "weighted_mean",
        "draws, log_weights",
        _MEAN,
        "posterior mean",
        "weighted_mean(log_age, log_weight)",
    ),
    Macro(
        "weighted_std",
        "draws, log_weights",
        f"CASE WHEN {_TOTAL} > 0 THEN sqrt(greatest({_VARIANCE}, 0)) END",
        "posterior standard deviation",
        "weighted_std(log_age, log_weight)",
    ),
    Macro(
        "weighted_quantile",
        "draws, log_weights, probability",
        _QUANTILE,
        "the draw at which the summed weight reaches a probability",
        "weighted_quantile(log_age, log_weight, 0.9)",
    ),
    Macro(
        "effective_draws",
        "log_weights",
        f"pow({_TOTAL}, 2) / list_inner_product({_WEIGHTS}, {_WEIGHTS})",
        "how many draws of equal weight are worth as much",
        "effective_draws(log_weight)",
    ),
    Macro("has_flag", "flags, flag", _HAS_FLAG, "whether a bit is set", "has_flag(flags, 'LOW_EFFICIENCY')"),
    Macro("flag_names", "flags", _FLAG_NAMES, "names of the bits that are set", "flag_names(flags)"),
    Macro(
        "separation",
        "ra1, dec1, ra2, dec2",
        _SEPARATION,
        "angle between two places on the sky; all in degrees",
        "separation(ra, dec, 24.2, 15.0) * 3600 < 30",
    ),
)

_CONE = (
    "SELECT *, separation(ra, dec, ra0, dec0) AS separation FROM posterior "
    "WHERE separation(ra, dec, ra0, dec0) <= radius ORDER BY separation"
)
CONE = Macro(
    "cone",
    "ra0, dec0, radius",
    _CONE,
    "posteriors within a radius, nearest first; all in degrees, column separation too",
    "FROM cone(24.2, 15.0, 30 / 3600)",
)


def sample_macro(parameters: Sequence[str]) -> Macro:
    """The macro that samples a cluster's draws.

    Parameters
    ----------
    parameters : sequence of str
        Columns of draws.

    Returns
    -------
    Macro
        Stratified resampling by weight: one draw for each n-th of the summed weight, at a place that a
        digest of id, seed and number decides.
    """
    lists = ", ".join(f'unnest("{name}") AS "{name}"' for name in parameters)
    names = ", ".join(f'"{name}"' for name in parameters)
    key = "galaxy || '/' || object_id || '/' || seed || '/' || draw"
    # The digest's upper 53 bits are a number in [0, 1); the sums may fall short of one by rounding.
    chance = f"(md5_number_lower({key}) >> 11) / 9007199254740992"
    window = "PARTITION BY galaxy, object_id"
    # The names in it are those of the files' own columns, and quoted.
    body = (
        "WITH chosen AS (SELECT * FROM draws "  # noqa: S608, see above
        "WHERE object_id = id AND (in_galaxy IS NULL OR galaxy = in_galaxy)), "
        f"each AS (SELECT galaxy, object_id, {lists}, unnest(log_weight) AS log_weight, "
        "generate_subscripts(log_weight, 1) AS place FROM chosen), "
        f"sums AS (SELECT *, sum(exp(log_weight::DOUBLE)) OVER ({window} ORDER BY place) / "
        f"sum(exp(log_weight::DOUBLE)) OVER ({window}) AS reached FROM each WHERE exp(log_weight) > 0), "
        f"aims AS (SELECT galaxy, object_id, draw, (draw - 1 + {chance}) / n * (1 - 1e-9) AS aim "
        "FROM chosen, range(1, n + 1) numbers(draw) WHERE len(log_weight) > 0) "
        f"SELECT aims.galaxy, aims.object_id, draw, {names} FROM aims ASOF JOIN sums "
        "ON aims.galaxy = sums.galaxy AND aims.object_id = sums.object_id AND aims.aim <= sums.reached "
        "ORDER BY aims.galaxy, aims.object_id, draw"
    )
    return Macro(
        "sample_draws",
        "id, n, in_galaxy := NULL, seed := 0",
        body,
        "n draws of a cluster, resampled by weight; the same for the same seed",
        "FROM sample_draws('Demo-A-1', 1000, in_galaxy := 'Demo-A', seed := 1)",
    )


def macros_for(tables: dict[str, list[str]]) -> list[Macro]:
    """The macros that a run's tables allow.

    Parameters
    ----------
    tables : dict of str to list of str
        Columns of each table.

    Returns
    -------
    list of Macro
        Those of the draws and of positions only where there are such.
    """
    found = list(SCALARS)
    if {"ra", "dec"} <= set(tables.get("posterior", [])):
        found.append(CONE)
    known = ("galaxy", "object_id", "log_weight")
    if set(known) <= set(tables.get("draws", [])):
        found.append(sample_macro([name for name in tables["draws"] if name not in known]))
    return found


def create_macros(database: duckdb.DuckDBPyConnection, macros: Sequence[Macro]) -> None:
    """Define macros in a database."""
    for macro in macros:
        database.execute(macro.statement)
