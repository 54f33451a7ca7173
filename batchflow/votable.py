"""Columns of an Arrow schema as the FIELDs of a VOTable, in a document of their own or inside a Parquet file.

The convention for Parquet is VOParquet 1.0 (IVOA Note, 16 January 2025): a VOTable without data in the
footer, a FIELD for each column in order. TOPCAT and astropy (``parquet.votable``) read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa

from batchflow.columns import describe

CONTENT_KEY, VERSION_KEY = b"IVOA.VOTable-Parquet.content", b"IVOA.VOTable-Parquet.version"
ASTROPY_KEY = b"table_meta_yaml"
"""Where astropy's own Parquet reader looks for units and descriptions; JSON is YAML."""
NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
DATATYPES = {
    **{pa.bool_(): "boolean", pa.uint8(): "unsignedByte", pa.int8(): "short", pa.int16(): "short"},
    **{pa.uint16(): "int", pa.int32(): "int", pa.uint32(): "long", pa.int64(): "long", pa.uint64(): "long"},
    **{pa.float16(): "float", pa.float32(): "float", pa.float64(): "double"},
}


def described(schema: pa.Schema) -> pa.Schema:
    """Put unit, UCD and description into the metadata of fields that have no description.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of any table; metadata that is there stays.

    Returns
    -------
    pyarrow.Schema
        The same names and types.
    """
    return pa.schema([_described(item) for item in schema], metadata=schema.metadata)


def _described(item: pa.Field) -> pa.Field:
    own = item.metadata or {}
    known = {key.encode(): value.encode() for key, value in vars(describe(item.name)).items() if value}
    # Who describes a column and gives it no unit means that it has none.
    return item if b"description" in own or not known else item.with_metadata({**known, **own})


def text_of(item: pa.Field, key: str) -> str:
    """A field's unit, UCD or description; empty when it has none."""
    return str((item.metadata or {}).get(key.encode(), b"").decode())


def value_type(type_: pa.DataType) -> pa.DataType:
    """Type of a column's values: of the elements of lists, and of what a dictionary stands for."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return value_type(type_.value_type)
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def plain_field(item: pa.Field) -> pa.Field:
    """A field with the type that its dictionary, if it is one, stands for."""
    return item.with_type(value_type(item.type)) if pa.types.is_dictionary(item.type) else item


def string_widths(table: pa.Table | pa.RecordBatch) -> dict[str, int]:
    """Characters of the longest value of each column of strings; 1 at least.

    Parameters
    ----------
    table : pyarrow.Table or pyarrow.RecordBatch
        Any.

    Returns
    -------
    dict of str to int
        By column.
    """
    import pyarrow.compute as pc  # `status` needs this module, and not the time that this takes

    names = [item.name for item in table.schema if pa.types.is_string(value_type(item.type))]
    flat = [name for name in names if not pa.types.is_list(table.schema.field(name).type)]
    longest = {name: pc.max(pc.utf8_length(_plain(table[name]))).as_py() for name in flat}
    return {name: max(1, found or 0) for name, found in longest.items()}


def _plain(column: Any) -> Any:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def votable_unit(unit: str) -> str:
    """A unit in the notation of VOTable 1.3 (that of the CDS): logarithms stand in square brackets.

    Parameters
    ----------
    unit : str
        As `columns.Column.unit`.

    Returns
    -------
    str
        ``dex(yr)`` is ``[yr]``.
    """
    return re.sub(r"^dex\((.*)\)$", r"[\1]", unit)


def field_xml(item: pa.Field, width: int | None = None) -> str:
    """The FIELD element of a column.

    Parameters
    ----------
    item : pyarrow.Field
        With the metadata of `described`.
    width : int, optional
        Characters of a column of strings; variable when not given.

    Returns
    -------
    str
        XML.
    """
    attributes = {"name": item.name, "datatype": DATATYPES.get(value_type(item.type), "unicodeChar")}
    if attributes["datatype"] == "unicodeChar":
        attributes["arraysize"] = str(width or "*")
    elif value_type(item.type) != item.type:
        attributes["arraysize"] = "*"
    attributes |= {"unit": votable_unit(text_of(item, "unit")), "ucd": text_of(item, "ucd")}
    written = " ".join(f"{key}={quoteattr(value)}" for key, value in attributes.items() if value)
    text = text_of(item, "description")
    return (
        f"<FIELD {written}><DESCRIPTION>{escape(text)}</DESCRIPTION></FIELD>"
        if text
        else f"<FIELD {written}/>"
    )


def document(schema: pa.Schema, widths: Mapping[str, int], info: Mapping[str, str]) -> tuple[str, str]:
    """A VOTable of one table, as what stands before its data and what stands after.

    Parameters
    ----------
    schema : pyarrow.Schema
        With the metadata of `described`.
    widths : mapping of str to int
        Characters of columns of strings.
    info : mapping of str to str
        INFO elements by name.

    Returns
    -------
    tuple of (str, str)
        XML; without data, the two together are a document.
    """
    infos = "".join(f"<INFO name={quoteattr(name)} value={quoteattr(text)}/>" for name, text in info.items())
    fields = "\n".join(field_xml(item, widths.get(item.name)) for item in schema)
    head = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.3" xmlns="{NAMESPACE}">'
        f'\n<RESOURCE type="results">{infos}\n<TABLE>\n{fields}\n'
    )
    return head, "</TABLE>\n</RESOURCE>\n</VOTABLE>\n"


def parquet_metadata(schema: pa.Schema, widths: Mapping[str, int]) -> dict[bytes, bytes]:
    """What tells other programs of a Parquet file's columns.

    Parameters
    ----------
    schema : pyarrow.Schema
        With the metadata of `described`.
    widths : mapping of str to int
        Characters of columns of strings.

    Returns
    -------
    dict of bytes to bytes
        For the schema's metadata: the VOTable, and what astropy's own reader looks for.
    """
    lengths = {f"table::len::{name}".encode(): str(width).encode() for name, width in widths.items()}
    listed = [
        {"name": item.name, "datatype": "string"}
        | {key: found for key in ("unit", "description") if (found := text_of(item, key))}
        for item in schema
    ]
    return lengths | {
        VERSION_KEY: b"1.0",
        CONTENT_KEY: "".join(document(schema, widths, {})).encode(),
        ASTROPY_KEY: json.dumps({"datatype": listed}).encode(),
    }
