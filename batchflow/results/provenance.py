"""From a file to what made it: job, model, engine, versions, checksums of catalogues, commands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchflow.errors import UserError
from batchflow.flow.description import MODEL_FILE
from batchflow.made import made
from batchflow.paths import RunFolder
from batchflow.results.query import mentioned, table_files
from batchflow.results.source import FITS_KEY, NAME
from batchflow.results.write_csv import description_of
from batchflow.shards import read_footer
from batchflow.train.plan import read_description

EXPORTED = "export"
"""Key of the provenance that an export adds."""
BEFORE = {
    "mocks": (),
    "catalogue": (),
    "train": ("mocks", "catalogue"),
    "fit": ("catalogue",),
    "infer": ("mocks", "catalogue", "train"),
    "reweight": ("mocks", "catalogue", "train", "infer"),
    "population": ("mocks", "catalogue", "train", "infer"),
}
"""Stages that each rests on; all of them where it is not here."""
DEEPEST = 5
"""Folders between a file and its run's at most: RUN/reweighted/NAME/draws/galaxy=.../part-00000.parquet."""
MODEL_KEYS = (
    *("weights_sha256", "bands", "parameters", "prior", "flow", "training", "versions", "made", "engine"),
    *("flux_table_sha256", "settings"),
)


def provenance(path: Path) -> dict[str, Any]:
    """Where a file comes from.

    Parameters
    ----------
    path : Path
        A Parquet file of a run, a file or folder that `batchflow export` wrote, a model folder or its
        ``model.json``, or a run folder.

    Returns
    -------
    dict
        JSON-able: ``file``, ``stage``, ``unit``, ``fingerprint``, ``made``, ``settings``, and as far as
        they are known ``engine``, ``model``, ``catalogues``, ``commands``, ``job``; of an exported file,
        those of the table and what `export` added.

    Raises
    ------
    UserError
        When the file is absent, or says nothing of where it comes from.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give a file of a run, an exported file or a model folder")
    if path.name == MODEL_FILE:
        path = path.parent
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    return {"file": path.name} | found


def run_provenance(run: RunFolder, stage: dict[str, Any]) -> dict[str, Any]:
    """Complete what a footer says with what the rest of the run tells.

    Parameters
    ----------
    run : RunFolder
        The run that the file belongs to.
    stage : dict
        The file's footer.

    Returns
    -------
    dict
        With ``model``, ``engine``, ``catalogues``, ``commands`` and ``job``, as far as they are there.
    """
    if not run.job.is_file():
        # A folder of `batchflow reweight` lies in that of its run.
        run = run_of(run.root) or run
    settings = stage.get("settings", {})
    model = _model(run.model, settings.get("weights"))
    index = _json(run.catalogue / "_index.json")
    mocks = _first_footer(run.mocks.glob("shard-*.parquet"))
    engine = stage.get("engine") or (model or {}).get("engine") or mocks.get("engine")
    job = _toml(run.job)
    catalogues = _catalogues(settings if _named(settings) else index.get("settings", {}), job)
    known = {
        "mocks": mocks.get("made"),
        "catalogue": index.get("made"),
        "train": (model or {}).get("made"),
        "infer": _reweighted(stage) or _first_footer(run.posterior.glob("*/*.parquet")).get("made"),
        "fit": _first_footer(run.fit.glob("*/*.parquet")).get("made"),
    }
    name = str(stage.get("stage", ""))
    own = stage.get("made") or known.get(name)
    steps = {before: known[before] for before in BEFORE.get(name, known)} | {name: own}
    commands = [
        {"stage": step} | {key: value for key, value in how.items() if key in ("command", "date")}
        for step, how in steps.items()
        if how
    ]
    found = {
        "made": own,
        "engine": engine,
        "model": model,
        "catalogues": catalogues,
        "job": job,
        "commands": commands,
    }
    return stage | {key: value for key, value in found.items() if value}


def stage_footer(files: Iterable[str | Path]) -> dict[str, Any]:
    """What the footers of a table's files have in common: that of the first without what is its own."""
    own = ("file", "unit", "galaxy", "first_id", "last_id")
    return {key: value for key, value in _first_footer(map(Path, files)).items() if key not in own}


def answer_provenance(run: RunFolder, sql: str) -> dict[str, Any]:
    """Where an answer comes from.

    Parameters
    ----------
    run : RunFolder
        The run that was asked.
    sql : str
        What.

    Returns
    -------
    dict
        That of the last table, in the order of the stages, that the statement names; and the statement.
    """
    files = table_files(run)
    tables = mentioned(files, sql)
    stage = stage_footer(files[tables[-1]]) if tables else {}
    return run_provenance(run, stage) | {EXPORTED: {"query": sql, "tables": tables} | made()}


def run_of(path: Path) -> RunFolder | None:
    """The run folder that a file lies in; None when it lies in none."""
    for folder in path.resolve().parents[:DEEPEST]:
        run = RunFolder(folder)
        if run.job.is_file() and (run.mocks.is_dir() or run.model.is_dir() or run.posterior.is_dir()):
            return run
    return None


