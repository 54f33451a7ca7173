"""Clusters in two surveys, and predictive checks, on tables whose answer is known."""

import numpy as np
import pyarrow as pa
import pytest

from batchflow.schema import Flag
from batchflow.validate.overlap import overlap_summary, overlap_table
from batchflow.validate.predictive import predictive_table

ARCSEC = 1 / 3600
N = 300


def survey(name, where, values, sigma):
    rows = len(values)
    columns = {
        "survey": [name] * rows,
        "galaxy": ["G"] * rows,
        "object_id": [f"{name}{i}" for i in range(rows)],
        "ra": where[:, 0],
        "dec": where[:, 1],
        "n_bands": np.full(rows, 5),
        "n_modes": np.ones(rows),
        "flags": np.zeros(rows),
    }
    for q, d in (("q02", -1.96), ("q16", -0.9945), ("q50", 0), ("q84", 0.9945), ("q97", 1.96)):
        columns[f"log_age_{q}"] = values + d * sigma
    return pa.table(columns)


def two_fields(shift=0.4, offset=0.0):
    """`N` clusters seen twice, others once; the second field's coordinates are `shift` arcsec off."""
    rng = np.random.default_rng(2)
    where = np.stack([24.17 + rng.uniform(0, 60, N) * ARCSEC, 15.78 + rng.uniform(0, 60, N) * ARCSEC], 1)
    age = rng.uniform(6, 9, N)
    one = survey("c", where, rng.normal(age, 0.1), 0.1)
    own = rng.normal(0, 0.03, (N, 2)) * ARCSEC
    two = survey("e", where + own + np.array([0, shift * ARCSEC]), rng.normal(age + offset, 0.2), 0.2)
    far = survey("far", where[:20] + np.array([0, 5.0]), age[:20], 0.1)
    return pa.concat_tables([one, two, far])


def test_pairs_are_found_though_coordinates_are_shifted():
    pairs = overlap_table(two_fields())
    assert pairs.num_rows > 0.97 * N
    same = [
        a[1:] == b[1:]
        for a, b in zip(pairs["object_id_1"].to_pylist(), pairs["object_id_2"].to_pylist(), strict=True)
    ]
    assert np.mean(same) > 0.995
    assert set(zip(pairs["survey_1"].to_pylist(), pairs["survey_2"].to_pylist(), strict=True)) == {("c", "e")}
    assert np.max(pairs["separation"].to_numpy()) <= 0.25


def test_pulls_of_right_errors_are_normal_and_an_offset_shows():
    rows = overlap_summary(overlap_table(two_fields())).to_pylist()
    whole = next(row for row in rows if row["survey_1"] == "all" and row["parameter"] == "log_age")
    assert whole["pull_scatter"] == pytest.approx(1.0, abs=0.15)
    assert whole["pull_median"] == pytest.approx(0.0, abs=0.2)
    assert whole["agree_95"] > 0.98
    off = overlap_summary(overlap_table(two_fields(offset=0.5))).to_pylist()[0]
    assert off["median"] == pytest.approx(0.5, abs=0.06)
    assert off["pull_median"] == pytest.approx(0.5 / np.hypot(0.1, 0.2), abs=0.3)


def test_surveys_apart_have_no_pairs():
    table = two_fields()
    pairs = overlap_table(table.filter(pa.array([name != "e" for name in table["survey"].to_pylist()])))
    assert pairs.num_rows == 0
    assert overlap_summary(pairs).num_rows == 0


def test_a_row_is_in_one_pair_of_two_surveys():
    pairs = overlap_table(two_fields())
    for side in ("object_id_1", "object_id_2"):
        assert len(set(pairs[side].to_pylist())) == pairs.num_rows


def posterior(n=3000, odd=0):
    rng = np.random.default_rng(3)
    ood = rng.random(n) * 0.998 + 0.002
    ood[:odd] = 1e-4
    return pa.table(
        {
            "galaxy": ["A"] * 3 + ["B"] * (n - 3),
            "survey": ["s1"] * (n // 2) + ["s2"] * (n - n // 2),
            "efficiency": np.full(n, 0.5),
            "ppc_pvalue": rng.random(n),
            "ood_pvalue": ood,
            "flags": np.where(np.arange(n) < odd, int(Flag.OUT_OF_DISTRIBUTION | Flag.POOR_FIT), 0),
        }
    )


def row(table, by, name):
    found = [item for item in table.to_pylist() if (item["by"], item["name"]) == (by, name)]
    assert len(found) == 1
    return found[0]


def test_strange_clusters_are_counted_and_the_worst_survey_is_first():
    mocks = {"ppc_pvalue": np.random.default_rng(4).random(500), "ood_pvalue": np.linspace(0, 1, 500)}
    table = predictive_table(posterior(odd=60), mocks)
    bad, good = row(table, "survey", "s1"), row(table, "survey", "s2")
    assert bad["ood_below_001"] == pytest.approx(60 / 1500)
    assert bad["ood_excess_corrected"] < 1e-6
    assert good["ood_excess_corrected"] > 0.01
    assert bad["poor_fit"] == pytest.approx(60 / 1500)
    assert good["ppc_ks_pvalue"] > 1e-3
    assert good["ppc_below_05"] == pytest.approx(0.05, abs=0.02)
    surveys = [item["name"] for item in table.to_pylist() if item["by"] == "survey"]
    assert surveys == ["s1", "s2"]
    assert row(table, "mocks", "held out")["n"] == 500


def test_a_galaxy_of_three_clusters_and_no_mocks_do_no_harm():
    table = predictive_table(posterior(), {"ppc_pvalue": np.zeros(0), "ood_pvalue": np.zeros(0)})
    small = row(table, "galaxy", "A")
    assert small["n"] == 3
    assert small["ppc_ks_pvalue"] is None
    assert not [item for item in table.to_pylist() if item["by"] == "mocks"]


def test_a_row_of_unknown_declination_takes_no_other_pair_with_it():
    table = two_fields()
    dec = table["dec"].to_numpy().copy()
    dec[0] = np.nan
    pairs = overlap_table(table.set_column(table.column_names.index("dec"), "dec", pa.array(dec)))
    assert pairs.num_rows > 0.97 * N - 1
    assert "c0" not in pairs["object_id_1"].to_pylist()
