"""What a section of the report is made of, before it is a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTHING = "\N{EN DASH}"
"""In place of a value that is not there."""
EVEN_FROM, EVEN_BELOW = 0.005, 100.0
"""Columns of numbers about this large are shown to three decimals: shares, differences, deviations."""
MOST_ROWS = 60
"""Rows of a table in the page at most."""


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Absence:
    """One line that says what a run lacks, and why."""

    text: str


@dataclass(frozen=True)
class Markdown:
    """Text in Markdown, folded away under its title; raw HTML, links and images in it stay text."""

    title: str
    text: str


@dataclass(frozen=True)
class Picture:
    """A figure."""

    name: str
    """Of the file, without suffix; never made of a catalogue's words."""
    figure: Figure
    alt: str
    """What it shows, for who does not see it."""
    caption: str
    """What it shows and what to look for."""


@dataclass(frozen=True)
class Row:
    """Pictures side by side where the page is wide enough, under one heading."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Listing:
    """A table."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    left_out: int = 0
    """Rows that are not shown."""

    @cached_property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The rows as a person reads them: numbers of a column that are of one kind have as many decimals."""
        if not self.rows:
            return ()
        named = zip(self.head, zip(*self.rows, strict=True), strict=True)
        return tuple(zip(*(_column_texts(name, column) for name, column in named), strict=True))


Block = Paragraph | Absence | Markdown | Picture | Row | Listing


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)

    @property
    def pictures(self) -> list[Picture]:
        """All its pictures, in order."""
        found: list[Picture] = []
        for block in self.blocks:
            if isinstance(block, Picture):
                found.append(block)
            elif isinstance(block, Row):
                found += block.pictures
        return found


def listing(table: pa.Table, caption: str, most: int = MOST_ROWS) -> Listing:
    """A table of the page from an Arrow table.

    Parameters
    ----------
    table : pyarrow.Table
        Flat columns.
    caption : str
        What it says.
    most : int
        Rows shown at most.

    Returns
    -------
    Listing
        The first rows.
    """
    head = tuple(name.replace("_", " ") for name in table.column_names)
    rows = tuple(tuple(row.values()) for row in table.slice(0, most).to_pylist())
    return Listing(caption, head, rows, max(0, table.num_rows - most))


def pairs(values: Mapping[str, object], caption: str) -> Listing:
    """A table of names and values."""
    return Listing(caption, ("", ""), tuple(values.items()))


def shown(value: object) -> str:
    """A value as a person reads it.

    Parameters
    ----------
    value : object
        Of a table's cell.

    Returns
    -------
    str
        Three to four significant digits; a dash where there is no value.
    """
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _decimal(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def _column_texts(name: str, column: Sequence[object]) -> list[str]:
    numbers = [value if isinstance(value, float) and not isnan(value) else None for value in column]
    sizes = sorted(abs(value) for value in numbers if value)
    alike = bool(sizes) and sizes[-1] < EVEN_BELOW and sizes[len(sizes) // 2] >= EVEN_FROM
    # What counts of a p-value is how small it is.
    if not alike or set(name.split()) & {"p", "pvalue", "corrected", "efficiency"}:
        return [shown(value) for value in column]
    # Adding zero makes 0.0 of -0.0.
    return [
        shown(value) if number is None else f"{round(number, 3) + 0.0:.3f}"
        for value, number in zip(column, numbers, strict=True)
    ]


def _decimal(value: float) -> str:
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}" if abs(value) < 1e-4 else f"{value:.1g}"
    return f"{value:.3g}"
