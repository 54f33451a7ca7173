"""What a bare file is taken to be: format, bands, columns, unit; each guess is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from batchflow.catalogue.cds_readme import find_readme
from batchflow.catalogue.files import check_input
from batchflow.catalogue.legus import N_COLUMNS
from batchflow.catalogue.opening import open_columns
from batchflow.catalogue.values import numbers
from batchflow.errors import UserError
from batchflow.physics.bands import known_bands
from batchflow.schema import error_column, flux_column

WHOLE_NAMES = {
    "id": ("object_id", "id", "cluster_id", "id_cluster", "source_id", "objid", "name", "number", "index"),
    "galaxy": ("galaxy", "host", "host_galaxy", "gal_name", "target"),
    "ra": ("ra", "raj2000", "ra_j2000", "_raj2000", "alpha", "alpha_j2000", "ra_deg"),
    "dec": ("dec", "dej2000", "dec_j2000", "_dej2000", "decj2000", "delta", "delta_j2000", "dec_deg"),
    "distance_mpc": ("distance_mpc", "distance", "dist_mpc", "dist", "d_mpc", "dmpc"),
}
"""Names, whatever their case, that a column goes by; the first that the file has is taken."""
_ERROR = re.compile(r"err|sig|unc|std|^e_|_e$|^d_?mag|^d_?flux|(?<![a-z])e(?=f?\d{3})", re.IGNORECASE)
_LIMIT = re.compile(r"lim|upper", re.IGNORECASE)
_OTHER = re.compile(
    r"flag|class|chi|apcor|snr|s2n|npix|colou?r|(?<![a-z])(age|mass|ebv|av)(?![a-z])", re.IGNORECASE
)
_FILTER = re.compile(r"(?<!\d)(?:f)?(\d{3})(w2|lp|w|m|n)?(?!\d)", re.IGNORECASE)
_SENTINELS = (-99.0, -999.0, -9999.0, 99.0, 99.99, 99.999, 66.666, 88.888, 999.0, 1e20)


class Guess(NamedTuple):
    """What a table's columns are taken to be."""

    settings: dict[str, Any]
    """Keys of [[catalogue]]."""
    found: list[str]
    """What was read off the file, in words."""
    assumed: list[str]
    """What was assumed, and how to say otherwise."""


@dataclass(frozen=True)
class Column:
    """A column that names a filter."""

    name: str
    digits: str
    """Of the filter, as 275."""
    kind: str
    """"flux", "error" or "limit"."""
    camera: str | None
    """Where the name tells: "acs", "wfc3" or "nircam"."""


def detect_format(path: Path, known: Sequence[str]) -> tuple[str, str]:
    """Tell a file's format from its name, its content and its columns.

    Parameters
    ----------
    path : Path
        The file.
    known : sequence of str
        Formats that there are readers for.

    Returns
    -------
    format : str
        One of `known`.
    reason : str
        Why.

    Raises
    ------
    UserError
        When the file is absent, empty or broken.
    """
    check_input(path)
    if "legus" in path.name.lower() and path.suffix.lower() == ".tab":
        return "legus", "by the file's name"
    if not find_readme(path) and (n_columns := _headerless(path)):
        return "legus", f"a table of {n_columns} numbers a line, without a header"
    names = open_columns(path).names
    if "phangs" in known and (reason := _phangs(path, names)):
        return "phangs", reason
    if "phatter" in known and {"MAG275", "SIG275", "MAG475", "SIG475"} <= {name.upper() for name in names}:
        return "phatter", "by its columns MAG275, SIG275, MAG475, ..."
    return "table", f"{len(names)} named columns"


def _phangs(path: Path, names: Sequence[str]) -> str:
    """Why a table is one of PHANGS-HST; empty when it is not."""
    if any(name.upper().startswith("PHANGS_F") for name in names):
        return "by its columns PHANGS_F..."
    if "phangs" in path.name.lower() and any(name.upper().startswith("PHANGS_") for name in names):
        return "by the file's name and its columns PHANGS_..."
    return ""


