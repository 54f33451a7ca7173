"""Posterior draws as a run has stored them, and the prior that they were made under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from batchflow.errors import UserError
from batchflow.paths import RunFolder
from batchflow.settings.prior import PriorSettings
from batchflow.shards import read_footer

Floats = NDArray[np.float64]
NO_VALUES = ("galaxy", "object_id", "log_weight")


@dataclass(frozen=True)
class StoredDraws:
    """Draws of some clusters; arrays of shape (n_clusters, n_draws)."""

    values: dict[str, Floats]
    """By parameter; NaN where a cluster has none, repeated without weight where it has fewer than others."""
    log_weights: Floats
    """Natural logarithm of weights that sum to one; NaN where a cluster has no draws."""
    lengths: NDArray[np.int64]
    """Draws of each cluster, (n_clusters,)."""
    nuisances: dict[str, Floats] = field(default_factory=dict)
    """Parameters that were averaged over are not stored."""

    @property
    def weights(self) -> Floats:
        """Weights that sum to one, (n_clusters, n_draws)."""
        return np.exp(self.log_weights)


def draws_files(folder: str | Path) -> list[Path]:
    """Draws files of a run, in order.

    Raises
    ------
    UserError
        When there are none.
    """
    found = sorted(RunFolder(Path(folder).resolve()).draws.glob("galaxy=*/part-*.parquet"))
    if not found:
        raise UserError(f"{folder} holds no draws; expected a run folder in which `batchflow infer` has run")
    return found


def read_draws(table: pa.Table) -> StoredDraws:
    """Draws of a table as arrays.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `schema.draws_schema`.

    Returns
    -------
    StoredDraws
        Rows in the table's order.
    """
    table = table.combine_chunks()
    lengths = np.diff(_offsets(table["log_weight"])).astype(np.int64)
    wide = int(lengths.max(initial=1))
    place = np.minimum(np.arange(wide), np.maximum(lengths - 1, 0)[:, None])
    padded = np.arange(wide) >= lengths[:, None]
    names = [name for name in table.column_names if name not in NO_VALUES]
    values = {name: _spread(table[name], place, lengths) for name in names}
    log_weights = _spread(table["log_weight"], place, lengths)
    log_weights[padded & (lengths > 0)[:, None]] = -np.inf
    return StoredDraws(values, log_weights, lengths)


def stored_settings(path: Path) -> dict[str, Any]:
    """Settings in a file's footer, flat.

    Raises
    ------
    UserError
        When the file is not whole.
    """
    found = read_footer(path)
    if found is None:
        raise UserError(f"{path} is not a whole file of batchflow; run `batchflow infer` again")
    return dict(found[0].get("settings", {}))


def stored_prior(settings: Mapping[str, Any], path: Path) -> PriorSettings:
    """The prior that draws were made under.

    Parameters
    ----------
    settings : mapping
        From `stored_settings`.
    path : Path
        The file, for messages.

    Returns
    -------
    PriorSettings
        As in the job.

    Raises
    ------
    UserError
        When the footer does not tell.
    """
    nested: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, _, rest = name.partition(".")
        parameter, _, key = rest.partition(".")
        if section == "prior" and key:
            nested.setdefault(parameter, {})[key] = value
    try:
        if not nested:
            raise ValueError("nothing under prior")
        return PriorSettings.model_validate(nested)
    except (ValidationError, ValueError) as error:
        raise UserError(f"{path}: its footer does not say under which prior it was made: {error}") from None


def _offsets(column: pa.ChunkedArray) -> NDArray[np.int64]:
    array = _array(column)
    return np.asarray(array.offsets.to_numpy())


def _array(column: pa.ChunkedArray) -> Any:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _spread(column: pa.ChunkedArray, place: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
    """Lists of unlike lengths as a matrix, the last value repeated; NaN where a list is empty."""
    starts = _offsets(column)[:-1]
    flat = np.append(np.asarray(_array(column).values.to_numpy(), dtype=np.float64), np.nan)
    index = np.where((lengths > 0)[:, None], starts[:, None] + place, len(flat) - 1)
    return flat[index]
