"""The classical fit against CIGALE's recipe coded anew, one cluster and one model at a time."""

import importlib.util
import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fit_models import SHIFT, fitter, observe
from scipy import optimize, stats

from batchflow.fit.classical import How, degrees_of_freedom, fit_classical, probable, reduced

NAMES = ("log_age", "ebv", "log_mass")
TENTH = np.full((6, 5), 0.1)


class Recipe:
    """`pdf_analysis` of one cluster by hand; limits by a scalar minimiser."""

    def __init__(self, models, clusters, row, additional=0.1, limits=True, likely=1e-3):
        flux, error = clusters.flux[row], clusters.error[row]
        seen = np.isfinite(flux) & (flux > 0) & ~clusters.limit[row]
        below = np.isfinite(flux) & (flux > 0) & clusters.limit[row] & limits
        sigma = np.sqrt(error**2 + (additional * flux) ** 2)
        self.fluxes = models.fluxes.T.numpy()
        self.n_bands = int(seen.sum() + below.sum())
        found = [self._fit(model, flux, error, sigma, seen, below) for model in self.fluxes]
        self.chi2, self.scale = np.array(found).T
        freedom = self.n_bands - 1
        top = stats.chi2.isf(stats.chi2.sf(self.chi2.min(), freedom) * likely, freedom) if likely else np.inf
        kept = self.chi2 < top
        weight = np.exp(-self.chi2[kept] / 2)
        columns = dict(zip(models.names, models.values.numpy(), strict=True))
        columns["log_mass"] = np.log10(self.scale) + SHIFT
        best = self.chi2.argmin()
        self.best = {name: values[best] for name, values in columns.items()}
        self.mean = {name: np.average(values[kept], weights=weight) for name, values in columns.items()}
        self.deviation = {
            name: np.sqrt(np.average((values[kept] - self.mean[name]) ** 2, weights=weight))
            for name, values in columns.items()
        }
        for name in columns:
            floor = 0.02 if name.startswith("log_") else 0.05 * self.mean[name]
            self.deviation[name] = max(floor, self.deviation[name])

    @staticmethod
    def _fit(model, flux, error, sigma, seen, below):
        def chi2(scale):
            gauss = (((flux - scale * model) / sigma)[seen] ** 2).sum()
            return gauss - 2 * stats.norm.logcdf(((flux - scale * model) / error)[below]).sum()

        scale = (model * flux / sigma**2)[seen].sum() / (model**2 / sigma**2)[seen].sum()
        if below.any():
            search = {"bounds": (-8, 0.1), "method": "bounded", "options": {"xatol": 1e-9}}
            inner = optimize.minimize_scalar(lambda log: chi2(scale * np.exp(log)), **search)
            scale *= np.exp(inner.x)
        return chi2(scale), scale


def agree(found, recipe, row, chi2=1e-9, values=1e-8):
    assert found.chi2[row] == pytest.approx(recipe.chi2.min(), abs=chi2)
    assert found.n_bands[row] == recipe.n_bands
    for name, value in recipe.best.items():
        assert found.best[name][row] == pytest.approx(value, abs=values)
        assert found.mean[name][row] == pytest.approx(recipe.mean[name], abs=values)
        assert found.deviation[name][row] == pytest.approx(recipe.deviation[name], abs=values)


@pytest.mark.parametrize("likely", [1e-3, 0.0])
def test_detections(likely):
    own = fitter()
    clusters = observe(own.table, missing=[(1, 0), (2, 4), (2, 3)])
    found = fit_classical(own.models, clusters, TENTH, How("erf", likely))
    for row in range(6):
        agree(found, Recipe(own.models, clusters, row, likely=likely), row)


def test_upper_limits_by_the_probability_of_lying_below():
    own = fitter()
    clusters = observe(own.table, limits=[(0, 0), (1, 0), (1, 1), (3, 4)])
    found = fit_classical(own.models, clusters, TENTH, How("erf", 1e-3))
    for row in range(6):
        agree(found, Recipe(own.models, clusters, row), row, chi2=1e-6, values=2e-5)


