"""The noise model fitted to catalogues: known noise is found again, real noise is described."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from batchflow.catalogue.normalise import RawCatalogue, normalise
from batchflow.catalogue.read import read_catalogue
from batchflow.config import CatalogueSettings
from batchflow.errors import UserError
from batchflow.mocks.estimate import estimate_noise, explicit_noise, noise_figures
from batchflow.mocks.noise import NoiseModel

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
    assert found.measured().tolist() == [[True, False, True], [True, True, True]]
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
