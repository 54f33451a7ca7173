"""The noise model fitted to catalogues: known noise is found again, real noise is described."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from batchflow.catalogue.normalise import RawCatalogue, normalise
from batchflow.catalogue.read import read_catalogue
from batchflow.config import parse_job
from batchflow.errors import UserError
from batchflow.infer.clusters import from_catalogue
from batchflow.infer.support import outside_training
from batchflow.mocks import coverage
from batchflow.mocks.coverage import outside_support
from batchflow.mocks.error_fit import MOST, REACH
from batchflow.mocks.estimate import estimate_noise, explicit_noise, noise_figures
from batchflow.mocks.noise import NoiseModel
from batchflow.mocks.survey_sample import photometry, sample_surveys
from batchflow.mocks.unreported import Unreported, unreported_errors
from batchflow.settings.catalogue import CatalogueSettings

BANDS = ("wfc3_f275w", "acs_f435w", "acs_f555w")
PAIRS = np.array([[1.0, 0.3, 0.5], [0.3, 1.0, 0.8], [0.5, 0.8, 1.0]])
TRUTH = NoiseModel(
    bands=BANDS,
    surveys=("deep", "shallow"),
    depth=np.array([[6e-5, 3e-5, 4e-5], [3e-4, 1e-4, 2e-4]]),
    photon=np.array([[2e-6, 1e-6, 1e-6], [1e-5, 4e-6, 6e-6]]),
    fractional=np.array([[0.06, 0.03, 0.04], [0.05, 0.02, 0.03]]),
    scatter=np.array([[0.1, 0.15, 0.2], [0.08, 0.12, 0.1]]),
    correlation=np.array([PAIRS, 0.5 * (PAIRS + np.eye(3))]),
    brightness=np.array([[0.5, 3.0], [0.5, 3.0]]),
    systematic=0.05,
    limit_fraction=np.zeros(2),
)


def table(survey, flux, error, limit=None):
    """A normalised catalogue of fluxes and errors, shape (n_clusters, n_bands)."""
    n_rows = len(flux)
    limit = np.zeros(flux.shape, dtype=bool) if limit is None else limit
    raw = RawCatalogue(
        galaxy=["g"] * n_rows,
        object_id=[str(i) for i in range(n_rows)],
        ra=np.zeros(n_rows),
        dec=np.zeros(n_rows),
        distance_mpc=np.ones(n_rows),
        flux=dict(zip(BANDS, flux.T, strict=True)),
        error=dict(zip(BANDS, error.T, strict=True)),
        limit=dict(zip(BANDS, limit.T, strict=True)),
    )
    return normalise(raw, survey, BANDS)


def simulate(survey, n_rows, seed=0):
    """Clusters as the noise model says: error from the noisy flux."""
    generator = np.random.default_rng(seed)
    i = TRUTH.surveys.index(survey)
    normal = generator.normal(size=(n_rows, len(BANDS))) @ TRUTH.mixing[i].T
    factor = 10 ** (TRUTH.scatter[i] * normal)
    colour = 10 ** generator.normal(0, 0.2, size=(n_rows, len(BANDS)))
    true = TRUTH.depth[i] * 10 ** generator.uniform(0.3, 3.0, size=(n_rows, 1)) * colour
    noise = TRUTH.select(np.full(n_rows, i))
    sigma = np.sqrt(noise.terms_from_factor(factor).variance(true))
    flux = true + sigma * generator.normal(size=true.shape)
    return flux, noise.reported_error(flux, factor)


def test_a_catalogue_that_begins_with_clusters_not_measured_is_described(monkeypatch):
    monkeypatch.setattr(coverage, "MOST_COMPARED", 50)
    measured = table("deep", *simulate("deep", 100))
    nothing = np.full((60, len(BANDS)), np.nan)
    (figures,) = noise_figures(
        estimate_noise(measured, BANDS, 0.05), [table("deep", nothing, nothing), measured]
    )
    assert figures.n_rows == 100
    assert set(figures.residual) == set(BANDS)
    assert "clusters" in figures.line()


def test_known_noise_is_found_again():
    tables = {name: table(name, *simulate(name, 1500)) for name in TRUTH.surveys}
    found = estimate_noise(tables, BANDS, 0.05)
    assert found.surveys == TRUTH.surveys
    assert np.abs(np.log10(found.depth / TRUTH.depth)).max() < 0.06
    assert np.abs(np.log10(found.photon / TRUTH.photon)).max() < 0.25
    assert found.fractional == pytest.approx(TRUTH.fractional, rel=0.05)
    assert found.scatter == pytest.approx(TRUTH.scatter, rel=0.2)
    assert found.correlation == pytest.approx(TRUTH.correlation, abs=0.1)
    assert (found.limit_fraction == 0).all()
    assert (found.systematic == 0.05).all()


def test_one_table_with_surveys_is_the_same():
    tables = {name: table(name, *simulate(name, 200)) for name in TRUTH.surveys}
    apart = estimate_noise(tables, BANDS, 0.0)
    together = estimate_noise(pa.concat_tables(tables.values()), BANDS, 0.0)
    assert apart.to_dict() == together.to_dict()


def test_outliers_hardly_move_the_fit():
    flux, error = simulate("deep", 1000)
    spoiled = error.copy()
    spoiled[::20] *= 10
    clean, found = (estimate_noise({"deep": table("deep", flux, e)}, BANDS, 0.0) for e in (error, spoiled))
    assert np.abs(np.log10(found.depth / clean.depth)).max() < 0.05
    assert found.fractional == pytest.approx(clean.fractional, rel=0.05)


def test_few_clusters_borrow_the_shape_of_another_survey():
    tables = {
        "deep": table("deep", *simulate("deep", 1500)),
        "shallow": table("shallow", *simulate("shallow", 12)),
    }
    found = estimate_noise(tables, BANDS, 0.05)
    assert np.abs(np.log10(found.depth[1] / TRUTH.depth[1])).max() < 0.25
    assert found.scatter[1] == pytest.approx(found.scatter[0], rel=0.5)


@pytest.mark.parametrize("n_rows", [1, 2, 5, 29, 30])
def test_any_number_of_clusters_gives_a_usable_model(n_rows):
    found = estimate_noise({"deep": table("deep", *simulate("deep", n_rows))}, BANDS, 0.05)
    for values in (found.depth, found.photon, found.fractional, found.scatter):
        assert (np.isfinite(values) & (values > 0)).all()
    low, high = found.brightness[0]
    assert np.isfinite([low, high]).all()
    assert low < high
    assert np.linalg.eigvalsh(found.correlation[0]).min() > 0


def test_negative_fluxes_alone_give_the_depth():
    error = np.full((40, 3), 2e-4)
    found = estimate_noise({"deep": table("deep", -0.5 * error, error)}, BANDS, 0.05)
    assert found.depth[0] == pytest.approx(2e-4, rel=0.02)


def test_constant_relative_errors_are_all_floor():
    flux = np.repeat(np.geomspace(1e-4, 1, 200)[:, None], 3, axis=1)
    found = estimate_noise({"deep": table("deep", flux, 0.1 * flux)}, BANDS, 0.05)
    assert found.fractional[0] == pytest.approx(0.1, rel=0.02)


def test_band_that_a_survey_lacks_is_nan():
    flux, error = simulate("deep", 100)
    flux[:, 1] = np.nan
    tables = {"deep": table("deep", flux, error), "shallow": table("shallow", *simulate("shallow", 100))}
    found = estimate_noise(tables, BANDS, 0.05)
    assert np.isfinite(found.depth).tolist() == [[True, False, True], [True, True, True]]
    assert np.isnan(found.scatter[0, 1])


def test_brightness_holds_every_cluster():
    for seed in range(3):
        flux, error = simulate("deep", 300, seed)
        found = estimate_noise({"deep": table("deep", flux, error)}, BANDS, 0.05)
        largest = np.log10((flux / found.depth[0]).max(axis=1).clip(min=1e-3))
        low, high = found.brightness[0]
        assert low >= -0.5
        assert (largest[largest > -0.5] > low).all()
        assert high == pytest.approx(largest.max() + 0.5)


def test_limits_are_counted_among_the_undetected():
    flux, error = simulate("deep", 400)
    faint = flux < 3 * error
    limit = faint & (np.arange(len(flux)) % 4 == 0)[:, None]
    flux = np.where(limit, 3 * error, flux)
    found = estimate_noise({"deep": table("deep", flux, error, limit)}, BANDS, 0.05)
    assert found.limit_fraction[0] == pytest.approx(limit.sum() / faint.sum())


def test_nothing_measured_is_the_users_error():
    empty = np.full((3, 3), np.nan)
    with pytest.raises(UserError, match="has a usable flux"):
        estimate_noise({"deep": table("deep", empty, empty)}, BANDS, 0.05)


def test_survey_without_any_flux_among_others():
    empty = np.full((3, 3), np.nan)
    tables = {"deep": table("deep", *simulate("deep", 100)), "shallow": table("shallow", empty, empty)}
    found = estimate_noise(tables, BANDS, 0.05)
    assert np.isnan(found.depth[1]).all()
    assert np.isfinite(found.brightness).all()
    assert np.isfinite(found.correlation).all()
    assert noise_figures(found, tables)[1].n_rows == 0
    assert noise_figures(found, tables)[0].n_rows == 100


def test_model_survives_json():
    found = estimate_noise({"deep": table("deep", *simulate("deep", 50))}, BANDS, 0.05)
    again = NoiseModel.from_dict(found.to_dict())
    assert again.to_dict() == found.to_dict()


def test_explicit_noise_covers_the_depths():
    noise = explicit_noise(BANDS, (-5.0, -3.0), 0.05)
    assert np.log10(noise.depth[0]) == pytest.approx([-4.0] * 3)
    # A uniform distribution reaches sqrt(3) standard deviations from its middle.
    assert np.sqrt(3) * noise.scatter[0] == pytest.approx([1.0] * 3)
    assert noise.scatter_shape == "uniform"
    assert (noise.correlation[0] == 1).all()
    assert noise.surveys == ("default",)
    flux = np.array([[1e-2] * 3])
    error = noise.select(np.zeros(1, dtype=int)).reported_error(flux, np.ones((1, 3)))
    assert error == pytest.approx(np.full((1, 3), 1e-4), rel=1e-3)


ACS = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w")
ALL = (*ACS, "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")


@pytest.fixture(scope="module")
def legus(shared):
    tables = {}
    for name in ("ngc628-c", "ngc628-e", "ngc3344", "ngc1313-e", "ngc1566"):
        (path,) = (shared / "data/legus/tab").glob(f"*_{name}_*.tab")
        bands = ACS if name == "ngc1313-e" else None
        entry = CatalogueSettings(path=path, format="legus", name=name, bands=bands, classes=(1, 2, 3))
        tables[name] = read_catalogue(entry, ALL)
    return tables


def test_real_errors_follow_the_model(legus):
    model = estimate_noise(legus, ALL, 0.05)
    for figures in noise_figures(model, legus):
        assert max(figures.residual.values()) < 0.06, figures
        assert figures.inside > 0.98, figures
        assert len(figures.residual) == 5


@pytest.mark.parametrize("log_flux", [-3.0, -2.7, -2.3, -1.8])
def test_real_course_of_the_errors(legus, log_flux):
    """The median error of ngc628-c in F555W around a flux is what the model says there."""
    model = estimate_noise(legus, ALL, 0.05)
    flux, error = (legus["ngc628-c"][f"{kind}_acs_f555w"].to_numpy() for kind in ("flux", "error"))
    near = np.abs(np.log10(flux) - log_flux) < 0.15
    assert near.sum() > 10
    row = model.select(np.full(near.sum(), model.surveys.index("ngc628-c")))
    fluxes = np.repeat(flux[near][:, None], len(ALL), axis=1)
    expected = row.reported_error(fluxes, np.ones_like(fluxes))[:, ALL.index("acs_f555w")]
    assert np.median(np.log10(error[near] / expected)) == pytest.approx(0.0, abs=0.03)


def real_survey(legus, name):
    """Photometry of a field and where training covers it, by the rule that flags rows."""
    model = estimate_noise(legus, ALL, 0.05)
    clusters = from_catalogue(legus[name], ALL)
    return clusters, model, outside_training(clusters, model)


@pytest.mark.parametrize("name", ["ngc628-c", "ngc1313-e", "ngc1566"])
def test_the_share_that_is_printed_is_the_share_that_is_flagged(legus, name):
    clusters, model, outside = real_survey(legus, name)
    figures = {found.survey: found for found in noise_figures(model, legus)}[name]
    assert figures.n_outside == int(outside.sum())
    assert figures.n_rows == int((clusters.measured & ~clusters.limit).any(axis=1).sum())


def test_training_covers_nearly_every_cluster_of_real_fields(legus):
    model = estimate_noise(legus, ALL, 0.05)
    for figures in noise_figures(model, legus):
        assert figures.n_outside <= 3, figures.line()


def test_pairs_of_real_bands_differ_in_their_correlation(legus):
    """One number a survey would not do: neighbours share their crowding, far bands do not."""
    model = estimate_noise(legus, ALL, 0.05)
    matrix = model.correlation[model.surveys.index("ngc628-c")]
    near = matrix[ALL.index("acs_f435w"), ALL.index("acs_f555w")]
    far = matrix[ALL.index("wfc3_f275w"), ALL.index("acs_f814w")]
    assert near > 0.7
    assert far < 0.45


def test_correlations_are_found_pair_by_pair():
    tables = {name: table(name, *simulate(name, 4000, seed=5)) for name in TRUTH.surveys}
    found = estimate_noise(tables, BANDS, 0.05)
    assert found.correlation == pytest.approx(TRUTH.correlation, abs=0.08)
    assert found.mixing @ found.mixing.transpose(0, 2, 1) == pytest.approx(found.correlation, abs=1e-9)


def test_pieces_in_any_order_give_the_model_of_the_whole():
    """More clusters than the sample holds, so that it has to choose."""
    whole = table("deep", *simulate("deep", 3 * MOST))
    other = table("shallow", *simulate("shallow", 100))
    cuts = [0, 17, 5000, 5001, 3 * MOST]
    pieces = [other, *(whole.slice(a, b - a) for a, b in itertools.pairwise(cuts))]
    once = estimate_noise([whole, other], BANDS, 0.05)
    for again in (pieces, pieces[::-1]):
        found = estimate_noise(again, BANDS, 0.05)
        for name in ("depth", "photon", "fractional", "scatter", "brightness", "reach", "correlation"):
            assert getattr(found, name) == pytest.approx(getattr(once, name), rel=1e-9)
        assert next(vars(one) for one in noise_figures(found, again))["n_rows"] == 3 * MOST


def test_the_sample_is_bounded_and_holds_bands_that_few_clusters_have():
    flux, error = simulate("deep", 4 * MOST)
    flux[200:, 2] = np.nan
    sample = sample_surveys([table("deep", flux, error)], BANDS)["deep"]
    assert len(sample.kept.flux) <= 3 * MOST
    assert sample.n_rows == 4 * MOST
    assert len(sample.kept.band(2)[0]) == 200
    assert len(sample.kept.band(0)[0]) == MOST
    # A fair sample: its fluxes are distributed as those of all.
    assert ks_2samp(sample.kept.band(0)[0], flux[:, 0]).pvalue > 0.01


def test_outliers_are_covered_and_mistakes_are_flagged():
    flux, error = simulate("deep", 1000)
    # By chance some are as odd already; these five are odd on purpose.
    flux[:5], error[:5] = flux[5], error[5]
    error[0] *= 6  # crowded beyond the scatter, but a cluster
    flux[1] *= 1e3  # the nucleus of the galaxy
    error[1] = np.hypot(TRUTH.fractional[0] * flux[1], error[1])
    error[2] = flux[2] * 1e4  # nonsense
    error[3] = error[3] / 1e4
    tables = [table("deep", flux, error)]
    found = estimate_noise(tables, BANDS, 0.05)
    assert (found.reach[0] > REACH * found.scatter[0] - 1e-9).all()
    survey = np.zeros(len(flux), dtype=int)
    outside = outside_support(found, survey, photometry(tables[0], BANDS))
    assert np.flatnonzero(outside).tolist() == [2, 3]


def test_a_freak_brightness_does_not_stretch_the_training_of_a_large_survey():
    flux, error = simulate("deep", 3000)
    flux[0], error[0] = 1e6 * flux.max(), 1e5 * flux.max()
    found = estimate_noise({"deep": table("deep", flux, error)}, BANDS, 0.05)
    clean = estimate_noise({"deep": table("deep", flux[1:], error[1:])}, BANDS, 0.05)
    assert found.brightness[0, 1] < clean.brightness[0, 1] + 2.1
    assert noise_figures(found, {"deep": table("deep", flux, error)})[0].n_outside == 1


def test_equal_errors_are_all_depth():
    generator = np.random.default_rng(1)
    error = np.full((200, 3), 1e-4)
    flux = 10 ** generator.uniform(-5, -3.5, (200, 1)) * np.ones(3)
    found = estimate_noise({"deep": table("deep", flux, error)}, BANDS, 0.05)
    assert found.depth[0] == pytest.approx(1e-4, rel=0.1)
    assert found.scatter[0] == pytest.approx(0.02, abs=0.01)


def test_a_band_without_errors_is_a_band_that_is_not_there():
    flux, error = simulate("deep", 200)
    error[:, 1] = np.nan
    found = estimate_noise({"deep": table("deep", flux, error)}, BANDS, 0.05)
    assert np.isfinite(found.depth).tolist() == [[True, False, True]]
    assert noise_figures(found, {"deep": table("deep", flux, error)})[0].n_outside == 0


def test_systematic_by_survey_and_model_error_by_band_add_in_quadrature():
    unreported = Unreported(0.05, {"shallow": 0.1}, {"acs_f435w": 0.12})
    tables = {name: table(name, *simulate(name, 100)) for name in TRUTH.surveys}
    found = estimate_noise(tables, BANDS, unreported)
    expected = [[0.05, 0.13, 0.05], [0.1, np.hypot(0.1, 0.12), 0.1], [0.05, 0.13, 0.05]]
    assert found.systematic == pytest.approx(np.array(expected))
    again = NoiseModel.from_dict(found.to_dict())
    assert again.systematic == pytest.approx(found.systematic)
    terms = found.select(np.array([1])).terms_from_factor(0.0)
    extra = terms.fractional - found.fractional[1] ** 2
    assert extra[0] == pytest.approx(np.array(expected[1]) ** 2)


def test_a_systematic_error_of_an_unknown_survey_is_the_users_error():
    with pytest.raises(UserError, match=r"'wide'.*0\.1.*did you mean|known"):
        estimate_noise({"deep": table("deep", *simulate("deep", 50))}, BANDS, Unreported(0.05, {"wide": 0.1}))


def test_settings_of_unreported_errors(tmp_path):
    values = {
        "name": "j", "output": "o", "model": {"bands": list(BANDS)},
        "noise": {"systematic": 0.04, "model_error": {"wfc3_f275w": 0.1}},
        "catalogue": [{"path": "a.fits", "systematic": 0.02}, {"path": "b.fits"}],
    }  # fmt: skip
    found = unreported_errors(parse_job(values, "test", tmp_path)).table(["a", "b"], BANDS)
    assert found[:, 1] == pytest.approx([0.02, 0.04, 0.04])
    assert found[:, 0] == pytest.approx(np.hypot([0.02, 0.04, 0.04], 0.1))
    values["noise"]["model_error"] = 0.03
    assert unreported_errors(parse_job(values, "test", tmp_path)).model_error == dict.fromkeys(BANDS, 0.03)
    values["noise"]["model_error"] = {"acs_f435": 0.1}
    with pytest.raises(UserError, match="acs_f435w"):
        parse_job(values, "test", tmp_path)
