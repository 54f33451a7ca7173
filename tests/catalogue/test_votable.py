"""VOTable as a stream: the values that astropy's own reader gives, however they are written."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import logging
import struct
import tracemalloc

import numpy as np
import pytest
from astropy.io import votable
from astropy.io.votable import from_table
from astropy.table import MaskedColumn, Table

from batchflow.catalogue.columns import ColumnFile
from batchflow.catalogue.opening import open_columns
from batchflow.catalogue.values import numbers, truths, words
from batchflow.errors import UserError

N_ROWS = 17
KINDS = ("tabledata", "binary", "binary2")
RANDOM = np.random.default_rng(5)
NUMBERS = ("u1", "i2", "i4", "i8", "f4", "f8")
WORDS = ("ascii", "wide", "ragged", "ragged_wide")


def make_table():
    """A column of every datatype that astropy writes, and a masked one of each."""
    found = Table()
    for code in NUMBERS:
        values = (RANDOM.normal(60, 20, N_ROWS)).astype(code)
        found[code] = values
        found[f"masked_{code}"] = MaskedColumn(values, mask=np.arange(N_ROWS) % 3 == 1)
    found["f8"].unit = "mJy"
    found["f4"][[2, 5, 7]] = np.nan, np.inf, -np.inf
    found["bool"] = np.arange(N_ROWS) % 2 == 0
    found["ascii"] = np.array([f"c{i}"[: 1 + i % 3] for i in range(N_ROWS)], dtype="S3")
    found["wide"] = [f"Šß<{i}>&'" for i in range(N_ROWS)]
    found["ragged"] = np.array(["x" * (i % 5) for i in range(N_ROWS)], dtype=object)
    found["ragged_wide"] = np.array(["ß€" * (i % 4) for i in range(N_ROWS)], dtype=object)
    found["last"] = np.arange(N_ROWS)
    return found


def write(path, kind, table=None):
    document = from_table(make_table() if table is None else table)
    for field in document.get_first_table().fields:
        if (
            field.name.startswith("masked_")
            and kind == "binary"
            and field.datatype not in ("float", "double")
        ):
            field.values.null = 255  # BINARY has no other way to say so
    document.to_xml(str(path), tabledata_format=kind)
    return path


def read(path, rows=1000, hdu=None):
    """All columns, whole, as values.py reads them."""
    found = {}
    for piece in open_columns(path, hdu=hdu).pieces(rows):
        for name in piece.names:
            reader = words if name in WORDS else truths if name == "bool" else numbers
            found.setdefault(name, []).append(np.array(reader(piece, name)))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def check_as_astropy(path, found):
    for name, column in votable.parse_single_table(path).to_table(use_names_over_ids=True).items():
        if name in WORDS:
            expected = [value.decode() if isinstance(value, bytes) else str(value) for value in column]
            assert found[name].tolist() == [text.strip() for text in expected]
        else:
            expected = np.ma.filled(np.ma.MaskedArray(column).astype(float), np.nan)
            assert found[name] == pytest.approx(expected, rel=1e-6, nan_ok=True), name


@pytest.mark.parametrize("rows", [1, 5, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_every_datatype_as_astropy_reads_it(tmp_path, kind, rows):
    path = write(tmp_path / "c.vot", kind)
    found = read(path, rows)
    assert len(found) == 2 * len(NUMBERS) + len(WORDS) + 2
    check_as_astropy(path, found)
    assert found["last"].tolist() == list(range(N_ROWS))


@pytest.mark.parametrize("kind", KINDS)
def test_masked_values_are_none(tmp_path, kind):
    found = read(write(tmp_path / "c.vot", kind))
    for code in NUMBERS:
        assert np.isnan(found[f"masked_{code}"]).tolist() == (np.arange(N_ROWS) % 3 == 1).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed(tmp_path, kind, suffix, pack):
    plain = write(tmp_path / "c.vot", kind)
    path = tmp_path / f"c.vot{suffix}"
    path.write_bytes(pack(plain.read_bytes()))
    check_as_astropy(plain, read(path, 7))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_may_end_anywhere(tmp_path, kind, monkeypatch):
    path = write(tmp_path / "c.vot", kind)
    for size in (1, 7, 64):
        monkeypatch.setattr("batchflow.catalogue.votable_document.BLOCK", size)
        check_as_astropy(path, read(path, 5))


def document(fields, data, *, table="<TABLE>", after="", root='<VOTABLE version="1.4">'):
    return (
        f"<?xml version='1.0'?>{root}<RESOURCE>{table}{fields}<DATA>{data}</DATA></TABLE>{after}"
        "</RESOURCE></VOTABLE>"
    )


def rows(*values):
    cells = ("".join(f"<TD>{value}</TD>" for value in row) for row in values)
    return "<TABLEDATA>" + "".join(f"<TR>{row}</TR>\n" for row in cells) + "</TABLEDATA>"


ONE = '<FIELD name="x" datatype="double"/>'


def one_piece(path, text, hdu=None) -> ColumnFile:
    path.write_text(text, encoding="utf-8")
    (piece,) = open_columns(path, hdu=hdu).pieces()
    return piece


def test_null_values_hexadecimal_numbers_and_odd_truths(tmp_path):
    fields = (
        '<FIELD name="n" datatype="int"><VALUES null="-99"/></FIELD>'
        '<FIELD name="h" datatype="short"/><FIELD name="b" datatype="boolean"/>'
        '<FIELD name="w" datatype="char" arraysize="*"/><FIELD name="x" datatype="float" unit="uJy"/>'
    )
    text = document(
        fields,
        rows(
            (1, "0x1F", "T", "a&amp;b", " 1.5 "),
            (-99, "7", "?", "<![CDATA[<c>]]>", ""),
            ("", "", "0", "&#223;", "NaN"),
        ),
    )
    piece = one_piece(tmp_path / "c.vot", text)
    assert numbers(piece, "n") == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    assert numbers(piece, "h") == pytest.approx([31, 7, np.nan], nan_ok=True)
    assert piece.column("b").to_pylist() == [True, None, False]
    assert words(piece, "w") == ["a&b", "<c>", "ß"]
    assert numbers(piece, "x") == pytest.approx([1.5, np.nan, np.nan], nan_ok=True)
    assert piece.units == {"x": "uJy"}


def test_a_long_id_is_kept_to_its_last_digit_beside_a_null_value(tmp_path):
    """Such as Gaia's: beyond 2^53 no float holds it."""
    gaia = 2**61 + 1
    null = '<VALUES null="-1"/></FIELD>'
    fields = f'<FIELD name="id" datatype="long">{null}<FIELD name="n" datatype="int">{null}'
    piece = one_piece(tmp_path / "c.vot", document(fields, rows((gaia, "+5"), (-1, -1))))
    assert piece.column("id").to_pylist() == [gaia, None]
    assert piece.column("n").to_pylist() == [5, None]


