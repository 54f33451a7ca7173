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

AB_MINUS_VEGA = {
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
    """Read the numbers of a text file; shape (n_wavelengths >= 2, 2)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is refused below
            columns = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"throughput curve {path} cannot be read: {error}") from None
    if columns.shape[0] < 2 or columns.shape[1] != 2:
        rows, width = columns.shape
        raise UserError(
            f"{path} has {rows} rows of {width} columns; expected two columns, wavelength [AA] and throughput"
        )
    return columns
