"""What an export takes from a run: some columns and rows of a table, read a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from batchflow.errors import UserError, nearest
from batchflow.votable import described, plain_field, string_widths, value_type

if TYPE_CHECKING:
    import pyarrow.dataset as ds

PIECE_VALUES = 1_000_000
"""Numbers in a piece, about: a cluster of the table `draws` has thousands of them."""
DRAWS_EACH = 2000
"""Numbers that a row with lists of draws is taken to have."""

NAME = "batchflow"
"""What the provenance is called in an exported file: an INFO, a key of the metadata."""
FITS_KEY = "BATCHFLO"
"""The same as a keyword of a FITS header: eight letters at most."""


@dataclass(frozen=True)
class Facts:
    """Size of what is written."""

    rows: int
    characters: dict[str, int]
    """Of the longest value of each column of strings; 1 at least."""
    octets: dict[str, int]
    """The same as `ascii_text` writes it."""


@dataclass(frozen=True)
class Source:
    """Rows and columns to write, and where they come from."""

    name: str
    """Of the table."""
    dataset: ds.Dataset
    columns: tuple[str, ...]
    galaxies: tuple[str, ...]
    """Only these; all where there are none."""
    provenance: dict[str, Any]

    @cached_property
    def schema(self) -> pa.Schema:
        """Described columns; no format but Parquet knows dictionaries, so they are what they stand for."""
        fields = [self.dataset.schema.field(name) for name in self.columns]
        return described(pa.schema([plain_field(field) for field in fields]))

    @cached_property
    def facts(self) -> Facts:
        """What a format must know before the first row is written: one pass over the strings."""
        rows, characters, octets = 0, dict.fromkeys(self._strings, 1), dict.fromkeys(self._strings, 1)
        for batch in self._scan(self._strings):
            rows += batch.num_rows
            for name, width in string_widths(batch).items():
                characters[name] = max(characters[name], width)
                octets[name] = max(octets[name], _octets(batch[name], width))
        return Facts(rows, characters, octets)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in order, a bounded piece at a time."""
        yield from self._scan(list(self.columns))

    @property
    def _strings(self) -> list[str]:
        flat = [item for item in self.schema if value_type(item.type) == item.type]
        return [item.name for item in flat if pa.types.is_string(item.type)]

    def _scan(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        wanted = pc.field("galaxy").isin(list(self.galaxies)) if self.galaxies else None
        lists = any(pa.types.is_list(self.dataset.schema.field(name).type) for name in columns)
        each = DRAWS_EACH if lists and self.name == "draws" else max(len(columns), 1)
        schema = pa.schema([self.schema.field(name) for name in columns])
        # A file at a time: a scanner of them all reads ahead, and its memory grows with their number.
        for fragment in self.dataset.get_fragments():
            scanner = fragment.scanner(
                schema=self.dataset.schema,
                columns=columns,
                filter=wanted,
                batch_size=max(1, PIECE_VALUES // each),
                batch_readahead=1,
            )
            for batch in scanner.to_batches():
                if batch.num_rows:
                    # A batch without columns would lose its number of rows.
                    yield batch.cast(schema) if columns else batch


def choose(dataset: ds.Dataset, columns: Sequence[str], galaxies: Sequence[str]) -> tuple[str, ...]:
    """Make sure that columns and galaxies are there.

    Parameters
    ----------
    dataset : pyarrow.dataset.Dataset
        The table.
    columns : sequence of str
        All where empty.
    galaxies : sequence of str
        May be empty.

    Returns
    -------
    tuple of str
        The columns.

    Raises
    ------
    UserError
        Naming the nearest.
    """
    known = dataset.schema.names
    for name in columns:
        if name not in known:
            raise UserError(f"the table has no column {name!r}; {nearest(name, known)}")
    if galaxies and "galaxy" not in known:
        raise UserError("this table has no column galaxy; leave --galaxy out")
    if galaxies:
        there = _galaxies(dataset)
        for galaxy in galaxies:
            if galaxy not in there:
                raise UserError(f"the run has no galaxy {galaxy!r}; {nearest(galaxy, sorted(there))}")
    return tuple(dict.fromkeys(columns or known))


def _galaxies(dataset: ds.Dataset) -> set[str]:
    batches = dataset.scanner(columns=["galaxy"]).to_batches()
    return {name for batch in batches for name in pc.unique(batch["galaxy"]).to_pylist()}


def ascii_text(text: str) -> bytes:
    """Text for a format that knows ASCII only: other characters as Python escapes them."""
    return text.encode("ascii", "backslashreplace")


def _octets(column: pa.Array, characters: int) -> int:
    texts = column.drop_null()
    if pc.all(pc.string_is_ascii(texts)).as_py() is not False:
        return characters
    return max(len(ascii_text(text)) for text in texts.to_pylist())