def test_word_in_a_column_of_numbers_is_named_with_its_row(tmp_path):
    piece = one_piece(tmp_path / "c.vot", document(ONE, rows(["1"], ["2"], ["faint"])))
    with pytest.raises(UserError, match=r"c\.vot: column 'x', row 3: found 'faint'; expected a number"):
        numbers(piece, "x")


def test_prefixes_and_encodings(tmp_path):
    text = document(ONE, rows(["4"])).replace("<?xml version='1.0'?>", "")
    prefixed = text.replace("</", "</v:").replace("<", "<v:").replace("<v:/v:", "</v:")
    prefixed = prefixed.replace("<v:VOTABLE", '<v:VOTABLE xmlns:v="http://www.ivoa.net/xml/VOTable/v1.3"')
    assert numbers(one_piece(tmp_path / "p.vot", prefixed), "x").tolist() == [4.0]
    latin = document('<FIELD name="w" datatype="char" arraysize="*"/>', rows(["ß"]))
    path = tmp_path / "l.vot"
    path.write_bytes(latin.replace("'1.0'", "'1.0' encoding='ISO-8859-1'").encode("latin-1"))
    (piece,) = open_columns(path).pieces()
    assert words(piece, "w") == ["ß"]


def test_several_tables(tmp_path, caplog):
    table = "<TABLE>" + ONE + "<DATA>{}</DATA></TABLE>"
    second = '</RESOURCE><RESOURCE><TABLE><FIELD name="x" datatype="int"/></TABLE>'
    second += table.format(rows(["5"], ["6"])).replace('"x"', '"y"')
    path = tmp_path / "c.vot"
    first = one_piece(path, document(ONE, rows(["1"]), after=second))
    assert first.names == ("x",)
    assert numbers(first, "x").tolist() == [1.0]
    assert "holds 2 tables; the first was read: hdu = 1" in caplog.text
    (piece,) = open_columns(path, hdu=1).pieces()
    assert numbers(piece, "y").tolist() == [5.0, 6.0]
    with pytest.raises(UserError, match="hdu = 2 is no table; it has 2 with data"):
        open_columns(path, hdu=2)


