"""The embedded engine: stellar library x dust screen x bands, into a table of fluxes.

Synthetic photometry is that of CIGALE (Boquien et al. 2019, A&A 622, A103): the flux density
f_lambda is averaged over the band with weight T lambda (photon counter) and converted at the
band's pivot wavelength, f_nu = lambda_p^2 / c f_lambda.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchflow.errors import UserError
from batchflow.physics.bands import Band, load_band
from batchflow.physics.dust import open_curve
from batchflow.physics.ssp import load_ssp
from batchflow.physics.table import FluxTable

Floats = NDArray[np.float64]

SOLAR_LUMINOSITY = 3.826e33
"""The unit of BC03's luminosities [erg / s], as GALAXEV defines it; not the IAU's 3.828e33."""
PARSEC = 3.0856775814913673e18
"""Parsec [cm]."""
LIGHT_SPEED = 2.99792458e18
"""Speed of light [AA / s]."""
MILLIJANSKY = 1e-26
"""Millijansky [erg / s / cm^2 / Hz]."""
EBV_NODES = np.linspace(0.0, 2.0, 101)
"""Nodes of E(B-V) [mag]; so dense that linear interpolation errs by less than 1e-4 mag."""


class EmbeddedEngine:
    """Fluxes of a simple stellar population behind a dust screen, from the shipped library.

    Parameters
    ----------
    bands : sequence of str or Band
        Names of shipped bands, or curves of one's own.
    metallicity : float
        Metal mass fraction of the stars. Between those of the library, log flux is linear in log Z.
    extinction : str
        Name of an extinction law (`batchflow.physics.dust.known_laws`).
    rv : float
        A(V) / E(B-V).

    Raises
    ------
    UserError
        When a setting is unknown or out of range, or a band reaches beyond library or law.
    """

    parameters = ("log_age", "ebv")

    def __init__(
        self,
        bands: Sequence[str | Band],
        metallicity: float = 0.02,
        extinction: str = "CCM89",
        rv: float = 3.1,
    ) -> None:
        self._bands = tuple(load_band(band) if isinstance(band, str) else band for band in bands)
        self._library = load_ssp()
        self._curve = open_curve(extinction, rv)
        self._shares = _metallicity_shares(self._library.metallicities, metallicity)
        self._weights = np.stack([band_weights(band, self._library.edges) for band in self._bands], axis=1)
        self._check_reach()
        self.metallicity = metallicity

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in the order of the fluxes' columns."""
        return tuple(band.name for band in self._bands)

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter."""
        return self.table().limits

    def fluxes(self, parameters: Mapping[str, ArrayLike]) -> Floats:
        """Flux densities at given parameters, read off the table.

        Parameters
        ----------
        parameters : mapping of str to float or array, shape (n,)
            ``log_age`` [log10 yr] and ``ebv`` [mag].

        Returns
        -------
        ndarray, shape (n, n_bands)
            Flux densities [mJy] at 10 pc for 1 Msun formed.

        Raises
        ------
        UserError
            When a parameter is unknown, missing or out of range.
        """
        if "log_mass" in parameters:
            raise UserError(
                "fluxes are per solar mass formed: leave log_mass out and multiply by 10**log_mass"
            )
        return self.table().fluxes(parameters)

    def realise(
        self, parameters: dict[str, NDArray[np.float32]], boxes: Mapping[str, tuple[float, float]]
    ) -> dict[str, NDArray[np.float32]]:
        """The parameters as they are: this engine computes any within its limits."""
        return parameters

    def table(self) -> FluxTable:
        """Fluxes at every age of the library and node of E(B-V)."""
        return self._table

    def exact(self, ebv: Floats) -> Floats:
        """Flux densities at the library's ages, without interpolation in E(B-V).

        Parameters
        ----------
        ebv : ndarray, shape (n_ebv,)
            E(B-V) [mag].

        Returns
        -------
        ndarray, shape (n_ages, n_ebv, n_bands)
            Flux densities [mJy] at 10 pc for 1 Msun formed, at the table's ages.
        """
        used = self._weights.any(axis=1)
        magnitudes = self._curve.magnitudes(self._library.wavelength[used][:, None], ebv)
        screened = 10.0 ** (-0.4 * magnitudes)[:, :, None] * self._weights[used][:, None, :]
        spectra = self._library.spectra[:, 1:, used]
        per_metallicity = [
            share * np.log(np.tensordot(spectra[place].astype(np.float64), screened, axes=1))
            for place, share in self._shares.items()
        ]
        return np.asarray(np.exp(sum(per_metallicity)))

    def describe(self) -> dict[str, Any]:
        """What the fluxes were made from; JSON-able."""
        return {
            "engine": "embedded",
            "bands": list(self.bands),
            "pivots_AA": [round(band.pivot, 2) for band in self._bands],
            "metallicity": self.metallicity,
            "extinction": self._curve.name,
            "rv": self._curve.rv,
            "ssp": dict(self._library.provenance),
            "dust_extinction": version("dust_extinction"),
        }

    @cached_property
    def _table(self) -> FluxTable:
        nodes = (np.log10(self._library.ages[1:]), EBV_NODES)
        log_flux = np.log10(self.exact(EBV_NODES))
        surviving = sum(
            share * np.log10(self._library.surviving[place, 1:]) for place, share in self._shares.items()
        )
        return FluxTable(self.parameters, nodes, self.bands, log_flux, np.asarray(surviving))

    def _check_reach(self) -> None:
        """Refuse bands that reach where the library or the law says nothing."""
        edges, (low, high) = self._library.edges, self._curve.limits
        undefined = np.isnan(self._curve.relative(self._library.wavelength))
        for band, weights in zip(self._bands, self._weights.T, strict=True):
            span = f"band {band.name} covers {band.wavelength[0]:.0f} to {band.wavelength[-1]:.0f} AA"
            if band.wavelength[0] < edges[0] or band.wavelength[-1] > edges[-1]:
                raise UserError(f"{span}; the stellar library covers {edges[0]:.0f} to {edges[-1]:.0f} AA")
            if (weights[undefined] > 0).any():
                raise UserError(
                    f"{span}; the extinction law {self._curve.name} from {low:.0f} to {high:.0f} AA: "
                    "leave the band out or take a law that reaches further (G23: 912 AA to 32 micron)"
                )


def band_weights(band: Band, edges: Floats) -> Floats:
    """Weights that turn a binned spectrum into a flux density.

    Parameters
    ----------
    band : Band
        Throughput T, linear between its points.
    edges : ndarray, shape (n_bins + 1,)
        Edges of the wavelength bins [AA].

    Returns
    -------
    ndarray, shape (n_bins,)
        Each bin's share of int T lambda dlambda, times lambda_p^2 / c / (4 pi (10 pc)^2), in
        mJy / (Lsun / AA).
    """
    points = np.union1d(edges, band.wavelength)
    throughput = np.interp(points, band.wavelength, band.throughput, left=0.0, right=0.0)
    middle = 0.5 * (points[1:] + points[:-1])
    height = throughput * points
    # Simpson's rule is exact here: T lambda is quadratic between points.
    areas = np.diff(points) / 6 * (height[:-1] + height[1:] + 2 * (throughput[:-1] + throughput[1:]) * middle)
    areas[(middle < band.wavelength[0]) | (middle > band.wavelength[-1])] = 0.0
    bins = np.clip(np.searchsorted(edges, middle) - 1, 0, edges.size - 2)
    shares = np.bincount(bins, areas, minlength=edges.size - 1) / areas.sum()
    per_luminosity = SOLAR_LUMINOSITY / (4 * np.pi * (10 * PARSEC) ** 2)
    return np.asarray(shares * (per_luminosity * band.pivot**2 / LIGHT_SPEED / MILLIJANSKY))


def _metallicity_shares(known: Floats, metallicity: float) -> dict[int, float]:
    """Place in the library and weight of the one or two metallicities to average in the logarithm."""
    if not known[0] <= metallicity <= known[-1]:
        raise UserError(
            f"metallicity = {metallicity:g}; the stellar library has {known[0]:g} to {known[-1]:g}"
        )
    place = float(np.interp(np.log(metallicity), np.log(known), np.arange(known.size)))
    lower = int(place)
    shares = {lower: 1.0 - (place - lower), lower + 1: place - lower}
    return {place: share for place, share in shares.items() if share > 0}
