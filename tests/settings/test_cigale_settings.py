"""`[model.cigale]`: how it may be written, and what a wrong key is told."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from batchflow import stages
from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.physics.cigale_chain import parse_accepts
from batchflow.physics.engine import open_engine
from batchflow.settings.model import ModelSettings

JOB = """
name = "t"
output = "run"
[model]
engine = "cigale"
bands = ["wfc3_f275w"]
[model.cigale]
modules = ["ssp", "bc03_ssp", "dustext"]
parameters = {dustext = {law = 1}, nebular = {emission = true, logU = -2.5}}
map = {rv = "dustext.Rv", ebv = {to = "dustext.E_BV", factor = 0.5}}
nodes = {rv = [2.0, 5.0, 7]}
"""


def test_a_job_as_resolved_is_the_same_job(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    job = load_job(path)
    values = tomllib.loads(tomli_w.dumps(stages.resolved(job)))
    again = stages.from_resolved(values, "resolved")
    assert again.model == job.model
    assert hash(again.model) == hash(job.model)
    assert job.model.cigale.map["ebv"][0].factor == 0.5
    assert job.model.cigale.parameters["nebular"] == {"emission": True, "logU": -2.5}


def test_settings_that_differ_are_different_engines() -> None:
    plain = ModelSettings(engine="cigale", bands=("wfc3_f275w",))
    other = ModelSettings.model_validate(
        {"engine": "cigale", "bands": ("wfc3_f275w",), "cigale": {"imf": "salpeter"}}
    )
    assert plain != other
    assert hash(plain) != hash(other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modles": ["ssp"]}, r"unknown key cigale\.modles; did you mean 'modules'"),
        ({"map": {"rv": {"factor": 2.0}}}, r"cigale\.map\.rv\.0\.to is missing"),
        ({"nodes": {"ebv": (0.0, 1.0)}}, r"cigale\.nodes\.ebv"),
        ({"imf": "miller"}, r"cigale\.imf = 'miller'"),
        ({"parameters": {"dustext": 3}}, r"cigale\.parameters\.dustext = 3"),
    ],
)
def test_wrong_keys_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_engine({"engine": "cigale", "bands": ["wfc3_f275w"], "cigale": settings})


def test_a_wrong_key_in_a_job_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(JOB.replace("nodes =", "node ="))
    with pytest.raises(UserError, match=r"unknown key model\.cigale\.node; did you mean 'nodes'"):
        load_job(path)


@pytest.mark.parametrize(
    ("rule", "limits", "options"),
    [
        ("cigale_list(minvalue=0., maxvalue=1.)", (0.0, 1.0), ()),
        ("cigale_list(dtype=int, minvalue=1.)", (1.0, float("inf")), ()),
        ("cigale_list(options=0.02 & 0.004 & 1e-4)", (-float("inf"), float("inf")), (0.0001, 0.004, 0.02)),
        ("cigale_list(dtype=int, options=0. & 1.)", (-float("inf"), float("inf")), (0.0, 1.0)),
        ("float(min=0)", (0.0, float("inf")), ()),
        ("string()", (-float("inf"), float("inf")), ()),
        ("cigale_string_list(options=cloudy & mappings)", (-float("inf"), float("inf")), ()),
    ],
)
def test_cigales_rules_are_read(rule: str, limits: tuple[float, float], options: tuple[float, ...]) -> None:
    found = parse_accepts(rule, 1)
    assert ((found.low, found.high), found.options) == (limits, options)
