"""What a trained network knows: nothing from errors (law 5), the truth from fluxes, the right width."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_mocks import BOXES, plain_noise, toy_fluxes, toy_parameters, toy_training, write_toy_shards

from batchflow.flow.checkpoint import PosteriorNetwork, load_model
from batchflow.flow.features import make_features, on_device
from batchflow.settings.train import FlowSettings
from batchflow.train import fit, simulate
from batchflow.train.fit import train

SPAN = 2.5
"""Range of log10 brightness in `plain_noise` [dex]."""
IGNORANCE = math.log(4.0 * 1.5 * SPAN)
"""Least loss of a network that knows the depth but no flux [nat]: uniform over age, E(B-V), brightness."""
FLOW = FlowSettings(couplings=4, hidden=32, bins=8, encoder_layers=2)


def trained(folder: Path, epochs: int) -> tuple[PosteriorNetwork, float]:
    paths = write_toy_shards(folder / "mocks", (6000, 6000), seed=11)
    settings = {"epochs": epochs, "batch": 256, "learning_rate": 5e-3}
    noise = plain_noise(systematic=0.0, scatter=np.full((1, 3), 0.05))
    training = toy_training(paths, settings, noise)
    training = type(training)(**{**vars(training), "specification": _wider(training.specification)})
    figures = train(training, folder / "model")
    return load_model(folder / "model"), figures["held_out_loss"]


def _wider(specification):
    return type(specification)(specification.bands, specification.boxes, FLOW, specification.noise)


def observed(noise, rows: int):
    values = toy_parameters(rows, seed=99)
    fluxes = torch.from_numpy(toy_fluxes(values["log_age"], values["ebv"])).float()
    chance = torch.Generator().manual_seed(3)
    return values, simulate.simulate(fluxes, on_device(noise, "cpu", torch.float32), chance)


def blind(monkeypatch) -> None:
    """Let the network see every flux as zero: only errors are left."""

    def without_flux(noise, seen, survey):
        return make_features(noise, seen._replace(flux=torch.zeros_like(seen.flux)), survey)

    monkeypatch.setattr(fit, "make_features", without_flux)
    monkeypatch.setattr("batchflow.train.prepare.make_features", without_flux)


def leak(monkeypatch) -> None:
    """Report errors that follow the TRUE flux."""
    original = simulate._measure

    def leaking(true, noise, factor, normal):
        flux, error = original(true, noise, factor, normal)
        return flux, (error**2 + (0.1 * true) ** 2).sqrt()

    monkeypatch.setattr(simulate, "_measure", leaking)


def test_trained_on_errors_alone_the_posterior_is_the_prior(tmp_path, monkeypatch):
    blind(monkeypatch)
    network, loss = trained(tmp_path, epochs=4)
    assert loss > IGNORANCE - 0.03
    assert loss < IGNORANCE + 0.5
    _, simulation = observed(network.noise, 100)
    seen = simulation.seen._replace(flux=torch.zeros_like(simulation.seen.flux))
    theta, _ = network.sample(seen, simulation.survey, torch.rand(100, 400, 3))
    for place, name in ((0, "log_age"), (2, "ebv")):
        low, high = BOXES[name]
        unit = (theta[..., place] - low) / (high - low)
        quartiles = unit.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
        assert (quartiles - torch.tensor([[0.25], [0.5], [0.75]])).abs().mean() < 0.06
        assert quartiles[1].std() < 0.06


def test_errors_that_leak_the_truth_would_be_found_out(tmp_path, monkeypatch):
    blind(monkeypatch)
    leak(monkeypatch)
    _, loss = trained(tmp_path, epochs=4)
    assert loss < IGNORANCE - 0.5


@pytest.fixture(scope="module")
def sighted(tmp_path_factory) -> tuple[PosteriorNetwork, float]:
    return trained(tmp_path_factory.mktemp("sighted"), epochs=10)


def test_fluxes_tell_a_lot(sighted):
    _, loss = sighted
    assert loss < IGNORANCE - 3


def test_the_truth_lies_in_the_posteriors_intervals_as_often_as_it_should(sighted):
    network, _ = sighted
    rows = 600
    values, simulation = observed(network.noise, rows)
    base = torch.rand(rows, 300, 3, generator=torch.Generator().manual_seed(1))
    theta, _ = network.sample(simulation.seen, simulation.survey, base)
    truth = (values["log_age"], simulation.log_mass.numpy(), values["ebv"])
    for place, true in enumerate(truth):
        rank = (theta[..., place].numpy() < true[:, None]).mean(1)
        inside = (np.abs(rank - 0.5) < 0.34).mean()
        assert inside == pytest.approx(0.68, abs=0.09)
        assert rank.mean() == pytest.approx(0.5, abs=0.06)


def test_a_trained_network_obeys_the_scale_symmetry(sighted):
    network, _ = sighted
    _, simulation = observed(network.noise, 50)
    seen = simulation.seen
    scaled = seen._replace(flux=seen.flux * 1000, error=seen.error * 1000)
    base = torch.rand(50, 100, 3, generator=torch.Generator().manual_seed(1))
    theta, log_q = network.sample(seen, simulation.survey, base)
    shifted, log_q_shifted = network.sample(scaled, simulation.survey, base)
    away = shifted - theta - torch.tensor([0.0, 3.0, 0.0])
    assert away.abs().median() < 2e-6
    assert (away.abs() < 1e-3).float().mean() > 0.999
    assert (log_q_shifted - log_q).abs().median() < 1e-5
