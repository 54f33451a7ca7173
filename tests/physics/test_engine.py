"""`open_engine`: settings checked at the door, one engine for equal settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchflow.errors import UserError
from batchflow.physics.engine import ENGINES, Engine, open_engine
from batchflow.settings.model import ModelSettings

SETTINGS = {"engine": "embedded", "bands": ["wfc3_f275w", "wfc3_f555w"], "metallicity": 0.004}


def test_dictionary_and_settings_open_the_same_engine() -> None:
    engine: Engine = open_engine(SETTINGS)
    assert open_engine(ModelSettings.model_validate(SETTINGS)) is engine
    assert open_engine(SETTINGS | {"rv": 3.1}) is engine
    assert open_engine(SETTINGS | {"rv": 4.0}) is not engine


def test_engine_says_what_it_is() -> None:
    engine = open_engine(SETTINGS)
    assert engine.bands == ("wfc3_f275w", "wfc3_f555w")
    assert engine.parameters == ("log_age", "ebv")
    assert set(engine.limits) == set(engine.parameters)
    assert engine.describe()["metallicity"] == 0.004
    assert engine.table().bands == engine.bands


def test_every_setting_matters() -> None:
    values = {"log_age": 7.0, "ebv": 0.5}
    plain = open_engine(SETTINGS).fluxes(values)
    for change in ({"metallicity": 0.02}, {"extinction": "F99"}, {"rv": 4.0}):
        assert np.abs(open_engine(SETTINGS | change).fluxes(values) / plain - 1).max() > 0.01


def test_fluxes_are_those_of_the_table() -> None:
    engine = open_engine(SETTINGS)
    values = {"log_age": np.array([6.2, 9.9]), "ebv": np.array([0.0, 1.9])}
    np.testing.assert_array_equal(engine.fluxes(values), engine.table().fluxes(values))


def test_defaults_are_solar_milky_way() -> None:
    described = open_engine({"bands": ["acs_f814w"]}).describe()
    assert (described["engine"], described["metallicity"]) == ("embedded", 0.02)
    assert (described["extinction"], described["rv"]) == ("CCM89", 3.1)


def test_log_mass_is_no_parameter_of_fluxes_per_mass() -> None:
    with pytest.raises(UserError, match="per solar mass formed"):
        open_engine(SETTINGS).fluxes({"log_age": 7.0, "ebv": 0.1, "log_mass": 4.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metalicity": 0.02}, "unknown key metalicity; did you mean 'metallicity'"),
        ({"engine": "cigal"}, "engine = 'cigal'"),
        ({"bands": ["wfc3_f555"]}, "did you mean 'wfc3_f555w'"),
        ({"bands": []}, "bands"),
        ({"bands": ["acs_f555w", "acs_f555w"]}, "named twice: acs_f555w"),
        ({"metallicity": "high"}, "metallicity = 'high'"),
        ({"metallicity": 0.00001}, "metallicity = 1e-05"),
        ({"extinction": "CCM98"}, "did you mean 'CCM89'"),
        ({"rv": 1.0}, r"rv = 1\.0"),
        ({"extinction": "G23", "rv": 5.9}, "rv = 5.9.*G23"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_engine(SETTINGS | change)


def test_missing_bands_are_asked_for() -> None:
    with pytest.raises(UserError, match="bands is missing; expected"):
        open_engine({"engine": "embedded"})


def test_another_engine_plugs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ModelSettings.model_construct(engine="other", bands=("a",))
    stand_in = open_engine(SETTINGS)
    monkeypatch.setitem(ENGINES, "other", lambda found: stand_in)
    assert open_engine(settings) is stand_in
