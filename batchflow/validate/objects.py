"""Each object with published values: our posteriors, the classical fit, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.stats import chi2

from batchflow.arrow import numbers
from batchflow.infer.clusters import Clusters, from_catalogue
from batchflow.infer.draw import Proposal, photometry_of
from batchflow.infer.posterior import Model
from batchflow.infer.summary import weighted_quantiles
from batchflow.physics.torch_table import TorchFluxTable
from batchflow.results.stored import read_draws
from batchflow.schema import MAX_MODES, PARAMETER_UNITS, PUBLISHED, QUANTILES
from batchflow.validate.compare import HALF_STEP
from batchflow.validate.profile import Best, Box, best_in_box, box_around
from batchflow.validate.reasons import classify, error_growth
from batchflow.workers.watch import alive

Floats = NDArray[np.float64]
MASS = "log_mass"
AT_ONCE = 256
"""Objects whose likelihoods are worked on together."""
MASS_STEP = 0.05
"""By which a published log mass [dex] may move, as ages do: it follows from them."""
SAME = ("galaxy", "survey", "object_id", "ra", "dec", "class_", "n_bands", "flags", "n_modes")
TRUST = ("efficiency", "ppc_pvalue", "ood_pvalue")
EXACT, LEVELS = tuple(QUANTILES), list(QUANTILES.values())


def objects_table(
    model: Model,
    catalogue: pa.Table,
    posterior: pa.Table,
    fit: pa.Table | None = None,
    draws: pa.Table | None = None,
) -> pa.Table:
    """The objects of a catalogue part that have published values.

    Parameters
    ----------
    model : Model
        The model.
    catalogue, posterior : pyarrow.Table
        Of the same clusters in the same order: `schema.catalogue_schema`, `schema.posterior_schema`.
    fit : pyarrow.Table or None
        The same of `schema.fit_schema`; None where there is none.
    draws : pyarrow.Table or None
        The same of `schema.draws_schema`; None where there are none.

    Returns
    -------
    pyarrow.Table
        A row an object; docs/columns.md has the columns.
    """
    published = {name: numbers(catalogue, f"published_{name}") for name in PUBLISHED}
    rows = np.flatnonzero(np.logical_or.reduce([np.isfinite(values) for values in published.values()]))
    catalogue, posterior = catalogue.take(rows), posterior.take(rows)
    fit = None if fit is None else fit.take(rows)
    draws = None if draws is None else draws.take(rows)
    published = {name: values[rows] for name, values in published.items()}
    parameters = [name for name in PARAMETER_UNITS if f"{name}_q50" in posterior.column_names]
    columns: dict[str, Any] = {name: posterior[name] for name in SAME}
    columns["flags"] = numbers(posterior, "flags").astype(np.int32)
    for name in parameters:
        columns |= _parameter(name, posterior, fit, published.get(name))
    columns |= _network(parameters, draws, len(rows))
    columns |= {name: numbers(posterior, name) for name in TRUST}
    if fit is not None:
        columns |= {name: numbers(fit, name) for name in ("best_chi2", "best_reduced_chi2")}
    else:
        columns |= {name: np.full(len(rows), np.nan) for name in ("best_chi2", "best_reduced_chi2")}
    columns |= _modes(posterior, published)
    columns |= likelihood_columns(model, from_catalogue(catalogue, model.bands), posterior, published)
    columns["reason"] = pa.array(list(classify(columns)), pa.string())
    return pa.table(columns)


def _parameter(
    name: str, posterior: pa.Table, fit: pa.Table | None, published: Floats | None
) -> dict[str, Floats]:
    """Every estimate of a parameter."""
    n = posterior.num_rows
    nothing = np.full(n, np.nan)
    found = {f"{name}_{suffix}": numbers(posterior, f"{name}_{suffix}") for suffix in (*EXACT, "map")}
    found |= {
        f"exact_{name}_{suffix}": nothing if fit is None else numbers(fit, f"{name}_{suffix}")
        for suffix in EXACT
    }
    for kind in ("best", "bayes"):
        found[f"{kind}_{name}"] = nothing if fit is None else numbers(fit, f"{kind}_{name}")
    if published is not None:
        found[f"published_{name}"] = published
        found[f"difference_{name}"] = found[f"{name}_q50"] - published
    return found


def _network(parameters: Sequence[str], draws: pa.Table | None, n: int) -> dict[str, Floats]:
    """Quantiles of the stored draws: those of the posterior may be the grid's."""
    names = [f"network_{name}_{suffix}" for name in parameters for suffix in QUANTILES]
    if draws is None or not n:
        return {name: np.full(n, np.nan) for name in names}
    stored = read_draws(draws)
    known = np.isfinite(stored.log_weights).any(axis=1, keepdims=True)
    found = [
        np.where(known, weighted_quantiles(stored.values[name], stored.weights, LEVELS), np.nan)
        for name in parameters
    ]
    return dict(zip(names, np.concatenate(found, axis=1).T, strict=True))