def _headerless(path: Path) -> int:
    """Columns of a text file that starts with a line of numbers; 0 where it does not."""
    with path.open("rb") as file:
        start = file.read(20_000)
    lines = start.decode("utf-8", errors="replace").splitlines()
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    words = first.split()
    try:
        [float(word) for word in words]
    except ValueError:
        return 0
    return len(words) if len(words) >= N_COLUMNS else 0


def guess_table(path: Path, given: Mapping[str, Any]) -> Guess:
    """Guess what the columns of a table are.

    Parameters
    ----------
    path : Path
        The file.
    given : mapping
        Keys of [[catalogue]] that the user gave; they are not guessed.

    Returns
    -------
    Guess
        Settings for what was not given.

    Raises
    ------
    UserError
        When no column can be a band's.
    """
    file = open_columns(path)
    guess = Guess({}, [], [])
    bands = _guess_bands(file.names, path, given, guess)
    _guess_rest(file.names, given, guess)
    _guess_numbers(next(file.pieces()), bands, given, guess)
    return guess


def _guess_bands(
    names: Sequence[str], path: Path, given: Mapping[str, Any], guess: Guess
) -> dict[str, tuple[str, str]]:
    """Flux and error column of each band."""
    columns = given.get("columns", {})
    own = [band for band in known_bands() if flux_column(band) in names and error_column(band) in names]
    mapped = {
        band: (name, columns["error"][band])
        for band, name in columns.get("flux", {}).items()
        if band in columns.get("error", {})
    }
    if own or mapped:
        found = {band: (flux_column(band), error_column(band)) for band in own} | mapped
        guess.settings["bands"] = list(given.get("bands") or found)
        guess.found.append(f"bands by the columns {', '.join(pair[0] for pair in found.values())}")
        return found
    found = _paired(names, given.get("bands"), guess)
    if not found:
        raise UserError(_no_bands(path, names))
    guess.settings["bands"] = list(found)
    guess.settings["columns"] = {
        "flux": {band: pair[0] for band, pair in found.items()},
        "error": {band: pair[1] for band, pair in found.items()},
    }
    return found


def _no_bands(path: Path, names: Sequence[str]) -> str:
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return (
        f"{path}: no band found among its columns ({shown}); expected flux_<band> and error_<band>, or names "
        "with a filter in them such as F275W and F275W_err; say which they are: --set columns.flux."
        "wfc3_f275w=NAME --set columns.error.wfc3_f275w=NAME"
    )


def _paired(names: Sequence[str], wanted: Sequence[str] | None, guess: Guess) -> dict[str, tuple[str, str]]:
    """Bands that have both a flux and an error column, from names such as MAG275 and SIG275."""
    columns = list(_filter_columns(names))
    cameras = _cameras(columns)
    found = {}
    for digits in dict.fromkeys(column.digits for column in columns):
        flux, error = (_best(columns, digits, kind) for kind in ("flux", "error"))
        band, others = _band_of(digits, (flux and flux.camera) or cameras, wanted)
        if band is None:
            continue
        if flux is None or error is None:
            guess.assumed.append(f"{band}: only one of flux and error found, the band is left out")
            continue
        found[band] = (flux.name, error.name)
        if others and not flux.camera:
            guess.assumed.append(
                f"{flux.name} is {band}, not {' or '.join(others)}; --bands {band},... says which"
            )
        guess.found.append(f"{band} in {flux.name}, its error in {error.name}")
    return found


def _filter_columns(names: Sequence[str]) -> Iterator[Column]:
    for name in names:
        match = _FILTER.search(name)
        if match is None or _OTHER.search(name):
            continue
        camera = next((word for word in ("acs", "wfc3", "nircam") if word in name.lower()), None)
        kind = "limit" if _LIMIT.search(name) else "error" if _ERROR.search(name) else "flux"
        yield Column(name, match[1], kind, "wfc3" if "uvis" in name.lower() else camera)


def _best(columns: Sequence[Column], digits: str, kind: str) -> Column | None:
    """The column of a filter: fluxes before magnitudes, short names before long ones."""
    own = [column for column in columns if (column.digits, column.kind) == (digits, kind)]
    return min(own, key=lambda column: ("mag" in column.name.lower(), len(column.name)), default=None)