def test_dropped_limits_are_bands_that_were_not_measured():
    own = fitter()
    places = [(0, 0), (1, 0), (3, 4)]
    clusters = observe(own.table, limits=places)
    dropped = fit_classical(own.models, clusters, TENTH, How("drop", 1e-3))
    agree(dropped, Recipe(own.models, clusters, 3, limits=False), 3)
    flux = clusters.flux.copy()
    flux[tuple(np.array(places).T)] = np.nan
    never = fit_classical(own.models, replace(clusters, flux=flux), TENTH, How("erf", 1e-3))
    np.testing.assert_array_equal(dropped.chi2, never.chi2)
    kept = fit_classical(own.models, clusters, TENTH, How("erf", 1e-3))
    assert (kept.chi2[[0, 1, 3]] > dropped.chi2[[0, 1, 3]]).all()


@pytest.mark.parametrize(
    "vary", [{"metallicity": (0.004, 0.05)}, {"metallicity": (0.004, 0.05), "rv": (2.5, 4.5)}]
)
def test_more_parameters(vary):
    prior = {name: {"uniform": limits} for name, limits in vary.items()}
    nodes = {"log_age": (6.0, 7.0, 8.0, 9.0, 10.0), "metallicity": (0.004, 0.02, 0.05)}
    own = fitter({"nodes": nodes, "steps": {"ebv": 0.25, "rv": 1.0}}, prior, vary)
    clusters = observe(own.table)
    found = fit_classical(own.models, clusters, TENTH, How("erf", 1e-3))
    assert set(found.best) == {*NAMES, *vary}
    for row in range(6):
        agree(found, Recipe(own.models, clusters, row), row)


def test_a_model_of_the_grid_is_found_again():
    own = fitter()
    at = {"log_age": np.array([6.5, 8.25]), "ebv": np.array([0.3, 0.0])}
    flux = own.table.fluxes(at) * 1e4 * 10**-SHIFT
    clusters = replace(observe(own.table, 2), flux=flux, error=0.05 * flux)
    found = fit_classical(own.models, clusters, TENTH[:2], How("erf", 1e-3))
    np.testing.assert_allclose(found.best["log_age"], at["log_age"])
    np.testing.assert_allclose(found.best["ebv"], at["ebv"], atol=1e-12)
    np.testing.assert_allclose(found.best["log_mass"], 4.0, atol=1e-9)
    np.testing.assert_allclose(found.chi2, 0.0, atol=1e-9)


def test_brightness_and_distance_move_the_mass_alone():
    own = fitter()
    clusters = observe(own.table, limits=[(1, 0)])
    one = fit_classical(own.models, clusters, TENTH, How("erf", 1e-3))
    brighter = replace(clusters, flux=100 * clusters.flux, error=100 * clusters.error)
    two = fit_classical(own.models, brighter, TENTH, How("erf", 1e-3))
    far = replace(clusters, distance_mpc=10 * clusters.distance_mpc)
    three = fit_classical(own.models, far, TENTH, How("erf", 1e-3))
    for other in (two, three):
        np.testing.assert_allclose(other.chi2, one.chi2, rtol=1e-7)
        for name in ("best", "mean"):
            before, after = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(after["log_mass"], before["log_mass"] + 2, rtol=1e-9)
            np.testing.assert_allclose(after["log_age"], before["log_age"], rtol=1e-9)


def test_a_cluster_does_not_depend_on_its_neighbours():
    own = fitter()
    clusters = observe(own.table, 40, limits=[(7, 1)])
    whole = fit_classical(own.models, clusters, np.full((40, 5), 0.1), How("erf", 1e-3))
    rows = np.array([31, 7, 2])
    alone = fit_classical(own.models, clusters.rows(rows), TENTH[:3], How("erf", 1e-3))
    np.testing.assert_array_equal(alone.chi2, whole.chi2[rows])
    for name in NAMES:
        np.testing.assert_array_equal(alone.mean[name], whole.mean[name][rows])
        np.testing.assert_array_equal(alone.deviation[name], whole.deviation[name][rows])


def test_what_cannot_be_fitted_is_nan():
    own = fitter()
    alone = [(0, band) for band in range(1, 5)] + [(1, band) for band in range(5)]
    clusters = observe(own.table, missing=alone, limits=[(2, band) for band in range(5)])
    flux, distance = clusters.flux.copy(), clusters.distance_mpc.copy()
    flux[3, 0], distance[4] = -flux[3, 0], np.nan
    odd = replace(clusters, flux=flux, distance_mpc=distance)
    found = fit_classical(own.models, odd, TENTH, How("erf", 1e-3))
    assert np.isfinite(found.chi2).tolist() == [False, False, False, True, False, True]
    assert np.isnan(found.mean["log_age"][[0, 1, 2, 4]]).all()
    assert found.n_bands.tolist()[:4] == [1, 0, 5, 4]
    agree(found, Recipe(own.models, odd, 3), 3)


