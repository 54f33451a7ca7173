"""Posteriors under another prior, from the stored draws: nothing is inferred again, nothing overwritten."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import logsumexp

from batchflow.arrow import numbers
from batchflow.errors import UserError
from batchflow.infer.summary import summarise
from batchflow.infer.table import (
    POOR_FIT,
    current_mass_columns,
    evidence_error,
    mode_columns,
    touches_edge,
)
from batchflow.made import made
from batchflow.mocks.prior import log_prior
from batchflow.paths import RunFolder
from batchflow.physics.table import TABLE_FILE, FluxTable
from batchflow.plan import fingerprint, flatten
from batchflow.results.new_prior import Change, make_change
from batchflow.results.stored import (
    StoredDraws,
    draws_files,
    read_draws,
    stored_prior,
    stored_settings,
)
from batchflow.results.stored_fit import StoredFit, stored_fit
from batchflow.schema import Flag
from batchflow.shards import read_footer, read_table, write_json, write_table

Floats = NDArray[np.float64]
SOURCE_FILE = "reweight.json"
MIN_EFFICIENCY = 0.05
"""Where the run does not say below which efficiency a cluster is to be flagged."""


def reweight_run(folder: str | Path, priors: Sequence[str], out: str = "") -> tuple[Path, dict[str, Any]]:
    """Write posterior and draws of a run under another prior.

    Parameters
    ----------
    folder : str or Path
        A run folder, or one that this function has written.
    priors : sequence of str
        ``log_mass.power_law=[-2,2,7]`` or ``ebv={uniform = [0, 1]}``; parameters not named keep theirs.
    out : str
        A name under ``RUN/reweighted/``, or a path; by default a name made of the priors.

    Returns
    -------
    tuple of (Path, dict)
        The new folder, a run folder for `open_run`, `query`, `population_run` and this function; and
        figures: clusters, those with too few effective draws and with none, median efficiency.

    Raises
    ------
    UserError
        When the new folder is there already, or a new prior reaches beyond the old.
    """
    source = Path(folder).resolve()
    files = draws_files(source)
    change = make_change(stored_prior(stored_settings(files[0]), files[0]), priors)
    target = _target(source, priors, out)
    origin = _inferred(source)
    given = _Given(source, origin, _flux_table(origin))
    counted = []
    with _new_folder(target) as work:
        for path in files:
            counted.append(_reweight_part(path, given, work, change))
        note = {"source": os.path.relpath(source, target), "prior": change.new.model_dump(mode="json")}
        write_json(work / SOURCE_FILE, note)
    efficiency = np.concatenate([part.efficiency for part in counted])
    known = efficiency[np.isfinite(efficiency)]
    return target, {
        "clusters": len(efficiency),
        "inferred": sum(part.inferred for part in counted),
        "too_few_draws": sum(part.few for part in counted),
        "no_draw_left": sum(part.lost for part in counted),
        "median_efficiency": float(np.median(known)) if len(known) else float("nan"),
    }


def reweighted(draws: StoredDraws, change: Change) -> StoredDraws:
    """Draws with their weights under another prior.

    Parameters
    ----------
    draws : StoredDraws
        Under the old prior.
    change : Change
        To the new.

    Returns
    -------
    StoredDraws
        Weights sum to one; clusters without any weight left are NaN like those without draws.
    """
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isneginf(draws.log_weights), -np.inf, change.log_ratio(draws.values))
        raw = draws.log_weights + ratio
    total = logsumexp(raw, axis=1, keepdims=True)
    lost = ~np.isfinite(total[:, 0])
    with np.errstate(invalid="ignore"):
        log_weights = np.where(lost[:, None], np.nan, raw - total)
    values = {name: np.where(lost[:, None], np.nan, value) for name, value in draws.values.items()}
    return StoredDraws(values, log_weights, draws.lengths)


def log_evidence_change(draws: StoredDraws, change: Change) -> Floats:
    """What the new prior adds to the log evidence, (n_clusters,)."""
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isneginf(draws.log_weights), 0.0, change.log_ratio(draws.values))
        found: Floats = logsumexp(draws.log_weights + ratio, axis=1) - logsumexp(draws.log_weights, axis=1)
    return found


@dataclass(frozen=True)
class _Counted:
    efficiency: Floats
    inferred: int
    few: int
    lost: int


class _Given(NamedTuple):
    source: Path
    """The folder that is reweighted."""
    origin: Path
    """The run that its draws come from."""
    table: FluxTable | None


def _reweight_part(path: Path, given: _Given, work: Path, change: Change) -> _Counted:
    source = given.source
    settings = stored_settings(path)
    if stored_prior(settings, path) != change.old:
        raise UserError(f"{path} was made under another prior than the other parts; infer the run anew")
    place = path.relative_to(RunFolder(source).draws)
    summary = read_table(RunFolder(source).posterior / place)
    stored = read_table(path)
    if summary["object_id"].to_pylist() != stored["object_id"].to_pylist():
        raise UserError(f"{path} and the posterior beside it hold other clusters; infer the run anew")
    before = read_draws(stored)
    after = reweighted(before, change)
    footer = _footer(path, settings, change)
    target = RunFolder(work)
    write_table(target.draws / place, _with_weights(stored, before, after), footer)
    columns, counted = _columns(summary, (before, after), change, settings, given.table)
    fit = stored_fit(RunFolder(given.origin), place, stored, settings)
    if fit is not None:
        columns |= _best(after, fit, change, columns["flags"])
    write_table(target.posterior / place, _with_columns(summary, columns), footer)
    return counted


def _columns(
    summary: pa.Table,
    draws: tuple[StoredDraws, StoredDraws],
    change: Change,
    settings: Mapping[str, Any],
    table: FluxTable | None,
) -> tuple[dict[str, Any], _Counted]:
    """New columns of the posterior table that the draws alone give; the others become NaN."""
    before, after = draws
    boxes = change.new.boxes()
    columns: dict[str, Any] = {}
    for name, values in after.values.items():
        found = summarise(values, after.weights) | {"map": np.full(len(values), np.nan)}
        columns |= {f"{name}_{suffix}": column for suffix, column in found.items()}
    known = table is not None and set(table.surviving_parameters) <= set(after.values)
    nan = np.full(len(before.lengths), np.nan)
    quantiles = {f"log_mass_current_{name}": nan for name in ("q16", "q50", "q84")}
    columns |= current_mass_columns(after, table) if known and table is not None else quantiles
    columns |= mode_columns(after, boxes["log_age"])
    share = _effective(after) / np.maximum(after.lengths, 1)
    looked = np.isfinite(numbers(summary, "efficiency"))
    columns["efficiency"] = np.where(looked, share, np.nan)
    columns["log_evidence"] = numbers(summary, "log_evidence") + log_evidence_change(before, change)
    columns["log_evidence_error"] = evidence_error(columns["efficiency"], after.lengths)
    columns |= {"ppc_chi2": nan, "ppc_pvalue": nan, "member_spread": pa.nulls(len(nan), pa.float32())}
    inferred = np.isfinite(before.log_weights).any(axis=1)
    lost = inferred & ~np.isfinite(share)
    least = float(settings.get("infer.min_efficiency", MIN_EFFICIENCY))
    with np.errstate(invalid="ignore"):
        few = (share < least) | lost
    columns["flags"] = _flags(summary, few, lost, touches_edge(after, boxes), looked)
    return columns, _Counted(share, int(inferred.sum()), int(few.sum()), int(lost.sum()))


def _best(draws: StoredDraws, fit: StoredFit, change: Change, flags: NDArray[np.int32]) -> dict[str, Any]:
    """Columns that need the fit of each draw: the one of highest density, and what the weights average."""
    prior = {name: values.clip(*change.new.boxes()[name]) for name, values in draws.values.items()}
    density = np.where(draws.weights > 0, fit.log_likelihood + log_prior(change.new, prior), -np.inf)
    best = np.argmax(np.nan_to_num(density, nan=-np.inf), axis=1)[:, None]
    columns = {
        f"{name}_map": np.take_along_axis(values, best, 1)[:, 0] for name, values in draws.values.items()
    }
    pvalue = (draws.weights * fit.tail).sum(1)
    chi2 = np.where(np.isnan(pvalue), np.nan, np.take_along_axis(fit.chi2, best, 1)[:, 0])
    poor = np.where(np.isnan(pvalue), flags & Flag.POOR_FIT, Flag.POOR_FIT * (pvalue < POOR_FIT))
    kept = ((flags & ~Flag.POOR_FIT) | poor).astype(np.int32)
    return columns | {"ppc_chi2": chi2, "ppc_pvalue": pvalue, "flags": kept}


def _flags(
    summary: pa.Table,
    few: NDArray[np.bool_],
    lost: NDArray[np.bool_],
    edge: NDArray[np.bool_],
    looked: NDArray[np.bool_],
) -> NDArray[np.int32]:
    old = np.asarray(summary["flags"].to_numpy())
    renewed = np.where(looked, Flag.PRIOR_EDGE | Flag.LOW_EFFICIENCY, Flag.PRIOR_EDGE)
    bits = Flag.LOW_EFFICIENCY * few + Flag.PRIOR_EDGE * edge
    found: NDArray[np.int32] = ((old & ~renewed) | bits | Flag.NOT_INFERRED * lost).astype(np.int32)
    return found


def _effective(draws: StoredDraws) -> Floats:
    """Effective number of draws, (n_clusters,)."""
    found: Floats = np.exp(-logsumexp(2 * draws.log_weights, axis=1))
    return found


def _with_weights(stored: pa.Table, before: StoredDraws, after: StoredDraws) -> pa.Table:
    """The draws table with new weights; -inf throughout where no draw has any."""
    real = np.arange(before.log_weights.shape[1]) < before.lengths[:, None]
    flat = np.where(np.isnan(after.log_weights), -np.inf, after.log_weights)[real].astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(before.lengths)]).astype(np.int32)
    return _with_columns(stored, {"log_weight": pa.ListArray.from_arrays(offsets, pa.array(flat))})


def _with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    for i, field in enumerate(table.schema):
        if field.name in columns:
            values = columns[field.name]
            array = values if isinstance(values, pa.Array) else pa.array(values, field.type)
            table = table.set_column(i, field, array)
    return table


def _footer(path: Path, settings: Mapping[str, Any], change: Change) -> dict[str, Any]:
    found = read_footer(path)
    before = found[0] if found else {}
    kept = {name: value for name, value in settings.items() if not name.startswith("prior.")}
    wanted = kept | flatten({"prior": change.new.model_dump(mode="json")})
    wanted["reweight.of"] = before.get("fingerprint")
    return {
        "stage": "reweight",
        "unit": before.get("unit"),
        "fingerprint": fingerprint(wanted),
        "settings": wanted,
        "made": made() | {"from": before.get("made")},
    }


def _target(source: Path, priors: Sequence[str], out: str) -> Path:
    if out and len(Path(out).parts) > 1:
        target = Path(out).resolve()
    else:
        slug = "_".join(priors).translate({ord(c): "_" for c in "=[]{},"}).replace(" ", "").replace("/", "_")
        target = source / "reweighted" / (out or slug.replace("__", "_").strip("_"))
    if target.exists() or target.name in ("", ".", ".."):
        raise UserError(f"{target} is there already; choose another name with --out (nothing is overwritten)")
    return target


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that appears under its name only when all is in it."""
    work = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        work.mkdir(parents=True)
        yield work
        work.rename(target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}; choose another --out") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _flux_table(folder: Path) -> FluxTable | None:
    """The flux table of a run, for the mass of surviving stars."""
    path = RunFolder(folder).model / TABLE_FILE
    return FluxTable.load(path) if path.is_file() else None


def _inferred(folder: Path) -> Path:
    """The run that draws come from, however often they were reweighted."""
    note = folder / SOURCE_FILE
    if not note.is_file():
        return folder
    return _inferred((folder / json.loads(note.read_text(encoding="utf-8"))["source"]).resolve())
