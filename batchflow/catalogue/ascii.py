"""Text tables without commas: words between blanks or bars, fixed columns, IPAC, and the AAS's MRT (CDS).

Each is read a piece of lines at a time. What astropy calls basic, commented_header, fixed_width,
fixed_width_two_line, ipac, mrt and cds (its description in the file itself, or in a ReadMe beside it) is
told by its first lines.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from batchflow.catalogue.cds_readme import RULE, description_in, find_readme
from batchflow.catalogue.columns import ColumnFile, TableFile, distinct
from batchflow.catalogue.stored import Stored
from batchflow.errors import UserError

HEAD_LINES = 5000
"""Lines in which a header must end."""
LINES = 50_000
"""Lines of a piece at most: words of Python take more memory than a column of Arrow."""
_IPAC_TYPES = {"char", "c", "int", "i", "long", "l", "float", "f", "double", "d", "real", "r", "date"}
"""What may stand in the second line of an IPAC table."""
_BYTES = re.compile(r"^\s*(?:(\d+)\s*-\s*)?(\d+)\s+([AIFE]\d*(?:\.\d+)?)\s+(\S+)\s+(\S+)\s*(.*)$")
"""A line of a byte-by-byte description: first byte, last byte, format, unit, label, explanation."""

Split = Callable[[Sequence[tuple[int, str]]], list[list[str | None]]]
"""From numbered lines to the words of each column."""


@dataclass(frozen=True)
class Layout:
    """Where a text table keeps what."""

    names: tuple[str, ...]
    split: Split
    header_lines: int
    """Lines above the first row."""
    units: Mapping[str, str] = field(default_factory=dict)
    comments: tuple[str, ...] = ("#",)
    """What lines start with that are no rows."""


def open_ascii(stored: Stored, _hdu: int | None = None) -> TableFile:
    """Open a text table without commas.

    Parameters
    ----------
    stored : Stored
        The file, UTF-8.

    Returns
    -------
    TableFile
        Columns of words.

    Raises
    ------
    UserError
        When its header cannot be made out.
    """
    with _text(stored) as file:
        head = [line.rstrip("\r\n") for line in islice(file, HEAD_LINES)]
    readme = find_readme(stored.path)
    layout = _from_readme(stored.path, readme) if readme else _layout(stored.path, head)
    distinct(stored.path, layout.names)
    return TableFile(
        stored.path, "ASCII", layout.names, layout.units, None, lambda rows: _pieces(stored, layout, rows)
    )


def _text(stored: Stored) -> TextIO:
    return io.TextIOWrapper(stored.stream(), encoding="utf-8-sig")


def _layout(path: Path, head: Sequence[str]) -> Layout:
    if any("byte-by-byte description" in line.lower() for line in head):
        return _described(path, head)
    rows = [(number, line) for number, line in enumerate(head) if line.strip()]
    plain = [(number, line) for number, line in rows if not line.startswith(("#", "\\"))]
    if not plain:
        raise UserError(f"catalogue {path} has no header: expected a line of column names")
    bars = [line for _, line in plain[:6] if line.startswith("|")]
    if len(bars) > 1 and _IPAC_TYPES.issuperset(bars[1].lower().replace("|", " ").split()):
        return _ipac(plain, len(bars))
    if len(plain) > 1 and re.fullmatch(r"[-=\s|+]+", plain[1][1]) and re.search("[-=]{2}", plain[1][1]):
        return _ruled(plain)
    if bars:
        return _barred(path, plain[0])
    return _words(path, rows, plain[0])


def _described(path: Path, head: Sequence[str]) -> Layout:
    """A machine-readable table of the AAS, or one of CDS with its description on top."""
    begin = next(i for i, line in enumerate(head) if "byte-by-byte description" in line.lower())
    rules = [i for i, line in enumerate(head) if line.startswith(RULE)]
    fields = [match for line in head[begin : rules[-1]] if (match := _BYTES.match(line))] if rules else []
    if not fields:
        raise UserError(f"catalogue {path}: its byte-by-byte description names no column; fetch it again")
    return _of_fields(fields, rules[-1] + 1)


def _from_readme(path: Path, readme: Path) -> Layout:
    """A table of CDS without a header of its own."""
    fields = [match for line in description_in(readme, path) if (match := _BYTES.match(line))]
    if not fields:
        raise UserError(f"catalogue {path}: the description in {readme} names no column; fetch both again")
    return _of_fields(fields, 0)


def _of_fields(fields: Sequence[re.Match[str]], header_lines: int) -> Layout:
    names = tuple(match[5] for match in fields)
    edges = [(int(match[1] or match[2]) - 1, int(match[2])) for match in fields]
    nulls = [found[1] if (found := re.match(r"[^?]{0,20}\?=(\S+)", match[6])) else None for match in fields]
    units = {match[5]: match[4] for match in fields if not re.fullmatch(r"-+", match[4])}
    return Layout(names, _by_place(edges, nulls), header_lines, units, comments=())


def _ipac(plain: Sequence[tuple[int, str]], n_bars: int) -> Layout:
    lines = [line for _, line in plain[:n_bars]]
    bars = [i for i, letter in enumerate(lines[0]) if letter == "|"]
    edges = list(pairwise(bars))
    cells = [[line[low + 1 : high].strip() for low, high in edges] for line in lines]
    units = dict(zip(cells[0], cells[2], strict=True)) if n_bars > 2 else {}
    nulls: list[str | None] = list(cells[3]) if n_bars > 3 else [None] * len(edges)
    nulls = [null or "null" for null in nulls]
    return Layout(tuple(cells[0]), _by_place(edges, nulls), plain[n_bars - 1][0] + 1, units, ("\\", "|"))


def _ruled(plain: Sequence[tuple[int, str]]) -> Layout:
    """Names above a line of dashes that shows where the columns are."""
    (_, header), (number, rule) = plain[:2]
    edges = [match.span() for match in re.finditer(r"[-=]+", rule)]
    names = tuple(header[low:high].strip() for low, high in edges)
    return Layout(names, _by_place(edges, [None] * len(edges)), number + 1)


def _barred(path: Path, first: tuple[int, str]) -> Layout:
    number, header = first
    names = tuple(word.strip() for word in header.strip().strip("|").split("|"))

    def split(line: str) -> list[str]:
        return [word.strip() for word in line.strip().removeprefix("|").removesuffix("|").split("|")]

    return Layout(names, _by_words(path, len(names), split), number + 1)


def _words(path: Path, rows: Sequence[tuple[int, str]], first: tuple[int, str]) -> Layout:
    number, line = first
    names, above = _split_words(line), number + 1
    comments = [text for place, text in rows if place < number]
    commented = _split_words(comments[-1].lstrip("# ")) if comments else []
    if any(map(_is_number, names)):
        if len(commented) != len(names) or any(map(_is_number, commented)):
            raise UserError(
                f"catalogue {path} has no header: its first line is {line.strip()[:60]!r}; put a line of "
                "column names above it, or the ReadMe of a table of CDS into its folder"
            )
        names, above = commented, number
    return Layout(tuple(names), _by_words(path, len(names), _split_words), above)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _split_words(line: str) -> list[str]:
    if '"' not in line:
        return line.split()
    return next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True))


def _by_place(edges: Sequence[tuple[int, int]], nulls: Sequence[str | None]) -> Split:
    def split(lines: Sequence[tuple[int, str]]) -> list[list[str | None]]:
        return [
            [None if (word := line[low:high].strip()) == null else word for _, line in lines]
            for (low, high), null in zip(edges, nulls, strict=True)
        ]

    return split


def _by_words(path: Path, n_columns: int, split_line: Callable[[str], list[str]]) -> Split:
    def split(lines: Sequence[tuple[int, str]]) -> list[list[str | None]]:
        rows = [split_line(line) for _, line in lines]
        for (number, _), row in zip(lines, rows, strict=True):
            if len(row) != n_columns:
                raise UserError(
                    f"{path}, line {number + 1}: {len(row)} words; expected {n_columns}, as in the header"
                )
        return [list(column) for column in zip(*rows, strict=True)]

    return split


def _pieces(stored: Stored, layout: Layout, rows: int) -> Iterator[ColumnFile]:
    with _text(stored) as file:
        lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(file))
        wanted = (
            (number, line)
            for number, line in lines
            if number >= layout.header_lines and line.strip() and not line.startswith(layout.comments)
        )
        start = 0
        while piece := list(islice(wanted, min(rows, LINES))):
            yield _piece(stored.path, layout, piece, start)
            start += len(piece)


def _piece(path: Path, layout: Layout, lines: Sequence[tuple[int, str]], start: int) -> ColumnFile:
    columns = dict(zip(layout.names, layout.split(lines), strict=True))
    return ColumnFile(
        path,
        layout.names,
        len(lines),
        layout.units,
        lambda name: pa.chunked_array([pa.array(columns[name], pa.string())]),
        start=start,
        _line=lambda index: lines[index][0] + 1,
    )
