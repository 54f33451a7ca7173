"""Files of published ages and masses of PHANGS-HST, apart from the photometry and joined on the id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.files import find_files
from batchflow.catalogue.opening import open_columns
from batchflow.catalogue.phangs_columns import published
from batchflow.catalogue.phangs_rows import rows_of
from batchflow.errors import UserError
from batchflow.paths import file_state
from batchflow.schema import PUBLISHED
from batchflow.settings.catalogue import CatalogueSettings

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SedTable:
    """Published values by cluster."""

    places: Mapping[str, int]
    """Row of `values` of each key, as ``ngc628c-12``."""
    values: Floats
    """In the order of `PUBLISHED`, shape (n_clusters, 3); NaN none."""

    def match(self, keys: Sequence[str]) -> tuple[dict[str, Floats], int]:
        """Find clusters.

        Parameters
        ----------
        keys : sequence of str
            Targets and ids.

        Returns
        -------
        dict of str to ndarray
            Published values of each; NaN where the files have no such cluster.
        int
            Keys that they do not have.
        """
        places = np.array([self.places.get(key, -1) for key in keys], dtype=np.intp)
        found = np.where((places >= 0)[:, None], self.values[places], np.nan)
        return dict(zip(PUBLISHED, found.T, strict=True)), int((places < 0).sum())

    def unseen(self, seen: set[str]) -> list[str]:
        """Keys of the targets of `seen` that are not in it."""
        targets = {key.partition("-")[0] for key in seen}
        return [key for key in self.places if key not in seen and key.partition("-")[0] in targets]


def open_sed(entry: CatalogueSettings, id_names: tuple[str, ...]) -> SedTable | None:
    """Read the files of `sed_path`; once in a process, as long as they do not change.

    Parameters
    ----------
    entry : CatalogueSettings
        Its `sed_path`: a file, a pattern, or a list of them.
    id_names : tuple of str
        Names of the id in the photometry.

    Returns
    -------
    SedTable or None
        None when the entry has no `sed_path`.

    Raises
    ------
    UserError
        When there is no such file, one lacks the id or any published value, or two rows of a cluster differ.
    """
    if entry.sed_path is None:
        return None
    files = tuple((path, file_state(path)) for path in find_files(entry.sed_paths))
    return _read(entry.galaxy, id_names, files)


@lru_cache(maxsize=4)
def _read(
    galaxy: str | None, id_names: tuple[str, ...], files: tuple[tuple[Path, tuple[int, ...]], ...]
) -> SedTable:
    entry = CatalogueSettings.model_validate({"path": ".", "galaxy": galaxy})
    places: dict[str, int] = {}
    blocks: list[Floats] = []
    for path, _ in files:
        keys, values = _read_file(path, entry, id_names)
        _place(path, keys, values, places, blocks)
    return SedTable(places, np.concatenate(blocks))


def _read_file(
    path: Path, entry: CatalogueSettings, id_names: tuple[str, ...]
) -> tuple[Sequence[str], Floats]:
    keys: list[str] = []
    blocks = []
    for file in open_columns(path).pieces():
        keys += rows_of(file, entry, id_names).keys
        blocks.append(_values(file))
    return keys, np.concatenate(blocks)


def _values(file: ColumnFile) -> Floats:
    """Published values, shape (n_rows, 3)."""
    columns = published(file)
    if not columns:
        raise UserError(
            f"sed_path: {file.path} has no column of ages, such as PHANGS_SED_AGE or PHANGS_AGE_MINCHISQ; "
            "is it a file of photometry?"
        )
    none = np.full(file.n_rows, np.nan)
    return np.stack([columns.get(name, none) for name in PUBLISHED], axis=1)


def _place(
    path: Path, keys: Sequence[str], values: Floats, places: dict[str, int], blocks: list[Floats]
) -> None:
    """Append a file's rows; a cluster that is there already must have the same values."""
    start = sum(map(len, blocks))
    blocks.append(values)
    whole = np.concatenate(blocks)
    for index, key in enumerate(keys):
        place = places.setdefault(key, start + index)
        if place == start + index:
            continue
        known = whole[place]
        if not np.array_equal(known, values[index], equal_nan=True):
            target, _, name = key.partition("-")
            raise UserError(
                f"sed_path: {path} gives cluster {name} of {target} other values than a row before it "
                f"({values[index].tolist()} and {known.tolist()}); give one file for each cluster"
            )
