"""M33 as PHATTER has it: written by hand, and the real file; M31 as PHAT has it, by hand alone."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from batchflow.catalogue.detect import detect_format
from batchflow.catalogue.read import read_catalogue, read_with_summary
from batchflow.check import problems
from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA
from batchflow.physics.engine import open_engine
from batchflow.schema import Flag
from batchflow.settings.catalogue import CatalogueSettings

BANDS = ("wfc3_f275w", "wfc3_f336w", "acs_f475w", "acs_f814w")
NAMES = dict(zip(BANDS, ("275", "336", "475", "814"), strict=True))


def clusters():
    table = Table()
    table["ID"] = np.array([1, 2, 3, 4], dtype=np.int32)
    table["RA"], table["DEC"] = [23.1, 23.2, 23.3, 23.4], [30.1, 30.2, 30.3, 30.4]
    table["APCOR"] = MaskedColumn([0.0, -0.1, -0.2, 0.0], mask=[False, False, False, True])
    for name in NAMES.values():
        table[f"MAG{name}"] = np.array([20.0, 21.0, 22.0, 18.0], dtype=np.float32)
        table[f"SIG{name}"] = np.array([0.1, 0.2, 0.3, 0.0], dtype=np.float32)
    table["SIG275"][1] = -99
    table["MAG336"][2], table["SIG336"][2] = np.nan, -99
    for name, values in (("Age", [8.0, 7.5]), ("Mass", [3.5, 4.0]), ("AV", [0.31, 0.62])):
        table[f"{name}_Med"] = [*values, 1e20, -99.0]
    return table


def entry(path, **others):
    return CatalogueSettings(path=path, format="phatter", name="m33", **others)


@pytest.fixture
def write(tmp_path):
    def save(table):
        table.write(tmp_path / "m33.fits", overwrite=True)
        return tmp_path / "m33.fits"

    return save


M33 = {"galaxy": "M33", "distance_mpc": 0.87}


def test_magnitudes_limits_and_aperture_corrections(write):
    table, summary = read_with_summary(entry(write(clusters()), **M33), BANDS)
    for band, zero_point in ((band, AB_MINUS_VEGA[band]) for band in BANDS):
        flux = table[f"flux_{band}"].to_numpy()
        assert flux[0] == pytest.approx(3630.78e3 * 10 ** (-0.4 * (20.0 + zero_point)), rel=1e-5)
        assert flux[3] == pytest.approx(3630.78e3 * 10 ** (-0.4 * (18.0 + zero_point)), rel=1e-5)
        assert table[f"error_{band}"][0].as_py() == pytest.approx(flux[0] * 0.1 / 1.0857362, rel=1e-5)
    # Row 2: total light is 0.1 mag brighter; the magnitude is a limit of 3 sigma in F275W.
    f275 = 3630.78e3 * 10 ** (-0.4 * (20.9 + AB_MINUS_VEGA["wfc3_f275w"]))
    assert table["flux_wfc3_f275w"][1].as_py() == pytest.approx(f275, rel=1e-5)
    assert table["error_wfc3_f275w"][1].as_py() == pytest.approx(f275 / 3, rel=1e-5)
    assert table["limit_wfc3_f275w"].to_pylist() == [False, True, False, False]
    flags = [Flag(flag) for flag in table["flags"].to_pylist()]
    assert flags == [Flag(0), Flag.UPPER_LIMIT, Flag.MISSING_BAND, Flag(0)]
    assert summary.sentinels["SIG 0.00 taken as 0.005"] == 4
    assert set(summary.zero_points) == set(BANDS)


def test_published_values_are_those_of_resolved_stars(write):
    table = read_catalogue(entry(write(clusters()), **M33), BANDS)
    for name, values in (("log_age", [8.0, 7.5]), ("log_mass", [3.5, 4.0]), ("ebv", [0.1, 0.2])):
        found = table[f"published_{name}"].to_numpy()
        assert found == pytest.approx([*values, np.nan, np.nan], nan_ok=True)


def test_bands_of_the_job_are_taken(write):
    table, summary = read_with_summary(entry(write(clusters()), **M33), (*BANDS[:2], "acs_f435w"))
    assert list(summary.bands) == list(BANDS[:2])
    assert np.isnan(table["flux_acs_f435w"].to_numpy()).all()


@pytest.mark.parametrize(
    ("settings", "bands", "message"),
    [
        ({"distance_mpc": 0.87}, BANDS, r'galaxy; add galaxy = "M33"'),
        ({"galaxy": "M33"}, BANDS, r"distance_mpc; add distance_mpc = 0.87"),
        (M33, ("acs_f435w",), r"no band of the job \(acs_f435w\).*MAG<n>"),
        ({**M33, "bands": ("acs_f435w",)}, (*BANDS, "acs_f435w"), r"has no acs_f435w; its bands"),
    ],
)
def test_what_cannot_be(write, settings, bands, message):
    with pytest.raises(UserError, match=message):
        read_catalogue(entry(write(clusters()), **settings), bands)


def test_infrared_needs_its_zero_points(write):
    table = clusters()
    table["MAG160"], table["SIG160"] = table["MAG814"], table["SIG814"]
    path, bands = write(table), (*BANDS, "wfc3_f160w")
    if "wfc3_f160w" not in AB_MINUS_VEGA:
        with pytest.raises(UserError, match=r"wfc3_f160w; add it to zero_points"):
            read_catalogue(entry(path, **M33), bands)
    found = read_catalogue(entry(path, zero_points={"wfc3_f160w": 1.25}, **M33), bands)
    assert found["flux_wfc3_f160w"][0].as_py() == pytest.approx(3630.78e3 * 10 ** (-0.4 * 21.25), rel=1e-5)


SIX = {"wfc3_f275w": "275", "wfc3_f336w": "336", "acs_f475w": "475", "acs_f814w": "814"} | {
    "wfc3_f110w": "110", "wfc3_f160w": "160",
}  # fmt: skip
ANDROMEDA = (10.6847, 41.2687)
"""Centre of M31, RA and Dec [deg]."""


def andromeda(n_rows=40):
    """Clusters of M31 in the six bands of PHAT, without the ages that are published apart (Johnson+17)."""
    generator = np.random.default_rng(31)
    table = Table({"ID": np.arange(1, n_rows + 1, dtype=np.int32)})
    table["RA"] = ANDROMEDA[0] + generator.uniform(0, 1, n_rows)
    table["DEC"] = ANDROMEDA[1] + generator.uniform(0, 1, n_rows)
    table["APRAD"], table["REFF"] = 1.5, 0.6
    table["APCOR"] = np.float32(-0.12)
    for k, name in enumerate(SIX.values()):
        magnitude = (21.0 - 0.4 * k + generator.normal(0, 1, n_rows)).astype(np.float32)
        table[f"MAG{name}"], table[f"SIG{name}"] = magnitude, np.float32(0.05)
        table[f"SIG{name}"][k] = -99
        table[f"MAG{name}"][10 + k] = np.nan
    return table


def test_m31_in_six_bands_of_phat(tmp_path):
    path, table = tmp_path / "m31.fits", andromeda()
    table.write(path)
    found, summary = read_with_summary(entry(path, galaxy="M31", distance_mpc=0.785), tuple(SIX))
    assert summary.n_rows == found.num_rows == 40
    assert not summary.warnings
    for k, (band, name) in enumerate(SIX.items()):
        magnitude = np.asarray(table[f"MAG{name}"], dtype=float) - 0.12 + AB_MINUS_VEGA[band]
        expected = 3630.78e3 * 10 ** (-0.4 * magnitude)
        assert found[f"flux_{band}"].to_numpy() == pytest.approx(expected, rel=1e-5, nan_ok=True)
        assert np.flatnonzero(found[f"limit_{band}"].to_pylist()).tolist() == [k]
        assert summary.bands[band] == 39
    assert summary.flags == {"MISSING_BAND": 6, "UPPER_LIMIT": 6}
    assert np.isnan(found["published_log_age"].to_numpy()).all()


def test_m31_is_told_by_its_columns(tmp_path):
    andromeda().write(tmp_path / "m31.fits")
    assert detect_format(tmp_path / "m31.fits", ("legus", "phangs", "phatter", "table"))[0] == "phatter"


@pytest.fixture(scope="module")
def real(shared):
    job = load_job("jobs/m33.toml")
    assert problems(job) == []
    return read_with_summary(job.catalogue[0], job.model.bands)


def test_counts_of_the_real_catalogue(real):
    table, summary = real
    assert summary.n_rows == 1214
    # Of 1089, 1089, 1195, 1194 magnitudes these are limits.
    limits = {band: sum(table[f"limit_{band}"].to_pylist()) for band in BANDS}
    assert limits == dict(zip(BANDS, (302, 164, 29, 274), strict=True))
    assert np.isfinite(table["published_log_age"].to_numpy()).sum() == 1166
    assert np.nanmedian(table["published_ebv"].to_numpy()) == pytest.approx(0.443 / 3.1, abs=0.002)


def test_colours_are_those_of_the_ages_from_resolved_stars(real):
    """Magnitudes predicted for the published age, mass and A(V), against those observed.

    The masses of the survey, from star counts, lie 0.16 dex above those of the light; this is the same in the
    four bands to a few 0.01 mag, so filters, zero points and extinction are right.
    """
    table = real[0]
    published = {name: table[f"published_{name}"].to_numpy() for name in ("log_age", "log_mass", "ebv")}
    flux = np.stack([table[f"flux_{band}"].to_numpy() for band in BANDS], axis=1)
    limit = np.stack([table[f"limit_{band}"].to_numpy(zero_copy_only=False) for band in BANDS], axis=1)
    rows = np.isfinite(flux).all(axis=1) & ~limit.any(axis=1) & (published["log_mass"] > 3.7)
    age, mass, ebv = (values[rows] for values in published.values())
    engine = open_engine({"bands": BANDS, "metallicity": 0.008})
    model = engine.fluxes({"log_age": age, "ebv": ebv}) * (10**mass / 0.87e5**2)[:, None]
    fainter = np.median(-2.5 * np.log10(flux[rows] / model), axis=0)
    assert rows.sum() == 148
    assert np.ptp(fainter) < 0.08
    assert fainter.mean() == pytest.approx(0.40, abs=0.08)
