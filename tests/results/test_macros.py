"""SQL macros against numpy and astropy."""

import numpy as np
import pytest
from asked_run import make_asked_run
from astropy.coordinates import angular_separation

from batchflow.errors import UserError
from batchflow.infer.summary import weighted_moments, weighted_quantiles
from batchflow.results.contents import list_macros, list_tables
from batchflow.results.query import query
from batchflow.schema import Flag

RNG = np.random.default_rng(3)
DRAWS = RNG.normal(7, 1, (6, 50)).astype(np.float32)
LOG_WEIGHTS = np.log(RNG.dirichlet(np.full(50, 0.3), 6)).astype(np.float32)
LOG_WEIGHTS[0, :10] = -np.inf
WEIGHTS = np.exp(LOG_WEIGHTS.astype(float))
WEIGHTS /= WEIGHTS.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_asked_run(tmp_path_factory.mktemp("asked"))


def value(run, expression, row=0):
    """An expression of v, the draws of a row, and w, their log weights."""
    text = [str([float(x) for x in a[row]]).replace("-inf", "'-inf'::FLOAT") for a in (DRAWS, LOG_WEIGHTS)]
    sql = f"SELECT {expression} AS x FROM (SELECT {text[0]}::FLOAT[] AS v, {text[1]}::FLOAT[] AS w)"
    return query(run.root, sql)["x"][0].as_py()


@pytest.mark.parametrize("row", range(6))
def test_moments_and_quantiles_are_those_of_the_summaries(run, row):
    draws, weights = DRAWS[row : row + 1].astype(float), WEIGHTS[row : row + 1]
    mean, std = weighted_moments(draws, weights)
    assert value(run, "weighted_mean(v, w)", row) == pytest.approx(mean[0], rel=1e-6)
    assert value(run, "weighted_std(v, w)", row) == pytest.approx(std[0], rel=1e-5)
    probabilities = [0.0, 0.025, 0.5, 0.9, 1.0]
    expected = weighted_quantiles(draws, weights, probabilities)[0]
    found = [value(run, f"weighted_quantile(v, w, {p})", row) for p in probabilities]
    assert found[1:4] == pytest.approx(expected[1:4])
    assert found[0] == pytest.approx(DRAWS[row].min())
    assert value(run, "effective_draws(w)", row) == pytest.approx(1 / (weights**2).sum(), rel=1e-5)


@pytest.mark.parametrize(
    "expression",
    [
        *("p_below(v, w, 7)", "p_above(v, w, 7)", "p_between(v, w, 6, 8)", "p_all([each_below(v, 7)], w)"),
        *("p_any([each_below(v, 7)], w)", "weighted_mean(v, w)", "weighted_std(v, w)"),
        *("weighted_quantile(v, w, 0.5)", "effective_draws(w)"),
    ],
)
def test_draws_that_another_prior_left_no_weight_say_nothing(run, expression):
    """NaN would be found by `p > 0.9`: to DuckDB it is above every number."""
    sql = f"SELECT {expression} AS x FROM (SELECT [6.5, 7.5]::FLOAT[] AS v, ['-inf', '-inf']::FLOAT[] AS w)"
    assert query(run.root, sql)["x"].to_pylist() == [None]


def test_probabilities(run):
    weights, draws = WEIGHTS[1], DRAWS[1]
    inside = (draws >= 6.5) & (draws <= 7)
    assert value(run, "p_between(v, w, 6.5, 7)", 1) == pytest.approx(weights[inside].sum(), rel=1e-5)
    above, below = value(run, "p_above(v, w, 7)", 1), value(run, "p_below(v, w, 7)", 1)
    assert above == pytest.approx(weights[draws >= 7].sum(), rel=1e-5)
    assert above + below == pytest.approx(1, abs=1e-6)
    both = value(run, "p_all([each_above(v, 6.5), each_below(v, 7)], w)", 1)
    assert both == pytest.approx(value(run, "p_between(v, w, 6.5, 7)", 1), rel=1e-6)
    either = value(run, "p_any([each_below(v, 6.5), each_above(v, 7)], w)", 1)
    assert either + both == pytest.approx(1, abs=1e-6)
    assert value(run, "p_all([each_between(v, 6.5, 7)], w)", 1) == pytest.approx(both, rel=1e-6)
    for unknown in ("p_below(v, w, NULL)", "p_above(v, w, NULL)", "p_between(v, w, NULL, 7)"):
        assert value(run, unknown, 1) is None  # such as a published age that is not there


def test_a_cluster_without_draws_has_no_probability(run):
    macros = ("p_below(e, e, 7)", "weighted_mean(e, e)", "weighted_std(e, e)", "weighted_quantile(e, e, 0.5)")
    for macro in (*macros, "p_all([each_below(e, 7)], e)", "effective_draws(e)"):
        assert query(run.root, f"SELECT {macro} AS x FROM (SELECT []::FLOAT[] AS e)")["x"][0].as_py() is None


