"""Why values differ: each category on objects made so, and the likelihood at published values."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from exact_models import BANDS

from batchflow.flow.features import Observations
from batchflow.infer.likelihood import Photometry
from batchflow.mocks.noise import plain_terms
from batchflow.physics.engine import open_engine
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.schema import Flag
from batchflow.settings.model import ModelSettings
from batchflow.validate.methods import methods_table, reasons_table
from batchflow.validate.objects import _modes
from batchflow.validate.profile import Box, best_in_box, box_around
from batchflow.validate.reasons import MEANINGS, classify, error_growth

EDGES = {"log_age": (6.0, 10.1), "ebv": (0.0, 1.0)}


def objects(**changes):
    """One object that differs and has no excuse but the models."""
    columns = {
        "difference_log_age": 0.8,
        "difference_log_mass": 0.1,
        "difference_ebv": np.nan,
        "flags": 0,
        "best_pvalue": 0.5,
        "published_outside_prior": False,
        "published_mode": 0,
        "median_mode": 0,
        "published_mode_distance": 9.0,
        "error_growth_colours": 5.0,
        "log_mass_at_published": 4.0,
        "published_log_mass": 4.0,
    }
    return {name: np.array([value]) for name, value in (columns | changes).items()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "model library"),
        ({"flags": int(Flag.NOT_INFERRED)}, "not inferred"),
        ({"difference_log_age": 0.2}, "agrees"),
        ({"difference_log_age": 0.2, "difference_ebv": 0.2}, "model library"),
        ({"flags": int(Flag.OUT_OF_DISTRIBUTION)}, "photometry odd"),
        ({"best_pvalue": 1e-5}, "poor fit"),
        ({"published_outside_prior": True}, "outside prior"),
        ({"published_mode": 1, "published_mode_distance": 1.0}, "another mode"),
        ({"published_mode": 1, "published_mode_distance": 5.0}, "model library"),
        ({"error_growth_colours": 1.5}, "noise floor"),
        ({"error_growth_colours": 1.5, "log_mass_at_published": 4.6}, "mass scale"),
        ({"error_growth_colours": np.nan, "log_mass_at_published": np.nan}, "noise floor"),
    ],
)
def test_each_reason(changes, reason):
    assert list(classify(objects(**changes))) == [reason]
    assert reason in MEANINGS


def test_the_errors_would_have_to_grow_as_much():
    """A deviance of 4 chi squares of the 95 % region comes in at twice the errors."""
    assert error_growth(np.array([4 * 7.8147, 5.9915]), np.array([3, 2])) == pytest.approx(
        [2.0, 1.0], abs=1e-4
    )
    assert np.isnan(error_growth(np.array([1.0]), np.array([0])))


@pytest.fixture(scope="module")
def table():
    own = open_engine(ModelSettings(bands=tuple(BANDS))).table()
    return TorchFluxTable.from_table(own, torch.device("cpu"))


def cluster(table, noise, age=7.6, ebv=0.3, mass=-7.0):
    values = {"log_age": torch.tensor([age]), "ebv": torch.tensor([ebv])}
    flux = torch.exp(table(values) + mass * np.log(10))
    error = noise * flux
    seen = torch.ones_like(flux, dtype=torch.bool)
    terms = plain_terms(error, torch.zeros(len(BANDS)))
    terms = type(terms)(*(torch.as_tensor(term).expand_as(flux).clone() for term in terms))
    return Photometry(Observations(flux, error, seen, ~seen), terms)


def best(table, photometry, published, mass=(-12.0, -3.0)):
    low, high = box_around({name: EDGES[name] for name in table.parameters}, published, {"log_age": 0.05})
    edges = tuple(np.array([edge]) for edge in mass)
    return best_in_box(table, photometry, Box(low, high, edges), np.full((1, 1, low.shape[1]), np.nan))


def test_the_search_finds_the_truth(table):
    nothing = {"log_age": np.array([np.nan])}
    found = best(table, cluster(table, 0.02), nothing)
    at = dict(zip(table.parameters, found.axes[0], strict=True))
    assert found.chi2[0] < 0.5
    assert at["log_age"] == pytest.approx(7.6, abs=0.05)
    assert at["ebv"] == pytest.approx(0.3, abs=0.03)
    assert found.log_mass[0] == pytest.approx(-7.0, abs=0.03)


def test_what_is_published_is_held_and_the_rest_is_free(table):
    photometry = cluster(table, 0.02)
    right = best(table, photometry, {"log_age": np.array([7.6]), "ebv": np.array([np.nan])})
    wrong = best(table, photometry, {"log_age": np.array([8.6]), "ebv": np.array([np.nan])})
    place = list(table.parameters).index("log_age")
    assert wrong.axes[0, place] == pytest.approx(8.6, abs=0.0501)
    assert right.chi2[0] < 0.05
    assert wrong.chi2[0] > 100
    heavy = best(table, photometry, {"log_age": np.array([7.6])}, mass=(-6.55, -6.45))
    assert heavy.chi2[0] > 100
    assert heavy.log_mass[0] == pytest.approx(-6.55, abs=1e-4)


def test_a_value_outside_the_prior_is_taken_at_its_edge():
    low, high = box_around(EDGES, {"ebv": np.array([1.7]), "log_age": np.array([np.nan])}, {"ebv": 0.005})
    assert low[0].tolist() == [6.0, 1.0]
    assert high[0].tolist() == [10.1, 1.0]


def test_the_mode_of_the_published_value():
    posterior = pa.table(
        {
            "log_age_q50": [6.6, 6.6, np.nan],
            "log_mass_q50": [4.0, 4.0, np.nan],
            "ebv_q50": [0.4, 0.4, np.nan],
            "mode_weight": [[0.7, 0.3], [0.7, 0.3], None],
            "mode_log_age": [[6.6, 8.0], [6.6, 8.0], None],
            "mode_log_age_std": [[0.1, 0.2], [0.1, 0.2], None],
            **{f"mode_{name}": [[x, x], [x, x], None] for name, x in (("log_mass", 4.0), ("ebv", 0.4))},
            **{f"mode_{name}_std": [[0.1, 0.1], [0.1, 0.1], None] for name in ("log_mass", "ebv")},
        }
    )
    published = {
        "log_age": np.array([8.1, 6.5, 8.1]),
        "log_mass": np.array([4.0, np.nan, 4.0]),
        "ebv": np.array([np.nan, 0.4, 0.4]),
    }
    found = _modes(posterior, published)
    assert found["published_mode"].tolist() == [1, 0, -1]
    assert found["median_mode"].tolist() == [0, 0, -1]
    assert found["published_mode_weight"][:2] == pytest.approx([0.3, 0.7])
    assert found["published_mode_distance"][0] == pytest.approx((0.1 - 0.05) / 0.2)


def some_objects(n=60, fit=True):
    rng = np.random.default_rng(1)
    columns = {"survey": ["a", "b"] * (n // 2), "n_modes": [1, 2, 1] * (n // 3), "reason": ["agrees"] * n}
    for name in ("log_age", "log_mass", "ebv"):
        truth = rng.normal(7, 1, n)
        columns |= {f"published_{name}": truth, f"{name}_q50": truth + 0.1, f"{name}_map": truth}
        columns |= {
            f"{name}_{q}": truth + 0.1 + d
            for q, d in zip(("q02", "q16", "q84", "q97"), (-1, -0.2, 0.2, 1), strict=True)
        }
        nothing = np.full(n, np.nan)
        columns |= {
            f"network_{name}_{q}": truth + 0.15 + d
            for q, d in zip(("q02", "q16", "q50", "q84", "q97"), (-1, -0.05, 0.0, 0.05, 1), strict=True)
        }
        columns[f"best_{name}"] = truth - 0.5 if fit else nothing
        columns[f"bayes_{name}"] = nothing
        columns |= {
            f"exact_{name}_{q}": truth + 0.1 if fit else nothing for q in ("q02", "q16", "q50", "q84", "q97")
        }
    return pa.table(columns)


def pick(table, **labels):
    rows = [row for row in table.to_pylist() if all(row[key] == value for key, value in labels.items())]
    assert len(rows) == 1
    return rows[0]


def test_methods_are_compared_each_with_each():
    found = methods_table(some_objects())
    whole = {"survey": "all", "modes": "all", "parameter": "log_age"}
    own = pick(found, estimate="posterior", reference="published", **whole)
    assert (own["n"], own["within_0.3"], own["in_68"]) == (60, 1.0, 1.0)
    assert own["median"] == pytest.approx(0.1)
    assert pick(found, estimate="posterior", reference="exact grid", **whole)["median"] == pytest.approx(0.0)
    network = pick(found, estimate="network", reference="exact grid", **whole)
    assert network["median"] == pytest.approx(0.05)
    assert pick(found, estimate="network", reference="published", **whole)["in_68"] == 0.0
    assert pick(found, estimate="posterior map", reference="published", **whole)["in_68"] is None
    best_fit = pick(found, estimate="classical best fit", reference="published", **whole)
    assert best_fit["median"] == pytest.approx(-0.5)
    assert best_fit["in_95"] is None
    one = pick(found, estimate="posterior", reference="published", **whole | {"modes": ">1"})
    assert one["n"] == 20


def test_without_the_classical_fit_the_rest_is_done():
    found = methods_table(some_objects(fit=False))
    assert {row["reference"] for row in found.to_pylist()} == {"published"}
    assert {row["estimate"] for row in found.to_pylist()} == {"posterior", "posterior map", "network"}


def test_reasons_are_counted():
    found = reasons_table(some_objects())
    whole = pick(found, survey="all")
    assert (whole["n"], whole["share"]) == (60, 1.0)
    assert pick(found, survey="a")["n"] == 30
    assert reasons_table(some_objects().slice(0, 0)).num_rows == 0
    assert methods_table(some_objects().slice(0, 0)).num_rows == 0
