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
from batchflow.infer.draw import Options, Proposal, photometry_of
from batchflow.infer.posterior import Model, cached_model
from batchflow.infer.summary import weighted_quantiles
from batchflow.keys import generator, key
from batchflow.mocks.prior import log_density
from batchflow.settings.prior import Distribution
from batchflow.shards import write_table
from batchflow.train.data import Mocks, open_shards
from batchflow.train.simulate import Simulation, simulate
from batchflow.validate.calibrate import recovery
from batchflow.validate.exactness import closeness, exact_log_density, gap_at_truth
from batchflow.validate.plan import HELD_OUT_TABLES
from batchflow.validate.schemas import DELIVERED, shaped
from batchflow.validate.strata import LEAST_MOCKS, make_strata, strata_table
from batchflow.validate.tables import calibration_table, coverage_table, figures_table, ranks_table
from batchflow.validate.ways import HPD, Posteriors, all_ranks, draw_ways

MIN_SIGNAL, TOP_MARGIN = 5.0, 0.3
"""Mocks are taken whose brightest band is detected at this signal-to-noise ratio or more, and this far [dex]
below the top of the training range: there the range, in TRUE brightness, cuts no posterior, so that
ranks must be uniform. The choice is made on the noisy data alone, which calibration allows."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def recover_held_out(
    outputs: list[str], shards: list[str], settings: dict[str, Any], footer: dict[str, Any]
) -> list[str]:
    """Infer held-out mocks and write how well their parameters are recovered.

    Parameters
    ----------
    outputs : list of str
        Final names of the tables, those of `HELD_OUT_TABLES` in order.
    shards : list of str
        Mock shards.
    settings : dict
        ``model`` (folder), ``weights`` (checksum), ``held_out`` (share), ``mocks``, ``draws`` and ``exact``
        (numbers), ``seed``, ``distances`` [Mpc] by survey, and of [infer] ``certify``, ``min_efficiency``,
        ``max_draws``, ``grid``.
    footer : dict
        Provenance.

    Returns
    -------
    list of str
        What a person should know: mocks that are fewer than asked for, strata that are too small.
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
    posteriors = draw_ways(proposal, clusters, settings)
    density = _density_at(proposal, clusters, truth)
    ranks = all_ranks(posteriors.ways, truth | {HPD: density}, network.boxes, settings["seed"])
    columns = mock_columns(model, clusters, truth, posteriors, settings) | _rank_columns(ranks)
    seen = {name: columns[name] for name in ("signal", "n_bands", "survey", "depth")}
    medians = {name: columns[f"{name}_q50"] for name in ("log_age", "ebv")}
    strata = make_strata(seen | medians | {"efficiency": columns["efficiency_network"]})
    figures = pa.table({name: columns[name] for name in ("efficiency", "gap_nats", "c2st_network")})
    tables = {
        "mocks": pa.table(columns),
        "calibration": calibration_table(ranks, posteriors.ways, truth),
        "coverage": coverage_table(ranks),
        "ranks": ranks_table(ranks),
        "strata": strata_table(strata, ranks, figures),
        "figures": figures_table(columns, settings["mocks"]),
        "recovery": _recovery(model, posteriors, truth, settings["mocks"]),
    }
    for name, output in zip(HELD_OUT_TABLES, outputs, strict=True):
        write_table(Path(output), shaped(name, tables[name], list(truth)), footer)
    return _notes(tables, settings, proposal.grid is not None)


def _density_at(proposal: Proposal, clusters: Clusters, truth: dict[str, Floats]) -> Floats:
    """Unnormalised ln density of the exact posterior at each mock's truth, (n_clusters,)."""
    if not len(clusters.keys):
        return np.zeros(0)
    at = {name: truth[name][:, None] for name in proposal.parameters}
    return exact_log_density(proposal, clusters, at, np.zeros(len(clusters.keys)))[:, 0]


