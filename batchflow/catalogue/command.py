"""`batchflow catalogue FILE`: understand a bare file, describe it, print it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from batchflow.catalogue.detect import detect_format, guess_table
from batchflow.catalogue.files import find_files
from batchflow.catalogue.legus_fields import field_in, has_bands
from batchflow.catalogue.opening import open_columns
from batchflow.catalogue.read import READERS
from batchflow.catalogue.statistics import Description, describe
from batchflow.config import Job, load_job
from batchflow.errors import UserError, nearest
from batchflow.physics.bands import AB_MINUS_VEGA, known_bands, load_band
from batchflow.settings.catalogue import CatalogueSettings
from batchflow.settings.model import ModelSettings
from batchflow.settings.overrides import apply_overrides

USUAL = ("wfc3_f275w", "wfc3_f336w", "acs_f435w", "acs_f555w", "acs_f814w")
STAND_IN_MPC = {"table": 10.0, "phatter": 0.8}
"""Distance [Mpc] of a file that gives none, by format: only the width of a galaxy is judged by it."""


@dataclass(frozen=True)
class Request:
    """What the user asks for."""

    paths: tuple[Path, ...]
    """Files and patterns: one catalogue."""
    format: str | None = None
    bands: tuple[str, ...] | None = None
    galaxy: str | None = None
    distance_mpc: float | None = None
    overrides: Sequence[str] = ()
    """``key=value`` of [[catalogue]]."""
    job: Path | None = None
    """A job that has the file as one of its catalogues, or whose model is wanted."""


@dataclass(frozen=True)
class Understood:
    """A catalogue as it is read, and why."""

    entry: CatalogueSettings
    found: tuple[str, ...]
    """What was read off the file."""
    assumed: tuple[str, ...]
    """What was assumed, and how to say otherwise."""
    lacking: tuple[str, ...]
    """Keys of [[catalogue]] that a job needs and the file does not tell; the entry has stand-ins."""
    model: ModelSettings
    """Of the job, or the default one with the file's bands."""
    systematic: float = 0.05
    aside: tuple[Path, ...] = ()
    """Files of LEGUS that are not read, since their bands are not known."""


def understand(request: Request) -> Understood:
    """Decide how to read a file, or several as one catalogue.

    Parameters
    ----------
    request : Request
        The file, and what the user says of it.

    Returns
    -------
    Understood
        What the user did not say is detected.

    Raises
    ------
    UserError
        When the file or an option is wrong.
    """
    job = load_job(request.job) if request.job is not None else None
    return _understand(request, job, _entry_of(job, find_files(request.paths)))


def understand_all(request: Request) -> list[Understood]:
    """Decide how to read files of several catalogues of a job, or of all of them where no file is named.

    Parameters
    ----------
    request : Request
        As `understand` takes it.

    Returns
    -------
    list of Understood
        One for each entry of the job that has some of the files, and one for files that no entry has.

    Raises
    ------
    UserError
        As `understand`; or when neither file nor job is given.
    """
    job = load_job(request.job) if request.job is not None else None
    if not request.paths:
        if job is None or not job.catalogue:
            where = f"; {request.job} has no [[catalogue]]" if job else ", or --job JOB for all of a job's"
            raise UserError(f"name a FILE{where}")
        return [_understand(replace(request, paths=entry.paths), job, entry) for entry in job.catalogue]
    groups: dict[int | None, list[Path]] = {}
    owners = {path.resolve(): i for i, entry in _entries(job) for path in _files_of(entry)}
    for path in find_files(request.paths):
        groups.setdefault(owners.get(path.resolve()), []).append(path)
    if len(groups) == 1:
        return [understand(request)]
    owned = dict(_entries(job))
    return [
        _understand(replace(request, paths=tuple(paths)), job, None if i is None else owned[i])
        for i, paths in groups.items()
    ]


def _entries(job: Job | None) -> list[tuple[int, CatalogueSettings]]:
    """Entries and their places, from the last to the first: of two that share a file the first counts."""
    return list(enumerate(job.catalogue))[::-1] if job else []


def _files_of(entry: CatalogueSettings) -> tuple[Path, ...]:
    with contextlib.suppress(UserError):  # another entry's files may not be there
        return find_files(entry.paths)
    return ()


def _entry_of(job: Job | None, files: Sequence[Path]) -> CatalogueSettings | None:
    """The job's own entry for the files; None where it has none."""
    wanted = {path.resolve() for path in files}
    for entry in job.catalogue if job else ():
        if wanted <= {path.resolve() for path in _files_of(entry)}:
            return entry
    return None


def _understand(request: Request, job: Job | None, own: CatalogueSettings | None) -> Understood:
    files, given = find_files(request.paths), _given(request)
    aside: tuple[Path, ...] = ()
    if own is None:
        values, found, assumed = _detected(files, given)
        aside = _without_bands(files, values)
    else:
        values, found, assumed = own.model_dump(exclude_unset=True) | given, [], []
    lacking = _stand_ins(files[0], values)
    values["path"] = _absolute([path for path in files if path not in aside] if aside else request.paths)
    entry = _validated(values, job)
    bands = job.model.bands if job else entry.bands or _bands_of(entry)
    model = job.model if job else ModelSettings(bands=bands)
    systematic = job.noise.systematic if job else 0.05
    return Understood(entry, tuple(found), tuple(assumed), lacking, model, systematic, aside)


def _without_bands(files: Sequence[Path], values: dict[str, Any]) -> tuple[Path, ...]:
    """Files of LEGUS whose bands nobody said, where there are others."""
    if values["format"] != "legus" or "bands" in values:
        return ()
    found = tuple(path for path in files if not has_bands(path.name))
    return found if len(found) < len(files) else ()