def _cameras(columns: Sequence[Column]) -> str:
    """Camera of the filters that two cameras have: F435W and F475W are mostly ACS's, F438W is WFC3's."""
    digits = {column.digits for column in columns}
    return "acs" if digits & {"435", "475"} and "438" not in digits else "wfc3"


def _band_of(digits: str, camera: str, wanted: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """The band of a filter, and the others that it could be."""
    named = [band for band in known_bands() if band.partition("_")[2][1:4] == digits]
    own = [band for band in named if wanted is None or band in wanted]
    if not own:
        return None, []
    # Of a number alone, F162M and F160W are told apart by the width that surveys use: wide ones first.
    order = sorted(own, key=lambda band: (not band.startswith(camera), "nircam" in band, band[-1] != "w"))
    return order[0], ([] if wanted else [band for band in order[1:] if "nircam" not in band])


def _guess_rest(names: Sequence[str], given: Mapping[str, Any], guess: Guess) -> None:
    """Columns of id, galaxy, position and distance, where they do not have the names of the schema."""
    lower = {name.lower(): name for name in reversed(names)}
    named = given.get("columns", {})
    columns = guess.settings.setdefault("columns", {})
    for key, choices in WHOLE_NAMES.items():
        found = next((lower[choice] for choice in choices if choice in lower), None)
        default = {"id": "object_id"}.get(key, key)
        if key not in named and found is not None and default not in names:
            columns[key] = found
            guess.found.append(f"{key} in {found}")
    if not columns:
        del guess.settings["columns"]


def _guess_numbers(
    file: Any, bands: Mapping[str, tuple[str, str]], given: Mapping[str, Any], guess: Guess
) -> None:
    """Unit, sentinels and the mark of limits, from the first rows."""
    flux_names = [pair[0] for pair in bands.values()]
    fluxes = {name: numbers(file, name) for name in flux_names}
    errors = [numbers(file, pair[1]) for pair in bands.values()]
    if "unit" not in given and (unit := _unit(file, fluxes, guess)):
        guess.settings["unit"] = unit
    met = [value for value in _SENTINELS if any(_near(column, value) for column in fluxes.values())]
    if "sentinels" not in given and met:
        guess.settings["sentinels"] = met
        shown = ", ".join(f"{value:g}" for value in met)
        guess.assumed.append(f"{shown} in a flux column is no measurement; --set sentinels=[...]")
    marks = [value for value in (-99.0, -999.0, -9999.0) if any(_near(column, value) for column in errors)]
    if "limit_error" not in given and marks:
        guess.settings["limit_error"] = marks[0]
        guess.assumed.append(f"the error {marks[0]:g} marks an upper limit; --set limit_error=...")


def _near(column: Any, value: float) -> bool:
    return bool((abs(column - value) <= 1e-6 * abs(value)).any())


def _unit(file: Any, fluxes: Mapping[str, Any], guess: Guess) -> str | None:
    """The unit to state; None where the file's own, or the default, will do."""
    in_file = {name: file.units.get(name, "").strip() for name in fluxes}
    told = sorted({unit for unit in in_file.values() if unit and unit.lower() != "mag"})
    words = " ".join(fluxes).lower()
    if told:
        guess.found.append(f"unit {', '.join(told)}, as the file says")
        return None
    for word, unit in (("vega", "Vega"), ("abmag", "AB"), ("_ab", "AB"), ("ujy", "uJy"), ("mjy", "mJy")):
        if word in words:
            guess.found.append(f"unit {unit}, by the columns' names")
            return unit
    sound = [column[np.isfinite(column) & (abs(column) < 90)] for column in fluxes.values()]
    middle = [float(np.median(column)) for column in sound if len(column)]
    if any(in_file.values()) or "mag" in words or (middle and min(middle) > 10):
        guess.assumed.append("magnitudes are in the Vega system; --set unit=AB where they are not")
        return "Vega"
    guess.assumed.append("fluxes are in mJy; --set unit=uJy or another where they are not")
    return "mJy"
