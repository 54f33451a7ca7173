"""Options of the embedded engine that vary: the table equals the engine with the option set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchflow.errors import UserError
from batchflow.physics.embedded import EmbeddedEngine, Gas
from batchflow.physics.engine import open_engine
from batchflow.settings.model import ModelSettings

BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
RANGES = {"metallicity": (0.003, 0.03), "rv": (2.5, 4.5), "covering": (0.0, 1.0)}
VALUES = {"log_age": np.array([6.3, 6.8, 8.0, 9.9]), "ebv": 0.4}


def magnitudes(found: Any, expected: Any) -> float:
    return float(np.abs(2.5 * np.log10(found / expected)).max())


@pytest.fixture(scope="module")
def free() -> EmbeddedEngine:
    return EmbeddedEngine(BANDS, vary=RANGES)


def test_parameters_are_in_order(free: EmbeddedEngine) -> None:
    assert free.parameters == ("log_age", "ebv", "metallicity", "rv", "covering")
    assert {name: free.limits[name] for name in RANGES} == RANGES
    backwards = EmbeddedEngine(BANDS, vary=dict(reversed(RANGES.items())))
    assert backwards.parameters == free.parameters


@pytest.mark.parametrize(
    ("metallicity", "rv", "covering"),
    [(0.004, 2.5, 0.0), (0.02, 3.1, 0.5), (0.0055, 4.31, 0.13), (0.003, 4.5, 1.0), (0.013, 3.7, 0.85)],
)
def test_the_table_equals_the_engine_with_the_options_set(
    free: EmbeddedEngine, metallicity: float, rv: float, covering: float
) -> None:
    found = free.fluxes(VALUES | {"metallicity": metallicity, "rv": rv, "covering": covering})
    fixed = EmbeddedEngine(BANDS, metallicity, rv=rv, gas=Gas(covering))
    assert magnitudes(found, fixed.fluxes(VALUES)) < 2e-3


@pytest.mark.parametrize(("law", "rv"), [("CCM89", (2.0, 6.0)), ("F99", (2.3, 5.5)), ("G23", (2.5, 5.5))])
def test_free_rv_interpolates_to_2e_3_mag_in_the_far_ultraviolet(law: str, rv: tuple[float, float]) -> None:
    bands = ["wfc3_f218w", "wfc3_f225w", "wfc3_f275w", "acs_f606w", "wfc3_f110w"]
    engine, rng = EmbeddedEngine(bands, extinction=law, vary={"rv": rv}), np.random.default_rng(3)
    ages, ebv = engine.table().nodes[0], np.array([0.013, 0.777, 1.475, 1.975])
    for value in rng.uniform(*rv, 12):
        exact = engine.exact(ebv, rv=value)
        found = [engine.fluxes({"log_age": ages, "ebv": e, "rv": value}) for e in ebv]
        # Measured: 1.2e-3 at worst, in F218W with F99.
        assert magnitudes(np.stack(found, axis=1), exact) < 2e-3


def test_all_options_free_interpolate_to_2e_3_mag() -> None:
    bands = ["wfc3_f336w", "acs_f625w", "wfc3_f140w"]  # H alpha and Paschen beta fill the last two most
    ranges = {"metallicity": (0.0001, 0.1), "rv": (2.3, 5.5), "covering": (0.0, 1.0)}
    engine, rng = EmbeddedEngine(bands, extinction="F99", vary=ranges), np.random.default_rng(4)
    ages, ebv = engine.table().nodes[0], np.array([0.475, 1.875])
    for _ in range(12):
        z, rv, covering = 10 ** rng.uniform(-4, -1), rng.uniform(2.3, 5.5), rng.uniform() ** 3
        options = {"metallicity": z, "rv": rv, "covering": covering}
        found = [engine.fluxes({"log_age": ages, "ebv": e} | options) for e in ebv]
        # Measured: 1.4e-3 at worst.
        assert magnitudes(np.stack(found, axis=1), engine.exact(ebv, **options)) < 2e-3


def test_one_option_alone_is_exact_at_its_nodes() -> None:
    engine = EmbeddedEngine(BANDS, vary={"metallicity": (0.004, 0.02)})
    for z in (0.004, 0.008, 0.02):
        found = engine.fluxes(VALUES | {"metallicity": z})
        assert magnitudes(found, EmbeddedEngine(BANDS, z).fluxes(VALUES)) < 3e-4


def test_log_flux_is_linear_in_log_metallicity() -> None:
    engine = EmbeddedEngine(BANDS, vary={"metallicity": (0.008, 0.02)})
    low, middle, high = (
        engine.fluxes(VALUES | {"metallicity": z}) for z in (0.008, np.sqrt(0.008 * 0.02), 0.02)
    )
    np.testing.assert_allclose(middle, np.sqrt(low * high), rtol=1e-5)


def test_surviving_mass_follows_the_metallicity() -> None:
    table = EmbeddedEngine(BANDS, vary={"metallicity": (0.004, 0.02)}).table()
    ages = np.array([7.0, 9.0, 10.0])
    for z in (0.004, 0.0063, 0.02):
        fixed = EmbeddedEngine(BANDS, z).table().surviving(ages)
        np.testing.assert_allclose(table.surviving(ages, z), fixed, rtol=1e-10)
    with pytest.raises(UserError, match="missing parameter metallicity"):
        table.surviving(ages)


def test_table_of_five_axes_survives_the_disk(free: EmbeddedEngine, tmp_path: Any) -> None:
    free.table().save(tmp_path / "t")
    again = type(free.table()).load(tmp_path / "t")
    values = VALUES | {"metallicity": 0.01, "rv": 3.3, "covering": 0.4}
    np.testing.assert_array_equal(again.fluxes(values), free.fluxes(values))


def test_rows_with_and_without_gas_come_back_in_order(free: EmbeddedEngine) -> None:
    rng = np.random.default_rng(1)
    values = {
        name: rng.uniform(*limits, 300) for name, limits in (free.limits | {"log_age": (6, 10)}).items()
    }
    together = free.fluxes(values)
    one_by_one = [free.fluxes({name: column[i] for name, column in values.items()})[0] for i in range(300)]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-6)


@pytest.mark.parametrize("log_age", [6.5, 9.5])  # with gas, and when there is none any more
def test_nan_in_any_option_is_nan_out_with_a_flag(free: EmbeddedEngine, log_age: float) -> None:
    good = {"log_age": log_age, "ebv": 0.1, "metallicity": 0.01, "rv": 3.1, "covering": 0.5}
    for name, value in good.items():
        fluxes, bad = free.flagged_fluxes(good | {name: [np.nan, value]})
        assert np.isnan(fluxes[0]).all()
        assert np.isfinite(fluxes[1]).all()
        assert bad.tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metallicity": 0.05}, r"metallicity = 0\.05.*0\.003 to 0\.03"),
        ({"rv": 2.4}, r"rv = 2\.4.*2\.5 to 4\.5"),
        ({"covering": 1.2}, r"covering = 1\.2.*0 to 1"),
        ({"log_age": 10.4}, r"log_age = 10\.4"),
        ({"ebv": 2.5}, r"ebv = 2\.5.*0 to 2"),
    ],
)
def test_outside_the_range_is_an_error_naming_it(
    free: EmbeddedEngine, change: dict[str, float], message: str
) -> None:
    good = {"log_age": 6.5, "ebv": 0.1, "metallicity": 0.01, "rv": 3.1, "covering": 0.5}
    with pytest.raises(UserError, match=message):
        free.fluxes(good | change)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"metallicity": (0.004, 0.2)}, r"metallicity = 0\.2; the stellar library has 0\.0001 to 0\.1"),
        ({"rv": (1.5, 4.0)}, r"rv = 1\.5.*CCM89"),
        ({"covering": (0.0, 1.5)}, r"covering = 1\.5"),
    ],
)
def test_ranges_beyond_library_or_law_are_refused(vary: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EmbeddedEngine(BANDS, vary=vary)


@pytest.mark.parametrize("law", ["CCM89", "F99", "G23", "C00", "G03_SMCBar"])
def test_more_dust_is_less_light(law: str) -> None:
    rv = {"C00": 4.05, "G03_SMCBar": 2.74}.get(law, 3.1)
    log_flux = EmbeddedEngine(BANDS, extinction=law, rv=rv, gas=Gas(0.5)).table().log_flux
    assert (np.diff(log_flux, axis=1) < 0).all()


def test_a_band_beyond_starburst_attenuation_is_refused() -> None:
    with pytest.raises(UserError, match=r"nircam_f335m.*C00 from 1200 to 22000 AA"):
        EmbeddedEngine(["nircam_f335m"], extinction="C00", rv=4.05)


def test_settings_open_it_and_describe_it() -> None:
    settings = {"bands": BANDS[:2], "covering": 0.5, "log_u": -3.0, "vary": {"rv": [2.5, 4.0]}}
    engine = open_engine(settings)
    assert engine.parameters == ("log_age", "ebv", "rv")
    described = engine.describe()
    assert (described["covering"], described["log_u"], described["vary"]) == (0.5, -3.0, {"rv": [2.5, 4.0]})
    assert "Cloudy" in described["nebular"]["name"]
    assert open_engine(ModelSettings.model_validate(settings)) is engine


def test_own_curve_is_a_band(tmp_path: Any) -> None:
    path = tmp_path / "box.dat"
    path.write_text("5000 0.3\n5999 0.3\n")
    engine = open_engine({"bands": ["mine", "wfc3_f555w"], "curves": {"mine": str(path)}})
    mine, visual = engine.fluxes({"log_age": 8.0, "ebv": 0.0})[0]
    assert engine.bands == ("mine", "wfc3_f555w")
    assert mine == pytest.approx(visual, rel=0.05)


def test_gas_adds_its_light_to_that_of_the_stars(free: EmbeddedEngine) -> None:
    """Flux is linear in the covering fraction, so two nodes are enough."""

    def at(covering: float) -> Any:
        return free.fluxes(VALUES | {"metallicity": 0.01, "rv": 3.3, "covering": covering})

    for share in (0.07, 0.5, 0.93):
        assert at(share) == pytest.approx((1 - share) * at(0.0) + share * at(1.0), rel=1e-6)
    assert free.table().nodes[-1].tolist() == [0.0, 1.0]