def describe_file(understood: Understood) -> Description:
    """Read the file and say what is in it.

    Parameters
    ----------
    understood : Understood
        From `understand`.

    Returns
    -------
    Description
        Its counts and figures.

    Raises
    ------
    UserError
        When the file is not what it was taken for.
    """
    model = understood.model
    return describe(understood.entry, model.bands, understood.systematic, model.curves)


def _absolute(paths: Sequence[Path]) -> list[str] | str:
    """The paths as a job file anywhere would have them."""
    found = [str(Path.cwd() / path) for path in paths]
    return found if len(found) > 1 else found[0]


def _given(request: Request) -> dict[str, Any]:
    """Keys of [[catalogue]] that the user gave."""
    values: dict[str, Any] = {}
    apply_overrides(values, request.overrides)
    if request.format is not None and request.format not in READERS:
        raise UserError(f"--format {request.format}: {nearest(request.format, READERS)}")
    if request.bands:
        for band in request.bands:
            if band not in known_bands():
                raise UserError(f"--bands: unknown band {band!r}; {nearest(band, known_bands())}")
        values["bands"] = list(request.bands)
    options = {name: getattr(request, name) for name in ("format", "galaxy", "distance_mpc")}
    return values | {name: value for name, value in options.items() if value is not None}


def _detected(files: Sequence[Path], given: dict[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    values, first = dict(given), files[0]
    found: list[str] = []
    assumed: list[str] = []
    if "format" not in values:
        values["format"], reason = detect_format(first, tuple(READERS))
        for path in files[1:]:
            _check_alike(first, values["format"], path)
        found.append(f"format {values['format']}: {reason}")
    if values["format"] == "legus":
        found.append("unit Vega magnitudes, total, corrected for the Milky Way, as LEGUS publishes them")
        if len(files) > 1:
            found.append("each file a survey of its own, called by its field")
        elif "name" not in values and (field := field_in(first.name)):
            values["name"] = field
            found.append(f"survey {field}, by the file's name; galaxy and distance are the release's")
    if values["format"] == "table":
        guess = guess_table(first, given)
        columns = _merged(guess.settings.get("columns", {}), given.get("columns", {}))
        values = guess.settings | values | ({"columns": columns} if columns else {})
        found, assumed = found + guess.found, assumed + guess.assumed
        assumed += _without_zero_points(values)
    return values, found, assumed


def _check_alike(first: Path, format_: str, path: Path) -> None:
    """Refuse files of different formats in one catalogue."""
    if (other := detect_format(path, tuple(READERS))[0]) != format_:
        raise UserError(
            f"{first} looks like {format_}, but {path} like {other}; look at them one by one, or say --format"
        )


def _merged(guessed: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Column mappings with the user's over the guessed ones, band by band."""
    both = {key: value | given[key] for key, value in guessed.items() if isinstance(given.get(key), dict)}
    return guessed | given | both


def _without_zero_points(values: dict[str, Any]) -> list[str]:
    """Leave out bands whose Vega magnitudes cannot be converted; say so."""
    known = {**AB_MINUS_VEGA, **values.get("zero_points", {})}
    lost = [band for band in values["bands"] if values.get("unit") == "Vega" and band not in known]
    values["bands"] = [band for band in values["bands"] if band not in lost]
    for kind in ("flux", "error", "limit"):
        mapping = values.get("columns", {}).get(kind, {})
        values.get("columns", {}).update({kind: {b: name for b, name in mapping.items() if b not in lost}})
    return [f"{band} is left out: its AB - Vega is not known; --set zero_points.{band}=..." for band in lost]


def _stand_ins(path: Path, values: dict[str, Any]) -> tuple[str, ...]:
    """Fill in galaxy and distance of a table that has neither, so that it can be looked at."""
    format_ = values.get("format", "table")
    if format_ not in STAND_IN_MPC:
        return ()
    # A release that has no such columns is not searched for them.
    names = open_columns(path).names if format_ == "table" else ()
    columns, lacking = values.get("columns", {}), []
    for key, stand_in in (("galaxy", path.name.partition(".")[0]), ("distance_mpc", STAND_IN_MPC[format_])):
        if key not in values and key not in columns and key not in names and "redshift" not in columns:
            values[key] = stand_in
            lacking.append(key)
    return tuple(lacking)


def _validated(values: dict[str, Any], job: Job | None) -> CatalogueSettings:
    context = {"curves": tuple(job.model.curves) if job else ()}
    try:
        return CatalogueSettings.model_validate(values, context=context)
    except ValidationError as error:
        raise UserError("\n  ".join(_explain(dict(item)) for item in error.errors())) from None


def _explain(item: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in item["loc"] if part != "[key]")
    if item["type"] == "extra_forbidden":
        return f"--set {key}: no key of [[catalogue]]; {nearest(key, CatalogueSettings.model_fields)}"
    return f"--set {key}={item['input']!r}: {str(item['msg']).removeprefix('Value error, ')}"


def _bands_of(entry: CatalogueSettings) -> tuple[str, ...]:
    """Bands of files whose format knows them, from the first piece of each."""
    try:
        firsts = [next(READERS[entry.format](path, entry, known_bands())) for path in find_files(entry.paths)]
    except UserError as error:
        together = "" if len(entry.paths) == 1 and entry.paths[0].exists() else "; it holds for every file"
        hint = "" if entry.bands else f" (here: --bands {','.join(USUAL)}{together})"
        raise UserError(f"{error}{hint if 'bands = [' in str(error) else ''}") from None
    own = {band for first in firsts for band in first.flux}
    return tuple(sorted(own, key=lambda band: (load_band(band).pivot, band)))
