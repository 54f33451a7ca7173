"""Cluster catalogues of LEGUS (Calzetti et al. 2015; Adamo et al. 2017) as released: raw .tab files.

Columns, from 1: id; x, y; RA, Dec [deg]; five times Vega magnitude and its error; concentration
index; best, highest and lowest age [yr], mass [Msun] and E(B-V); five residuals; reduced chi2; Q;
number of filters; visual class. Two fields have x and y twice, which shifts all the rest by two.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.files import check_input
from batchflow.catalogue.legus_fields import FIELDS, ULTRAVIOLET, LegusField, field_in
from batchflow.catalogue.normalise import RawCatalogue
from batchflow.catalogue.units import flux_error, flux_from_magnitude, vega_zero_point
from batchflow.errors import UserError
from batchflow.settings.catalogue import CatalogueSettings

Floats = NDArray[np.float64]
N_COLUMNS = 34
"""Least number of columns; further ones are other classifications."""
SHIFTS = (0, 2)
"""Columns between the coordinates in pixels and those in the sky, by layout."""
SENTINELS = {99.999: "99.999 not detected", 66.666: "66.666 outside the frame", 44.444: "44.444 undefined"}
"""What stands where a magnitude should."""
BRIGHTEST = 8.0
"""Magnitudes are larger, or the columns are others [mag]. The brightest of the release is 10.65."""
FAINTEST = 40.0
"""No magnitude is larger [mag]: what is, is a sentinel. The faintest of the release is 35.0."""
NOT_FITTED = 200
"""Number of filters of an object that the survey found unusable."""


def read_legus(path: Path, entry: CatalogueSettings, bands: Sequence[str]) -> Iterator[RawCatalogue]:
    """Read a field's catalogue.

    Parameters
    ----------
    path : Path
        The file.
    entry : CatalogueSettings
        Galaxy, distance and bands where the release's own are to be overruled.
    bands : sequence of str
        All bands of the job.

    Yields
    ------
    RawCatalogue
        All rows of the file, in its order.

    Raises
    ------
    UserError
        When the file is no LEGUS catalogue, or its galaxy, distance or bands are not known.
    """
    yield understand(read_numbers(path), path, entry)


def understand(values: Floats, path: Path, entry: CatalogueSettings) -> RawCatalogue:
    """Understand rows of a field's catalogue.

    Parameters
    ----------
    values : ndarray, shape (n_clusters, n_columns)
        The numbers of the file.
    path : Path
        The file, whose name tells the field.
    entry : CatalogueSettings
        Galaxy, distance and bands where the release's own are to be overruled.

    Returns
    -------
    RawCatalogue
        The rows, in their order. In an entry of several files each is a survey of its own, called by
        its field: depths differ.

    Raises
    ------
    UserError
        As `read_legus`.
    """
    if entry.foreground_ebv:
        raise UserError(
            f"{path}: foreground_ebv = {entry.foreground_ebv:g}, but LEGUS photometry is corrected for the "
            "Milky Way; leave it out"
        )
    shift = find_shift(values, path)
    known = FIELDS.get(field_in(path.name) or "")
    own = _own_bands(path, entry, known)
    survey = _survey(path, entry)
    magnitude, error = values[:, 5 + shift : 15 + shift : 2], values[:, 6 + shift : 16 + shift : 2]
    zero_points = _zero_points(path, entry, own)
    flux, flux_err = _fluxes(zero_points, magnitude, error)
    return RawCatalogue(
        galaxy=[_galaxy(path, entry, known)] * len(values),
        object_id=[f"{survey}-{number:.15g}" for number in values[:, 0]],
        ra=values[:, 3 + shift],
        dec=values[:, 4 + shift],
        distance_mpc=np.full(len(values), _distance(path, entry, known)),
        flux=flux,
        error=flux_err,
        survey=[survey] * len(values),
        class_=_classes(values[:, 33 + shift]),
        published=_published(values, shift),
        sentinels=_count_sentinels(magnitude, error),
        units=dict.fromkeys(own, "Vega magnitudes, as LEGUS publishes them"),
        zero_points=zero_points,
    )


def _survey(path: Path, entry: CatalogueSettings) -> str:
    """Name of a file's survey: the entry's, or the field's where the entry is of several files."""
    if len(entry.paths) == 1 and not set("*?[") & set(str(entry.paths[0])):
        return entry.survey
    return field_in(path.name) or path.stem


