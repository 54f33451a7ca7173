"""Band fluxes and spectra of a run's model, without torch: from its flux table, else from the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchflow.config import Job
from batchflow.errors import UserError
from batchflow.infer.clusters import PARSECS_10_IN_MPC
from batchflow.mocks.noise import NoiseModel, SurveyNoise, plain_terms
from batchflow.paths import RunFolder
from batchflow.physics.bands import load_band
from batchflow.physics.embedded import EmbeddedEngine
from batchflow.physics.engine import Light, open_engine
from batchflow.physics.table import TABLE_FILE, FluxTable

Floats = NDArray[np.float64]
Point = dict[str, float]


@dataclass(frozen=True)
class RunLight:
    """What a run's clusters would look like."""

    fluxes: Light
    """Band fluxes, as inference had them."""
    job: Job | None
    noise: NoiseModel | None
    """Of the run's model; None where it has none."""
    pivots: Mapping[str, float]
    """Pivot wavelength of each band [AA]; the band's place where it is not known."""

    @classmethod
    def of(cls, run: RunFolder, job: Job | None, description: Mapping[str, Any] | None) -> RunLight | None:
        """Find what gives the fluxes.

        Parameters
        ----------
        run : RunFolder
            The run.
        job : Job or None
            As resolved.
        description : mapping or None
            Of the model.

        Returns
        -------
        RunLight or None
            None where the run has neither a model nor an engine that can be opened.
        """
        source = _source(run, job)
        if source is None:
            return None
        noise = NoiseModel.from_dict(description["noise"]) if description and "noise" in description else None
        return cls(source, job, noise, _pivots(source.bands, (description or {}).get("engine", {})))

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands in the order of the fluxes' columns."""
        return self.fluxes.bands

    def middle(self) -> Point:
        """A middling value of each parameter but the age, the mass and E(B-V)."""
        return {name: sum(box) / 2 for name, box in self._ranges().items() if name not in ("log_age", "ebv")}

    def band_fluxes(self, values: Mapping[str, Floats], distance_mpc: float) -> Floats:
        """Flux densities of clusters as observed.

        Parameters
        ----------
        values : mapping of str to ndarray, shape (n,)
            Parameters, log_mass among them; what is absent (marginalised) takes its middling value.
        distance_mpc : float
            Distance [Mpc].

        Returns
        -------
        ndarray, shape (n, n_bands)
            [mJy].
        """
        middle = self.middle()
        limits = self.fluxes.limits
        given = {
            name: np.clip(np.asarray(values.get(name, middle.get(name, 0.0))), *limits[name])
            for name in self.fluxes.parameters
        }
        return self.fluxes.fluxes(given) * _scale(values["log_mass"], distance_mpc)[:, None]

    def spectrum(self, point: Point, distance_mpc: float) -> tuple[Floats, Floats] | None:
        """The spectrum of a cluster: wavelengths [AA] and flux densities [mJy]; None of other engines."""
        if self.job is None or self.job.model.engine != "embedded":
            return None
        engine = open_engine(self.job.model)
        if not isinstance(engine, EmbeddedEngine):
            return None
        middle = self.middle()
        given = {name: point.get(name, middle.get(name, 0.0)) for name in engine.parameters}
        wavelength, flux = engine.spectrum(given)
        return wavelength, flux * float(_scale(np.array([point["log_mass"]]), distance_mpc)[0])

    def sigma(self, survey: str, flux: Floats, error: Floats, model: Floats) -> Floats:
        """Standard deviation of the measurements of a cluster, as the likelihood has it.

        Parameters
        ----------
        survey : str
            Of the cluster.
        flux, error : ndarray, shape (n_bands,)
            As the catalogue reports them [mJy].
        model : ndarray, shape (n_bands,)
            The model's flux densities [mJy].

        Returns
        -------
        ndarray, shape (n_bands,)
            [mJy]; what no catalogue reports is in it.
        """
        if self.noise is None:
            systematic = 0.0 if self.job is None else float(np.max(self.job.noise.systematic))
            return np.asarray(np.sqrt(plain_terms(error, systematic).variance(model)))
        place = int(self.noise.index([survey])[0])
        plain = plain_terms(error, self.noise.systematic[place]).variance(model)
        if place < 0:
            return np.asarray(np.sqrt(plain))
        own: SurveyNoise = self.noise.select(place)
        exact = own.terms(flux, error).variance(model)
        return np.asarray(np.sqrt(np.where(np.isfinite(own.depth), exact, plain)))

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter of the fluxes: the prior's where it has one."""
        prior = {} if self.job is None else self.job.prior.ranges()
        limits = self.fluxes.limits
        return {name: prior.get(name, limits[name]) for name in self.fluxes.parameters}


def _scale(log_mass: Floats, distance_mpc: float) -> Floats:
    return np.asarray(10 ** np.asarray(log_mass) * (PARSECS_10_IN_MPC / distance_mpc) ** 2)


def _source(run: RunFolder, job: Job | None) -> Light | None:
    path = run.model / TABLE_FILE
    try:
        if path.is_file():
            return FluxTable.load(path)
        return None if job is None else open_engine(job.model)
    except UserError:
        return None


def _pivots(bands: tuple[str, ...], engine: Mapping[str, Any]) -> dict[str, float]:
    known = engine.get("pivots_AA")
    if isinstance(known, list) and len(known) == len(bands):
        return dict(zip(bands, map(float, known), strict=True))
    return {band: _pivot(band, i) for i, band in enumerate(bands)}


def _pivot(band: str, place: int) -> float:
    try:
        return load_band(band).pivot
    except UserError:
        return float(place)