def _modes(posterior: pa.Table, published: Mapping[str, Floats]) -> dict[str, Any]:
    """The mode (0: the heaviest) that holds the published values and the one that holds the median."""
    n = posterior.num_rows
    found = {name: np.full(n, np.nan) for name in ("published_mode_weight", "published_mode_distance")}
    place = {name: np.full(n, -1, np.int16) for name in ("published_mode", "median_mode")}
    weights = posterior["mode_weight"].to_pylist()
    known = [name for name in published if f"mode_{name}" in posterior.column_names]
    centre = {name: posterior[f"mode_{name}"].to_pylist() for name in known}
    width = {name: posterior[f"mode_{name}_std"].to_pylist() for name in known}
    median = {name: numbers(posterior, f"{name}_q50") for name in known}
    for i in range(n):
        if not weights[i]:
            continue
        modes = {name: (np.array(centre[name][i]), np.array(width[name][i])) for name in known}
        away = _distance(modes, {name: published[name][i] for name in known})
        if not np.isfinite(away).any():
            continue
        nearest = int(np.nanargmin(away))
        place["published_mode"][i] = nearest
        place["median_mode"][i] = int(np.argmin(_distance(modes, {"log_age": median["log_age"][i]})))
        found["published_mode_weight"][i] = weights[i][nearest]
        found["published_mode_distance"][i] = away[nearest]
    return {**place, **found}


def _distance(modes: Mapping[str, tuple[Floats, Floats]], at: Mapping[str, float]) -> Floats:
    """From each mode, of the farthest parameter [standard deviations, a step of the grid at least]."""
    parts = []
    for name, value in at.items():
        if np.isfinite(value):
            centre, width = modes[name]
            step = HALF_STEP.get(name, 0.0)
            parts.append(np.maximum(np.abs(value - centre) - step, 0.0) / np.maximum(width, max(step, 0.02)))
    nothing = np.full(len(next(iter(modes.values()))[0]), np.nan)
    return np.max(parts, axis=0) if parts else nothing


def likelihood_columns(
    model: Model, clusters: Clusters, posterior: pa.Table, published: Mapping[str, Floats]
) -> dict[str, Any]:
    """The exact likelihood at our best model, at the published colours, and at all that is published.

    Parameters
    ----------
    model : Model
        The model.
    clusters : Clusters
        n_objects of them.
    posterior : pyarrow.Table
        Theirs, for places to begin the search.
    published : mapping of str to ndarray, shape (n_objects,)
        NaN where not published.

    Returns
    -------
    dict of str to ndarray, shape (n_objects,)
        ``chi2_best``, ``chi2_published``, ``chi2_published_colours`` (mass free), their p-values,
        ``deviance``, ``deviance_colours``, ``error_growth``, ``error_growth_colours``,
        ``published_outside_prior``, ``n_published``, and ``log_mass_at_published``, the mass that our model
        needs at the published age and reddening.
    """
    edges = model.prior.ranges()
    table = TorchFluxTable.from_table(model.table, model.network.device)
    axes = {name: edges[name] for name in table.parameters}
    usable = np.flatnonzero(clusters.usable)
    starts = _starts(posterior, tuple(axes))
    parts: list[dict[str, Best]] = []
    for begin in range(0, len(usable), AT_ONCE):
        alive()
        index = usable[begin : begin + AT_ONCE]
        values = {name: column[index] for name, column in published.items()}
        seen = (clusters.rows(index), values)
        parts.append(_three(model.proposal, table, seen, (axes, edges[MASS]), starts[index]))
    return _told(_assemble(parts, usable, len(clusters.keys)), clusters, published, edges)


