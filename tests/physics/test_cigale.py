"""The engine `cigale` on both doubles of pcigale, and on the real one where it is installed."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.physics.cigale_engine import CigaleEngine
from batchflow.physics.engine import open_engine

BANDS = ["wfc3_f275w", "wfc3_f555w", "acs_f814w"]
NAMES = ["hst.wfc3.F275W", "hst.wfc3.F555W", "hst.wfc.F814W"]
Columns = dict[str, NDArray[np.float32]]


def cigale(bands: list[str] = BANDS, metallicity: float = 0.02, **settings: Any) -> CigaleEngine:
    engine = open_engine({"engine": "cigale", "bands": bands, "metallicity": metallicity, "cigale": settings})
    assert isinstance(engine, CigaleEngine)
    return engine


def drawn(n: int, seed: int = 1) -> Columns:
    rng = np.random.default_rng(seed)
    return {
        "log_age": rng.uniform(6.0, 9.0, n).astype(np.float32),
        "log_mass": rng.uniform(2.0, 8.0, n).astype(np.float32),
        "ebv": rng.uniform(0.0, 1.5, n).astype(np.float32),
    }


BOXES = {"log_age": (6.0, 9.0), "log_mass": (2.0, 8.0), "ebv": (0.0, 1.5)}


def needed(parameters: Columns) -> Columns:
    return {name: parameters[name] for name in ("log_age", "ebv")}


def bare_loop(engine: CigaleEngine, log_age: Any, ebv: Any) -> Any:
    """A plain loop around pcigale, with the ages that the rows record."""
    warehouse = import_module("pcigale.warehouse").SedWarehouse()
    found = []
    for age, reddening in zip(log_age, ebv, strict=True):
        parameters = [dict(values) for values in engine.chain.fixed]
        myr = 10.0 ** (float(age) - 6)
        if engine.chain.modules[0] == "ssp":
            grid = import_module("pcigale.data").SimpleDatabase("bc03_SSP").get(imf="chab", Z=0.02).t
            parameters[0]["index"] = int(np.abs(np.log(grid / myr)).argmin())
        else:
            parameters[0]["age"] = round(myr)
        parameters[2][engine.chain.targets["ebv"][0].to.split(".")[1]] = float(reddening)
        sed = warehouse.get_sed(engine.chain.modules, parameters)
        found.append([sed.compute_fnu(name) for name in NAMES])
    return np.array(found)


def test_fluxes_are_those_of_a_bare_loop(any_cigale: str) -> None:
    engine = cigale()
    realised = needed(engine.realise(drawn(25), BOXES))
    np.testing.assert_allclose(engine.fluxes(realised), bare_loop(engine, *realised.values()), rtol=1e-12)


def test_rows_record_the_age_that_cigale_used(any_cigale: str) -> None:
    engine = cigale()
    for log_age in engine.realise(drawn(10), BOXES)["log_age"]:
        engine.fluxes({"log_age": log_age, "ebv": 0.3})
        assert np.log10(engine._warehouse.last_age * 1e6) == pytest.approx(log_age, abs=1e-6)


def test_realised_ages_are_the_nearest_inside_the_box(any_cigale: str) -> None:
    engine = cigale()
    before = drawn(2000)
    after = engine.realise(before, BOXES)
    grid = engine.steps["log_age"].values
    inside = grid[(grid >= 6.0) & (grid <= 9.0)]
    assert after["log_age"].min() >= 6.0
    assert after["log_age"].max() <= 9.0
    best = np.abs(before["log_age"][:, None] - inside).min(axis=1)
    np.testing.assert_allclose(np.abs(after["log_age"] - before["log_age"]), best, atol=2e-6)
    np.testing.assert_array_equal(after["ebv"], before["ebv"])
    np.testing.assert_array_equal(engine.realise(after, BOXES)["log_age"], after["log_age"])


def test_whole_myr_are_the_ages_of_a_star_formation_history(old_cigale: str) -> None:
    engine = cigale()
    ages = 10 ** (engine.realise(drawn(500), BOXES)["log_age"].astype(float) - 6)
    np.testing.assert_allclose(ages, np.round(ages), rtol=3e-6)
    assert engine.chain.modules == ("sfh2exp", "bc03", "dustatt_calzleit")


def test_reddening_dims_and_reddens(any_cigale: str) -> None:
    fluxes = cigale().fluxes({"log_age": 7.0, "ebv": np.linspace(0, 1.5, 6)})
    assert (np.diff(fluxes, axis=0) < 0).all()
    assert (np.diff(fluxes[:, 0] / fluxes[:, 2]) < 0).all()


def test_the_order_of_rows_changes_nothing(any_cigale: str) -> None:
    engine = cigale()
    values = needed(engine.realise(drawn(20), BOXES))
    shuffled = np.random.default_rng(3).permutation(20)
    np.testing.assert_array_equal(
        engine.fluxes({name: column[shuffled] for name, column in values.items()}),
        engine.fluxes(values)[shuffled],
    )


def test_nan_in_nan_out(any_cigale: str) -> None:
    fluxes, bad = cigale().flagged_fluxes({"log_age": [7.0, np.nan, 7.0], "ebv": [0.1, 0.1, np.nan]})
    assert bad.tolist() == [False, True, True]
    np.testing.assert_array_equal(np.isnan(fluxes), [[False] * 3, [True] * 3, [True] * 3])


def test_no_rows_are_no_trouble(new_cigale: str) -> None:
    assert cigale().fluxes({"log_age": [], "ebv": []}).shape == (0, 3)


def test_what_it_says_of_itself(any_cigale: str) -> None:
    described = json.loads(json.dumps(cigale().describe()))
    assert described["pcigale"]["line"] == {"new": "2022", "old": "0.9"}.get(
        any_cigale, described["pcigale"]["line"]
    )
    assert len(described["pcigale"]["database"]) == 16
    assert described["pcigale"]["version"]
    assert described["filters"] == NAMES


def test_the_default_is_chabrier_and_the_chain_can_be_had_otherwise(any_cigale: str) -> None:
    module = cigale().chain.modules[1]
    assert cigale().describe()["values"][module]["imf"] == 1
    with pytest.raises(UserError, match=r"imf = 'kroupa': CIGALE's .* has salpeter and chabrier"):
        cigale(imf="kroupa")


# The traps of CIGALE: each is shown on the double first, so that the test can fail.


def test_trap_1_values_alone_are_the_key_of_the_cache(new_cigale: str) -> None:
    warehouse = import_module("pcigale.warehouse").SedWarehouse()
    values = [cigale().chain.value("bc03_ssp.metallicity"), 10]
    chains = (["sfh2exp", "bc03"], ["sfh2exp", "m2005"])
    one = {name: rule[2] for name, rule in import_module("pcigale.sed_modules.sfh2exp").Module.rules.items()}
    two = {"imf": 1, "metallicity": values[0], "separation_age": values[1]}
    seds = [warehouse.get_sed(chain, [one | {"tau_main": 0.001}, two]) for chain in chains]
    assert seds[0] is seds[1]
    assert "stellar.mass_alive" not in seds[1].info  # m2005 was never computed
    stars = {name: cigale(modules=["sfh2exp", name, "dustext"]) for name in ("bc03", "m2005")}
    at = {"log_age": 7.0, "ebv": 0.2}
    for name, engine in stars.items():
        engine.fluxes(at)
        assert next(iter(engine._warehouse._open.sed_cache)), name
    info = [
        engine._warehouse._open.get_sed(engine.chain.modules, engine.chain.fixed).info
        for engine in stars.values()
    ]
    assert ["stellar.mass_alive" in found for found in info] == [False, True]


def test_trap_2_dust_keeps_the_wavelengths_that_it_met(new_cigale: str) -> None:
    plain, gas = cigale(), cigale(modules=["ssp", "bc03_ssp", "nebular", "dustext"])
    warehouse = import_module("pcigale.warehouse").SedWarehouse()
    warehouse.get_sed(plain.chain.modules, plain.chain.fixed)
    with pytest.raises(ValueError, match="broadcast"):
        warehouse.get_sed(gas.chain.modules, gas.chain.fixed)
    at = {"log_age": 6.3, "ebv": 0.2}
    first = plain.fluxes(at)
    assert (gas.fluxes(at) >= first).all()
    np.testing.assert_array_equal(plain.fluxes(at), first)


def test_trap_3_caches_do_not_grow(any_cigale: str) -> None:
    engine = cigale()
    sizes = []
    for seed in range(3):
        rows = 300 if any_cigale == "real" else 3000
        parameters = needed(engine.realise(drawn(rows, seed), {**BOXES, "log_age": (6.0, 8.0)}))
        engine.fluxes(parameters)
        sizes.append(cached(engine._warehouse._open))
    assert max(sizes) <= 700
    assert sizes[2] < sizes[0] + 300


def cached(warehouse: Any) -> int:
    """Number of SEDs and of module instances that a warehouse keeps, of either line."""
    seds = getattr(warehouse, "storage", None) or getattr(warehouse, "sed_cache", {})
    return len(getattr(seds, "dictionary", seds)) + len(warehouse.module_cache)


def test_trap_3_a_bare_loop_grows(old_cigale: str) -> None:
    engine = cigale()
    warehouse = import_module("pcigale.warehouse").SedWarehouse()
    for ebv in np.linspace(0, 1, 800):
        parameters = [dict(values) for values in engine.chain.fixed]
        parameters[2]["E_BVs_young"] = float(ebv)
        warehouse.get_sed(engine.chain.modules, parameters)
    assert cached(warehouse) > 1600


def test_trap_3_a_warehouse_is_renewed(new_cigale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchflow.physics.cigale.RENEW", 50)
    engine = cigale()
    first = engine._warehouse._open
    engine.fluxes({"log_age": 7.0, "ebv": np.linspace(0, 1, 120)})
    assert engine._warehouse._open is not first


@pytest.mark.parametrize("attribute", ["", "1"])
def test_trap_4_the_list_of_parameters_has_two_names(
    attribute: str, new_cigale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCIGALE_DOUBLE_PARAMETERS", attribute)
    engine = cigale()
    module = import_module("pcigale.sed_modules.dustext").Module
    assert hasattr(module, "parameters") == bool(attribute)
    assert tuple(engine.chain.fixed[2]) == ("E_BV", "Rv", "law", "filters")


def test_trap_4_one_population_stops_the_galaxy_chain_only(new_cigale: str) -> None:
    chain = ["sfh2exp", "bc03", "dustext"]
    with pytest.raises(UserError, match=r"bc03\.separation_age = 0 stops CIGALE"):
        cigale(modules=chain, parameters={"bc03": {"separation_age": 0}})
    assert np.isfinite(
        cigale(parameters={"bc03_ssp": {"separation_age": 0}}).fluxes({"log_age": 7, "ebv": 0})
    ).all()


def test_trap_5_filters_are_looked_up_and_can_be_named(any_cigale: str) -> None:
    with pytest.raises(
        UserError, match=r"no filter 'hst.wfc3.F475W'; set model.cigale.filters.wfc3_f475w .*F275W"
    ):
        cigale(bands=["wfc3_f475w"])
    at = {"log_age": 7.0, "ebv": 0.1}
    named = cigale(bands=["wfc3_f475w"], filters={"wfc3_f475w": "hst.wfc3.F438W"})
    np.testing.assert_array_equal(named.fluxes(at), cigale(bands=["wfc3_f438w"]).fluxes(at))


def test_trap_6_no_star_cluster_modules_in_09(old_cigale: str) -> None:
    with pytest.raises(UserError, match=r"no module 'ssp'.*0.9 has none"):
        cigale(modules=["ssp", "bc03_ssp", "dustext"])


def test_trap_6_the_star_cluster_chain_is_taken_where_it_exists(new_cigale: str) -> None:
    assert cigale().chain.modules == ("ssp", "bc03_ssp", "dustext")


def test_trap_7_no_process_is_started(any_cigale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("os.fork", refuse)
    monkeypatch.setattr("multiprocessing.Process.start", refuse)
    monkeypatch.setattr("threading.Thread.start", refuse)
    assert np.isfinite(cigale().fluxes({"log_age": 7.0, "ebv": 0.1})).all()
    if any_cigale != "real":
        assert import_module("double_physics").FORKED == []


# Other chains and parameters.


def test_a_chain_and_parameters_of_ones_own(new_cigale: str) -> None:
    at = {"log_age": 6.3, "ebv": 0.3}
    modules = ["ssp", "bc03_ssp", "nebular", "dustext"]
    bright = cigale(modules=modules, parameters={"nebular": {"f_esc": 0.0}}).fluxes(at)
    dim = cigale(modules=modules, parameters={"nebular": {"f_esc": 1.0}}).fluxes(at)
    assert (bright > dim).any()
    steep = open_engine({"engine": "cigale", "bands": BANDS, "rv": 5.0}).fluxes(at)
    assert (steep < cigale().fluxes(at)).all()


def test_another_imf(new_cigale: str) -> None:
    at = {"log_age": 7.0, "ebv": 0.0}
    np.testing.assert_allclose(cigale(imf="salpeter").fluxes(at) * 1.3, cigale().fluxes(at))


def test_metallicity_can_be_a_parameter_of_the_mocks(new_cigale: str) -> None:
    engine = cigale(map={"metallicity": "bc03_ssp.metallicity"})
    assert engine.parameters == ("log_age", "ebv", "metallicity")
    assert engine.limits["metallicity"] == (0.0001, 0.05)
    wanted = {**drawn(3), "metallicity": np.array([0.0002, 0.011, 0.04], dtype=np.float32)}
    realised = engine.realise(wanted, BOXES)
    np.testing.assert_allclose(realised["metallicity"], [0.0001, 0.008, 0.05], rtol=1e-6)
    at = {"log_age": 7.0, "ebv": 0.1, "metallicity": [0.004, 0.02]}
    fluxes = engine.fluxes(at)
    for row, metallicity in enumerate((0.004, 0.02)):
        fixed = cigale(metallicity=metallicity).fluxes({"log_age": 7.0, "ebv": 0.1})
        np.testing.assert_array_equal(fluxes[row], fixed[0])


def test_a_factor_between_parameter_and_cigale(new_cigale: str) -> None:
    engine = cigale(map={"ebv": {"to": "dustext.E_BV", "factor": 0.5}})
    np.testing.assert_allclose(
        engine.fluxes({"log_age": 7.0, "ebv": 1.0}), cigale().fluxes({"log_age": 7.0, "ebv": 0.5})
    )


def test_a_parameter_without_limits_asks_for_them(new_cigale: str) -> None:
    with pytest.raises(UserError, match=r"no limits of dustext.Rv.*model.cigale.nodes.rv"):
        cigale(map={"rv": "dustext.Rv"})
    engine = cigale(map={"rv": "dustext.Rv"}, nodes={"rv": (2.0, 5.0, 7)})
    assert engine.limits["rv"] == (2.0, 5.0)


# Bad input.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modules": ["ssp", "bc03_spp", "dustext"]}, "no module 'bc03_spp'; did you mean 'bc03_ssp'"),
        ({"modules": ["ssp", "ssp", "dustext"]}, "names ssp twice"),
        (
            {"modules": ["ssp", "bc03_ssp"]},
            "no module of ssp bc03_ssp is known to take ebv.*model.cigale.map.ebv",
        ),
        ({"modules": ["dustext", "bc03_ssp", "ssp"]}, "CIGALE stops at its first SED, dustext bc03_ssp ssp"),
        ({"parameters": {"bc03": {"imf": 1}}}, "parameters.bc03.imf is what model.cigale.imf says"),
        ({"parameters": {"nebular": {"logU": -2.0}}}, "the chain has no module 'nebular'"),
        ({"parameters": {"dustext": {"lawn": 1}}}, "dustext has no parameter 'lawn'; did you mean 'law'"),
        ({"parameters": {"dustext": {"law": 7}}}, "dustext.law = 7: CIGALE has 0, 1, 2"),
        ({"parameters": {"dustext": {"E_BV": 0.1}}}, "dustext.E_BV is what prior.ebv says"),
        ({"parameters": {"bc03_ssp": {"metallicity": 0.02}}}, "is what model.metallicity says"),
        ({"parameters": {"bc03_ssp": {"separation_age": -1}}}, "separation_age = -1: CIGALE takes 0 to inf"),
        ({"parameters": {"dustext": {"filters": "V_B90 & VV"}}}, "filters names 'VV'"),
        ({"map": {"rv": "dustext.RV"}}, "dustext has no parameter 'RV'"),
        ({"map": {"logU": "nebular.logU"}}, "map.logU: the chain has no module 'nebular'"),
        ({"map": {"rv": "Rv"}}, "map.rv"),
        ({"nodes": {"ebvv": (0.0, 1.0, 5)}}, "nodes.ebvv: no such parameter; did you mean 'ebv'"),
        ({"nodes": {"ebv": (1.0, 0.0, 5)}}, "lowest < highest"),
        ({"nodes": {"log_age": (11.0, 12.0, 5)}}, "holds 0 of CIGALE's values"),
        ({"evaluate": "tabel"}, "evaluate = 'tabel'"),
        ({"filters": {"wfc3_f275v": "x"}}, "unknown band 'wfc3_f275v'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str, new_cigale: str) -> None:
    with pytest.raises(UserError, match=message):
        cigale(**settings)


def test_a_metallicity_that_cigale_lacks(any_cigale: str) -> None:
    with pytest.raises(
        UserError, match=r"metallicity = 0.01: CIGALE has 0.0001, 0.0004, 0.004, 0.008, 0.02, 0.05"
    ):
        cigale(metallicity=0.01)


def test_a_band_beyond_the_spectra(new_cigale: str) -> None:
    with pytest.raises(UserError, match="band wfc3_f475w: CIGALE's spectra do not cover it"):
        cigale(bands=["wfc3_f475w"], filters={"wfc3_f475w": "spitzer.irac.ch1"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"log_age": 10.9, "ebv": 0.0}, r"log_age = 10.9 .* lies outside the model's limits, 5 to 10.30103"),
        ({"log_age": 7.0, "ebv": [0.1, -0.1]}, r"ebv = -0.1 \(1 of 2 values\) lies outside"),
        ({"log_age": 7.0}, "missing parameter ebv"),
        ({"log_age": 7.0, "ebv": 0.1, "log_mass": 3.0}, "unknown parameter 'log_mass'"),
        ({"log_age": [7.0, 8.0], "ebv": [0.1, 0.2, 0.3]}, "parameters have shapes"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str, new_cigale: str) -> None:
    with pytest.raises(UserError, match=message):
        cigale().fluxes(values)


def test_a_box_without_any_age(new_cigale: str) -> None:
    with pytest.raises(UserError, match=r"prior\.log_age holds none of CIGALE's own values"):
        cigale().realise(drawn(3), {"log_age": (6.001, 6.002)})


def test_another_grid_of_ages_is_noticed(new_cigale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    physics = import_module("double_physics")
    data = import_module("pcigale.data")
    monkeypatch.setattr(data, "SSP_AGES", physics.SSP_AGES * 1.1)
    with pytest.raises(UserError, match=r"CIGALE says 20000 Myr where its grid of ages says 22000"):
        cigale()
