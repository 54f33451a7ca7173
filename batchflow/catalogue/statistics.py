"""What is in a catalogue: counts, depths and errors by band, galaxies, and what will be flagged."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from batchflow.catalogue.columns import PIECE_ROWS
from batchflow.catalogue.galaxies import GalaxyExtent, GalaxyTally
from batchflow.catalogue.partition import write_catalogue
from batchflow.catalogue.read import CatalogueReader
from batchflow.catalogue.summary import CatalogueSummary
from batchflow.catalogue.units import AB_OF_ONE_MJY
from batchflow.errors import UserError
from batchflow.mocks.coverage import NoiseFigures, noise_figures
from batchflow.mocks.estimate import estimate_noise
from batchflow.mocks.noise import NoiseModel
from batchflow.mocks.survey_sample import CatalogueParts, SurveySample, sample_surveys
from batchflow.mocks.unreported import Unreported
from batchflow.schema import Flag, limit_column
from batchflow.settings.catalogue import CatalogueSettings
from batchflow.shards import read_table

REASONS = {
    "MISSING_BAND": "a band of the survey was not measured; it is left out of the likelihood",
    "UPPER_LIMIT": "a band is an upper limit; it is used as one",
    "BAD_ERROR": "flux above 1e8 mJy, error not in 1e-12 to 1e8, limit not above zero; the band is left out",
    "NEGATIVE_FLUX": "a flux below zero; it is used as it stands",
    "DUPLICATE_ID": "another row of the galaxy has the same id; both are inferred",
    "NO_BAND": "no usable band, not even a limit; not inferred",
    "NO_DISTANCE": "no finite, positive distance; not inferred",
    "OUTSIDE_TRAINING": "brightness or errors unlike the survey's others; inferred, but look at it",
}
"""Why rows are flagged, by flag."""
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class BandFigures:
    """A band of the catalogue."""

    band: str
    measured: int
    """Rows with a flux and an error."""
    limits: int
    """Rows with an upper limit."""
    missing: int
    """Rows with neither."""
    signal: tuple[float, float, float] | None
    """Signal-to-noise ratio that 5, 50 and 95 % of the measured rows stay below."""
    depth_mjy: float | None
    """Median error of a source without flux [mJy]."""
    floor: float | None
    """Fractional error that bright sources are given."""
    scatter_dex: float | None
    """Scatter of the depth between objects [dex]."""
    zero_point: float | None
    """AB - Vega [mag], where magnitudes were Vega."""
    unit: str = ""
    """Unit of its column, in words."""

    @property
    def depth_ab(self) -> float | None:
        """AB magnitude of five times the depth."""
        return None if self.depth_mjy is None else AB_OF_ONE_MJY - 2.5 * float(np.log10(5 * self.depth_mjy))


@dataclass(frozen=True)
class GalaxyFigures:
    """A galaxy of the catalogue."""

    galaxy: str
    clusters: int
    distance_mpc: tuple[float, float] | None
    """Smallest and largest distance of its rows [Mpc]; None without any."""


@dataclass(frozen=True)
class Description:
    """What is in a catalogue."""

    summary: CatalogueSummary
    bands: tuple[BandFigures, ...]
    galaxies: tuple[GalaxyFigures, ...]
    coverage: tuple[NoiseFigures, ...]
    noise: NoiseModel = field(repr=False)
    samples: Mapping[str, SurveySample] = field(repr=False)
    """Some of the photometry, by survey, bands as `noise` has them."""

    @property
    def flags(self) -> dict[str, int]:
        """Rows by flag, as infer will set them."""
        outside = sum(found.n_outside for found in self.coverage)
        return dict(self.summary.flags) | ({"OUTSIDE_TRAINING": outside} if outside else {})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "survey": self.summary.survey,
            "path": self.summary.path,
            "rows": self.summary.n_rows,
            "left_out": self.summary.n_left_out,
            "bands": [vars(band) for band in self.bands],
            "galaxies": [vars(galaxy) for galaxy in self.galaxies],
            "classes": {str(name): count for name, count in self.summary.classes.items()},
            "sentinels": dict(self.summary.sentinels),
            "duplicates": self.summary.flags.get("DUPLICATE_ID", 0),
            "flags": [
                {"flag": name, "rows": n, "why": REASONS.get(name, "")} for name, n in self.flags.items()
            ],
            "surveys": [_coverage(found) for found in self.coverage],
        }


def describe(
    entry: CatalogueSettings,
    bands: Sequence[str],
    systematic: float = 0.05,
    curves: Mapping[str, Path] | None = None,
) -> Description:
    """Read a catalogue and say what is in it.

    Parameters
    ----------
    entry : CatalogueSettings
        The file and how to read it.
    bands : sequence of str
        Bands it may have.
    systematic : float
        Fractional error that it does not report.
    curves : mapping of str to Path, optional
        Files of the job's own throughput curves, by band.

    Returns
    -------
    Description
        Its bands are those that some row has.

    Raises
    ------
    UserError
        When the file is not what the entry says, or nothing in it is measured.
    """
    reader = CatalogueReader(entry, bands, curves or {})
    unreported = Unreported(systematic if entry.systematic is None else entry.systematic)
    # The file is read once, into parts: what follows goes through them several times.
    with tempfile.TemporaryDirectory(prefix="batchflow-") as scratch:
        parts = write_catalogue(reader.pieces(), Path(scratch), PIECE_ROWS, {})
        paths = [str(part.path) for part in parts]
        reader.tally.count_duplicates(_count_duplicates(paths))
        return _described(reader, paths, unreported)


def _described(reader: CatalogueReader, paths: Sequence[str], unreported: Unreported) -> Description:
    summary = reader.summary()
    own = tuple(band for band in reader.bands if summary.bands.get(band))
    if not own:
        raise UserError(f"{summary.path}: no row has a usable flux in any band; see its unit and sentinels")
    pieces = CatalogueParts(paths, own)
    samples = sample_surveys(pieces, own)
    noise = estimate_noise(pieces, own, unreported)
    limits: Counter[str] = Counter()
    for piece in pieces:
        limits.update({band: pc.sum(piece[limit_column(band)]).as_py() for band in own})
    return Description(
        summary,
        tuple(_band(band, summary, limits[band], noise, samples) for band in own),
        _galaxies(reader.tally.galaxies),
        tuple(noise_figures(noise, pieces)),
        noise,
        samples,
    )


def _count_duplicates(paths: Sequence[str]) -> int:
    """Rows whose id another row of the galaxy has."""
    flags = (read_table(path, ["flags"])["flags"].to_numpy() for path in paths)
    return sum(int((column & Flag.DUPLICATE_ID != 0).sum()) for column in flags)


def _coverage(found: NoiseFigures) -> dict[str, Any]:
    return {
        "survey": found.survey,
        "measured": found.n_rows,
        "outside_training": found.n_outside,
        "error_residual_dex": dict(found.residual),
    }


def _band(
    band: str,
    summary: CatalogueSummary,
    limits: int,
    noise: NoiseModel,
    samples: Mapping[str, SurveySample],
) -> BandFigures:
    place = noise.bands.index(band)
    pairs = [sample.kept.band(place) for sample in samples.values()]
    signal = np.concatenate([flux / error for flux, error in pairs])
    quantiles = tuple(float(value) for value in np.quantile(signal, QUANTILES)) if len(signal) else None
    return BandFigures(
        band,
        measured=summary.bands[band] - limits,
        limits=limits,
        missing=summary.n_rows - summary.bands[band],
        signal=quantiles,  # type: ignore[arg-type]  # three quantiles
        depth_mjy=_middle(noise.depth[:, place]),
        floor=_middle(noise.fractional[:, place]),
        scatter_dex=_middle(noise.scatter[:, place]),
        zero_point=summary.zero_points.get(band),
        unit=summary.units.get(band, ""),
    )


def _middle(values: Any) -> float | None:
    """Median over the surveys that have the band."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _galaxies(tally: GalaxyTally) -> tuple[GalaxyFigures, ...]:
    """Galaxies by name, with their rows and distances."""
    return tuple(_galaxy(name, tally.extents[name]) for name in sorted(tally.extents))


def _galaxy(name: str, extent: GalaxyExtent) -> GalaxyFigures:
    known = np.isfinite(extent.nearest_mpc)
    span = (float(extent.nearest_mpc), float(extent.farthest_mpc)) if known else None
    return GalaxyFigures(name, extent.n_rows, span)