def _assemble(parts: list[dict[str, Best]], index: NDArray[np.int64], n: int) -> dict[str, dict[str, Floats]]:
    """Numbers of the best models at "all", "colours", "best"; NaN where a cluster is not usable."""
    found = {}
    for what in ("all", "colours", "best"):
        found[what] = {field: np.full(n, np.nan) for field in ("log_likelihood", "chi2", "log_mass")}
        for field, whole in found[what].items():
            whole[index] = np.concatenate([getattr(part[what], field) for part in parts]) if parts else []
    return found


def _three(
    proposal: Proposal,
    table: TorchFluxTable,
    seen: tuple[Clusters, Mapping[str, Floats]],
    prior: tuple[Mapping[str, tuple[float, float]], tuple[float, float]],
    starts: Floats,
) -> dict[str, Best]:
    """The best model at the published values, at those but the mass, and anywhere."""
    (clusters, published), (axes, mass) = seen, prior
    shift = clusters.log_mass_shift
    photometry, _ = photometry_of(proposal.network, clusters)
    whole = tuple(np.full(len(shift), edge) - shift for edge in mass)
    own = published[MASS]
    near = tuple(
        np.where(np.isfinite(own), own - shift + step, edge)
        for step, edge in zip((-MASS_STEP, MASS_STEP), whole, strict=True)
    )
    low, high = box_around(axes, published, HALF_STEP)
    none = {name: np.full(len(shift), np.nan) for name in published}
    with torch.inference_mode():
        everything = best_in_box(table, photometry, Box(low, high, (near[0], near[1])), starts)
        begin = np.concatenate([starts, everything.axes[:, None]], axis=1)
        colours = best_in_box(table, photometry, Box(low, high, (whole[0], whole[1])), begin)
        begin = np.concatenate([begin, colours.axes[:, None]], axis=1)
        free = Box(*box_around(axes, none, {}), (whole[0], whole[1]))
        return {"all": everything, "colours": colours, "best": best_in_box(table, photometry, free, begin)}


def _told(
    found: dict[str, dict[str, Floats]],
    clusters: Clusters,
    published: Mapping[str, Floats],
    edges: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    detected = (clusters.measured & ~clusters.limit).sum(1)
    number = np.sum([np.isfinite(values) for values in published.values()], axis=0)
    colours = number - np.isfinite(published[MASS])
    likelihood = {what: there["log_likelihood"] for what, there in found.items()}
    square = {what: there["chi2"] for what, there in found.items()}
    deviance, of_colours = (
        np.maximum(2 * (likelihood["best"] - likelihood[at]), 0.0) for at in ("all", "colours")
    )
    return {
        "chi2_best": square["best"],
        "best_pvalue": _tail(square["best"], detected - len(edges)),
        "chi2_published_colours": square["colours"],
        "published_colours_pvalue": _tail(square["colours"], detected - 1),
        "chi2_published": square["all"],
        "published_pvalue": _tail(square["all"], detected),
        "log_mass_at_published": found["colours"]["log_mass"] + clusters.log_mass_shift,
        "deviance": deviance,
        "deviance_colours": of_colours,
        "error_growth": error_growth(deviance, number),
        "error_growth_colours": error_growth(of_colours, colours),
        "n_published": number.astype(np.int16),
        "published_outside_prior": _outside(published, edges),
    }


def _outside(published: Mapping[str, Floats], edges: Mapping[str, tuple[float, float]]) -> NDArray[np.bool_]:
    """Objects one of whose published values lies outside the prior, (n_objects,)."""
    found = np.zeros(len(published[MASS]), dtype=bool)
    for name in (name for name in published if name in edges):
        (low, high), step = edges[name], HALF_STEP.get(name, 0.0)
        found |= (published[name] < low - step) | (published[name] > high + step)
    return found


def _tail(square: Floats, degrees: NDArray[np.int64]) -> Floats:
    """Probability of a larger chi square; of one degree at least."""
    return np.where(np.isfinite(square), chi2.sf(square, np.maximum(degrees, 1)), np.nan)


def _starts(posterior: pa.Table, axes: tuple[str, ...]) -> Floats:
    """Where the posterior says that the best models are, (n_objects, 1 + modes, n_axes)."""
    found = np.full((posterior.num_rows, 1 + MAX_MODES, len(axes)), np.nan)
    for place, name in enumerate(axes):
        if f"{name}_map" not in posterior.column_names:
            continue
        found[:, 0, place] = numbers(posterior, f"{name}_map")
        for i, centres in enumerate(posterior[f"mode_{name}"].to_pylist()):
            found[i, 1 : 1 + len(centres or ()), place] = centres or ()
    return found
