"""Age and mass distributions of each galaxy that fold in every posterior.

A population is a piecewise-constant density f. Given the draws of each cluster, made under the prior
p0, its likelihood is (Hogg, Myers & Bovy 2010, ApJ 725, 2166, eq. 9)

    prod_i sum_k w_ik f(theta_ik) / p0(theta_ik),

and its posterior is drawn by turns: a bin for each cluster, the shares of the bins given how many
clusters each has. The flux limit of a survey is NOT corrected: f is the population of the clusters in
the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow.errors import UserError, nearest
from batchflow.keys import generator
from batchflow.made import made
from batchflow.mocks.prior import log_density
from batchflow.paths import RunFolder, unescape
from batchflow.plan import fingerprint, flatten
from batchflow.results.stored import StoredDraws, draws_files, read_draws, stored_prior, stored_settings
from batchflow.schema import QUANTILES, Flag
from batchflow.settings.prior import Distribution, PriorSettings
from batchflow.shards import read_table, write_table

Floats = NDArray[np.float64]

PARAMETERS = ("log_age", "log_mass")
JOINT = "log_age,log_mass"
CONCENTRATION = 0.5
"""Of the Dirichlet prior on the bins' shares (Jeffreys): as if each bin had half a cluster more."""
BURN_IN = 500
"""Turns before the first that is kept."""
KEEP_EVERY = 4
"""Turns between those that are kept."""
FEW_CLUSTERS = 20
"""Below, the bands are mostly the prior's, and the table says so."""
NOTE = "selection effects (flux limits) are not corrected"


@dataclass(frozen=True)
class PopulationOptions:
    """How to infer populations."""

    width: float = 0.25
    """Width of the bins [dex]."""
    sweeps: int = 4000
    """Turns after the burn-in."""
    joint: bool = False
    """Age and mass together as well."""
    without: tuple[str, ...] = ()
    """Names of flags whose clusters are left out."""
    seed: int = 0


class Population(NamedTuple):
    """What is inferred of one parameter, or pair of parameters, in one galaxy."""

    galaxy: str
    parameter: str
    edges: tuple[Floats, ...]
    """Edges of the bins, one array a parameter [dex]."""
    shares: Floats
    """Posterior of the share of clusters in each bin, (n_samples, n_bins)."""
    medians: Floats
    """Share of posterior medians in each bin, for comparison, (n_bins,)."""
    n_clusters: int
    n_left_out: int
    """Clusters without draws, and those left out by their flags."""

    @property
    def volume(self) -> Floats:
        """Size of each bin [dex], or [dex^2], (n_bins,)."""
        sizes = np.ones(1)
        for edge in self.edges:
            sizes = np.multiply.outer(sizes, np.diff(edge)).ravel()
        return sizes

    def density(self, probability: float) -> Floats:
        """Quantile of the share of clusters per dex in each bin, (n_bins,)."""
        return np.asarray(np.quantile(self.shares, probability, axis=0) / self.volume)


def infer_populations(folder: str | Path, options: PopulationOptions) -> Iterator[Population]:
    """Populations of every galaxy of a run.

    Parameters
    ----------
    folder : str or Path
        A run folder with draws.
    options : PopulationOptions
        How.

    Yields
    ------
    Population
        For each galaxy in turn: of its ages, its masses, and both where asked for.

    Raises
    ------
    UserError
        When there are no draws, or an option makes no sense.
    """
    mask = _flag_mask(options)
    for segment, parts in groupby(draws_files(folder), key=lambda path: path.parent.name):
        galaxy = unescape(segment.removeprefix("galaxy="))
        yield from _of_galaxy(galaxy, list(parts), RunFolder(Path(folder).resolve()), (options, mask))


