"""Clusters whose posterior the network does not know well: more draws, then the exact grid.

More draws are made where they can suffice: as many again multiply the effective number at best by as
much, so a hopeless cluster goes to the grid at once. Each cluster's fate depends on its own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from batchflow.infer.clusters import Clusters
from batchflow.infer.draw import (
    Draws,
    Options,
    Proposal,
    Rescue,
    clusters_at_once,
    draw_flow,
    weigh_sample,
)
from batchflow.infer.exact_summary import exact_summaries, find_posteriors, sample_grid
from batchflow.infer.summary import summarise
from batchflow.keys import generator
from batchflow.schema import Flag
from batchflow.workers.watch import alive

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
CLUSTERS_AT_ONCE = {"cpu": 32, "cuda": 1024}
"""Clusters whose cells are found together: on a processor, their arrays stay in the cache."""


def grid_alone(proposal: Proposal, options: Options) -> bool:
    """Whether every posterior comes from the grid, so that nothing need be drawn from the flow."""
    return options.certify and proposal.use_of_grid(options.rescue) == "always"


def rescue(proposal: Proposal, clusters: Clusters, draws: Draws, options: Options) -> Draws:
    """Better the posteriors of clusters whose efficiency is low.

    Parameters
    ----------
    proposal : Proposal
        Network, exact model, prior.
    clusters : Clusters
        n_clusters of them.
    draws : Draws
        Theirs, changed in place; NaN where there are none yet.
    options : Options
        How they were drawn, and what is to be done.

    Returns
    -------
    Draws
        With `method` and `refined`.
    """
    way = options.rescue
    if way is None or not options.certify or not clusters.usable.any():
        return draws
    exact_wanted = way.grid not in ("never", "fallback")
    draws = _with_columns(draws, clusters.usable & exact_wanted)
    alone, use = grid_alone(proposal, options), proposal.use_of_grid(way)
    turns = max(1, way.max_draws // options.draws)
    if turns > 1 and not alone:
        hopeful = _low(clusters, draws, way) & (draws.efficiency * turns >= way.min_efficiency)
        size = clusters_at_once(proposal, options.draws)
        more = _each(clusters, np.flatnonzero(hopeful), size, _more_draws(proposal, options, turns))
        _put(draws, more, Flag.MORE_DRAWS)
    if use != "never":
        low = clusters.usable if alone else _low(clusters, draws, way)
        size = CLUSTERS_AT_ONCE.get(proposal.network.device.type, 32)
        found = _each(clusters, np.flatnonzero(low), size, _grid_draws(proposal, options))
        _put(draws, found, Flag.GRID_POSTERIOR)
        if use == "summary":
            others = np.flatnonzero(clusters.usable & (_methods(draws) & Flag.GRID_POSTERIOR == 0))
            work = partial(_grid_summaries, proposal, options)
            for rows in _chunks(others, size):
                _put_summaries(draws, rows, work(clusters.rows(rows)))
    return draws


def merge(rounds: list[Draws], chance: Floats) -> Draws:
    """One set of draws of several, all of the same clusters.

    Parameters
    ----------
    rounds : list of Draws
        Each (n_clusters, n_draws), certified.
    chance : ndarray, shape (n_clusters, n_draws)
        Uniform random numbers: draw k is chosen among the k-th draws of all rounds by their weights, and
        its weight is their mean.

    Returns
    -------
    Draws
        As many as in one round; summaries, evidence and p-value are those of all.
    """
    ratio = np.stack([_log_ratio(each) for each in rounds])
    own, place = _choose(ratio, chance)
    weights, efficiency, _ = _normalise(own)
    pooled, _, evidence = _normalise(np.concatenate(list(ratio), axis=1))

    def chosen(columns: list[Floats]) -> Floats:
        return np.asarray(np.take_along_axis(np.stack(columns), place[None], axis=0)[0])

    return Draws(
        values={name: chosen([each.values[name] for each in rounds]) for name in rounds[0].values},
        log_weights=weights,
        log_density=chosen([each.log_density for each in rounds]),
        efficiency=efficiency,
        log_evidence=evidence,
        chi2=chosen([each.chi2 for each in rounds]),
        pvalue=_sum_in_order(_shares(ratio) * [each.pvalue for each in rounds]),
        nuisances={name: chosen([each.nuisances[name] for each in rounds]) for name in rounds[0].nuisances},
        refined=_summaries(rounds, np.exp(pooled)),
    )


def _choose(ratio: Floats, chance: Floats) -> tuple[Floats, NDArray[np.int_]]:
    """Log mean over rounds of each draw's ratio, and the round that stands for it."""
    mean = _log_mean(ratio, axis=0)
    reached = np.exp(ratio - np.where(np.isfinite(mean), mean, 0.0)).cumsum(0)
    place = (reached < chance * reached[-1]).sum(0)
    return mean, np.minimum(place, len(ratio) - 1)


def _shares(ratio: Floats) -> Floats:
    """Each round's share of all weight, (n_rounds, n_clusters); equal where there is none."""
    total = _log_mean(ratio, axis=2)
    top = total.max(0)
    share = np.where(np.isfinite(top), np.exp(total - np.where(np.isfinite(top), top, 0.0)), 1.0)
    return np.asarray(share / _sum_in_order(share))