def test_repeated_names_are_told_apart_as_astropy_does(tmp_path):
    path = tmp_path / "c.vot"
    piece = one_piece(path, document(ONE * 3, rows(["1", "2", "3"])))
    assert piece.names == tuple(votable.parse_single_table(path).to_table(use_names_over_ids=True).colnames)


def test_arrays_are_refused_when_asked_for_alone(tmp_path):
    found = Table({"a": np.zeros((3, 2)), "c": np.zeros(3, complex), "x": np.arange(3.0)})
    for kind in KINDS:
        (piece,) = open_columns(write(tmp_path / f"{kind}.vot", kind, found)).pieces()
        assert numbers(piece, "x").tolist() == [0, 1, 2]
        for name, what in (("a", "arraysize 2"), ("c", "doubleComplex")):
            with pytest.raises(UserError, match=f"column '{name}' holds {what} in each row"):
                piece.column(name)


LAUGHS = '<!DOCTYPE VOTABLE [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE VOTABLE [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
STRANGE = '<!DOCTYPE VOTABLE SYSTEM "http://us-vo.org/xml/VOTable.dtd">'


@pytest.mark.parametrize("kind", [LAUGHS, OUTSIDE, STRANGE])
def test_entities_are_refused(tmp_path, kind):
    text = document(ONE, rows(["&a;"])).replace("<VOTABLE", kind + "<VOTABLE")
    with pytest.raises(UserError, match=r"c\.vot declares or uses the XML entity 'a'; expected none"):
        one_piece(tmp_path / "c.vot", text)


def test_doctype_of_the_first_version_is_none(tmp_path):
    text = document(ONE, rows(["3"])).replace("<VOTABLE", STRANGE + "<VOTABLE")
    assert numbers(one_piece(tmp_path / "c.vot", text), "x").tolist() == [3.0]


def stream(content, attributes='encoding="base64"'):
    return f"<STREAM {attributes}>\n {base64.b64encode(content).decode()}\n</STREAM>"


def test_fits_file_within(tmp_path):
    inner = io.BytesIO()
    Table({"id": ["a", "b"], "flux": [1.5, 2.5]}).write(inner, format="fits")
    for extnum in ('extnum="1"', ""):
        text = document(ONE, f"<FITS {extnum}>{stream(inner.getvalue())}</FITS>")
        piece = one_piece(tmp_path / "c.vot", text)
        assert words(piece, "id") == ["a", "b"]
        assert numbers(piece, "flux").tolist() == [1.5, 2.5]


def binary(content, attributes='encoding="base64"'):
    return f"<BINARY>{stream(content, attributes)}</BINARY>"


