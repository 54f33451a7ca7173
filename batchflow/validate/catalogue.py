"""A run's catalogue against what is published, and against itself: the task of a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchflow.infer.posterior import Model, cached_model
from batchflow.schema import PARAMETER_UNITS
from batchflow.shards import open_dataset, read_table, write_table
from batchflow.validate.compare import compare_published
from batchflow.validate.methods import methods_table, reasons_table
from batchflow.validate.objects import objects_table
from batchflow.validate.overlap import columns_needed, overlap_summary, overlap_table
from batchflow.validate.plan import CATALOGUE_TABLES
from batchflow.validate.predictive import COLUMNS, predictive_table
from batchflow.validate.schemas import shaped


def compare_catalogue(
    outputs: list[str], parts: list[tuple[str, str, str]], settings: dict[str, Any], footer: dict[str, Any]
) -> list[str]:
    """Compare a run's posteriors with the classical fit and with published values.

    Parameters
    ----------
    outputs : list of str
        Final names of the tables, those of `CATALOGUE_TABLES` in order.
    parts : list of tuple of str
        Files of catalogue, posterior and classical fit of each part; the last need not be there.
    settings : dict
        ``model`` (folder), ``weights`` (checksum), ``mocks`` (the table of held-out mocks, or none there).
    footer : dict
        Provenance.

    Returns
    -------
    list of str
        What a person should know: what is not there and so was left out.
    """
    model, _ = cached_model(settings["model"], settings["weights"])
    notes: list[str] = []
    objects = _objects(model, parts, notes)
    posterior = open_dataset([part[1] for part in parts])
    names = posterior.schema.names
    parameters = [name for name in PARAMETER_UNITS if f"{name}_q50" in names]
    pairs = overlap_table(posterior.to_table(columns=columns_needed(names)))
    tables = {
        "objects": objects,
        "methods": methods_table(objects),
        "reasons": reasons_table(objects),
        "predictive": predictive_table(posterior.to_table(columns=list(COLUMNS)), _mocks(settings["mocks"])),
        "overlap": pairs,
        "overlap_summary": overlap_summary(pairs),
        "comparison": compare_published(posterior.to_table()),
    }
    for name, output in zip(CATALOGUE_TABLES, outputs, strict=True):
        write_table(Path(output), shaped(name, tables[name], parameters), footer)
    if not objects.num_rows:
        notes.append("no published values in the catalogue: nothing to compare posteriors with")
    return notes


def _objects(model: Model, parts: Sequence[tuple[str, str, str]], notes: list[str]) -> pa.Table:
    found, without = [], 0
    for catalogue, posterior, fit in parts:
        rows = read_table(posterior)
        classical = _fit(Path(fit), rows)
        without += classical is None
        found.append(objects_table(model, read_table(catalogue), rows, classical))
    if without:
        of = "" if without == len(parts) else f"{without} of {len(parts)} parts of "
        notes.append(f"{of}the classical fit is not there (run `batchflow fit`): its columns are empty")
    return pa.concat_tables(found, promote_options="default")


def _fit(path: Path, posterior: pa.Table) -> pa.Table | None:
    """The classical fit of the same clusters in the same order; None where there is none."""
    if not path.is_file():
        return None
    table = read_table(path)
    same = table.num_rows == posterior.num_rows and table["object_id"].equals(posterior["object_id"])
    return table if same else None


def _mocks(path: str) -> Mapping[str, Any]:
    names = ("ppc_pvalue", "ood_pvalue")
    if not Path(path).is_file():
        return {name: np.zeros(0) for name in names}
    table = read_table(path, list(names))
    return {name: table[name].to_numpy() for name in names}
