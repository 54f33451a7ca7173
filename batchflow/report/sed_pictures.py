"""Pictures of the model: spectra with their band fluxes, and colours over the catalogue's points."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchflow import schema
from batchflow.catalogue.index import find_catalogue, survey_pieces
from batchflow.catalogue.read import CatalogueReader
from batchflow.config import Job
from batchflow.errors import UserError, nearest
from batchflow.paths import RunFolder
from batchflow.physics.embedded import EmbeddedEngine
from batchflow.physics.engine import Engine, open_engine
from batchflow.report.colour_pictures import draw_colours
from batchflow.report.pictures import wavelength_axis
from batchflow.shards import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
Point = dict[str, float]

MOST = 20_000
"""Clusters drawn at most."""

AGES = (6.6, 7.0, 8.0, 9.0, 10.0)
"""Ages drawn where none is chosen [log10 yr]."""
LABELS = {"log_age": "log age", "log_mass": "log mass", "ebv": "E(B-V)", "rv": "R(V)", "metallicity": "Z"}


class _Sample(NamedTuple):
    """Some of a job's clusters."""

    flux: Floats
    """Flux densities [mJy], shape (n_clusters, n_bands)."""
    measured: NDArray[np.bool_]
    """Bands that the largest survey has; all where there is none."""


def chosen_points(job: Job, text: str) -> list[Point]:
    """Parameters to show.

    Parameters
    ----------
    job : Job
        Whose model and prior hold.
    text : str
        ``name=value`` pairs with commas between; what is not named takes a middling value, the age
        several.

    Returns
    -------
    list of dict
        log_mass, and every parameter of the engine.

    Raises
    ------
    UserError
        When a name is unknown or a value is no number.
    """
    engine = open_engine(job.model)
    names = ("log_mass", *engine.parameters)
    given = _parse(text, names)
    ages = [given["log_age"]] if "log_age" in given else _within(engine, AGES)
    middle = {name: sum(box) / 2 for name, box in engine.limits.items()} | {"log_mass": 4.0, "ebv": 0.0}
    return [{name: {**middle, "log_age": age, **given}[name] for name in names} for age in ages]