def _sum_in_order(values: Floats) -> Floats:
    """Sum over rounds: NumPy's own takes those of a lone cluster in another order than those of many."""
    return np.asarray(values.cumsum(0)[-1])


def _low(clusters: Clusters, draws: Draws, way: Rescue) -> NDArray[np.bool_]:
    """Usable clusters below the threshold, those without any weight among them."""
    return np.asarray(clusters.usable & ~(draws.efficiency >= way.min_efficiency))


def _methods(draws: Draws) -> NDArray[np.int32]:
    return np.zeros(len(draws.efficiency), np.int32) if draws.method is None else draws.method


def _each(
    clusters: Clusters, index: Rows, size: int, work: Callable[[Clusters], Draws]
) -> list[tuple[Rows, Draws]]:
    return [(rows, work(clusters.rows(rows))) for rows in _chunks(index, size)]


def _chunks(index: Rows, size: int) -> Iterator[Rows]:
    for start in range(0, len(index), size):
        alive()
        yield index[start : start + size]


def _more_draws(proposal: Proposal, options: Options, turns: int) -> Callable[[Clusters], Draws]:
    def work(clusters: Clusters) -> Draws:
        rounds = [draw_flow(proposal, clusters, options, turn) for turn in range(turns)]
        chance = [generator(options.seed, "merge", key).random(options.draws) for key in clusters.keys]
        return merge(rounds, np.stack(chance))

    return work


def _grid_summaries(proposal: Proposal, options: Options, clusters: Clusters) -> dict[str, Floats]:
    found = find_posteriors(proposal, clusters, options.seed, 1)
    return exact_summaries(proposal, clusters, options.seed, found)


def _grid_draws(proposal: Proposal, options: Options) -> Callable[[Clusters], Draws]:
    def work(clusters: Clusters) -> Draws:
        found = find_posteriors(proposal, clusters, options.seed, options.draws)
        sample = sample_grid(proposal, clusters, options.seed, options.draws, found)
        draws = weigh_sample(proposal, clusters, found.photometry, options, sample)
        return draws._replace(refined=exact_summaries(proposal, clusters, options.seed, found))

    return work


def _put_summaries(draws: Draws, rows: Rows, columns: dict[str, Floats]) -> None:
    """Put the exact summaries in place of those of draws, where they are known."""
    for name, column in columns.items():
        known = np.isfinite(column)
        draws.refined[name][rows[known]] = column[known]
        _methods(draws)[rows[known]] &= ~np.int32(Flag.SAMPLED_SUMMARY)


def _log_ratio(draws: Draws) -> Floats:
    """Ln of target over proposal of each draw; -inf where a cluster's draws have no weight."""
    evidence = np.where(np.isfinite(draws.log_evidence), draws.log_evidence, -np.inf)
    return np.asarray(draws.log_weights + evidence[:, None] + np.log(draws.log_weights.shape[1]))


def _log_mean(values: Floats, axis: int) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(values, axis=axis) - np.log(values.shape[axis]))


def _normalise(log_ratio: Floats) -> tuple[Floats, Floats, Floats]:
    """Log weights that sum to one, efficiency and log evidence; equal weights and NaN where none has any."""
    n = log_ratio.shape[1]
    total = _log_mean(log_ratio, axis=1)
    lost = ~np.isfinite(total)
    shifted = log_ratio - np.where(lost, 0.0, total)[:, None] - np.log(n)
    weights = np.where(lost[:, None], -np.log(n), shifted)
    efficiency = 1 / (np.exp(2 * weights).sum(1) * n)
    return weights, np.where(lost, np.nan, efficiency), np.where(lost, np.nan, total)


def _summaries(rounds: list[Draws], weights: Floats) -> dict[str, Floats]:
    columns: dict[str, Floats] = {}
    for name in rounds[0].values:
        values = np.concatenate([each.values[name] for each in rounds], axis=1)
        found = summarise(values, weights)
        columns |= {f"{name}_{suffix}": column for suffix, column in found.items()}
    return columns


def _with_columns(draws: Draws, sampled: NDArray[np.bool_]) -> Draws:
    """Draws with empty columns; `sampled` marks summaries that shall be exact and are not yet."""
    n = len(draws.efficiency)
    one = np.full((1, 1), 1.0)
    names = [f"{name}_{suffix}" for name in draws.values for suffix in summarise(one, one)]
    empty = {name: np.full(n, np.nan) for name in names}
    return draws._replace(method=(Flag.SAMPLED_SUMMARY * sampled).astype(np.int32), refined=empty)


def _put(draws: Draws, found: list[tuple[Rows, Draws]], flag: Flag) -> None:
    """Put what is better than what was there in its place, and say how it was had."""
    for rows, new in found:
        better = ~(new.efficiency < draws.efficiency[rows])
        better &= np.isfinite(new.efficiency)
        for field in ("log_weights", "log_density", "efficiency", "log_evidence", "chi2", "pvalue"):
            getattr(draws, field)[rows[better]] = getattr(new, field)[better]
        for field in ("values", "nuisances", "refined"):
            for name, column in getattr(new, field).items():
                getattr(draws, field)[name][rows[better]] = column[better]
        _methods(draws)[rows[better]] |= np.int32(flag)
        if flag == Flag.GRID_POSTERIOR:
            known = better & np.isfinite(next(iter(new.refined.values())))
            _methods(draws)[rows[known]] &= ~np.int32(Flag.SAMPLED_SUMMARY)
