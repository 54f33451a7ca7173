"""The adaptive cells against brute force in NumPy, coded anew."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from exact_models import BANDS
from scipy import stats
from scipy.special import logsumexp

from batchflow.flow.features import Observations
from batchflow.infer.cells import COARSE
from batchflow.infer.exact_grid import ExactGrid
from batchflow.infer.importance import weigh
from batchflow.infer.likelihood import Photometry
from batchflow.infer.marginal import ExactModel, compare
from batchflow.infer.mass_fit import Range
from batchflow.infer.nuisance import GRID_AXES, Nuisances
from batchflow.infer.points import points
from batchflow.infer.summary import weighted_quantiles
from batchflow.mocks.noise import plain_terms
from batchflow.mocks.prior import log_prior
from batchflow.physics.engine import open_engine
from batchflow.settings.model import ModelSettings
from batchflow.settings.prior import PriorSettings
from batchflow.threads import threads

DRAWS = 4096
PROBABILITIES = [0.025, 0.16, 0.5, 0.84, 0.975]
NAMES = ("log_age", "log_mass", "ebv")
FLAT = {
    "log_age": {"uniform": (6.0, 10.1)},
    "log_mass": {"uniform": (2.0, 7.0)},
    "ebv": {"uniform": (0, 1.0)},
}
TEN_PC = 12.0
"""log10 of (10 Mpc / 10 pc)^2."""


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other are slower than one on a busy machine."""
    with threads(1):
        yield


@pytest.fixture(scope="module")
def table():
    return open_engine(ModelSettings(bands=tuple(BANDS))).table()


class Seen(NamedTuple):
    """One cluster at 10 Mpc; arrays (n_bands,)."""

    flux: np.ndarray
    error: np.ndarray
    measured: np.ndarray
    limit: np.ndarray
    systematic: float


def observe(table, truth, signal, *, systematic=0.05, seed=0, limits=(), missing=()):
    """Noisy photometry; `signal` is that of the mean band."""
    at = {name: truth[name] for name in ("log_age", "ebv")}
    true = table.fluxes(at)[0] * 10 ** (truth["log_mass"] - TEN_PC)
    error = np.full(4, true.mean() / signal)
    noise = np.random.default_rng(seed).standard_normal(4) * np.hypot(error, systematic * true)
    limit, measured = np.zeros(4, bool), np.ones(4, bool)
    limit[list(limits)], measured[list(missing)] = True, False
    return Seen(np.where(limit, 3 * error, true + noise), error, measured, limit, systematic)


class Found(NamedTuple):
    """Weighted draws."""

    values: dict
    weights: np.ndarray
    efficiency: float
    log_evidence: float


def draw(table, seens, prior, keys=None, n=DRAWS):
    """Draws of several clusters together, weighted."""
    settings = PriorSettings.model_validate(prior)
    model = ExactModel.of(table, Nuisances({}), torch.device("cpu"))
    grid = ExactGrid.of(model, settings, tuple(settings.boxes()))
    columns = [np.stack([getattr(seen, name) for seen in seens]) for name in Seen._fields[:4]]
    flux, error = (torch.from_numpy(column).float() for column in columns[:2])
    measured, limit = (torch.from_numpy(column) for column in columns[2:])
    terms = plain_terms(torch.where(measured, error, 1.0), seens[0].systematic)
    photometry = Photometry(Observations(flux, error, measured, limit), terms)
    low, high = settings.boxes()["log_mass"]
    edges = Range(*(torch.full((len(seens),), edge - TEN_PC) for edge in (low, high)))
    names = keys or [str(i) for i in range(len(seens))]
    base = points([(1, "test", name) for name in names], n, grid.dimensions)
    theta, log_q = grid.sample(photometry, edges, base)
    values = {name: theta[..., i] for i, name in enumerate(grid.parameters)}
    log_like = compare(model, photometry, values, None).log_likelihood
    physical = {name: value.double().numpy() for name, value in values.items()}
    physical["log_mass"] = physical["log_mass"] + TEN_PC
    boxes = settings.boxes()
    inner = {name: value.clip(*boxes[name]) for name, value in physical.items() if name != "log_mass"}
    density = log_prior(settings, inner | {"log_mass": physical["log_mass"]})
    weighted = weigh(log_like.double() + torch.from_numpy(density), log_q.double())
    rows = zip(weighted.log_weights.exp().numpy(), weighted.efficiency, weighted.log_evidence, strict=True)
    return [
        Found({name: physical[name][i] for name in physical}, weights, float(efficiency), float(evidence))
        for i, (weights, efficiency, evidence) in enumerate(rows)
    ]