def bin_likelihoods(
    draws: StoredDraws, shapes: Mapping[str, Distribution], edges: Mapping[str, Floats]
) -> Floats:
    """Likelihood of each cluster if it were surely in each bin.

    Parameters
    ----------
    draws : StoredDraws
        Of n_clusters clusters.
    shapes : mapping of str to Distribution
        Prior of each parameter that the population is of.
    edges : mapping of str to ndarray
        Edges of the bins of each.

    Returns
    -------
    ndarray, shape (n_clusters, n_bins)
        Up to a factor for each cluster; the last parameter's bins vary fastest.
    """
    weights = np.nan_to_num(draws.weights)
    place = np.zeros(weights.shape, dtype=np.int64)
    volume = np.ones(1)
    for name, edge in edges.items():
        values = np.clip(np.nan_to_num(draws.values[name], nan=edge[0]), edge[0], edge[-1])
        weights = weights * np.exp(-log_density(shapes[name], values))
        bins = len(edge) - 1
        place = place * bins + np.clip(np.searchsorted(edge, values, side="right") - 1, 0, bins - 1)
        volume = np.multiply.outer(volume, np.diff(edge)).ravel()
    n, bins = len(weights), len(volume)
    flat = (np.arange(n)[:, None] * bins + place).ravel()
    return np.bincount(flat, weights.ravel(), minlength=n * bins).reshape(n, bins) / volume


def sample_shares(likelihoods: Floats, sweeps: int, chance: np.random.Generator) -> Floats:
    """Draw from the posterior of the bins' shares.

    Parameters
    ----------
    likelihoods : ndarray, shape (n_clusters, n_bins)
        As `bin_likelihoods` gives them; a row is positive somewhere.
    sweeps : int
        Turns after `BURN_IN`.
    chance : numpy.random.Generator
        Where the randomness comes from.

    Returns
    -------
    ndarray, shape (n_samples, n_bins)
        Rows sum to one; every `KEEP_EVERY`-th turn. Without clusters they follow the prior.
    """
    n, bins = likelihoods.shape
    scaled = (likelihoods / likelihoods.max(axis=1, keepdims=True, initial=1e-300)).astype(np.float32)
    shares = np.full(bins, 1 / bins)
    kept = []
    for turn in range(BURN_IN + sweeps):
        reached = np.cumsum(scaled * shares.astype(np.float32), axis=1)
        aim = chance.random((n, 1), dtype=np.float32) * reached[:, -1:]
        chosen = np.minimum((reached <= aim).sum(axis=1), bins - 1)
        shares = chance.dirichlet(CONCENTRATION + np.bincount(chosen, minlength=bins))
        if turn >= BURN_IN and turn % KEEP_EVERY == 0:
            kept.append(shares)
    return np.array(kept)


def population_table(populations: list[Population]) -> pa.Table:
    """Populations as a table.

    Parameters
    ----------
    populations : list of Population
        Of one parameter each, or all of both.

    Returns
    -------
    pyarrow.Table
        A row a bin: ``galaxy``, the edges ``<parameter>_low`` and ``_high`` (or ``parameter low high``),
        the quantiles `schema.QUANTILES` of the share of clusters per dex, the same share of the posterior
        ``medians``, ``n_clusters``, ``n_left_out`` and ``few_clusters``.
    """
    return pa.concat_tables([_rows(population) for population in populations])


def write_populations(
    folder: str | Path, populations: list[Population], options: PopulationOptions
) -> list[Path]:
    """Write ``RUN/population/population.parquet`` and, where inferred, ``joint.parquet``; their paths."""
    run = RunFolder(Path(folder).resolve())
    settings: dict[str, Any] = {
        "population": vars(options) | {"without": list(options.without), "note": NOTE},
        "draws": fingerprint(stored_settings(draws_files(folder)[0])),
    }
    footer = {
        "stage": "population",
        "unit": "population",
        "fingerprint": fingerprint(settings),
        "settings": flatten(settings),
        "made": made(),
    }
    single = [population for population in populations if population.parameter != JOINT]
    joint = [population for population in populations if population.parameter == JOINT]
    tables = {"population": single, "joint": joint}
    paths = {name: run.population / f"{name}.parquet" for name, found in tables.items() if found}
    for name, path in paths.items():
        write_table(path, population_table(tables[name]), footer)
    return list(paths.values())


