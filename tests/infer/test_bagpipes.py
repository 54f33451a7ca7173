"""Posteriors against an independent code: bagpipes (Carnall et al. 2018) with the nautilus sampler.

Same spectra (BC03, MILES, Kroupa, solar), same burst, prior and errors, Cardelli, Clayton & Mathis (1989)
with R(V) = 3.1, bands by the curves shipped here. bagpipes is told to sample ages finely; still it takes each
age's spectrum from bins about the library's ages, where batchflow interpolates between them.
Needs bagpipes and nautilus-sampler, which are no dependencies; half a minute a cluster.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from batchflow.flow.checkpoint import new_network
from batchflow.flow.density import Specification
from batchflow.infer.clusters import from_arrays
from batchflow.infer.draw import Options, Proposal, Rescue, draw_posteriors
from batchflow.infer.marginal import ExactModel
from batchflow.infer.nuisance import Nuisances
from batchflow.mocks.noise import NoiseModel
from batchflow.physics.bands import load_band
from batchflow.physics.engine import open_engine
from batchflow.settings.prior import PriorSettings
from batchflow.settings.train import FlowSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]

BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w")
RV = 3.1
PRIOR = {"log_age": (6.0, 10.1), "log_mass": (2.0, 8.0), "ebv": (0.0, 1.0)}
DISTANCE = 10.0
CM2 = 4 * np.pi * (DISTANCE * 3.0856776e24) ** 2
TRUTHS = ((7.5, 4.0, 0.10), (8.3, 4.3, 0.20), (9.3, 5.2, 0.05), (6.7, 4.0, 0.30))
SIGNAL = 20.0
QUANTILES = (0.16, 0.5, 0.84)


def observe():
    """Fluxes and errors [mJy] of each of `TRUTHS`, (n_clusters, n_bands)."""
    age, mass, ebv = np.array(TRUTHS).T
    engine = open_engine({"bands": BANDS, "metallicity": 0.02, "extinction": "CCM89_original", "rv": RV})
    true = engine.fluxes({"log_age": age, "ebv": ebv}) * 10 ** (mass[:, None] - 2 * np.log10(DISTANCE * 1e5))
    error = true / SIGNAL
    return engine, true + error * np.random.default_rng(5).standard_normal(true.shape), error


def ours(engine, flux, error):
    """Quantiles by the exact grid, (n_clusters, n_parameters, 3)."""
    one = np.ones((1, len(BANDS)))
    box = np.array([[0.0, 5.0]])
    noise = NoiseModel(BANDS, ("none",), one, 0 * one, 0 * one, one, np.ones(1), box, 0.0, np.zeros(1))
    prior = PriorSettings.model_validate({name: {"uniform": box} for name, box in PRIOR.items()})
    network = new_network(Specification(BANDS, prior.boxes(), FlowSettings(), noise), 0)
    model = ExactModel.of(engine.table(), Nuisances({}), torch.device("cpu"))
    way = Rescue(0.0, 16_384, "always")
    clusters = from_arrays(flux, error, DISTANCE, len(BANDS))
    found = draw_posteriors(Proposal(network, model, prior), clusters, Options(512, True, 1, way))
    columns = [[found.refined[f"{name}_{edge}"] for edge in ("q16", "q50", "q84")] for name in PRIOR]
    return np.array(columns).transpose(2, 0, 1)


def sample_ages_finely(config):
    """Every 0.01 dex, in place of bagpipes' 0.1."""
    log_age = np.arange(6.0, 10.135, 0.01)
    lowest = log_age - 0.005
    config.age_sampling = 10**log_age
    config.age_bins = 10 ** np.append(lowest, log_age[-1] + 0.005)
    config.age_bins[0] = 0.0
    config.age_widths = np.diff(config.age_bins)


def theirs(pipes, flux, error, folder):
    """Quantiles by bagpipes and nautilus, (n_clusters, n_parameters, 3)."""
    names = []
    for band in map(load_band, BANDS):
        names.append(str(folder / f"{band.name}.txt"))
        np.savetxt(names[-1], np.stack([band.wavelength, band.throughput], 1))
    low, high = PRIOR["log_age"]
    burst = {"age": (10 ** (low - 9), 10 ** (high - 9)), "age_prior": "log_10", "metallicity": 1.0}
    burst["massformed"] = PRIOR["log_mass"]
    dust = {"type": "Cardelli", "Av": tuple(RV * edge for edge in PRIOR["ebv"])}
    instructions = {"redshift": 0.0, "burst": burst, "dust": dust}
    found = []
    for i in range(len(flux)):
        # At no redshift, bagpipes knows luminosities: microjanskys times the area of the sphere.
        seen = 1e3 * CM2 * np.stack([flux[i], error[i]], 1)
        galaxy = pipes.galaxy(str(i), lambda _, seen=seen: seen, spectrum_exists=False, filt_list=names)
        fit = pipes.fit(galaxy, instructions, run="check", n_posterior=5000)
        fit.fit(verbose=False, sampler="nautilus", n_live=400, n_eff=5000, n_networks=1)
        samples = fit.posterior.samples
        columns = [
            np.log10(samples["burst:age"]) + 9,
            samples["burst:massformed"],
            samples["dust:Av"] / RV,
        ]
        found.append(np.quantile(columns, QUANTILES, axis=1).T)
        print(TRUTHS[i], found[-1].tolist(), flush=True)
    return np.array(found)


def test_medians_and_widths_are_those_of_bagpipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipes = pytest.importorskip("bagpipes", reason="bagpipes is not installed: see the head of this file")
    pytest.importorskip("nautilus", reason="nautilus-sampler is not installed")
    sample_ages_finely(pipes.config)
    engine, flux, error = observe()
    exact, peer = ours(engine, flux, error), theirs(pipes, flux, error, tmp_path)
    width = exact[..., 2] - exact[..., 0]
    offset, ratio = (peer[..., 1] - exact[..., 1]) / width, (peer[..., 2] - peer[..., 0]) / width
    print("ours", exact, "bagpipes", peer, "offset over width", offset, "ratio of widths", ratio, sep="\n")
    assert np.abs(offset).max() < 0.25
    assert np.abs(np.log(ratio)).max() < 0.3