def _of_folder(path: Path) -> dict[str, Any]:
    if (path / "hats.properties").is_file():
        return _of_parquet(path / "dataset" / "_common_metadata")
    if (path / MODEL_FILE).is_file():
        return {"stage": "train"} | _completed(path / MODEL_FILE, {"stage": "train"})
    run = RunFolder(path)
    first = sorted(run.posterior.glob("*/*.parquet")) or sorted(run.mocks.glob("*.parquet"))
    if not run.job.is_file() or not first:
        raise UserError(f"{path} is neither a run folder, a model folder nor a HATS catalogue")
    return run_provenance(run, stage_footer(first))


def _completed(path: Path, stage: dict[str, Any]) -> dict[str, Any]:
    run = run_of(path)
    if run is None and path.name == MODEL_FILE:
        model = _model(path.parent, None) or {}
        own = {
            "model": model,
            "engine": model.get("engine"),
            "catalogues": _catalogues(model.get("settings", {}), {}),
        }
        how = model.get("made")
        commands = [{"stage": "train", "command": how["command"], "date": how["date"]}] if how else []
        return {"made": how, "commands": commands} | {key: value for key, value in own.items() if value}
    return run_provenance(run or RunFolder(path.parent), stage)


def _of_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as handle:
            start = handle.read(512)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    for magic, reader in _READERS.items():
        if start.lstrip().startswith(magic):
            return reader(path)
    beside = description_of(path)
    if beside.is_file():
        return _whole(_json(beside).get(NAME), path)
    raise UserError(
        f"{path} says nothing of where it comes from: expected a Parquet file of a run, a file that "
        "`batchflow export` wrote (a CSV file with its FILE.csv-metadata.json beside it), or an answer that "
        "`batchflow query` wrote as .parquet or .ecsv (its .csv and .json hold the rows alone)"
    )


def _of_parquet(path: Path) -> dict[str, Any]:
    found = read_footer(path)
    if found is None:
        raise UserError(
            f"{path} is no whole Parquet file of batchflow: it was altered, or another program wrote it "
            "anew; ask the file that it was made from"
        )
    footer, rows = found
    if EXPORTED in footer:
        return footer | {"rows": rows or footer[EXPORTED].get("rows")}
    if footer.get("kind") == "history":
        footer = {"stage": "train", **footer}
    return {"rows": rows, "columns": pq.read_schema(path).names} | _completed(path, footer)


def _of_fits(path: Path) -> dict[str, Any]:
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            text = next((hdu.header[FITS_KEY] for hdu in hdus if FITS_KEY in hdu.header), None)
    except (OSError, fits.VerifyError):
        text = None
    return _whole(text, path)


def _of_votable(path: Path) -> dict[str, Any]:
    from xml.etree.ElementTree import ParseError, iterparse

    try:
        # Attributes alone are wanted, and they stand before the data.
        for _, element in iterparse(path, events=("start",)):  # noqa: S314 - expat, no entities of ours
            if element.tag.endswith("}INFO") and element.get("name") == NAME:
                return _whole(element.get("value"), path)
            if element.tag.endswith("}DATA"):
                break
    except ParseError:
        pass
    return _whole(None, path)


def _of_ecsv(path: Path) -> dict[str, Any]:
    key = f"# meta: {{{NAME}: "
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith("#"):
                break
            if line.startswith(key):
                return _whole(line.removeprefix(key).rstrip()[:-1], path)
    return _whole(None, path)


_READERS: dict[bytes, Callable[[Path], dict[str, Any]]] = {
    b"PAR1": _of_parquet,
    b"SIMPLE": _of_fits,
    b"<?xml": _of_votable,
    b"# %ECSV": _of_ecsv,
}


def _whole(found: Any, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(
            f"{path} says nothing of where it comes from: it is no whole file of `batchflow export` or "
            "`batchflow query`"
        )
    return values


def _model(folder: Path, weights: str | None) -> dict[str, Any] | None:
    described = read_description(folder)
    if described is None:
        return {"weights_sha256": weights} if weights else None
    if weights not in (None, described.get("weights_sha256")):
        return {"weights_sha256": weights, "note": f"{MODEL_FILE} is of another model by now"}
    return {key: described[key] for key in MODEL_KEYS if key in described}


def _named(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of each catalogue, by name: flat keys ``catalogue.<name>.<key>``; names hold dots as well."""
    entries: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        section, _, rest = key.partition(".")
        name, _, setting = rest.rpartition(".")
        if section == "catalogue" and setting in ("sha256", "files", "sed_sha256", "format", "unit"):
            entries.setdefault(name, {})[setting] = value
    return entries


def _catalogues(settings: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    listed = job.get("catalogue", [])
    paths = {str(entry.get("name")): entry.get("path") for entry in listed if entry.get("name")}
    found = _named(settings)
    if len(found) == len(listed) == 1:
        paths = {next(iter(found)): listed[0].get("path")}
    return [
        {"survey": name} | ({"path": paths[name]} if name in paths else {}) | entry
        for name, entry in sorted(found.items())
        if "sha256" in entry
    ]


def _reweighted(stage: dict[str, Any]) -> dict[str, Any] | None:
    """How a posterior came about that this one is another prior's of; None for others."""
    return (stage.get("made") or {}).get("from")


def _first_footer(files: Iterable[Path]) -> dict[str, Any]:
    for path in sorted(files):
        if found := read_footer(path):
            return found[0]
    return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
