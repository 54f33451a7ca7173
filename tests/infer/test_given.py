"""What a caller may give in Python: arrays, quantities, tables; and what is refused, in words."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table

from batchflow.errors import UserError
from batchflow.flow.checkpoint import new_network
from batchflow.flow.density import Specification
from batchflow.infer.draw import Rescue
from batchflow.infer.given import given_arrays, given_table
from batchflow.infer.posterior import Model
from batchflow.mocks.noise import NoiseModel
from batchflow.physics.engine import open_engine
from batchflow.schema import LIMIT_SIGMA, Flag
from batchflow.settings.prior import PriorSettings
from batchflow.settings.train import FlowSettings
from batchflow.threads import threads

BANDS = ("wfc3_f275w", "wfc3_f555w", "wfc3_f814w")
FLUX = np.array([[1.0, 2.0, 3.0], [0.5, 0.4, 0.3]]) * 1e-3
ERROR = 0.1 * FLUX
PRIOR = PriorSettings.model_validate({})
SUMMARY = ("log_age_q50", "log_mass_q16", "ebv_std")


@pytest.fixture(scope="module")
def model():
    """An untrained network: the grid needs none."""
    one, box = np.ones((1, 3)), np.array([[0.0, 5.0]])
    noise = NoiseModel(BANDS, ("none",), one, 0 * one, 0 * one, one, np.ones(1), box, 0.05, np.zeros(1))
    network = new_network(Specification(BANDS, PRIOR.boxes(), FlowSettings(), noise), 0)
    network.description["prior_settings"] = PRIOR.model_dump(mode="json")
    return Model(network, open_engine({"bands": BANDS}).table())


def table(kind=QTable, unit=u.mJy, **changes):
    columns = {"object_id": ["a", "b"], "distance_mpc": [10.0, 12.0] * u.Mpc}
    for i, band in enumerate(BANDS):
        columns[f"flux_{band}"] = (FLUX[:, i] * u.mJy).to(unit)
        columns[f"error_{band}"] = (ERROR[:, i] * u.mJy).to(unit)
    return kind(columns | changes)


def same(found, wanted):
    np.testing.assert_allclose(found.clusters.flux, wanted.clusters.flux, rtol=1e-12)
    np.testing.assert_allclose(found.clusters.error, wanted.clusters.error, rtol=1e-12)
    np.testing.assert_allclose(found.clusters.distance_mpc, wanted.clusters.distance_mpc, rtol=1e-12)


PLAIN = given_arrays(FLUX, ERROR, BANDS, [10.0, 12.0])


def test_units_of_arrays_are_converted():
    same(given_arrays(FLUX * 1e3 * u.uJy, ERROR * u.mJy, BANDS, [1e4, 1.2e4] * u.kpc), PLAIN)
    cgs = (FLUX * u.mJy).to(u.erg / u.s / u.cm**2 / u.Hz)
    same(given_arrays(cgs, ERROR * u.mJy, BANDS, [10.0, 12.0]), PLAIN)


def test_ab_magnitudes_are_fluxes():
    magnitude = (FLUX * u.mJy).to(u.ABmag)
    sigma = 2.5 / np.log(10) * ERROR / FLUX * u.mag
    same(given_arrays(magnitude, sigma, BANDS, [10.0, 12.0]), PLAIN)
    one = table()
    for i, band in enumerate(BANDS):
        one[f"flux_{band}"], one[f"error_{band}"] = magnitude[:, i], sigma[:, i]
    same(given_table(one, BANDS), PLAIN)


@pytest.mark.parametrize("kind", [Table, QTable])
@pytest.mark.parametrize("unit", [u.mJy, u.uJy, u.Jy])
def test_tables_are_read_in_their_units(kind, unit):
    found = given_table(table(kind, unit), BANDS)
    same(found, PLAIN)
    assert list(found.ids) == ["a", "b"]


def test_masked_and_absent_values_are_not_measured():
    given = table(Table, galaxy=["N1", "N2"])
    given["flux_wfc3_f275w"] = MaskedColumn(FLUX[:, 0], mask=[True, False], unit="mJy")
    given["limit_wfc3_f814w"] = [True, False]
    given.remove_columns(["flux_wfc3_f555w", "error_wfc3_f555w"])
    found = given_table(given, BANDS)
    np.testing.assert_array_equal(found.clusters.measured, [[False, False, True], [True, False, True]])
    np.testing.assert_array_equal(found.clusters.limit[:, 2], [True, False])
    assert (found.flags & Flag.MISSING_BAND > 0).all()
    assert list(found.clusters.keys) == ["N1/a", "N2/b"]


def test_a_masked_array_is_read_as_a_masked_column_is():
    flux = np.ma.array(FLUX, mask=[[True, False, False], [False] * 3])
    found = given_arrays(flux, ERROR, BANDS, 10.0)
    np.testing.assert_array_equal(found.clusters.measured[0], [False, True, True])


def test_table_and_arrays_have_one_posterior(model):
    way = Rescue(0.0, 512, "always")
    numbered = table(object_id=["0", "1"])
    found = model.posterior(numbered, draws=256, rescue=way).summary
    plain = model.posterior(FLUX, ERROR, distance_mpc=[10.0, 12.0], draws=256, rescue=way).summary
    for name in SUMMARY:
        np.testing.assert_allclose(found[name].to_numpy(), plain[name].to_numpy(), rtol=1e-5)
    assert model.posterior(table(), draws=64).summary["object_id"].to_pylist() == ["a", "b"]


def test_a_distance_beside_a_table_wins(model):
    found = given_table(table(), BANDS, distance=[3.0, 4.0] * u.Mpc, distance_error=100 * u.kpc).clusters
    np.testing.assert_allclose(found.distance_mpc, [3.0, 4.0])
    np.testing.assert_allclose(found.distance_error_mpc, 0.1)


def bad(rows):
    """Photometry of a good cluster first, then one for each change."""
    flux, error = np.repeat(FLUX[:1], len(rows) + 1, 0), np.repeat(ERROR[:1], len(rows) + 1, 0)
    for i, (fluxes, errors) in enumerate(rows):
        flux[i + 1], error[i + 1] = fluxes, errors
    return flux, error


def test_wrong_numbers_are_their_rows_and_the_others_are_done(model):
    nan, inf = np.nan, np.inf
    one, sigma = FLUX[0], ERROR[0]
    rows = [
        ([nan] * 3, sigma),
        (one, [0.0] * 3),
        (one, -sigma),
        ([inf] * 3, sigma),
        (one, [nan, sigma[1], sigma[2]]),
        (one, [inf, sigma[1], sigma[2]]),
        (-one, sigma),
    ]
    flux, error = bad(rows)
    distance = [10.0] * len(flux)
    alone = model.posterior(flux[:1], error[:1], distance_mpc=10.0, draws=128).summary
    summary = model.posterior(flux, error, distance_mpc=distance, draws=128).summary
    flags = np.array(summary["flags"])
    inferred = np.isfinite(summary["log_age_q50"].to_numpy())
    np.testing.assert_array_equal(inferred, [True, False, False, False, False, True, True, True])
    assert ((flags & Flag.NOT_INFERRED > 0) == ~inferred).all()
    assert (flags[1:5] & Flag.NO_BAND > 0).all()
    assert (flags[[2, 3, 4, 5, 6]] & Flag.BAD_ERROR > 0).all()
    assert flags[7] & Flag.NEGATIVE_FLUX
    assert not flags[0] & (Flag.BAD_ERROR | Flag.MISSING_BAND | Flag.NOT_INFERRED)
    assert summary["log_age_q50"][0].as_py() == pytest.approx(alone["log_age_q50"][0].as_py(), rel=1e-5)


def test_wrong_distances_are_their_rows(model):
    far = [10.0, np.nan, -3.0, 0.0, np.inf]
    summary = model.posterior(*bad([(FLUX[0], ERROR[0])] * 4), distance_mpc=far, draws=64).summary
    flags = np.array(summary["flags"])
    np.testing.assert_array_equal(flags & Flag.NO_DISTANCE > 0, [False, True, True, True, True])
    np.testing.assert_array_equal(np.isnan(summary["log_mass_q50"].to_numpy()), flags & Flag.NOT_INFERRED > 0)


def test_a_band_left_out_is_the_likelihood_without_it(model):
    """Another engine's table, that never had the band, gives the same posterior."""
    way, few = Rescue(0.0, 4096, "always"), (BANDS[0], BANDS[2])
    flux = np.where([True, False, True], FLUX, np.nan)
    found = model.posterior(flux, ERROR, distance_mpc=10.0, rescue=way).summary
    one, box = np.ones((1, 2)), np.array([[0.0, 5.0]])
    noise = NoiseModel(few, ("none",), one, 0 * one, 0 * one, one, np.ones(1), box, 0.05, np.zeros(1))
    network = new_network(Specification(few, PRIOR.boxes(), FlowSettings(), noise), 0)
    network.description["prior_settings"] = PRIOR.model_dump(mode="json")
    other = Model(network, open_engine({"bands": few}).table())
    wanted = other.posterior(FLUX[:, [0, 2]], ERROR[:, [0, 2]], distance_mpc=10.0, rescue=way).summary
    for name in ("log_age", "log_mass", "ebv"):
        width = wanted[f"{name}_std"].to_numpy()
        for suffix in ("q16", "q50", "q84"):
            away = found[f"{name}_{suffix}"].to_numpy() - wanted[f"{name}_{suffix}"].to_numpy()
            assert (np.abs(away) < 0.05 * width).all(), (name, suffix)


