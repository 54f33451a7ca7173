"""Spectra through a dust screen into bands: light of stars and gas at the library's ages."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError
from batchflow.physics.bands import Band
from batchflow.physics.dust import ExtinctionCurve, open_curve
from batchflow.physics.nebular import Emission, load_nebular
from batchflow.physics.photometry import band_weights, line_weights
from batchflow.physics.ssp import load_ssp

Floats = NDArray[np.float64]


class Synthesis:
    """Band fluxes at the nodes of the libraries.

    Parameters
    ----------
    bands : tuple of Band
        Throughput curves.
    law : str
        Name of a dust law (`batchflow.physics.dust.known_laws`).
    log_u : float or None
        log10 ionisation parameter of the gas; None for stars alone.

    Raises
    ------
    UserError
        When log U is out of range.
    """

    def __init__(self, bands: tuple[Band, ...], law: str, log_u: float | None) -> None:
        self.bands, self.law = bands, law
        self.library = load_ssp()
        self.ages: Floats = self.library.ages[1:]
        self.nebular = None if log_u is None else load_nebular()
        self._emission = None if log_u is None else load_nebular().at(log_u, self.ages)
        self._weights = np.stack([band_weights(band, self.library.edges) for band in bands], axis=1)
        self._used = self._weights.any(axis=1)

    def log_flux(self, places: NDArray[np.intp], ebv: Floats, rv: float, covering: Floats) -> Floats:
        """Natural logarithm of the flux densities.

        Parameters
        ----------
        places : ndarray of int, shape (n_metallicities,)
            Metallicities by their place in the library.
        ebv : ndarray, shape (n_ebv,)
            E(B-V) [mag].
        rv : float
            A(V) / E(B-V).
        covering : ndarray, shape (n_covering,)
            Share of the ionising light that gas takes up.

        Returns
        -------
        ndarray, shape (n_metallicities, n_ages, n_ebv, n_covering, n_bands)
            Of flux densities [mJy] at 10 pc for 1 Msun formed.
        """
        curve = open_curve(self.law, float(rv))
        screened = (
            _screen(curve, self.library.wavelength[self._used], ebv) * self._weights[self._used][:, None]
        )
        stars = np.stack([self._stars(place) for place in places]) @ screened.reshape(screened.shape[0], -1)
        shape = (places.size, self.ages.size, ebv.size, 1, len(self.bands))
        found = np.repeat(stars.reshape(shape), covering.size, axis=3)
        if self._emission is not None:
            gas = self._gas(self._emission, places, screened, _screen(curve, self._line_wavelength, ebv))
            found += covering[:, None] * gas.reshape(shape)
        return np.asarray(np.log(found, out=found))

    def light(self, place: int, covering: float) -> Floats:
        """Spectra before the dust: stars, nebular continuum, and lines spread over their bins.

        Parameters
        ----------
        place : int
            Metallicity by its place in the library.
        covering : float
            Share of the ionising light that gas takes up.

        Returns
        -------
        ndarray, shape (n_ages, n_bins)
            Luminosity [Lsun / AA] of 1 Msun formed, in the stellar library's bins.
        """
        stars = self.library.spectra[place, 1:].astype(np.float64)
        if self._emission is None:
            return stars
        known, edges = load_nebular().wavelength, self.library.edges
        gas = np.stack(
            [np.interp(self.library.wavelength, known, row) for row in self._emission.continuum[place]]
        )
        bins = np.searchsorted(edges, self._line_wavelength) - 1
        lines = self._emission.lines[place]
        gas += np.stack([np.bincount(bins, row, minlength=edges.size - 1) for row in lines]) / np.diff(edges)
        return np.asarray(stars + covering * gas)

    def check_reach(self, curve: ExtinctionCurve) -> None:
        """Refuse bands that reach where the library or the law says nothing.

        Parameters
        ----------
        curve : ExtinctionCurve
            The law at any R(V).

        Raises
        ------
        UserError
            Naming the band, its span and the limits.
        """
        edges, (low, high) = self.library.edges, curve.limits
        undefined = np.isnan(curve.relative(self.library.wavelength))
        for band, weights in zip(self.bands, self._weights.T, strict=True):
            span = f"band {band.name} covers {band.wavelength[0]:.0f} to {band.wavelength[-1]:.0f} AA"
            if band.wavelength[0] < edges[0] or band.wavelength[-1] > edges[-1]:
                raise UserError(f"{span}; the stellar library covers {edges[0]:.0f} to {edges[-1]:.0f} AA")
            if (weights[undefined] > 0).any():
                raise UserError(
                    f"{span}; the extinction law {self.law} from {low:.0f} to {high:.0f} AA: "
                    "leave the band out or take a law that reaches further (G23: 912 AA to 32 micron)"
                )

    def _stars(self, place: int) -> Floats:
        """Stellar spectra [Lsun / AA] in the bins that the bands use, (n_ages, n_used)."""
        return self.library.spectra[place, 1:][:, self._used].astype(np.float64)

    def _gas(self, emission: Emission, places: NDArray[np.intp], screened: Floats, lines: Floats) -> Floats:
        """Nebular flux densities at full covering, (n_metallicities, n_ages, n_ebv * n_bands)."""
        continuum = emission.continuum[places][..., self._cells]
        upper = emission.continuum[places][..., self._cells + 1]
        continuum = continuum + (upper - continuum) * self._steps
        weighted = lines * self._line_weights[:, None]
        flat = [values.reshape(values.shape[0], -1) for values in (screened, weighted)]
        return np.asarray(continuum @ flat[0] + emission.lines[places] @ flat[1])

    @property
    def _line_wavelength(self) -> Floats:
        return load_nebular().line_wavelength

    @cached_property
    def _line_weights(self) -> Floats:
        weights = [line_weights(band, self._line_wavelength) for band in self.bands]
        return np.stack(weights, axis=1)

    @cached_property
    def _cells(self) -> NDArray[np.intp]:
        """Interval of the nebular continuum that each bin's centre lies in."""
        known = load_nebular().wavelength
        return np.clip(np.searchsorted(known, self._centres) - 1, 0, known.size - 2)

    @cached_property
    def _steps(self) -> Floats:
        known = load_nebular().wavelength
        widths = known[self._cells + 1] - known[self._cells]
        return np.asarray(np.clip((self._centres - known[self._cells]) / widths, 0.0, 1.0))

    @property
    def _centres(self) -> Floats:
        return self.library.wavelength[self._used]


def _screen(curve: ExtinctionCurve, wavelength: Floats, ebv: Floats) -> Floats:
    """Transmitted share of the light, (n_wavelengths, n_ebv, 1); none where the law says nothing."""
    magnitudes = curve.magnitudes(wavelength[:, None], ebv)
    return np.asarray(np.nan_to_num(10.0 ** (-0.4 * magnitudes))[:, :, None])