def _of_galaxy(
    galaxy: str, parts: list[Path], run: RunFolder, how: tuple[PopulationOptions, int]
) -> Iterator[Population]:
    options, mask = how
    prior = stored_prior(stored_settings(parts[0]), parts[0])
    edges = {name: _edges(prior, name, options.width) for name in PARAMETERS}
    wanted = [(name,) for name in PARAMETERS] + ([PARAMETERS] if options.joint else [])
    found: dict[tuple[str, ...], list[Floats]] = {names: [] for names in wanted}
    medians: list[Floats] = []
    total = 0
    for path in parts:
        shapes = stored_prior(stored_settings(path), path).distributions()
        draws, centres = _used(path, run, mask)
        total += len(draws.lengths)
        used = np.isfinite(draws.log_weights).any(axis=1) & np.isfinite(centres).all(axis=1)
        medians.append(centres[used])
        for names, matrices in found.items():
            own = {name: edges[name] for name in names}
            matrices.append(bin_likelihoods(draws, shapes, own)[used])
    centres = np.concatenate(medians)
    for names, matrices in found.items():
        likelihoods = np.concatenate(matrices)
        chance = generator(options.seed, "population", galaxy, *names)
        shares = sample_shares(likelihoods, options.sweeps, chance)
        columns = [centres[:, PARAMETERS.index(name)] for name in names]
        histogram, _ = np.histogramdd(np.stack(columns, axis=1), [edges[name] for name in names])
        own_edges = tuple(edges[name] for name in names)
        share = histogram.ravel() / max(len(centres), 1)
        left_out = total - len(centres)
        yield Population(galaxy, ",".join(names), own_edges, shares, share, len(centres), left_out)


def _used(path: Path, run: RunFolder, mask: int) -> tuple[StoredDraws, Floats]:
    """Draws of a part, and posterior medians of `PARAMETERS`, NaN where a flag leaves a cluster out."""
    draws = read_draws(read_table(path))
    names = ["flags", *(f"{name}_q50" for name in PARAMETERS)]
    beside = run.posterior / path.relative_to(run.draws)
    summary = read_table(beside, names)
    flags = np.asarray(summary["flags"].to_numpy())
    columns = [summary[name].to_numpy(zero_copy_only=False) for name in names[1:]]
    centres = np.stack(columns, axis=1).astype(np.float64)
    return draws, np.where(((flags & mask) != 0)[:, None], np.nan, centres)


def _edges(prior: PriorSettings, name: str, width: float) -> Floats:
    low, high = prior.boxes()[name]
    return np.linspace(low, high, 1 + max(1, round((high - low) / width)))


def _rows(population: Population) -> pa.Table:
    names = population.parameter.split(",")
    grids = np.meshgrid(*(np.arange(len(edge) - 1) for edge in population.edges), indexing="ij")
    columns: dict[str, Any] = {"galaxy": [population.galaxy] * len(population.medians)}
    if len(names) == 1:
        columns["parameter"] = [population.parameter] * len(population.medians)
    for name, grid, edge in zip(names, grids, population.edges, strict=True):
        stem = f"{name}_" if len(names) > 1 else ""
        columns |= {f"{stem}low": edge[grid.ravel()], f"{stem}high": edge[grid.ravel() + 1]}
    columns |= {name: population.density(probability) for name, probability in QUANTILES.items()}
    columns["medians"] = population.medians / population.volume
    for name, value in (("n_clusters", population.n_clusters), ("n_left_out", population.n_left_out)):
        columns[name] = np.full(len(population.medians), value, dtype=np.int32)
    columns["few_clusters"] = np.full(len(population.medians), population.n_clusters < FEW_CLUSTERS)
    return pa.table(columns)


def _flag_mask(options: PopulationOptions) -> int:
    if not 0 < options.width < np.inf or options.sweeps < 1:
        raise UserError(
            f"width = {options.width:g} and sweeps = {options.sweeps}; expected a width above 0 dex and "
            "1 sweep or more"
        )
    mask = 0
    for name in options.without:
        if name not in Flag.__members__:
            raise UserError(f"unknown flag {name!r}; {nearest(name, Flag.__members__)}")
        mask |= Flag[name].value
    return mask
