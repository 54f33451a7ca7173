"""The comparison with published values, on a table whose answer is known."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from batchflow.schema import PUBLISHED
from batchflow.validate.compare import compare_published, headline


def table(n=400, offset=0.2, published=True):
    rng = np.random.default_rng(6)
    columns = {
        "survey": ["a"] * (n // 2) + ["b"] * (n // 2),
        "class_": np.tile([1, 2, 3, 0], n // 4),
        "n_bands": np.tile([5, 5, 4, 5], n // 4),
        "n_modes": np.tile([1, 2], n // 2),
    }
    for name in PUBLISHED:
        truth = rng.normal(7, 0.5, n)
        centre = truth + offset + rng.normal(0, 0.1, n)
        columns[f"published_{name}"] = truth if published else np.full(n, np.nan)
        columns |= {f"{name}_q50": centre, f"{name}_map": centre + 1.0}
        for suffix, width in (("q16", -0.1), ("q84", 0.1), ("q02", -0.2), ("q97", 0.2)):
            columns[f"{name}_{suffix}"] = centre + width - offset
    return pa.table(columns)


def pick(comparison, **labels):
    rows = [row for row in comparison.to_pylist() if all(row[key] == value for key, value in labels.items())]
    assert len(rows) == 1
    return rows[0]


def test_offset_scatter_and_shares_are_those_put_in():
    labels = {"survey": "all", "class": "all", "bands": "all", "modes": "all", "parameter": "log_age"}
    found = pick(compare_published(table()), estimate="q50", **labels)
    assert found["n"] == 400
    assert found["median"] == pytest.approx(0.2, abs=0.02)
    assert found["scatter"] == pytest.approx(0.1, abs=0.02)
    # Intervals of 1 and 2 sigma (0.1, 0.2), widened by half a step of 0.05.
    assert found["in_68"] == pytest.approx(norm.cdf(1.5) - norm.cdf(-1.5), abs=0.05)
    assert found["in_95"] == pytest.approx(norm.cdf(2.5) - norm.cdf(-2.5), abs=0.02)
    mass = pick(compare_published(table()), estimate="q50", **labels | {"parameter": "log_mass"})
    assert mass["in_68"] == pytest.approx(0.68, abs=0.06)
    assert mass["in_95"] == pytest.approx(0.95, abs=0.03)
    assert found["beyond_1"] == 0
    assert pick(compare_published(table()), estimate="map", **labels)["beyond_1"] > 0.9


def test_groups_hold_their_own_rows():
    comparison = compare_published(table())
    labels = {"bands": "all", "modes": "all", "parameter": "ebv", "estimate": "q50"}
    assert pick(comparison, survey="a", **{"class": "1-2"}, **labels)["n"] == 100
    assert pick(comparison, survey="all", **{"class": "3"}, **labels)["n"] == 100
    labels["bands"] = "5"
    assert pick(comparison, survey="all", **{"class": "all"}, **labels)["n"] == 300


def test_nothing_published_is_an_empty_table():
    comparison = compare_published(table(published=False))
    assert comparison.num_rows == 0
    assert headline(comparison).num_rows == 0


def test_the_headline_is_short_and_holds_the_whole():
    lines = headline(compare_published(table())).to_pylist()
    assert 0 < len(lines) < 30
    whole = [
        line for line in lines if (line["survey"], line["class"], line["modes"]) == ("all", "all", "all")
    ]
    assert len(whole) == 1
    assert whole[0]["n"] == 300
    assert whole[0]["log_mass"] == pytest.approx(0.2, abs=0.02)
