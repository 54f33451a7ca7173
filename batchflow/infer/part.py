"""The posteriors of one catalogue part: the task of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchflow.infer.clusters import from_catalogue
from batchflow.infer.draw import Options, Rescue, draw_posteriors
from batchflow.infer.posterior import cached_model
from batchflow.infer.table import draws_table
from batchflow.shards import read_table, write_table


def infer_part(
    catalogue: str, outputs: tuple[str, str], settings: dict[str, Any], footer: dict[str, Any]
) -> int:
    """Infer every cluster of a catalogue part and write posterior and draws.

    Parameters
    ----------
    catalogue : str
        The part, columns of `schema.catalogue_schema`.
    outputs : tuple of str
        Final names of the posterior and of the draws.
    settings : dict
        ``model`` (folder), ``weights`` (checksum), ``draws``, ``certify``, ``seed``, ``min_efficiency``,
        ``max_draws``, ``grid``.
    footer : dict
        Provenance.

    Returns
    -------
    int
        Number of rows.
    """
    table = read_table(catalogue)
    model, proposal = cached_model(settings["model"], settings["weights"])
    clusters = from_catalogue(table, model.bands)
    way = Rescue(settings["min_efficiency"], settings["max_draws"], settings["grid"])
    options = Options(settings["draws"], settings["certify"], settings["seed"], way)
    draws = draw_posteriors(proposal, clusters, options)
    summary = model.summarise(table, clusters, draws, settings["min_efficiency"], settings["certify"])
    # The draws first: a posterior that is there always has its draws.
    write_table(Path(outputs[1]), draws_table(table, draws), footer)
    write_table(Path(outputs[0]), summary, footer)
    return table.num_rows
