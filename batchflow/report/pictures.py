"""Pictures of a run, from its tables alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchflow.shards import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

LABELS = {
    "log_age": "log age [yr]",
    "log_mass": "log mass formed [M$_\\odot$]",
    "ebv": "E(B-V) [mag]",
}
MAX_GALAXIES = 8
SHADES = " ·░▒▓█"


def draw_overview(path: Path, posterior: pa.Table, history: pa.Table | None) -> None:
    """Draw the overview of a run: ages and masses, published values, efficiency, training.

    Parameters
    ----------
    path : Path
        The PNG file.
    posterior : pyarrow.Table
        Columns of `schema.posterior_schema`.
    history : pyarrow.Table or None
        Training history; its panel stays empty without.
    """
    from matplotlib.figure import Figure

    # A Figure of its own, without pyplot: no display, no global state.
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    _age_mass(axes[0, 0], posterior)
    _age_reddening(axes[0, 1], posterior)
    _efficiency(axes[0, 2], posterior)
    _against_published(axes[1, 0], posterior, "log_age")
    _against_published(axes[1, 1], posterior, "log_mass")
    _training(axes[1, 2], history)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_bytes(path, buffer.getvalue())


def terminal_map(x: Floats, y: Floats, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    """A density map in characters, for a terminal.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Where the points lie; NaN are left out.
    x_range, y_range : tuple of float
        What is shown.

    Returns
    -------
    str
        Twelve lines, the shade growing with the logarithm of the number of points.
    """
    counts, _, _ = np.histogram2d(x, y, bins=(60, 12), range=(x_range, y_range))
    level = np.log1p(counts) / max(np.log1p(counts.max()), 1e-9)
    shade = np.ceil(level * (len(SHADES) - 1)).astype(int)
    lines = ["".join(SHADES[cell] for cell in row) for row in shade.T[::-1]]
    marks = np.linspace(y_range[1], y_range[0], 13)[:-1]
    body = [f"{mark:5.1f} |{line}|" for mark, line in zip(marks, lines, strict=True)]
    scale = f"      {x_range[0]:<8.1f}{'':44}{x_range[1]:>8.1f}"
    return "\n".join([*body, scale])


def numbers(table: pa.Table, name: str) -> Floats:
    """A column as double precision, missing values as NaN."""
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)


def _age_mass(axes: Axes, posterior: pa.Table) -> None:
    galaxies = np.array(posterior["galaxy"].to_pylist(), dtype=object)
    age, mass = numbers(posterior, "log_age_q50"), numbers(posterior, "log_mass_q50")
    names, counts = np.unique(galaxies, return_counts=True)
    for name in names[np.argsort(-counts)][:MAX_GALAXIES]:
        own = galaxies == name
        # A leading underscore would hide the name from the legend.
        axes.plot(age[own], mass[own], ".", ms=3, alpha=0.6, label=f"{name} ({own.sum()})".lstrip("_"))
    axes.set(xlabel=LABELS["log_age"], ylabel=LABELS["log_mass"], title="posterior medians by galaxy")
    axes.legend(fontsize=8, markerscale=3)


def _age_reddening(axes: Axes, posterior: pa.Table) -> None:
    values = [numbers(posterior, name) for name in ("log_age_q50", "ebv_q50", "n_modes")]
    shown = axes.scatter(values[0], values[1], c=values[2], s=5, cmap="viridis", vmin=1, vmax=4)
    axes.figure.colorbar(shown, ax=axes, label="modes", ticks=[1, 2, 3, 4])
    axes.set(xlabel=LABELS["log_age"], ylabel=LABELS["ebv"], title="age and reddening")


def _efficiency(axes: Axes, posterior: pa.Table) -> None:
    efficiency = numbers(posterior, "efficiency")
    kept = efficiency[np.isfinite(efficiency)]
    if not len(kept):
        _empty(axes, "not certified", "efficiency")
        return
    axes.hist(kept, bins=[i / 40 for i in range(41)], color="tab:blue")
    median = np.median(kept)
    axes.axvline(median, color="k", lw=1, label=f"median {median:.2f}")
    axes.set(xlabel="efficiency (ESS / draws)", ylabel="clusters", title="certificate of each posterior")
    axes.legend(fontsize=8)


def _against_published(axes: Axes, posterior: pa.Table, parameter: str) -> None:
    published, found = numbers(posterior, f"published_{parameter}"), numbers(posterior, f"{parameter}_q50")
    low, high = numbers(posterior, f"{parameter}_q16"), numbers(posterior, f"{parameter}_q84")
    use = np.isfinite(published) & np.isfinite(found)
    if not use.any():
        _empty(axes, "nothing published", f"{parameter} against published values")
        return
    # Error bars of thousands of points only blacken the picture: bars for a regular sample.
    few = np.flatnonzero(use)[:: max(1, use.sum() // 150)]
    axes.plot(published[use], found[use], ".", ms=2, color="tab:blue", alpha=0.6)
    bars: Any = [found[few] - low[few], high[few] - found[few]]
    axes.errorbar(published[few], found[few], np.maximum(bars, 0), fmt="none", ecolor="0.6", lw=0.5)
    span = [np.nanmin(published[use]), np.nanmax(published[use])]
    axes.plot(span, span, "k-", lw=0.8)
    label = LABELS[parameter]
    axes.set(xlabel=f"published {label}", ylabel=label, title=f"{use.sum()} clusters with published values")


def _training(axes: Axes, history: pa.Table | None) -> None:
    if history is None or not history.num_rows:
        _empty(axes, "no training history", "training")
        return
    if "member" in history.column_names:  # of an ensemble, the first member stands for all
        history = history.filter(pc.equal(history["member"], 0))
    for name, style in (("train_loss", "-"), ("held_out_loss", "o-")):
        axes.plot(numbers(history, "step"), numbers(history, name), style, ms=3, label=name.replace("_", " "))
    axes.set(xlabel="step", ylabel="loss [nats]", title="training")
    axes.legend(fontsize=8)


def _empty(axes: Axes, text: str, title: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set(title=title, xticks=[], yticks=[])