def test_names_of_columns_are_not_taken_for_those_of_a_macro(run):
    named = "SELECT [1.0, 3.0] AS value_, [0.0, 0.0] AS place_, 2 AS low"
    sql = f"SELECT p_below(value_, place_, low) AS p FROM ({named})"
    assert query(run.root, sql)["p"][0].as_py() == pytest.approx(0.5)


def test_a_probability_beyond_one_is_refused(run):
    with pytest.raises(UserError, match="between 0 and 1, not 50"):
        query(run.root, "SELECT weighted_quantile(log_age, log_weight, 50) FROM draws")


def test_flags(run):
    given = int(Flag.MISSING_BAND | Flag.GRID_POSTERIOR)
    asked = f"has_flag({given}, 'GRID_POSTERIOR') AS a, has_flag({given}, 'POOR_FIT') AS b"
    sql = f"SELECT {asked}, flag_names({given}) AS c"
    found = {"a": True, "b": False, "c": ["MISSING_BAND", "GRID_POSTERIOR"]}
    assert query(run.root, sql).to_pylist() == [found]
    with pytest.raises(UserError, match="no flag LOW; known: MISSING_BAND"):
        query(run.root, "SELECT has_flag(flags, 'LOW') FROM posterior")


@pytest.mark.parametrize(
    "places",
    [(0, 90, 123, 90), (10, 89.9, 190, 89.9), (359.999, 0, 0.001, 0), (5, -90, 5, 90), (24, 15, 24, 15)]
    + [tuple(row) for row in RNG.uniform([0, -90, 0, -90], [360, 90, 360, 90], (5, 4))],
)
def test_separation(run, places):
    expected = np.degrees(angular_separation(*np.radians(places)))
    found = query(run.root, f"SELECT separation({', '.join(map(str, places))}) AS x")["x"][0].as_py()
    assert found == pytest.approx(expected, abs=1e-9)


def test_sampled_draws_follow_the_weights_and_stay_together(run):
    sql = "FROM sample_draws('628-2', 20000, seed := {})"
    found = query(run.root, sql.format(1))
    assert found.column_names == ["galaxy", "object_id", "draw", "log_age", "log_mass", "ebv"]
    assert found["draw"].to_pylist() == list(range(1, 20001))
    given = query(
        run.root, "SELECT log_age, ebv, log_weight FROM draws WHERE object_id = '628-2'"
    ).to_pylist()[0]
    weights = np.exp(given["log_weight"])
    together = dict(zip(given["log_age"], given["ebv"], strict=True))
    ages, ebvs = found["log_age"].to_pylist(), found["ebv"].to_pylist()
    assert all(together[age] == ebv for age, ebv in zip(ages, ebvs, strict=True))
    counts = np.array([ages.count(age) for age in given["log_age"]])
    assert counts == pytest.approx(20000 * weights / weights.sum(), abs=2.01)  # one at most at either end


def test_samples_are_the_same_for_the_same_seed_only(run):
    sql = "FROM sample_draws('628-2', 30, in_galaxy := '628', seed := {})"
    first, again, other = (query(run.root, sql.format(seed)) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    assert query(run.root, "FROM sample_draws('628-2', 30, in_galaxy := '../b')").num_rows == 0
    assert query(run.root, "FROM sample_draws('628-5', 30)").num_rows == 0  # not inferred
    for sql in ("FROM sample_draws('628-22', 30)", "EXPLAIN FROM sample_draws('628-22', 30)"):
        with pytest.raises(UserError, match="draws has no cluster '628-22'; nearest: 628-2, "):
            query(run.root, sql)


def test_every_macro_is_listed_with_an_example_that_runs(run):
    listed = list_macros(run.root).to_pylist()
    assert {"p_between", "sample_draws", "cone"} <= {row["macro"].split("(")[0] for row in listed}
    for row in listed:
        example = row["example"]
        assert row["macro"].split("(")[0] in example
        home = "posterior" if "flags" in example or "separation" in example else "draws"
        query(run.root, example if example.startswith("FROM") else f"SELECT {example} FROM {home}")


def test_tables_are_listed_with_rows_types_and_units(run):
    rows = {(row["table"], row["column"]): row for row in list_tables(run.root).to_pylist()}
    assert rows["posterior", "log_age_q50"]["unit"] == "dex(yr)"
    assert rows["posterior", "ra"]["unit"] == "deg"
    assert rows["draws", "ebv"]["type"] == "list of float"
    assert rows["draws", "ebv"]["rows"] == 24
    assert rows["posterior", "galaxy"]["type"] == "string"
