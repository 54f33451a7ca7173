"""Bands: system throughput curves as photon counters, pivot wavelengths, zero points.

The shipped curves come from astro-sedpy and kcorrect (see the header of each file); the script
`batchflow.physics.make_tables` made them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchflow.errors import UserError, nearest

Floats = NDArray[np.float64]
FOLDER = Path(__file__).parent / "data" / "bands"

PUBLISHED_AB_MINUS_VEGA = {
    "wfc3_f275w": 1.4815,
    "wfc3_f336w": 1.1648,
    "wfc3_f438w": -0.1647,
    "wfc3_f475w": -0.1055,
    "wfc3_f555w": -0.0282,
    "wfc3_f606w": 0.0834,
    "wfc3_f814w": 0.4288,
    "acs_f435w": -0.1149,
    "acs_f475w": -0.1063,
    "acs_f555w": -0.0093,
    "acs_f606w": 0.0871,
    "acs_f814w": 0.4313,
}
"""AB magnitude of Vega, m_AB - m_Vega [mag]. Source: SVO Filter Profile Service (Rodrigo, Solano &
Bayo 2012; Rodrigo & Solano 2020), zero points of HST/WFC3_UVIS1 and HST/ACS_WFC, Vega system."""

COMPUTED_AB_MINUS_VEGA = {
    "acs_f625w": 0.1664,
    "acs_f775w": 0.3979,
    "acs_f850lp": 0.5279,
    "wfc3_f218w": 1.6679,
    "wfc3_f225w": 1.6371,
    "wfc3_f390w": 0.2005,
    "wfc3_f625w": 0.1507,
    "wfc3_f775w": 0.3906,
    "wfc3_f850lp": 0.5296,
    "wfc3_f098m": 0.5757,
    "wfc3_f105w": 0.661,
    "wfc3_f110w": 0.7765,
    "wfc3_f125w": 0.9204,
    "wfc3_f140w": 1.0974,
    "wfc3_f160w": 1.274,
    "nircam_f070w": 0.2954,
    "nircam_f090w": 0.5219,
    "nircam_f115w": 0.7946,
    "nircam_f140m": 1.1247,
    "nircam_f150w": 1.2278,
    "nircam_f150w2": 1.2544,
    "nircam_f162m": 1.3753,
    "nircam_f182m": 1.583,
    "nircam_f200w": 1.7004,
    "nircam_f210m": 1.8062,
    "nircam_f250m": 2.1425,
    "nircam_f277w": 2.3253,
    "nircam_f300m": 2.4852,
    "nircam_f322w2": 2.5717,
    "nircam_f335m": 2.7112,
    "nircam_f356w": 2.8141,
    "nircam_f360m": 2.8608,
    "nircam_f410m": 3.1014,
    "nircam_f430m": 3.1992,
    "nircam_f444w": 3.2364,
    "nircam_f460m": 3.3621,
    "nircam_f480m": 3.4361,
}
"""The same for the other bands: the spectrum of Vega in CALSPEC (Bohlin, Gordon & Tremblay 2014, PASP 126,
711), version alpha_lyr_stis_011 as astro-sedpy ships it, through the shipped curves. So computed, the
published ones come out to 0.0017 mag; with version 005 the ultraviolet moves by +0.03 mag and the infrared
beyond 2 micron by -0.03."""

AB_MINUS_VEGA = PUBLISHED_AB_MINUS_VEGA | COMPUTED_AB_MINUS_VEGA
"""AB magnitude of Vega [mag] in every shipped band."""


@dataclass(frozen=True, eq=False)
class Band:
    """A band: the throughput of telescope, instrument, filter and detector."""

    name: str
    """Name in this package, for example ``wfc3_f275w``."""
    wavelength: Floats
    """Wavelengths in vacuum, increasing [AA], shape (n_wavelengths,)."""
    throughput: Floats
    """Electrons per photon; the scale cancels; shape (n_wavelengths,)."""

    @cached_property
    def pivot(self) -> float:
        """Pivot wavelength of a photon counter [AA].

        lambda_p^2 = int T lambda dlambda / int T dlambda / lambda (Bessell & Murphy 2012, eq. A11).
        """
        above = np.trapezoid(self.throughput * self.wavelength, self.wavelength)
        below = np.trapezoid(self.throughput / self.wavelength, self.wavelength)
        return float(np.sqrt(above / below))


@lru_cache(maxsize=1)
def known_bands() -> tuple[str, ...]:
    """Names of the shipped bands, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.dat")))


@lru_cache
def load_band(name: str) -> Band:
    """Load a shipped band.

    Parameters
    ----------
    name : str
        One of `known_bands`.

    Returns
    -------
    Band
        Its system throughput.

    Raises
    ------
    UserError
        When the band is unknown; the message names the nearest.
    """
    if name not in known_bands():
        raise UserError(f"unknown band {name!r}; {nearest(name, known_bands())}")
    return read_curve(FOLDER / f"{name}.dat")


def read_curve(path: str | Path, name: str | None = None) -> Band:
    """Read a throughput curve.

    Parameters
    ----------
    path : str or Path
        Text file of two columns, wavelength [AA] and throughput (electrons per photon), where lines from
        ``#`` are comments; or a VOTable of the SVO Filter Profile Service, which knows its units and
        whether it counts photons or energy.
    name : str, optional
        Name of the band; default the file's, without its last extension.

    Returns
    -------
    Band
        As a photon counter.

    Raises
    ------
    UserError
        When the file cannot be read or is no throughput curve.
    """
    path = Path(path)
    columns = _votable(path) if _is_xml(path) else _two_columns(path)
    rows, width = columns.shape
    if rows < 2 or width != 2:
        raise UserError(
            f"{path} has {rows} rows of {width} columns; expected two columns, wavelength [AA] and "
            "throughput, and two rows or more"
        )
    wavelength, throughput = np.ascontiguousarray(columns.T)
    if not (np.isfinite(columns).all() and wavelength[0] > 0 and (np.diff(wavelength) > 0).all()):
        raise UserError(
            f"{path}: the wavelengths (column 1) must be positive and increasing [AA], all finite"
        )
    if (throughput < 0).any() or not (throughput > 0).any():
        raise UserError(
            f"{path}: throughputs (column 2) run from {throughput.min():g} to {throughput.max():g}; "
            "expected none negative and some positive"
        )
    return Band(name or path.stem, wavelength, throughput)


def _is_xml(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip().startswith((b"<?xml", b"<VOTABLE"))
    except OSError:
        return False  # `_two_columns` says why


def _votable(path: Path) -> Floats:
    """Read a VOTable of the SVO Filter Profile Service; shape (n_wavelengths, 2), a photon counter."""
    from astropy.io.votable import parse_single_table

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SVO's own slips in the standard
            found = parse_single_table(path)
        parameters = {item.name: item.value for item in found.params}
        table = found.to_table()
        wavelength = np.asarray(table["Wavelength"].to("AA").value, dtype=np.float64)
        throughput = np.asarray(table["Transmission"], dtype=np.float64)
    except Exception as error:  # astropy raises of many kinds here
        raise UserError(
            f"throughput curve {path} cannot be read as a VOTable with the fields Wavelength (with a unit) "
            f"and Transmission: {error}"
        ) from None
    counts_energy = str(parameters.get("DetectorType", "1")) == "0"
    return np.stack([wavelength, throughput / wavelength if counts_energy else throughput], axis=1)


def _two_columns(path: Path) -> Floats:
    """Read the numbers of a text file; shape (n_rows, n_columns)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is refused by the caller
            return np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"throughput curve {path} cannot be read: {error}") from None
