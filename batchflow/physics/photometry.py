"""Synthetic photometry: from binned spectra and lines to flux densities in bands.

It is that of CIGALE (Boquien et al. 2019, A&A 622, A103): the flux density f_lambda is averaged over
the band with weight T lambda (photon counter) and converted at the band's pivot wavelength,
f_nu = lambda_p^2 / c f_lambda.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchflow.physics.bands import Band

Floats = NDArray[np.float64]

SOLAR_LUMINOSITY = 3.826e33
"""The unit of BC03's luminosities [erg / s], as GALAXEV defines it; not the IAU's 3.828e33."""
PARSEC = 3.0856775814913673e18
"""Parsec [cm]."""
LIGHT_SPEED = 2.99792458e18
"""Speed of light [AA / s]."""
MILLIJANSKY = 1e-26
"""Millijansky [erg / s / cm^2 / Hz]."""


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
    return np.asarray(shares * flux_per_luminosity(band.pivot))


def line_weights(band: Band, wavelength: Floats) -> Floats:
    """Weights that turn the luminosities of lines into a flux density.

    Parameters
    ----------
    band : Band
        Throughput T, linear between its points.
    wavelength : ndarray, shape (n_lines,)
        Wavelengths of the lines [AA].

    Returns
    -------
    ndarray, shape (n_lines,)
        T lambda at the line over int T lambda dlambda, in mJy / Lsun.
    """
    # Exact as in `band_weights`: T lambda is quadratic between points.
    points, throughput = band.wavelength, band.throughput
    height, middle = throughput * points, 0.5 * (points[1:] + points[:-1])
    inner = 2 * (throughput[:-1] + throughput[1:]) * middle
    area = (np.diff(points) / 6 * (height[:-1] + height[1:] + inner)).sum()
    at_lines = np.interp(wavelength, points, throughput, left=0.0, right=0.0)
    return np.asarray(at_lines * wavelength / area * flux_per_luminosity(band.pivot))


def flux_per_luminosity(wavelength: float | Floats) -> Floats:
    """Flux density at 10 pc over luminosity per wavelength, at wavelengths [AA]; mJy / (Lsun / AA)."""
    per_luminosity = SOLAR_LUMINOSITY / (4 * np.pi * (10 * PARSEC) ** 2)
    return np.asarray(per_luminosity * wavelength**2 / LIGHT_SPEED / MILLIJANSKY)
