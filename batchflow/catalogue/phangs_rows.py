"""Which target and cluster each row of a PHANGS-HST table belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.phangs_columns import IDS, find
from batchflow.catalogue.phangs_targets import Target, known_targets, plain, target_in
from batchflow.catalogue.values import words
from batchflow.errors import UserError, nearest
from batchflow.settings.catalogue import CatalogueSettings


@dataclass(frozen=True)
class Rows:
    """Targets and ids of the rows of a table."""

    targets: tuple[Target, ...]
    """The distinct ones."""
    codes: NDArray[np.intp]
    """Index of each row's target, shape (n_rows,)."""
    keys: Sequence[str]
    """Target and id of each row, as ``ngc628c-12``."""
    id_names: tuple[str, ...]
    """Names of the id's column in one release or another."""

    @property
    def galaxies(self) -> list[str]:
        """Galaxy of each row."""
        return [self.targets[code].galaxy for code in self.codes]


def rows_of(file: ColumnFile, entry: CatalogueSettings, id_names: tuple[str, ...] | None = None) -> Rows:
    """Find targets and ids.

    Parameters
    ----------
    file : ColumnFile
        A table of photometry or of published values.
    entry : CatalogueSettings
        Its `galaxy` stands for a target that neither name nor column of the file tells.
    id_names : tuple of str, optional
        Names of the id to take, as the other table of a pair has it; default the best there is.

    Returns
    -------
    Rows
        Of every row.

    Raises
    ------
    UserError
        When a row's galaxy is none of the survey, or the table has no such id.
    """
    targets, codes = _targets(file, entry)
    names = id_names or next((names for names in IDS if find(file, *names)), None)
    column = find(file, *names) if names else None
    if column is None or names is None:
        wanted = " or ".join(names or [name for group in IDS for name in group])
        raise UserError(
            f'{file.path} has no column {wanted}; is it a PHANGS-HST catalogue, or format = "table"?'
        )
    keys = [f"{targets[code].name}-{text}" for code, text in zip(codes, words(file, column), strict=True)]
    return Rows(targets, codes, keys, names)


def _targets(file: ColumnFile, entry: CatalogueSettings) -> tuple[tuple[Target, ...], NDArray[np.intp]]:
    """Distinct targets, and the index of each row's."""
    of_file = target_in(file.path.name)
    column = find(file, "PHANGS_GALAXY")
    if column is None:
        return (of_file or _named(entry.galaxy, file),), np.zeros(file.n_rows, dtype=np.intp)
    names, codes = np.unique(np.array(words(file, column), dtype=str), return_inverse=True)
    return tuple(_of_row(str(name), of_file, entry, file) for name in names), codes


def _of_row(name: str, of_file: Target | None, entry: CatalogueSettings, file: ColumnFile) -> Target:
    """Target of a row that names a galaxy: the file's own field of it, where the file has one target."""
    if not name:
        return of_file or _named(entry.galaxy, file)
    found = _named(name, file)
    return of_file if of_file is not None and found.galaxy == of_file.galaxy else found


def _named(name: str | None, file: ColumnFile) -> Target:
    if name is None:
        raise UserError(
            f"{file.path}: neither its name nor a column PHANGS_GALAXY tells the galaxy; add "
            'galaxy = "ngc1566" (or whichever it is) to its [[catalogue]]'
        )
    found = known_targets().get(plain(name))
    if found is None:
        raise UserError(
            f"{file.path}: galaxy {name!r} is none of the 38 of PHANGS-HST; "
            f'{nearest(plain(name), known_targets())} Else read it with format = "table"'
        )
    return found
