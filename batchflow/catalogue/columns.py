"""A file of named columns, read piece by piece: what every reader of a catalogue works on."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from batchflow.errors import UserError, nearest

logger = logging.getLogger(__name__)

PIECE_ROWS = 250_000
"""Rows of a piece at most."""
PIECE_CELLS = 8_000_000
"""Rows times columns of a piece at most: a wide table comes in shorter pieces."""


@dataclass(frozen=True)
class ColumnFile:
    """A piece of a file: consecutive rows as named columns."""

    path: Path
    """The file."""
    names: tuple[str, ...]
    """Its columns, in its order."""
    n_rows: int
    """Rows of this piece."""
    units: Mapping[str, str]
    """Unit of the columns that have one, as the file writes it."""
    _column: Callable[[str], pa.ChunkedArray]
    start: int = 0
    """Rows of the file before this piece."""
    _line: Callable[[int], int] | None = None
    """Line of the file, from 1, that a row of this piece stands in, in formats that have lines."""

    def where(self, name: str) -> str:
        """Name file and column, for messages."""
        return f"{self.path}: column {name!r}"

    def row(self, index: int) -> str:
        """Name a row of this piece, for messages: its line where there are lines, else its number from 1."""
        if self._line is None:
            return f"row {self.start + index + 1}"
        return f"line {self._line(index)}"

    def column(self, name: str) -> pa.ChunkedArray:
        """One column as the file has it; masked values are null.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        pyarrow.ChunkedArray
            Shape (n_rows,).

        Raises
        ------
        UserError
            When the file has no such column, or it holds a list in each row.
        """
        if name not in self.names:
            raise UserError(f"{self.path} has no column {name!r}; {nearest(name, self.names)}")
        with reading(self.path, "a table"):
            found = self._column(name)
        if pa.types.is_dictionary(found.type):
            found = found.cast(found.type.value_type)
        if pa.types.is_nested(found.type):
            raise UserError(f"{self.where(name)} holds {found.type} in each row; expected one value")
        return found


@dataclass(frozen=True)
class TableFile:
    """A file opened as named columns; its rows come in pieces."""

    path: Path
    """The file."""
    kind: str
    """What it is: a key of `files.OPENERS`."""
    names: tuple[str, ...]
    """Its columns, in its order."""
    units: Mapping[str, str]
    """Unit of the columns that have one, as the file writes it."""
    n_rows: int | None
    """Its rows; None in formats that do not say."""
    _pieces: Callable[[int], Iterator[ColumnFile]]

    def pieces(self, rows: int = PIECE_ROWS) -> Iterator[ColumnFile]:
        """Read the file from its first row to its last.

        Parameters
        ----------
        rows : int
            Rows of a piece at most.

        Yields
        ------
        ColumnFile
            Consecutive rows, none empty. Its columns must be read before the next piece is asked for.

        Raises
        ------
        UserError
            When the file is broken further down, or has no rows.
        """
        most = max(1, min(rows, PIECE_CELLS // max(len(self.names), 1)))
        pieces, empty = self._pieces(most), True
        while True:
            with reading(self.path, self.kind):
                piece = next(pieces, None)
            if piece is None:
                break
            if piece.n_rows:
                empty = False
                yield piece
        if empty:
            raise UserError(f"catalogue {self.path} has a header of {len(self.names)} columns but no rows")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a parser says of a broken file into one message.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What it is read as.

    Raises
    ------
    UserError
        Naming the file.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except UserError:
        raise
    except EOFError as error:
        raise UserError(f"catalogue {path} is truncated: {_first_line(error)}; fetch it again") from error
    except Exception as error:
        if re.search("(?i)utf-?8", str(error)):
            raise UserError(
                f"catalogue {path} is not text in UTF-8: {_first_line(error)}; convert it (iconv -t UTF-8)"
            ) from error
        # Parsers meet hostile files with exceptions of every type, SyntaxError among them.
        raise UserError(f"catalogue {path} cannot be read as {kind}: {_first_line(error)}") from error
    for item in caught:
        _heed(path, str(item.message))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _heed(path: Path, message: str) -> None:
    if "truncated" in message:
        raise UserError(f"catalogue {path} is truncated: {message.splitlines()[0]}; fetch it again")
    logger.info("%s: %s", path, message)


def distinct(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Refuse two columns of one name.

    Parameters
    ----------
    path : Path
        The file, for the message.
    names : sequence of str
        Its columns.

    Returns
    -------
    tuple of str
        The same names.

    Raises
    ------
    UserError
        When a name occurs twice.
    """
    if len(set(names)) < len(names):
        twice = min(name for name in names if list(names).count(name) > 1)
        raise UserError(f"catalogue {path} has two columns called {twice!r}; rename one")
    return tuple(names)
