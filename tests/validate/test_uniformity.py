"""Rank tests on posteriors that are right, and on ones that are wrong in a known way; strata."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kstest

from batchflow.validate.exactness import Sample
from batchflow.validate.strata import LEAST_MOCKS, make_strata, strata_table
from batchflow.validate.tables import calibration_table, coverage_table, ranks_table
from batchflow.validate.uniformity import (
    coverage_curve,
    expected_coverage,
    family_pvalue,
    histogram,
    smooth_ranks,
    uniformity,
)
from batchflow.validate.ways import HPD, JOINT, all_ranks

N, D = 2000, 200
BOXES = {"a": (-4.0, 4.0), "b": (-4.0, 4.0)}


def toy(width=1.0, shift=0.0, seed=1, n=N):
    """Two parameters N(0, 1) seen with noise N(0, 1): the exact posterior is N(x / 2, 1 / sqrt 2)."""
    rng = np.random.default_rng(seed)
    truth = {name: rng.normal(size=n) for name in BOXES}
    seen = {name: values + rng.normal(size=n) for name, values in truth.items()}
    draws = {
        name: x[:, None] / 2 + shift + width * rng.normal(size=(n, D)) / np.sqrt(2)
        for name, x in seen.items()
    }
    return Sample(draws, np.full((n, D), 1 / D)), truth


def ranks_of(**wrong):
    sample, truth = toy(**wrong)
    return all_ranks({"network": sample}, truth, BOXES, seed=3)


def test_a_right_posterior_passes():
    for values in ranks_of().values():
        found = uniformity(values)
        assert found.pvalue > 1e-3
        assert found.ks_pvalue > 1e-3


@pytest.mark.parametrize("name", ["a", JOINT])
def test_over_confidence_is_found_and_told_from_doubt(name):
    narrow, wide = (
        uniformity(ranks_of(width=0.7)["network", name]),
        uniformity(ranks_of(width=1.5)["network", name]),
    )
    assert narrow.pvalue < 1e-6
    assert wide.pvalue < 1e-6
    if name != JOINT:
        assert narrow.dispersion_z > 5
        assert wide.dispersion_z < -5


def test_a_shift_is_found_with_its_sign():
    low = ranks_of(shift=-0.2)
    assert uniformity(low["network", "a"]).shift_z > 5
    assert uniformity(ranks_of(shift=0.2)["network", "a"]).shift_z < -5
    assert uniformity(ranks_of(shift=-0.4)["network", JOINT]).pvalue < 1e-3


def test_what_every_parameter_hides_all_together_show():
    """Marginals that are right and a correlation that is wrong: the density sees it."""
    rng = np.random.default_rng(2)
    covariance = np.array([[1, 0.9], [0.9, 1]])
    truth = rng.multivariate_normal([0, 0], covariance, N)
    wrong = {name: rng.normal(size=(N, D)) for name in BOXES}
    right = dict(
        zip(BOXES, np.moveaxis(rng.multivariate_normal([0, 0], covariance, (N, D)), -1, 0), strict=True)
    )
    inverse = np.linalg.inv(covariance)

    def density(points):
        return -0.5 * np.einsum("...i,ij,...j->...", points, inverse, points)

    weights = np.full((N, D), 1 / D)
    ways = {
        way: Sample(draws, weights, density(np.stack(list(draws.values()), -1)))
        for way, draws in (("wrong", wrong), ("right", right))
    }
    known = dict(zip(BOXES, truth.T, strict=True)) | {HPD: density(truth)}
    found = all_ranks(ways, known, BOXES, seed=4)
    assert uniformity(found["wrong", "a"]).pvalue > 1e-3
    assert uniformity(found["wrong", HPD]).pvalue < 1e-6
    assert uniformity(found["right", HPD]).pvalue > 1e-3
    assert uniformity(found["right", JOINT]).pvalue > 1e-3


def test_the_tests_hold_their_level():
    rng = np.random.default_rng(5)
    pvalues = [uniformity(rng.random(LEAST_MOCKS)).pvalue for _ in range(3000)]
    assert np.mean(np.array(pvalues) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert np.mean(np.array(pvalues) < 0.01) == pytest.approx(0.01, abs=0.007)


def test_ranks_of_few_draws_are_smooth():
    rng = np.random.default_rng(6)
    few = rng.integers(0, 8, 5000) / 7
    assert kstest(smooth_ranks(few, np.full(5000, 7.0), rng.random(5000)), "uniform").pvalue > 1e-3
    assert kstest(few, "uniform").pvalue < 1e-9


def test_weights_count():
    """Draws of a wider normal, weighted to the right one."""
    sample, truth = toy(width=1.6)
    mean = {name: draws.mean(1, keepdims=True) for name, draws in sample.values.items()}
    away = sum((sample.values[name] - mean[name]) ** 2 for name in BOXES)
    weights = np.exp(-away * (1 - 1 / 1.6**2))
    weighted = Sample(sample.values, weights / weights.sum(1, keepdims=True))
    found = all_ranks({"weighted": weighted, "network": sample}, truth, BOXES, seed=7)
    assert uniformity(found["weighted", "a"]).pvalue > 1e-3
    assert uniformity(found["network", "a"]).pvalue < 1e-6


def test_curves_of_uniform_ranks_are_the_diagonal():
    ranks = (np.arange(10_000) + 0.5) / 10_000
    levels = np.linspace(0.05, 0.95, 19)
    assert coverage_curve(ranks, levels)[0] == pytest.approx(levels, abs=2e-4)
    assert expected_coverage(ranks, levels)[0] == pytest.approx(levels, abs=2e-4)
    assert set(histogram(ranks)) == {500}


def test_no_ranks_are_no_number():
    found = uniformity(np.zeros(0))
    assert found.n == 0
    assert np.isnan(found.ks_pvalue)


def test_the_least_of_many_pvalues_is_uniform_again():
    least = np.random.default_rng(8).random((4000, 50)).min(1)
    assert kstest(family_pvalue(least, 50), "uniform").pvalue > 1e-3


def seen(n=N, seed=9):
    rng = np.random.default_rng(seed)
    return {
        "signal": 10 ** rng.uniform(0.5, 3, n),
        "log_age": np.where(rng.random(n) < 0.02, np.nan, rng.uniform(6, 10, n)),
        "n_bands": rng.integers(3, 6, n),
        "survey": rng.choice(["deep", "wide"], n),
        "depth": 10 ** rng.uniform(-6, -4, n),
    }


def test_strata_part_the_mocks():
    strata = make_strata(seen())
    for by in seen():
        masks = np.array([stratum.mask for stratum in strata if stratum.by == by])
        assert len(masks) > 1
        assert (masks.sum(0) == 1).all()


def test_the_worst_stratum_comes_first_and_the_right_ones_are_cleared():
    columns = seen()
    ranks = np.random.default_rng(10).random(N)
    bad = columns["signal"] < 10
    ranks[bad] = 0.5 + 0.4 * (ranks[bad] - 0.5)
    extra = pa.table({"efficiency": np.full(N, 0.5), "gap_nats": np.zeros(N)})
    strata = make_strata({name: columns[name] for name in ("signal", "n_bands", "survey")})
    rows = strata_table(strata, {("delivered", "log_age"): ranks}, extra).to_pylist()
    assert (rows[0]["by"], rows[0]["stratum"], rows[0]["verdict"]) == ("signal", "below 10", "too wide")
    others = [row for row in rows if row["by"] == "signal" and row["stratum"] != "below 10"]
    assert {row["verdict"] for row in others} == {"calibrated"}
    assert rows[0]["tests"] == len(strata)


def test_the_verdict_says_what_is_wrong():
    low = np.random.default_rng(1).random(500) * 0.7
    strata, extra = make_strata({"survey": np.array(["s"] * 500)}), pa.table({"efficiency": np.ones(500)})
    ranks = {("network", name): low for name in ("log_age", HPD, JOINT)}
    found = {row["parameter"]: row["verdict"] for row in strata_table(strata, ranks, extra).to_pylist()}
    assert found == {"log_age": "too high", HPD: "draws too far out", JOINT: "not calibrated"}


def test_no_stratum_of_a_right_posterior_is_called_wrong():
    strata, extra = make_strata(seen()), pa.table({"efficiency": np.full(N, 0.5)})
    for seed in range(5):
        ranks = {("delivered", "log_age"): np.random.default_rng(seed).random(N)}
        rows = strata_table(strata, ranks, extra).to_pylist()
        assert {row["verdict"] for row in rows if row["pvalue"] is not None} == {"calibrated"}


def test_a_stratum_of_few_mocks_is_named_not_tested():
    n = 100
    columns = {"survey": np.array(["big"] * (n - 5) + ["tiny"] * 5)}
    ranks = {("delivered", "log_age"): np.full(n, 0.01)}
    rows = strata_table(make_strata(columns), ranks, pa.table({"efficiency": np.ones(n)})).to_pylist()
    tiny = next(row for row in rows if row["stratum"] == "tiny")
    assert tiny["pvalue"] is None
    assert tiny["verdict"] == f"too few mocks: 5 of {LEAST_MOCKS}"
    assert rows[0]["stratum"] == "big"


def test_tables_hold_every_way_and_parameter():
    sample, truth = toy(n=200)
    ranks = all_ranks({"network": sample}, truth, BOXES, seed=1)
    rows = calibration_table(ranks, {"network": sample}, truth).to_pylist()
    assert [row["parameter"] for row in rows] == ["a", "b", JOINT]
    assert rows[2]["bias"] is None
    assert rows[0]["scatter"] == pytest.approx(1 / np.sqrt(2), rel=0.25)
    curve = coverage_table(ranks).to_pylist()
    middle = [row for row in curve if row["parameter"] == "a" and abs(row["level"] - 0.5) < 1e-9]
    assert len(middle) == 1
    assert middle[0]["coverage"] == pytest.approx(0.5, abs=5 * middle[0]["error"])
    bins = [row for row in ranks_table(ranks).to_pylist() if row["parameter"] == "b"]
    assert sum(row["count"] for row in bins) == 200


@pytest.mark.filterwarnings("ignore")
def test_tarp_is_that_of_sbi():
    """The curve of sbi's own TARP at the same reference points."""
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("sbi.diagnostics.tarp")
    from batchflow.validate.tarp import credibility

    sample, truth = toy(width=0.8)
    points = np.random.default_rng(11).uniform(-4, 4, (N, 2))
    own = np.stack(list(truth.values()), 1)
    found = credibility(sample.stacked(), sample.weights, own, points)
    tensors = (torch.tensor(values) for values in (sample.stacked().transpose(1, 0, 2), own, points))
    curve, levels = theirs._run_tarp(*tensors, num_bins=23)
    # 23 bins: no credibility, a multiple of 1 / 200, lies on an edge.
    inner = levels.numpy()[1:-1]
    assert expected_coverage(found, inner)[0] == pytest.approx(curve.numpy()[1:-1], abs=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_tarp_is_that_of_the_library_tarp():
    theirs = pytest.importorskip("tarp")
    from batchflow.validate.tarp import credibility

    sample, truth = toy(width=0.8)
    points = np.random.default_rng(12).uniform(-4, 4, (N, 2))
    own = np.stack(list(truth.values()), 1)
    found = credibility(sample.stacked(), sample.weights, own, points)
    curve, levels = theirs.get_tarp_coverage(
        sample.stacked().transpose(1, 0, 2), own, references=points, norm=False, num_alpha_bins=23
    )
    inner = levels[1:-1]
    assert expected_coverage(found, inner)[0] == pytest.approx(curve[1:-1], abs=1e-5)