def test_words_of_varying_length_between_numbers(tmp_path):
    fields = RAGGED.replace('"x"', '"a"') + ONE + RAGGED.replace('"*"', '"4*"').replace('"x"', '"b"')
    content = b"".join(
        struct.pack(f">i{len(a)}sdi{len(b)}s", len(a), a, x, len(b), b)
        for a, x, b in ((b"one", 1.0, b""), (b"", 2.0, b"zwei"), ("ß".encode(), 3.0, b"3"))
    )
    piece = one_piece(tmp_path / "c.vot", document(fields, binary(content)))
    assert words(piece, "a") == ["one", "", "ß"]
    assert numbers(piece, "x").tolist() == [1.0, 2.0, 3.0]
    assert words(piece, "b") == ["", "zwei", "3"]


DOUBLE = np.array([1.0, 2.0, 3.0], dtype=">f8").tobytes()
ERROR = "<INFO name='QUERY_STATUS' value='ERROR'>no such table</INFO>"
RAGGED = ONE.replace('"double"', '"char" arraysize="*"')


BROKEN = {
    "row 2: 2 cells; expected 1, one for each FIELD": document(ONE, rows(["1"], ["2", "3"])),
    "is truncated.*fetch it again": document(ONE, rows(["1"]))[:-30],
    "cannot be read as VOTABLE: not well-formed": document(ONE, rows(["1"])).replace("<TR>", "<TR <"),
    "has 1 rows, but its attribute nrows says 3": document(ONE, rows(["1"]), table='<TABLE nrows="3">'),
    "truncated: its stream ends within row 3": document(ONE, binary(DOUBLE[:20])),
    r"in another file, x\.bin; give that": document(ONE, binary(b"", 'href="x.bin"')),
    "'gzip'; expected 'base64'": document(ONE, binary(DOUBLE, 'encoding="gzip"')),
    "cannot be read": document(ONE, "<BINARY><STREAM encoding='base64'>*!?*</STREAM></BINARY>"),
    "row 1: a column of negative length": document(RAGGED, binary(b"\xff" * 9)),
    "truncated: its stream ends within row 1": document(RAGGED, binary(b"\0\0\0\x09abc")),
    "header of 1 columns but no rows": document(ONE, "<TABLEDATA/>"),
    "header of 1 columns but no row": document(ONE, "").replace("<DATA></DATA>", ""),
    "has no FIELD": document("", rows(["1"])),
    "no VOTable: its XML begins with <html>": "<?xml version='1.0'?><html><p>Not found</p></html>",
    "no table but a server's error: no such table": f"<VOTABLE><RESOURCE>{ERROR}</RESOURCE></VOTABLE>",
    "holds no table": "<VOTABLE><RESOURCE/></VOTABLE>",
    "datum": document(ONE.replace("double", "datum"), rows(["1"])),
    "many": document(ONE.replace("/>", ' arraysize="many"/>'), rows(["1"])),
    "row 1: a cell in base64": document(ONE, rows(["AAAA"])).replace("<TD>", "<TD encoding='base64'>"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_files(tmp_path, message):
    with pytest.raises(UserError, match=f"(?s)c\\.vot.*{message}"):
        numbers(one_piece(tmp_path / "c.vot", BROKEN[message]), "x")


def test_overflow_is_said(tmp_path, caplog):
    text = document(ONE, rows(["1"]), after='<INFO name="QUERY_STATUS" value="OVERFLOW"/>')
    with caplog.at_level(logging.WARNING):
        one_piece(tmp_path / "c.vot", text)
    assert "is not all: the server says OVERFLOW" in caplog.text


def peak_of(path):
    """Most memory that reading in pieces of 1000 rows takes beyond what it began with [bytes]."""
    tracemalloc.start()
    try:
        for piece in open_columns(path).pieces(1000):
            words(piece, "word")
            numbers(piece, "x")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_rows(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("batchflow.catalogue.votable_document.BLOCK", 1 << 14)
    peaks = []
    for n_rows in (4_000, 16_000):
        found = Table({"word": np.array(["w" * (i % 9) for i in range(n_rows)], dtype=object)})
        found["x"] = np.arange(float(n_rows))
        peaks.append(peak_of(write(tmp_path / f"{n_rows}.vot", kind, found)))
    assert peaks[1] < 1.2 * peaks[0]