def _recovery(model: Model, posteriors: Posteriors, truth: dict[str, Floats], asked: int) -> pa.Table:
    """The delivered posteriors, a row a parameter."""
    sample, draws = posteriors.ways[DELIVERED], posteriors.delivered
    lost = ~np.isfinite(sample.weights).all(1)
    kept = {name: values[~lost] for name, values in sample.values.items()}
    table = recovery(kept, sample.weights[~lost], {name: truth[name][~lost] for name in kept})
    members = len(model.network.members)
    more = {
        "efficiency": float(np.median(draws.efficiency[~lost])) if (~lost).any() else np.nan,
        "efficiency_network": _median(posteriors.own.efficiency),
        "n_lost": int(lost.sum()),
        "n_asked": asked,
    } | ({"member_spread": _median(member_spread(posteriors.own, members))} if members > 1 else {})
    for name, value in more.items():
        table = table.append_column(name, pa.array([value] * table.num_rows))
    return table


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def mock_columns(
    model: Model,
    clusters: Clusters,
    truth: dict[str, Floats],
    posteriors: Posteriors,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What is known of each mock, by column; n_clusters values each.

    Parameters
    ----------
    model : Model
        The model.
    clusters : Clusters
        The mocks as seen.
    truth : dict of str to ndarray, shape (n_clusters,)
        True parameters.
    posteriors : Posteriors
        Theirs.
    settings : mapping
        ``exact`` (how many are compared with exact draws), ``draws``, ``seed``.

    Returns
    -------
    dict of str to array, shape (n_clusters,)
        Columns of ``validation/mocks.parquet``, but for the ranks.
    """
    measured = clusters.measured
    with np.errstate(divide="ignore", invalid="ignore"):
        signal = np.where(measured & ~clusters.limit, clusters.flux / clusters.error, -np.inf).max(
            1, initial=-np.inf
        )
    depth = [_median(row) for row in np.where(measured, _depths(model, clusters), np.nan)]
    delivered = posteriors.delivered
    found: dict[str, Any] = {
        "mock": list(clusters.keys),
        "survey": list(clusters.surveys),
        "n_bands": measured.sum(1),
        "signal": signal,
        "depth": np.array(depth),
    }
    quantiles = {"q16": 0.16, "q50": 0.5, "q84": 0.84}
    for name, values in posteriors.ways[DELIVERED].values.items():
        columns = weighted_quantiles(values, posteriors.ways[DELIVERED].weights, list(quantiles.values())).T
        found |= {f"true_{name}": truth[name]}
        found |= {f"{name}_{suffix}": column for suffix, column in zip(quantiles, columns, strict=True)}
    found |= {"efficiency": delivered.efficiency, "efficiency_network": posteriors.own.efficiency}
    found |= {"method": posteriors.method, "ppc_pvalue": delivered.pvalue}
    found["ood_pvalue"] = model.ood_pvalues(clusters)
    found["gap_nats"] = _gaps(model.proposal, clusters, truth, posteriors)
    return found | _closeness(model.proposal, clusters, posteriors, settings)


def _depths(model: Model, clusters: Clusters) -> Floats:
    """Errors of sources without flux, as far as the noise model tells [mJy], (n_clusters, n_bands)."""
    photometry, _ = photometry_of(model.network, clusters)
    return np.asarray(photometry.terms.background.sqrt().cpu().numpy().astype(np.float64))


def _gaps(proposal: Proposal, clusters: Clusters, truth: dict[str, Floats], posteriors: Posteriors) -> Floats:
    if not len(clusters.keys):
        return np.zeros(0)
    evidence = posteriors.delivered.log_evidence
    with np.errstate(invalid="ignore"):
        found = gap_at_truth(proposal, clusters, truth, (posteriors.own, evidence))
    return np.where(np.isfinite(found), found, np.nan)


def _closeness(
    proposal: Proposal, clusters: Clusters, posteriors: Posteriors, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Comparison of the first mocks with exact draws; NaN for the others, and where there is no grid."""
    n = len(clusters.keys)
    names = ("kl_exact", "c2st_network", "c2st_weighted", "c2st_delivered", "c2st_exact")
    columns = {name: np.full(n, np.nan) for name in names}
    few = np.arange(min(settings["exact"], n))
    if proposal.grid is None or not len(few):
        return columns
    options = Options(settings["draws"], True, settings["seed"])
    found = closeness(proposal, clusters.rows(few), options)
    columns["kl_exact"][few] = found.divergence
    # A rescued posterior is an exact one.
    rescued = np.array(posteriors.method)[few] == "grid"
    other = "weighted" if settings["certify"] else "network"
    delivered = np.where(rescued, found.accuracy["exact"], found.accuracy[other])
    for way, accuracy in {**found.accuracy, "delivered": delivered}.items():
        columns[f"c2st_{way}"][few] = accuracy
    return columns


def _rank_columns(ranks: Mapping[tuple[str, str], Floats]) -> dict[str, Floats]:
    return {f"rank_{name}_{way}": values for (way, name), values in ranks.items()}


def _notes(tables: Mapping[str, pa.Table], settings: Mapping[str, Any], grid: bool) -> list[str]:
    """What is less than asked for."""
    n, asked = tables["mocks"].num_rows, settings["mocks"]
    notes = []
    if n < asked:
        notes.append(
            f"{n} of the {asked} mocks asked for: the others are not held out (train.held_out, "
            "mocks.rows), too faint, or outside the prior"
        )
    if not settings["distances"]:
        notes.append("no survey has a distance: mocks are put where the prior on the mass holds most of them")
    if small := sorted({row["by"] for row in tables["strata"].to_pylist() if row["pvalue"] is None}):
        notes.append(f"strata with fewer than {LEAST_MOCKS} mocks are not tested: some by {', '.join(small)}")
    if not grid and settings["exact"]:
        notes.append(
            "no exact draws (marginalised or more than four parameters have no grid): kl_exact and c2st are "
            "empty"
        )
    return notes


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
        ``seed``, ``mocks`` (how many at most), ``distances`` [Mpc] by survey; one without is put where
        half of the mocks weigh more than the middle of the prior.

    Returns
    -------
    tuple of (Clusters, dict of ndarray)
        Clusters whose true mass lies in the prior, and their true parameters.
    """
    chance = torch.Generator().manual_seed(key(settings["seed"], "validate"))
    seen = simulate(mocks.fluxes, network.noise_on("cpu"), chance)
    surveys = [network.noise.surveys[i] for i in seen.survey.tolist()]
    near = seen.log_mass.numpy().astype(np.float64)
    middle = PARSECS_10_IN_MPC * 10 ** ((np.mean(prior.box) - np.median(near)) / 2)
    distance = np.array([settings["distances"].get(name, middle) for name in surveys])
    mass = near + 2 * np.log10(distance / PARSECS_10_IN_MPC)
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
    # A limit bounds no posterior from below: those of mocks without a detection end where the prior does.
    detected = seen.seen.flux.masked_fill(seen.seen.limit, 0.0)
    brightest = (detected / depth).nan_to_num(0.0).amax(-1).numpy()
    top = network.noise.brightness[:, 1][seen.survey.numpy()] - TOP_MARGIN
    found: NDArray[np.bool_] = (brightest >= MIN_SIGNAL) & (np.log10(np.maximum(brightest, 1e-9)) <= top)
    return found