def flux_table(job: Job, points: Sequence[Point]) -> pa.Table:
    """Band fluxes at chosen parameters.

    Parameters
    ----------
    job : Job
        Whose model holds.
    points : sequence of dict
        From `chosen_points`.

    Returns
    -------
    pyarrow.Table
        A row a point: its parameters, then ``flux_<band>`` [mJy] at 10 pc for its mass.
    """
    fluxes = _fluxes(open_engine(job.model), points)
    rows = [
        point
        | {schema.flux_column(band): float(value) for band, value in zip(job.model.bands, row, strict=True)}
        for point, row in zip(points, fluxes, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def by_band(table: pa.Table) -> pa.Table:
    """The flux table turned for people to read: a row a parameter and band, a column a point.

    Parameters
    ----------
    table : pyarrow.Table
        From `flux_table`.

    Returns
    -------
    pyarrow.Table
        Column ``quantity``, then ``1``, ``2``, ... in the order of the points.
    """
    columns = {"quantity": pa.array(table.column_names)}
    columns |= {str(i + 1): pa.array(list(row.values())) for i, row in enumerate(table.to_pylist())}
    return pa.table(columns)


def draw_model(job: Job, points: Sequence[Point], path: Path | None = None) -> Path:
    """Draw spectra with band fluxes, and colour-colour tracks over the catalogue's clusters.

    Parameters
    ----------
    job : Job
        Whose model and catalogues are drawn.
    points : sequence of dict
        From `chosen_points`.
    path : Path, optional
        The PNG file; default ``report/model.png`` of the run folder.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.figure import Figure

    engine = open_engine(job.model)
    clusters = _sample(job, engine.bands)
    bands = [engine.bands[i] for i in np.argsort(_pivots(engine)) if clusters.measured[i]]
    figure = Figure(figsize=(15, 5), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    _spectra(axes[0], engine, points)
    for place, panel in enumerate(axes[1:]):
        if len(bands) < 3 + place:
            panel.set(title="too few bands for colours", xticks=[], yticks=[])
            continue
        draw_colours(panel, engine, points[0], (*bands[place : place + 2], *bands[-2:]), clusters.flux)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    target = path or RunFolder(job.output).report / "model.png"
    write_bytes(target, buffer.getvalue())
    return target


def _parse(text: str, names: Sequence[str]) -> Point:
    found: Point = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, _, value = (part.strip() for part in pair.partition("="))
        if name not in names:
            raise UserError(f"--at {pair}: unknown parameter {name!r}; {nearest(name, names)}")
        try:
            found[name] = float(value)
        except ValueError:
            raise UserError(f"--at {pair}: {value!r} is no number; expected e.g. {name}=7.0") from None
    return found


def _within(engine: Engine, ages: Sequence[float]) -> list[float]:
    low, high = engine.limits["log_age"]
    return [age for age in ages if low <= age <= high]


def _fluxes(engine: Engine, points: Sequence[Point]) -> Floats:
    columns = {name: np.array([point[name] for point in points]) for name in engine.parameters}
    masses = 10 ** np.array([point["log_mass"] for point in points])
    return engine.fluxes(columns) * masses[:, None]


def _pivots(engine: Engine) -> Floats:
    return np.array(engine.describe()["pivots_AA"])


def _sample(job: Job, bands: Sequence[str]) -> _Sample:
    """Go through the job's catalogues; of `MOST` rows and more, every second, fourth ... is kept."""
    kept, step = np.empty((0, len(bands))), 1
    rows: Counter[str] = Counter()
    measured: dict[str, NDArray[np.bool_]] = {}
    for name, piece in _surveys(job):
        flux = np.stack([piece[schema.flux_column(band)].to_numpy() for band in bands], axis=1)
        rows[name] += len(flux)
        measured[name] = np.isfinite(flux).any(axis=0) | measured.get(name, False)
        kept = np.concatenate([kept, flux[::step]])
        while len(kept) > MOST:
            kept, step = kept[::2], 2 * step
    largest = max(rows, key=lambda name: (rows[name], name), default=None)
    return _Sample(kept, np.ones(len(bands), dtype=bool) if largest is None else measured[largest])


def _surveys(job: Job) -> Iterator[tuple[str, pa.Table]]:
    """Rows by survey, in pieces: of the run's catalogue where it is made, else of the files."""
    try:
        parts = find_catalogue(job, RunFolder(job.output)) if job.catalogue else []
    except UserError:  # made with other settings
        parts = None
    if parts is not None:
        yield from survey_pieces([part.path for part in parts])
        return
    for entry in job.catalogue:
        for piece in CatalogueReader(entry, job.model.bands, job.model.curves).pieces():
            yield entry.survey, piece


def _spectra(axes: Axes, engine: Engine, points: Sequence[Point]) -> None:
    fluxes, pivots = _fluxes(engine, points), _pivots(engine)
    varying = [name for name in points[0] if len({point[name] for point in points}) > 1] or ["log_age"]
    for point, row in zip(points, fluxes, strict=True):
        (dots,) = axes.plot(pivots, row, "o", ms=5, label=_said(point, varying), zorder=3)
        if isinstance(engine, EmbeddedEngine):
            wavelength, flux = engine.spectrum({name: point[name] for name in engine.parameters})
            axes.plot(wavelength, flux * 10 ** point["log_mass"], lw=0.6, color=dots.get_color(), alpha=0.7)
    span = (0.7 * pivots.min(), 1.4 * pivots.max())
    wavelength_axis(axes, span)
    axes.set(yscale="log", ylim=(0.1 * fluxes.min(), 10 * fluxes.max()))
    shared = _said(points[0], [name for name in points[0] if name not in varying])
    axes.set(xlabel="wavelength [Å]", ylabel="flux density at 10 pc [mJy]", title=f"model at {shared}")
    axes.legend(fontsize=8)


def _said(point: Point, names: Sequence[str]) -> str:
    return ", ".join(f"{LABELS.get(name, name)} = {point[name]:g}" for name in names)