class Brute(NamedTuple):
    """Marginal distributions on fine grids."""

    axes: dict
    shares: dict
    log_evidence: float

    def below(self, name, value):
        """Cumulative probability, linear within a cell."""
        axis, share = self.axes[name], self.shares[name]
        step = axis[1] - axis[0]
        edges = np.append(axis - step / 2, axis[-1] + step / 2)
        return np.interp(value, edges, np.append(0.0, share.cumsum()))


def log_likelihood(seen, fluxes):
    variance = seen.error**2 + (seen.systematic * fluxes) ** 2
    used = seen.measured & ~seen.limit
    limited = seen.measured & seen.limit
    gauss = (seen.flux - fluxes) ** 2 / variance + np.log(2 * np.pi * variance)
    below = (seen.flux - fluxes)[..., limited] / np.sqrt(variance[..., limited])
    return -0.5 * gauss[..., used].sum(-1) + stats.norm.logcdf(below).sum(-1)


def brute(table, seen, prior, window, sizes):
    """The posterior on `sizes` cells of a `window` on (age, mass, E(B-V))."""
    settings = PriorSettings.model_validate(prior)
    axes = {
        name: low + (high - low) * (np.arange(n) + 0.5) / n
        for (name, (low, high)), n in zip(window.items(), sizes, strict=True)
    }
    age, mass, ebv = (axes[name] for name in NAMES)
    cell = np.prod([axis[1] - axis[0] for axis in axes.values()])
    parts = []
    for one in age:
        shape = table.fluxes({"log_age": np.full(ebv.size, one), "ebv": ebv})
        like = log_likelihood(seen, shape * 10.0 ** (mass[:, None, None] - TEN_PC))
        parts.append(like + log_prior(settings, {"log_age": one, "log_mass": mass[:, None], "ebv": ebv}))
    joint = np.stack(parts)
    total = logsumexp(joint)
    share = np.exp(joint - total)
    marginal = [share.sum(tuple(j for j in range(3) if j != i)) for i in range(3)]
    edge = np.concatenate([each[[0, -1]] for each in marginal])
    inner = [window[name] != settings.boxes()[name] for name in NAMES for _ in (0, 1)]
    assert edge[inner].max(initial=0) < 1e-4, "the window cuts the posterior"
    return Brute(axes, dict(zip(NAMES, marginal, strict=True)), float(total + np.log(cell)))


def assert_equal(found, exact, least=0.5):
    """Quantiles lie at their probabilities, to what 4096 even draws give; the evidence agrees."""
    assert found.efficiency > least
    assert found.log_evidence == pytest.approx(exact.log_evidence, abs=0.03)
    for name in NAMES:
        quantiles = weighted_quantiles(found.values[name][None], found.weights[None], PROBABILITIES)[0]
        np.testing.assert_allclose(exact.below(name, quantiles), PROBABILITIES, atol=0.012, err_msg=name)