def read_numbers(path: Path) -> Floats:
    """Read a headerless table of numbers.

    Parameters
    ----------
    path : Path
        The .tab file.

    Returns
    -------
    ndarray, shape (n_clusters, n_columns)
        The numbers; lines from ``#`` are comments.

    Raises
    ------
    UserError
        When it is absent or empty, or a line has a word or another number of columns.
    """
    check_input(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a file without rows is refused below
            values = np.loadtxt(path, dtype=np.float64, ndmin=2, encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"catalogue {path} is no text file; expected a LEGUS .tab file") from None
    except ValueError as error:
        raise UserError(_misfit(path) or f"catalogue {path} cannot be read: {error}") from None
    if not len(values):
        raise UserError(f"catalogue {path} has comments but no rows")
    return values


def _misfit(path: Path) -> str | None:
    """Say which line is not as the first."""
    expected = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.partition("#")[0].split()
        expected = expected or len(fields)
        if fields and len(fields) != expected:
            return f"{path}, line {number}: {len(fields)} columns; expected {expected}, as in the first line"
        for place, text in enumerate(fields, start=1):
            if not _is_number(text):
                return f"{path}, line {number}, column {place}: found {text!r}; expected a number"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def find_shift(values: Floats, path: Path) -> int:
    """Find where the coordinates in the sky start.

    Parameters
    ----------
    values : ndarray, shape (n_clusters, n_columns)
        The file.
    path : Path
        Its name, for the message.

    Returns
    -------
    int
        One of `SHIFTS`: columns by which everything from RA on is displaced.

    Raises
    ------
    UserError
        When no layout gives plausible coordinates and magnitudes.
    """
    n_columns = values.shape[1]
    if n_columns < N_COLUMNS:
        raise UserError(
            f"catalogue {path} has {n_columns} columns; expected a LEGUS .tab file as released, "
            f"of at least {N_COLUMNS}"
        )
    for shift in SHIFTS:
        if n_columns >= N_COLUMNS + shift and _plausible(values, shift):
            return shift
    raise UserError(
        f"catalogue {path} is not laid out as LEGUS: columns 4, 5 (or 6, 7) should be RA and Dec [deg], and "
        f"the ten after them Vega magnitudes and errors; its first line has {values[0, 3:9].tolist()} there. "
        'Is it format = "table"?'
    )


def _plausible(values: Floats, shift: int) -> bool:
    """Whether most rows have coordinates of one small field and magnitudes that can be."""
    ra, dec = values[:, 3 + shift], values[:, 4 + shift]
    magnitude, error = values[:, 5 + shift : 15 + shift : 2], values[:, 6 + shift : 16 + shift : 2]
    with np.errstate(invalid="ignore"):
        near = np.abs(dec - np.nanmedian(dec)) < 1.0
        sky = (ra >= 0) & (ra < 360) & (np.abs(dec) <= 90) & near
        light = ((magnitude > BRIGHTEST) & (magnitude < 100) & (error >= 0) & (error < 100)).all(axis=1)
    return bool(np.mean(sky) > 0.9 and np.mean(light) > 0.9)


def _own_bands(path: Path, entry: CatalogueSettings, known: LegusField | None) -> tuple[str, ...]:
    if entry.bands is not None:
        if len(entry.bands) != 5:
            raise UserError(
                f"{path}: bands names {len(entry.bands)} bands; a LEGUS file has five magnitude columns"
            )
        return entry.bands
    if known is not None and known.optical is not None:
        return (*ULTRAVIOLET, *known.optical)
    name = field_in(path.name)
    what = f"the B, V and I filters of LEGUS field {name} are" if known else "the field is"
    raise UserError(
        f"{path}: {what} not known; name the bands of its five magnitude columns, for example "
        'bands = ["wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w"], or for the last three '
        "wfc3_f438w, wfc3_f555w, wfc3_f814w"
    )


def _galaxy(path: Path, entry: CatalogueSettings, known: LegusField | None) -> str:
    if entry.galaxy is not None:
        return entry.galaxy
    if known is None:
        raise UserError(f'{path}: the file name names no known LEGUS field; add galaxy = "..."')
    return known.galaxy


def _distance(path: Path, entry: CatalogueSettings, known: LegusField | None) -> float:
    if entry.distance_mpc is not None:
        return entry.distance_mpc
    if known is None:
        raise UserError(f"{path}: the file name names no known LEGUS field; add distance_mpc = ...")
    return known.distance_mpc


def _zero_points(path: Path, entry: CatalogueSettings, own: Sequence[str]) -> dict[str, float]:
    """AB - Vega [mag] of each band, in their order."""
    return {band: vega_zero_point(entry.zero_points, band, str(path)) for band in own}


def _fluxes(
    zero_points: dict[str, float], magnitude: Floats, error: Floats
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Flux densities and errors [mJy] of each band; NaN for sentinels."""
    magnitude = np.where(magnitude > FAINTEST, np.nan, magnitude)
    error = np.where(error == 99.999, np.nan, error)
    fluxes, errors = {}, {}
    for column, (band, zero_point) in enumerate(zero_points.items()):
        fluxes[band] = flux_from_magnitude(magnitude[:, column], zero_point)
        errors[band] = flux_error(fluxes[band], error[:, column])
    return fluxes, errors


def _classes(column: Floats) -> NDArray[np.int16]:
    return np.nan_to_num(column, nan=0, posinf=0, neginf=0).clip(-1, 99).astype(np.int16)


def _published(values: Floats, shift: int) -> dict[str, Floats]:
    """Best-fit log age [yr], log mass [Msun] and E(B-V); NaN where the survey fitted nothing."""
    age, mass, ebv, n_filters = (values[:, column + shift] for column in (16, 19, 22, 32))
    fitted = (age > 0) & (mass > 0) & (n_filters != NOT_FITTED)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {"log_age": np.log10(age), "log_mass": np.log10(mass), "ebv": ebv}
    return {name: np.where(fitted, column, np.nan) for name, column in found.items()}


def _count_sentinels(magnitude: Floats, error: Floats) -> dict[str, int]:
    """How often each sentinel was met, by its meaning; those that were."""
    counts = {text: int((magnitude == value).sum()) for value, text in SENTINELS.items()}
    counts["other magnitude above 40"] = int((magnitude > FAINTEST).sum()) - sum(counts.values())
    counts["99.999 error of a finite magnitude"] = int(((magnitude < FAINTEST) & (error == 99.999)).sum())
    return {text: count for text, count in counts.items() if count}
