"""Make the shipped throughput curves from the packages that hold them (called by `make_tables`)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ACS = ("f435w", "f475w", "f555w", "f606w", "f625w", "f775w", "f814w", "f850lp")
UVIS = ("f225w", "f275w", "f336w", "f390w", "f475w", "f555w", "f606w", "f814w")
INFRARED = ("f098m", "f105w", "f110w", "f125w", "f140w", "f160w")
NIRCAM = (
    *("f070w", "f090w", "f115w", "f140m", "f150w", "f150w2", "f162m", "f182m", "f200w", "f210m"),
    *("f250m", "f277w", "f300m", "f322w2", "f335m", "f356w", "f360m", "f410m", "f430m", "f444w"),
    *("f460m", "f480m"),
)
CLASH = ("f218w", "f438w", "f625w", "f775w", "f850lp")
SEDPY = (
    {f"acs_{name}": f"acs_wfc_{name}" for name in ACS}
    | {f"wfc3_{name}": f"wfc3_uvis_{name}" for name in UVIS}
    | {f"wfc3_{name}": f"wfc3_ir_{name}" for name in INFRARED}
    | {f"nircam_{name}": f"jwst_{name}" for name in NIRCAM}
)
"""Our name of each band and the file's stem in astro-sedpy."""
KCORRECT = {f"wfc3_{name}": f"clash_wfc3_{name}" for name in CLASH}
"""The same in kcorrect, for WFC3/UVIS bands that astro-sedpy lacks."""
TRIM = 1e-4
"""Ends of a curve below this fraction of its peak are cut off."""
THIN = (2e-5, 5e-4)
"""Linear interpolation of what is kept stays this near the source, as a fraction of the peak and of
the local throughput: red leaks are all the light that some bands get from old, reddened stars."""


def make_bands(sedpy: Path, kcorrect: Path, folder: Path) -> None:
    """Write the shipped throughput curves.

    Parameters
    ----------
    sedpy, kcorrect : Path
        Wheels of astro-sedpy and kcorrect.
    folder : Path
        Where the files ``<band>.dat`` go.
    """
    for name, stem in SEDPY.items():
        _make_band(sedpy, f"sedpy/data/filters/{stem}.par", folder / f"{name}.dat")
    for name, stem in KCORRECT.items():
        _make_band(kcorrect, f"kcorrect/data/responses/{stem}.dat", folder / f"{name}.dat")


def source_curve(wheel: Path, member: str) -> tuple[Floats, Floats]:
    """Read a throughput curve out of a wheel.

    Parameters
    ----------
    wheel : Path
        The wheel.
    member : str
        The file in it: two numbers a line, ``|`` or blanks between; other lines are comments.

    Returns
    -------
    tuple of ndarray, shape (n_wavelengths,)
        Wavelength [AA] and throughput.
    """
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read(member).decode("utf-8").splitlines()
    rows = [line.replace("|", " ").split() for line in lines if not line.startswith("#")]
    table = np.array([row for row in rows if len(row) == 2 and row[0][0].isdigit()], dtype=np.float64)
    return table[:, 0], table[:, 1]


def trim(wavelength: Floats, throughput: Floats) -> tuple[Floats, Floats]:
    """Cut off the ends below `TRIM` of the peak."""
    kept = np.flatnonzero(throughput >= TRIM * throughput.max())
    inside = slice(kept[0], kept[-1] + 1)
    return wavelength[inside], throughput[inside]


def thin(wavelength: Floats, throughput: Floats) -> tuple[Floats, Floats]:
    """Drop points that linear interpolation restores to within `THIN` (Douglas-Peucker).

    A curve's negative points (noise of the measurement, as in NIRCam F150W2) are taken as zero: no
    photon is uncounted.
    """
    throughput = np.maximum(throughput, 0.0)
    tolerance = np.minimum(THIN[0] * throughput.max(), THIN[1] * throughput)
    keep = np.zeros(wavelength.size, dtype=bool)
    keep[[0, -1]] = True
    segments = [(0, wavelength.size - 1)]
    while segments:
        first, last = segments.pop()
        inside = slice(first, last + 1)
        line = np.interp(wavelength[inside], wavelength[[first, last]], throughput[[first, last]])
        excess = np.abs(line - throughput[inside]) - tolerance[inside]
        # The ends fit exactly, but for rounding: they never count as worst.
        excess[[0, -1]] = 0.0
        if excess.max() > 0:
            worst = first + int(excess.argmax())
            keep[worst] = True
            segments += [(first, worst), (worst, last)]
    return wavelength[keep], throughput[keep]


def _make_band(wheel: Path, member: str, path: Path) -> None:
    wavelength, throughput = thin(*trim(*source_curve(wheel, member)))
    package = "-".join(wheel.name.split("-")[:2])
    header = [
        f"# {path.stem}: system throughput; detector type: photon; columns: wavelength [AA], throughput",
        f"# source: {package} {member}; ends below {TRIM:g} of the peak cut off,",
        f"# points dropped that interpolation gives to {THIN[0]:g} of the peak and {THIN[1]:g} of the value",
    ]
    rows = [f"{x:.10g} {y:.6g}" for x, y in zip(wavelength, throughput, strict=True)]
    path.write_text("\n".join(header + rows) + "\n", encoding="utf-8")
