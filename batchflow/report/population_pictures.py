"""Pictures of the population of a galaxy."""

from __future__ import annotations

import io
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchflow.paths import RunFolder, escape
from batchflow.report.pictures import LABELS
from batchflow.results.population import (
    FEW_CLUSTERS,
    JOINT,
    NOTE,
    Population,
    PopulationOptions,
    infer_populations,
    write_populations,
)
from batchflow.shards import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def population_run(folder: str | Path, options: PopulationOptions) -> dict[str, Any]:
    """Infer the populations of a run; write tables and pictures under ``RUN/population``.

    Parameters
    ----------
    folder : str or Path
        A run folder with draws.
    options : PopulationOptions
        How.

    Returns
    -------
    dict
        ``tables`` (paths) and ``galaxies``: name, clusters, those left out, whether they are few, picture.

    Raises
    ------
    UserError
        When there are no draws, or an option makes no sense.
    """
    place = RunFolder(Path(folder).resolve()).population
    found: list[Population] = []
    galaxies = []
    for galaxy, own in groupby(infer_populations(folder, options), key=lambda item: item.galaxy):
        several = list(own)
        found += several
        galaxies.append(
            {
                "galaxy": galaxy,
                "clusters": several[0].n_clusters,
                "left_out": several[0].n_left_out,
                "few": several[0].n_clusters < FEW_CLUSTERS,
                "picture": str(draw_population(place, several)),
            }
        )
    return {"tables": list(map(str, write_populations(folder, found, options))), "galaxies": galaxies}


def draw_population(folder: Path, populations: list[Population]) -> Path:
    """Draw the populations of one galaxy.

    Parameters
    ----------
    folder : Path
        Where the PNG file goes, ``galaxy=<escaped name>.png``.
    populations : list of Population
        Of the same galaxy.

    Returns
    -------
    Path
        The picture.
    """
    from matplotlib.figure import Figure

    first = populations[0]
    figure = Figure(figsize=(5.2 * len(populations), 4.2), layout="constrained")
    axes = figure.subplots(1, len(populations), squeeze=False)[0]
    for place, population in zip(axes, populations, strict=True):
        draw = _draw_joint if population.parameter == JOINT else _draw_bands
        draw(place, population)
    few = "; so few that the bands are mostly the prior's" if first.n_clusters < FEW_CLUSTERS else ""
    left_out = f", {first.n_left_out} left out" if first.n_left_out else ""
    figure.suptitle(f"{first.galaxy}: {first.n_clusters} clusters{left_out}{few}; {NOTE}", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    path = folder / f"galaxy={escape(first.galaxy)}.png"
    write_bytes(path, buffer.getvalue())
    return path


def _draw_bands(axes: Axes, population: Population) -> None:
    (edges,) = population.edges
    for low, high, alpha, label in ((0.025, 0.975, 0.2, "95 %"), (0.16, 0.84, 0.35, "68 %")):
        band = population.density(high)
        axes.stairs(
            band,
            edges,
            baseline=population.density(low),
            fill=True,
            color="tab:blue",
            alpha=alpha,
            lw=0,
            label=label,
        )
    axes.stairs(population.density(0.5), edges, color="tab:blue", lw=1.5, label="median", baseline=None)
    histogram = population.medians / population.volume
    axes.stairs(histogram, edges, color="k", ls=":", lw=1, baseline=None, label="posterior medians, counted")
    axes.set(xlabel=LABELS[population.parameter], ylabel="share of clusters per dex", xlim=edges[[0, -1]])
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)


def _draw_joint(axes: Axes, population: Population) -> None:
    ages, masses = population.edges
    median = population.density(0.5).reshape(len(ages) - 1, len(masses) - 1)
    shown = axes.pcolormesh(ages, masses, median.T, cmap="Blues", vmin=0)
    axes.figure.colorbar(shown, ax=axes, label="share of clusters per dex$^2$, median")
    axes.set(xlabel=LABELS["log_age"], ylabel=LABELS["log_mass"])