def test_degrees_of_freedom():
    bands = np.array([5, 4, 3, 2, 1])
    assert degrees_of_freedom(bands, 3, "parameters").tolist() == [2, 1, 0, -1, -2]
    assert degrees_of_freedom(bands, 3, "cigale").tolist() == [4, 3, 2, 1, 0]
    np.testing.assert_array_equal(reduced(np.full(3, 4.0), np.array([2, 1, 0])), [2.0, 4.0, np.nan])


def test_hopeless_fits_count_all_models():
    """Of a chi2 whose probability is zero to machine precision, CIGALE's threshold is infinite."""
    import torch

    found = probable(torch.tensor([5000.0, 3.0]).double(), torch.tensor([5, 5]), 1e-3)
    assert found[0] == np.inf
    assert float(found[1]) == pytest.approx(stats.chi2.isf(stats.chi2.sf(3.0, 4) * 1e-3, 4))


@pytest.fixture(scope="module")
def pcigale():
    """The functions of pcigale 0.9 itself, where it is installed."""
    if importlib.util.find_spec("pcigale") is None:
        pytest.skip("pcigale is not installed here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old pcigale on a new Python has many
        try:
            from pcigale.analysis_modules import adjust_data
            from pcigale.analysis_modules.pdf_analysis import utils
        except ImportError as error:
            pytest.skip(f"this pcigale has no pdf_analysis as 0.9 has it: {error}")
    yield adjust_data, utils
    for name in [name for name in sys.modules if name.split(".")[0] == "pcigale"]:
        del sys.modules[name]


@pytest.mark.parametrize("limits", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_pcigale_itself(pcigale, limits, monkeypatch):
    adjust_data, utils = pcigale

    def root(*given, **named):  # its assignment of an array of one to a number is an error in NumPy 2.4
        return SimpleNamespace(x=optimize.root(*given, **named).x.item())

    monkeypatch.setattr(utils, "optimize", SimpleNamespace(root=root))
    own = fitter()
    clusters = observe(own.table, missing=[(1, 0)], limits=[(0, 0), (3, 4)] if limits else ())
    found = fit_classical(own.models, clusters, TENTH, How("erf", 1e-3))
    fluxes = own.models.fluxes.T.numpy()
    values = dict(zip(own.models.names, own.models.values.numpy(), strict=True))
    for row in range(6):
        error = np.where(clusters.limit[row], -clusters.error[row], clusters.error[row])
        error = np.where(np.isnan(clusters.flux[row]), -9999.0, error)
        flux = np.nan_to_num(clusters.flux[row], nan=-9999.0)
        flux, error = adjust_data(flux, error, 1e-12, limits, systematic_deviation=0.1)
        used = np.isfinite(flux)
        chi2, scale = utils.compute_chi2(fluxes[:, used], flux[used], error[used], limits)
        # Its upper limits have a constant that depends on the flux's unit.
        chi2 = chi2 + 2 * np.log(2 * np.sqrt(np.pi / 2) * -error[used][error[used] < 0]).sum()
        best, freedom = chi2.argmin(), used.sum() - 1
        assert found.chi2[row] == pytest.approx(chi2[best], abs=1e-7)
        assert found.best["log_age"][row] == values["log_age"][best]
        assert found.best["log_mass"][row] == pytest.approx(np.log10(scale[best]) + SHIFT, abs=1e-7)
        kept = chi2 < stats.chi2.isf(stats.chi2.sf(chi2.min(), freedom) * 1e-3, freedom)
        for name, column in (*values.items(), ("log_mass", np.log10(scale) + SHIFT)):
            mean, std = utils.weighted_param(column[kept], np.exp(-chi2[kept] / 2))
            assert found.mean[name][row] == pytest.approx(mean, abs=1e-7)
            floor = 0.02 if name.startswith("log_") else 0.05 * mean
            assert found.deviation[name][row] == pytest.approx(max(std, floor), abs=1e-7)
