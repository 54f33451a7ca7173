"""The model folder: whole, checked, and the same network when read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from toy_mocks import toy_photometry, toy_specification

from batchflow.errors import UserError
from batchflow.flow.checkpoint import load_model, new_network, save_model
from batchflow.flow.description import MODEL_FILE, WEIGHTS_FILE, load_description, write_description


@pytest.fixture
def folder(tmp_path) -> Path:
    network = new_network(toy_specification(), seed=4)
    network.description = {"settings": {"seed": 1}, "training": {"held_out_loss": -1.5}}
    save_model(tmp_path / "model", network)
    return tmp_path / "model"


def draws(network) -> torch.Tensor:
    seen = toy_photometry(20)
    seen = seen._replace(flux=seen.flux.float(), error=seen.error.float())
    base = torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(0))
    return network.sample(seen, torch.zeros(20, dtype=torch.int64), base)[0]


def test_a_saved_network_gives_the_same_draws_bit_for_bit(folder):
    network = load_model(folder)
    assert torch.equal(draws(network), draws(new_network(toy_specification(), seed=4)))
    assert not torch.equal(draws(network), draws(new_network(toy_specification(), seed=5)))


def test_everything_else_comes_back_too(folder):
    network, specification = load_model(folder), toy_specification()
    assert network.bands == specification.bands
    assert list(network.boxes.items()) == list(specification.boxes.items())
    assert network.specification.flow == specification.flow
    assert network.description == {"settings": {"seed": 1}, "training": {"held_out_loss": -1.5}}
    for name in ("depth", "scatter", "brightness"):
        np.testing.assert_array_equal(getattr(network.noise, name), getattr(specification.noise, name))


def test_the_description_is_plain_json_with_versions_and_checksum(folder):
    described = json.loads((folder / MODEL_FILE).read_text())
    assert described["versions"]["torch"] == torch.__version__
    assert described["weights_sha256"] == load_model(folder).weights_sha256
    assert described["parameters"] == ["log_age", "log_mass", "ebv"]
    assert described["noise"]["depth"][1][2] is None


def test_a_folder_holds_the_model_and_nothing_temporary(folder):
    save_model(folder, load_model(folder))
    assert sorted(path.name for path in folder.iterdir()) == [MODEL_FILE, WEIGHTS_FILE]


@pytest.mark.parametrize("name", [MODEL_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        load_model(folder)


@pytest.mark.parametrize("name", [MODEL_FILE, WEIGHTS_FILE])
def test_a_file_cut_short_is_refused(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=name):
        load_model(folder)


def test_altered_weights_are_refused(folder):
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        load_model(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flow", {"hidden": 32}),
        ("bands", ["wfc3_f275w", "wfc3_f438w"]),
        ("prior", {"log_age": [6, 10]}),
        ("flow", {"kind": "cubic"}),
        ("noise", {}),
    ],
)
def test_a_description_that_does_not_fit_the_weights_is_refused(folder, key, value):
    _edit(folder, key, value)
    with pytest.raises(UserError, match="do not fit"):
        load_model(folder)


def test_another_format_is_refused(folder):
    described = json.loads((folder / MODEL_FILE).read_text())
    (folder / MODEL_FILE).write_text(json.dumps(described | {"format": "batchflow model 99"}))
    with pytest.raises(UserError, match="model 99"):
        load_model(folder)


@pytest.mark.parametrize("key", ["prior", "noise", "settings", "weights_sha256"])
def test_an_altered_description_is_refused_even_where_it_would_fit(folder, key):
    described = json.loads((folder / MODEL_FILE).read_text())
    changes = {
        "prior": {"log_age": [6, 9], "log_mass": [2, 7], "ebv": [0, 1.5]},
        "noise": described["noise"] | {"systematic": 0.0},
        "settings": {},
        "weights_sha256": "0",
    }
    (folder / MODEL_FILE).write_text(json.dumps(described | {key: changes[key]}))
    with pytest.raises(UserError, match=r"model\.json.*it was altered"):
        load_model(folder)


def _edit(folder: Path, key: str, value: object) -> None:
    """Change the description, its checksum with it."""
    write_description(folder, load_description(folder) | {key: value})


def test_weights_missing_a_tensor_are_refused_even_with_a_right_checksum(folder):
    import hashlib

    tensors = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    tensors.pop("mass_spread")
    content = safetensors.torch.save(tensors)
    (folder / WEIGHTS_FILE).write_bytes(content)
    _edit(folder, "weights_sha256", hashlib.sha256(content).hexdigest())
    with pytest.raises(UserError, match="mass_spread"):
        load_model(folder)


def test_building_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    new_network(toy_specification(), seed=9)
    assert torch.equal(torch.random.get_rng_state(), before)
