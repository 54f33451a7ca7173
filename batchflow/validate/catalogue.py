"""A run's catalogue against what is published, and against itself: the tasks of a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchflow.infer.posterior import cached_model
from batchflow.schema import PARAMETER_UNITS
from batchflow.shards import open_dataset, read_table, write_table
from batchflow.validate.compare import compare_published, published_columns
from batchflow.validate.methods import methods_columns, methods_table, reasons_table
from batchflow.validate.objects import objects_table
from batchflow.validate.overlap import columns_needed, overlap_summary, overlap_table
from batchflow.validate.plan import CATALOGUE_TABLES, OBJECTS
from batchflow.validate.predictive import COLUMNS, predictive_table
from batchflow.validate.schemas import shaped


def compare_part(
    outputs: list[str], part: tuple[str, ...], settings: dict[str, Any], footer: dict[str, Any]
) -> list[str]:
    """Compare the posteriors of a catalogue part with the classical fit and with published values.

    Parameters
    ----------
    outputs : list of str
        Final name of the one table.
    part : tuple of str
        Files of catalogue, posterior, classical fit and draws; the last two need not be there.
    settings : dict
        ``model`` (folder) and ``weights`` (checksum).
    footer : dict
        Provenance.

    Returns
    -------
    list of str
        What a person should know: a fit that is of other clusters.
    """
    model, _ = cached_model(settings["model"], settings["weights"])
    catalogue, posterior = read_table(part[0]), read_table(part[1])
    fit, draws = (read_table(path) if Path(path).is_file() else None for path in part[2:])
    same = fit is None or fit["object_id"].equals(posterior["object_id"])
    objects = objects_table(model, catalogue, posterior, fit if same else None, draws)
    write_table(Path(outputs[0]), shaped(OBJECTS, objects, _parameters(posterior.column_names)), footer)
    return [] if same else [f"{part[2]} is a fit of other clusters, and was left out; run `batchflow fit`"]


def compare_catalogue(
    outputs: list[str], parts: list[tuple[str, ...]], mocks: str, footer: dict[str, Any]
) -> list[str]:
    """Sum up the objects of all parts, the predictive checks, and clusters seen in two surveys.

    Parameters
    ----------
    outputs : list of str
        Final names of the tables, those of `CATALOGUE_TABLES` in order.
    parts : list of tuple of str
        Files of posterior, objects, classical fit and draws of each part; the last two need not be there.
    mocks : str
        The table of held-out mocks, which need not be there.
    footer : dict
        Provenance.

    Returns
    -------
    list of str
        What a person should know: what is not there and so was left out.
    """
    posterior = open_dataset([part[0] for part in parts])
    names = posterior.schema.names
    whole = open_dataset([part[1] for part in parts])
    objects = whole.to_table(columns=methods_columns(whole.schema.names))
    pairs = overlap_table(posterior.to_table(columns=columns_needed(names)))
    tables = {
        "methods": methods_table(objects),
        "reasons": reasons_table(objects),
        "predictive": predictive_table(posterior.to_table(columns=list(COLUMNS)), _mocks(mocks)),
        "overlap": pairs,
        "overlap_summary": overlap_summary(pairs),
        "comparison": compare_published(posterior.to_table(columns=published_columns())),
    }
    for name, output in zip(CATALOGUE_TABLES, outputs, strict=True):
        write_table(Path(output), shaped(name, tables[name], _parameters(names)), footer)
    return _notes(objects, parts)


def _notes(objects: pa.Table, parts: list[tuple[str, ...]]) -> list[str]:
    """What is not there."""
    notes = []
    for place, what in (
        (2, "the classical fit is not there (run `batchflow fit`): its"),
        (3, "the draws are gone: their"),
    ):
        there = [Path(part[place]).is_file() for part in parts]
        if not all(there):
            of = f"{there.count(False)} of {len(there)} parts of " if any(there) else ""
            notes.append(f"{of}{what} columns are empty")
    if not objects.num_rows:
        notes.append("no published values in the catalogue: nothing to compare posteriors with")
    return notes


def _parameters(names: list[str]) -> list[str]:
    return [name for name in PARAMETER_UNITS if f"{name}_q50" in names]


def _mocks(path: str) -> Mapping[str, Any]:
    names = ("ppc_pvalue", "ood_pvalue")
    if not Path(path).is_file():
        return {name: np.zeros(0) for name in names}
    table = read_table(path, list(names))
    return {name: table[name].to_numpy() for name in names}