WHOLE = {name: shape["uniform"] for name, shape in FLAT.items()}
CASES = {
    "old and red": ({"log_age": 9.3, "log_mass": 5.0, "ebv": 0.1}, 20, {}),
    "young and reddened": ({"log_age": 6.6, "log_mass": 4.0, "ebv": 0.5}, 20, {}),
    "two modes": ({"log_age": 7.0, "log_mass": 4.0, "ebv": 0.2}, 8, {"missing": (0,)}),
    "a band missing": ({"log_age": 8.0, "log_mass": 4.5, "ebv": 0.3}, 15, {"missing": (1,)}),
    "two limits": ({"log_age": 8.5, "log_mass": 4.5, "ebv": 0.4}, 4, {"limits": (0, 1)}),
    "faint": ({"log_age": 8.5, "log_mass": 3.5, "ebv": 0.2}, 1.0, {"seed": 3}),
    "limits alone": ({"log_age": 8.5, "log_mass": 3.5, "ebv": 0.2}, 1.0, {"limits": (0, 1, 2, 3)}),
    "no more mass": ({"log_age": 8.0, "log_mass": 6.98, "ebv": 0.2}, 20, {"seed": 5}),
    "no reddening, oldest": ({"log_age": 10.08, "log_mass": 5.0, "ebv": 0.0}, 20, {"seed": 6}),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_brute_force(table, case):
    truth, signal, others = CASES[case]
    seen = observe(table, truth, signal, **others)
    (found,) = draw(table, [seen], FLAT)
    exact = brute(table, seen, FLAT, WHOLE, (138, 334, 80))
    assert_equal(found, exact, 0.3)


@pytest.mark.parametrize("signal", [300.0, 3000.0])
def test_a_posterior_narrower_than_the_tables_cells_is_found(table, signal):
    # Between two nodes of the table, nowhere near a coarse cell's centre, and far narrower than either.
    truth = {"log_age": 8.117, "log_mass": 5.0, "ebv": 0.2337}
    seen = observe(table, truth, signal, systematic=0.0)
    (found,) = draw(table, [seen], FLAT)
    centre = {name: (found.weights * found.values[name]).sum() for name in NAMES}
    variance = {name: (found.weights * (found.values[name] - centre[name]) ** 2).sum() for name in NAMES}
    spread = {name: 8 * np.sqrt(value) for name, value in variance.items()}
    assert spread["log_age"] / 8 < 0.3 * np.diff(table.nodes[0]).max()
    window = {name: (centre[name] - spread[name], centre[name] + spread[name]) for name in NAMES}
    for name in NAMES:
        assert abs(centre[name] - truth[name]) < spread[name]
    assert_equal(found, brute(table, seen, FLAT, window, (120, 120, 120)))


def test_priors_of_any_shape(table):
    prior = {
        "log_age": {"normal": (8.3, 0.1)},
        "log_mass": {"power_law": (-2.0, 2.0, 7.0)},
        "ebv": {"truncated_normal": (0.2, 0.05, 0.0, 1.0)},
    }
    seen = observe(table, {"log_age": 8.5, "log_mass": 4.0, "ebv": 0.3}, 10)
    (found,) = draw(table, [seen], prior)
    boxes = PriorSettings.model_validate(prior).boxes()
    exact = brute(table, seen, prior, {name: boxes[name] for name in NAMES}, (120, 250, 100))
    assert_equal(found, exact)


def test_where_nothing_fits(table):
    """One band off by a magnitude or more: large cells mislead, and those that matter must not be dropped."""
    seens = []
    for seed in range(12):
        seen = observe(table, {"log_age": 6.4 + 0.3 * seed, "log_mass": 4.5, "ebv": 0.3}, 20, seed=seed)
        off = np.ones(4)
        off[seed % 4] = (0.2, 0.4, 3.0)[seed % 3]
        seens.append(seen._replace(flux=seen.flux * off))
    found = draw(table, seens, FLAT, n=1024)
    assert min(each.efficiency for each in found) > 0.4


def test_a_cluster_does_not_depend_on_its_neighbours(table):
    seens = [observe(table, truth, signal, **others) for truth, signal, others in CASES.values()]
    names = list(CASES)
    together = draw(table, seens, FLAT, names, n=256)
    for i in (0, 4, 8):
        (alone,) = draw(table, [seens[i]], FLAT, [names[i]], n=256)
        for name in NAMES:
            np.testing.assert_array_equal(alone.values[name], together[i].values[name])
        np.testing.assert_array_equal(alone.weights, together[i].weights)


def test_simulation_based_calibration(table):
    # Truth from the prior, data from the truth: the truth's rank in its posterior is uniform.
    rng = np.random.default_rng(8)
    seens, truths = [], []
    for _ in range(200):
        truth = {name: rng.uniform(*shape["uniform"]) for name, shape in FLAT.items()}
        at = {name: truth[name] for name in ("log_age", "ebv")}
        true = table.fluxes(at)[0] * 10 ** (truth["log_mass"] - TEN_PC)
        error = np.full(4, 10 ** rng.uniform(-6, -4))
        flux = true + rng.standard_normal(4) * np.hypot(error, 0.05 * true)
        seens.append(Seen(flux, error, np.ones(4, bool), np.zeros(4, bool), 0.05))
        truths.append(truth)
    found = [each for i in range(0, 200, 50) for each in draw(table, seens[i : i + 50], FLAT, n=512)]
    assert np.median([each.efficiency for each in found]) > 0.7
    for name in NAMES:
        ranks = [
            (each.weights * (each.values[name] < truth[name])).sum()
            for each, truth in zip(found, truths, strict=True)
        ]
        assert stats.kstest(ranks, "uniform").pvalue > 1e-3, name


def test_where_there_is_no_grid(table):
    marginal = {"rv": {"truncated_normal": (3.1, 0.3, 2.5, 4.0), "marginalise": True}}
    settings = PriorSettings.model_validate(FLAT | marginal)
    varied = open_engine(ModelSettings(bands=tuple(BANDS), vary={"rv": (2.5, 4.0)})).table()
    model = ExactModel.of(varied, Nuisances(settings.marginalised()), torch.device("cpu"))
    assert ExactGrid.of(model, settings, tuple(settings.boxes())) is None


def test_the_coarse_cells_are_those_of_every_number_of_axes():
    assert sorted(COARSE) == list(range(1, GRID_AXES + 1))
