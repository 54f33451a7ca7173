"""Recovery of held-out mocks through the very code that infers catalogues: the task of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from batchflow.flow.checkpoint import PosteriorNetwork
from batchflow.infer.clusters import PARSECS_10_IN_MPC, Clusters
from batchflow.infer.disagreement import member_spread
from batchflow.infer.draw import Options, draw_posteriors
from batchflow.infer.posterior import cached_model
from batchflow.keys import generator, key
from batchflow.mocks.prior import log_density
from batchflow.prior_settings import Distribution
from batchflow.shards import write_table
from batchflow.train.data import Mocks, open_shards
from batchflow.train.simulate import Simulation, simulate
from batchflow.validate.calibrate import recovery

MIN_SIGNAL, TOP_MARGIN = 5.0, 0.3
"""Mocks are taken whose brightest band is seen at this signal-to-noise ratio or more, and this far [dex]
below the top of the training range: there the range, in TRUE brightness, cuts no posterior, so that
ranks must be uniform. The choice is made on the noisy data alone, which calibration allows."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def recover_held_out(output: str, shards: list[str], settings: dict[str, Any], footer: dict[str, Any]) -> int:
    """Infer held-out mocks and write how well their parameters are recovered.

    Parameters
    ----------
    output : str
        Final name of the table.
    shards : list of str
        Mock shards.
    settings : dict
        ``model`` (folder), ``weights`` (checksum), ``held_out`` (share), ``mocks`` and ``draws``
        (numbers), ``seed``, ``distances`` [Mpc] by survey.
    footer : dict
        Provenance.

    Returns
    -------
    int
        Number of mocks inferred.
    """
    model, proposal = cached_model(settings["model"], settings["weights"])
    network = model.network
    mocks = open_shards(
        [Path(path) for path in shards], network.bands, settings["held_out"], network.parameters
    )
    # About a third pass the cuts on brightness and on the prior's mass range; far fewer follow a steep prior.
    share = 8 if model.prior.log_mass.shape == "uniform" else 64
    rows = mocks.read_held_out(share * settings["mocks"])
    clusters, truth = observe(rows, network, model.prior.log_mass, settings)
    draws = draw_posteriors(proposal, clusters, Options(settings["draws"], True, settings["seed"]))
    lost = ~np.isfinite(draws.efficiency)
    kept = {name: values[~lost] for name, values in draws.values.items()}
    table = recovery(kept, draws.weights[~lost], {name: truth[name][~lost] for name in kept})
    efficiency = float(np.median(draws.efficiency[~lost])) if (~lost).any() else np.nan
    table = table.append_column("efficiency", pa.array([efficiency] * table.num_rows))
    table = table.append_column("n_lost", pa.array([int(lost.sum())] * table.num_rows))
    if len(network.members) > 1:
        spread = float(np.nanmedian(member_spread(draws, len(network.members))))
        table = table.append_column("member_spread", pa.array([spread] * table.num_rows))
    write_table(Path(output), table, footer)
    return len(lost)


def observe(
    mocks: Mocks, network: PosteriorNetwork, prior: Distribution, settings: Mapping[str, Any]
) -> tuple[Clusters, dict[str, Floats]]:
    """See mocks as the job's surveys would see them.

    Parameters
    ----------
    mocks : Mocks
        Rows that the network was not trained on.
    network : PosteriorNetwork
        Its noise model.
    prior : Distribution
        Of the mass: the simulation's is flat, so a share of the mocks is kept that follows it.
    settings : mapping
        ``seed``, ``mocks`` (how many at most), ``distances`` [Mpc] by survey.

    Returns
    -------
    tuple of (Clusters, dict of ndarray)
        Clusters whose true mass lies in the prior, and their true parameters.
    """
    chance = torch.Generator().manual_seed(key(settings["seed"], "validate"))
    seen = simulate(mocks.fluxes, network.noise_on("cpu"), chance)
    surveys = [network.noise.surveys[i] for i in seen.survey.tolist()]
    distance = np.array([settings["distances"].get(name, PARSECS_10_IN_MPC) for name in surveys])
    mass = seen.log_mass.numpy().astype(np.float64) + 2 * np.log10(distance / PARSECS_10_IN_MPC)
    fair = _follow_prior(mass, _inside_training(seen, network), prior, settings["seed"])
    keep = np.flatnonzero(fair)[: settings["mocks"]]
    flux, error = (values.numpy().astype(np.float64) for values in seen.seen[:2])
    measured, limit = (values.numpy() for values in seen.seen[2:])
    flux, error = (np.where(measured, values, np.nan) for values in (flux, error))
    names = [f"mock-{i}" for i in range(len(flux))]
    truth = {
        name: mocks.parameters[:, i].numpy()[keep].astype(float) for i, name in enumerate(network.parameters)
    }
    return Clusters(flux, error, limit, distance, names, surveys).rows(keep), truth | {"log_mass": mass[keep]}


def _follow_prior(mass: Floats, among: Mask, prior: Distribution, seed: int) -> Mask:
    """Of masses that are flat, those to keep so that they follow the prior (von Neumann's rejection)."""
    density = np.where(among, log_density(prior, mass), -np.inf)
    if prior.shape == "uniform":
        return np.isfinite(density)
    chance = np.log(generator(seed, "validate", "prior").random(mass.shape))
    found: Mask = np.isfinite(density) & (chance <= density - density.max(initial=-np.inf, where=among))
    return found


def _inside_training(seen: Simulation, network: PosteriorNetwork) -> NDArray[np.bool_]:
    depth = network.noise_on("cpu").depth[seen.survey]
    brightest = (seen.seen.flux / depth).nan_to_num(0.0).amax(-1).numpy()
    top = network.noise.brightness[:, 1][seen.survey.numpy()] - TOP_MARGIN
    found: NDArray[np.bool_] = (brightest >= MIN_SIGNAL) & (np.log10(np.maximum(brightest, 1e-9)) <= top)
    return found
