"""A table as a VOTable, a piece at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from batchflow.results.source import NAME, Source
from batchflow.results.write_csv import list_texts, number_texts
from batchflow.votable import document

_NUMBERS = ("NaN", "+Inf", "-Inf", "NaN")
_CONTROL = "[\x01-\x08\x0b\x0c\x0e-\x1f]"
"""Characters that XML has no way to write."""


def write_votable(path: Path, source: Source) -> None:
    """Write VOTable 1.3 with the rows as TABLEDATA.

    Parameters
    ----------
    path : Path
        The file.
    source : Source
        What to write.
    """
    info = {NAME: json.dumps(source.provenance)}
    # A width of one is deprecated (VOTable 1.3, erratum 3), and text rows need none.
    widths = {name: width for name, width in source.facts.characters.items() if width > 1}
    head, tail = document(source.schema, widths, info)
    with path.open("wb") as out:
        out.write(f"{head}<DATA><TABLEDATA>\n".encode())
        for batch in source.batches():
            cells = [_texts(column) for column in batch.columns]
            separated = [part for cell in cells for part in (cell, "</TD><TD>")][:-1]
            rows = pc.binary_join_element_wise("<TR><TD>", *separated, "</TD></TR>", "")
            out.write(("\n".join(rows.to_pylist()) + "\n").encode())
        out.write(f"</TABLEDATA></DATA>\n{tail}".encode())


def _texts(column: pa.Array) -> pa.Array:
    """Text of each cell; empty for none, which VOTable 1.3 takes for null."""
    if pa.types.is_list(column.type):
        found = pc.binary_join(list_texts(column, _NUMBERS), " ")
    elif pa.types.is_string(column.type):
        found = _escaped(column)
    else:
        found = number_texts(column, _NUMBERS)
    return pc.fill_null(found, "")


def _escaped(column: pa.Array) -> pa.Array:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        column = pc.replace_substring(column, character, entity)
    return pc.replace_substring_regex(column, _CONTROL, "?")