GALAXY = {"flux_wfc3_f606w": [1.0, 1.0], "error_wfc3_f606w": [0.1, 0.1]}
WRONG = {
    "shape": (lambda: given_arrays(FLUX[:, :2], ERROR, BANDS, 10.0), r"\(2, 2\).*expected \(n_clusters, 3\)"),
    "ragged": (lambda: given_arrays([[1.0], [1.0, 2.0]], ERROR, BANDS, 10.0), "fluxes: .*equal length"),
    "no errors": (lambda: given_arrays(FLUX, None, BANDS, 10.0), "errors are missing"),
    "distance": (lambda: given_arrays(FLUX, ERROR, BANDS, -3.0), "distance_mpc = -3; expected a positive"),
    "distances": (lambda: given_arrays(FLUX, ERROR, BANDS, [1.0] * 3), r"shape \(3,\)"),
    "unit of length": (lambda: given_arrays(FLUX, ERROR, BANDS, 3 * u.s), "unit 's'.*Mpc"),
    "unit of flux": (lambda: given_arrays(FLUX * u.m, ERROR, BANDS, 3.0), "unit 'm'"),
    "mixed": (lambda: given_arrays(FLUX * u.mJy, ERROR * u.ABmag, BANDS, 3.0), "convert one"),
    "other band": (lambda: given_table(table(**GALAXY), BANDS), "flux_wfc3_f606w.*trained for the bands"),
    "no band": (lambda: given_table(Table({"x": [1.0]}), BANDS), "no column flux_<band>.*it has x"),
    "no distances": (lambda: given_table(table()["flux_wfc3_f275w", "error_wfc3_f275w"], BANDS), "distance"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_said_in_words(case):
    work, words = WRONG[case]
    with pytest.raises(UserError, match=words):
        work()


def test_a_table_alone_and_arrays_with_errors(model):
    with pytest.raises(UserError, match="a table alone"):
        model.posterior(table(), ERROR)
    with pytest.raises(UserError, match="distance_mpc is missing"):
        model.posterior(FLUX, ERROR)
    with pytest.raises(UserError, match="draws = 0"):
        model.posterior(table(), draws=0)
    with pytest.raises(UserError, match=r"draws = 1\.5; expected a whole number"):
        model.posterior(table(), draws=1.5)
    with pytest.raises(UserError, match=r"rescue = .always.; expected .*Rescue"):
        model.posterior(table(), rescue="always")


@pytest.fixture(autouse=True)
def _one_thread():
    with threads(1):
        yield


def test_numbers_that_no_measurement_has_are_left_out_and_stop_nothing(model):
    """Sentinels that nobody declared, in flux or error: single precision holds no square of them."""
    rows = [(FLUX[0], ERROR[0])] * 4
    flux, error = bad(rows[1:])
    flux[1, 0], error[2, 1], flux[3, 2], error[3, 2] = 1e20, 1e20, 1e-33, 1e-31
    summary = model.posterior(flux, error, distance_mpc=10.0, draws=128).summary
    assert ((np.array(summary["flags"]) & Flag.BAD_ERROR) > 0).tolist() == [False, True, True, True]
    assert summary["n_bands"].to_pylist() == [3, 2, 2, 2]
    for row, band in ((1, 0), (2, 1), (3, 2)):
        few = np.where(np.arange(3) == band, np.nan, FLUX[0])
        wanted = model.posterior(few, ERROR[0], distance_mpc=10.0, draws=128).summary
        for name in SUMMARY:
            assert summary[name][row].as_py() == pytest.approx(wanted[name][0].as_py(), rel=1e-3)


def test_photometry_that_is_beyond_every_model_is_a_poor_fit_and_stops_nothing(model):
    flux, error = np.array([[1e8, 1e-3, 1e-3], FLUX[0]]), np.array([[1e-12] * 3, ERROR[0]])
    summary = model.posterior(flux, error, distance_mpc=10.0, draws=128).summary
    flags = np.array(summary["flags"])
    assert flags[0] & (Flag.POOR_FIT | Flag.LOW_EFFICIENCY)
    assert not flags[1] & (Flag.POOR_FIT | Flag.LOW_EFFICIENCY)
    alone = model.posterior(FLUX[0], ERROR[0], distance_mpc=10.0, draws=128).summary
    assert summary["log_age_q50"][1].as_py() == pytest.approx(alone["log_age_q50"][0].as_py(), rel=1e-5)


def test_a_distance_whose_error_is_not_known_may_say_so(model):
    plain = model.posterior(FLUX, ERROR, distance_mpc=10.0, draws=64).summary
    for unknown in (np.nan, 0.0):
        found = model.posterior(FLUX, ERROR, distance_mpc=10.0, distance_error_mpc=unknown, draws=64).summary
        assert found["log_mass_std"].to_pylist() == plain["log_mass_std"].to_pylist()


def test_a_limit_without_an_error_is_one_as_in_a_catalogue():
    limited = table(limit_wfc3_f275w=[True, True])
    limited["error_wfc3_f275w"][:] = np.nan * u.mJy
    limited["flux_wfc3_f275w"][1] = -1.0 * u.mJy
    found = given_table(limited, BANDS)
    assert found.clusters.error[0, 0] == pytest.approx(FLUX[0, 0] / LIMIT_SIGMA)
    assert found.flags.tolist() == [Flag.UPPER_LIMIT, Flag.BAD_ERROR]
