"""Files in pieces: whatever the type, the compression and the piece, the same rows once, in order."""

from __future__ import annotations

import bz2
import gzip
import lzma

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from batchflow.catalogue.files import checksum, find_files
from batchflow.catalogue.opening import open_columns
from batchflow.catalogue.values import numbers, truths, words
from batchflow.errors import UserError

N_ROWS = 23
FLUX = np.round(np.random.default_rng(3).normal(0, 1, N_ROWS), 6)
MASK = np.arange(N_ROWS) % 7 == 3
IDS = [f"{i:03d}" for i in range(N_ROWS)]


def table():
    found = Table(
        {"id": IDS, "host": ["Malin 1"] * N_ROWS, "n": np.arange(N_ROWS), "good": np.arange(N_ROWS) > 5}
    )
    found["flux"] = MaskedColumn(FLUX, mask=MASK, unit="mJy")
    return found


def mrt(found):
    rule = "-" * 40 + "\n"
    columns = (
        "   1-  3 A3    ---   id    Running number",
        "   5- 11 A7    ---   host  Galaxy",
        "  13- 14 I2    ---   n     Count",
        "  16- 20 A5    ---   good  Whether",
        "  22- 30 F9.6  mJy   flux  ?=-9 Flux",
    )
    head = "Title: x\nAuthors: y\nTable: z\n" + "=" * 40 + "\nByte-by-byte Description of file: x.txt\n"
    head += rule + "   Bytes Format Units Label Explanations\n" + rule + "\n".join(columns) + "\n"
    head += rule + "Note (1): no.\n" + rule
    lines = []
    for id_, host, n, good, flux in zip(IDS, found["host"], found["n"], found["good"], FLUX, strict=True):
        value = -9 if MASK[n] else flux
        lines.append(
            f"{id_:3s} {host:7s} {n:2d} {good!s:5s} {value:9.6f}\n".replace("-9.000000", "       -9")
        )
    return head + "".join(lines)


def parquet(found, path):
    columns = {name: np.asarray(found[name]).tolist() for name in found.colnames}
    columns["flux"] = [None if hidden else flux for hidden, flux in zip(MASK, FLUX.tolist(), strict=True)]
    fields = pa.table(columns).schema
    schema = pa.schema(
        [item.with_metadata({"unit": "mJy"}) if item.name == "flux" else item for item in fields]
    )
    pq.write_table(pa.table(columns, schema=schema), path, row_group_size=9)


WRITERS = {
    "c.fits": lambda t, p: t.write(p),
    "c.vot": lambda t, p: t.write(p, format="votable"),
    "c.ecsv": lambda t, p: t.write(p, format="ascii.ecsv"),
    "comma.ecsv": lambda t, p: t.write(p, format="ascii.ecsv", delimiter=","),
    "c.csv": lambda t, p: t.write(p, format="ascii.csv"),
    "c.parquet": parquet,
    "basic.txt": lambda t, p: t.write(p, format="ascii.basic", fill_values=[("", "--")]),
    "commented.dat": lambda t, p: t.write(p, format="ascii.commented_header", fill_values=[("", "--")]),
    "bars.txt": lambda t, p: t.write(p, format="ascii.fixed_width"),
    "lines.txt": lambda t, p: t.write(p, format="ascii.fixed_width_two_line"),
    "c.tbl": lambda t, p: t.write(p, format="ascii.ipac"),
    "c.mrt": lambda t, p: p.write_text(mrt(t)),
}
WITH_UNITS = ("c.fits", "c.vot", "c.ecsv", "comma.ecsv", "c.parquet", "c.tbl", "c.mrt")


def write(name, folder):
    WRITERS[name](table(), folder / name)
    return folder / name


def check_rows(path, rows):
    start = 0
    for piece in open_columns(path).pieces(rows):
        here = slice(start, start + piece.n_rows)
        assert 0 < piece.n_rows <= rows
        assert piece.start == start
        assert words(piece, "id") == IDS[here]
        assert words(piece, "host") == ["Malin 1"] * piece.n_rows
        expected = np.where(MASK, np.nan, FLUX)[here]
        assert numbers(piece, "flux") == pytest.approx(expected, nan_ok=True)
        assert numbers(piece, "n").tolist() == list(range(N_ROWS))[here]
        assert truths(piece, "good").tolist() == (np.arange(N_ROWS) > 5)[here].tolist()
        start += piece.n_rows
    assert start == N_ROWS


def read_numbers(path, name, rows):
    return [numbers(piece, name) for piece in open_columns(path).pieces(rows)]


def read_words(path):
    return [words(piece, piece.names[0]) for piece in open_columns(path).pieces()]


@pytest.mark.parametrize("rows", [1, 4, 9, 23, 1000])
@pytest.mark.parametrize("name", WRITERS)
def test_every_row_once_in_order(tmp_path, name, rows):
    check_rows(write(name, tmp_path), rows)


@pytest.mark.parametrize("name", WITH_UNITS)
def test_units_of_the_file(tmp_path, name):
    assert open_columns(write(name, tmp_path)).units["flux"] == "mJy"


def zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["c.fits", "c.csv", "c.ecsv", "c.vot", "c.parquet", "basic.txt", "c.mrt"])
def test_compressed_files(tmp_path, name, suffix):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}[suffix]
    path = tmp_path / (name + suffix)
    path.write_bytes(pack(write(name, tmp_path).read_bytes()))
    check_rows(path, 10)


@pytest.mark.parametrize("name", ["c.fits", "c.csv", "basic.txt"])
def test_compressed_file_cut_off(tmp_path, name):
    path = tmp_path / (name + ".gz")
    content = gzip.compress(write(name, tmp_path).read_bytes())
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=rf"{name}\.gz is truncated.*fetch it again"):
        check_rows(path, 10)


def test_only_asked_columns_are_read_and_in_any_order(tmp_path):
    path = write("c.parquet", tmp_path)
    for index, piece in enumerate(open_columns(path).pieces(4)):
        if index % 2:
            assert words(piece, "id") == IDS[piece.start : piece.start + piece.n_rows]
            assert words(piece, "id") == IDS[piece.start : piece.start + piece.n_rows]


@pytest.mark.parametrize("rows", [2, 100])
def test_lines_are_counted_over_blanks_and_comments(tmp_path, rows):
    for name, gap in (("c.csv", ","), ("c.txt", " ")):
        path = tmp_path / name
        lines = ["# made by me", "id flux", "a 1", "", "b 2", "# why", "c 3", "d 4", "e x"]
        path.write_text("\n".join(lines).replace(" ", gap).replace(f"#{gap}", "# ") + "\n")
        with pytest.raises(UserError, match=r"'flux', line 9: found 'x'"):
            read_numbers(path, "flux", rows)


def test_words_of_a_later_piece_are_found_with_their_row(tmp_path):
    found = table()
    found["flux"] = ["1"] * 20 + ["faint"] + ["1"] * 2
    found.write(tmp_path / "c.fits")
    with pytest.raises(UserError, match=r"'flux', row 21: found 'faint'"):
        read_numbers(tmp_path / "c.fits", "flux", 6)


def fits_file(path, **columns):
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(name=name, **values) for name, values in columns.items()]
    )
    fits.HDUList([fits.PrimaryHDU(np.zeros((2, 2))), fits.ImageHDU(np.zeros(3)), hdu]).writeto(path)
    return path


def test_scales_offsets_and_nulls_of_fits(tmp_path):
    path = fits_file(
        tmp_path / "c.fits",
        scaled={"format": "E", "array": np.array([1.5, 2.0, 2.5], dtype="f4"), "bscale": 0.5, "bzero": 1.0},
        unsigned={"format": "J", "array": np.array([0, 1, 2**32 - 1], dtype=np.uint32), "bzero": 2**31},
        big={"format": "K", "array": np.array([0, 2**63, 2**64 - 1], dtype=np.uint64), "bzero": 2**63},
        signed={"format": "B", "array": np.array([-128, 0, 127], dtype=np.int8), "bzero": -128},
        empty={"format": "J", "array": np.array([7, -99, 8]), "null": -99},
        truth={"format": "L", "array": np.array([True, False, True])},
    )  # fmt: skip
    (piece,) = open_columns(path).pieces()
    assert numbers(piece, "scaled").tolist() == [1.5, 2.0, 2.5]
    assert words(piece, "unsigned") == ["0", "1", str(2**32 - 1)]
    assert words(piece, "big") == ["0", str(2**63), str(2**64 - 1)]
    assert words(piece, "signed") == ["-128", "0", "127"]
    assert numbers(piece, "empty") == pytest.approx([7, np.nan, 8], nan_ok=True)
    assert truths(piece, "truth").tolist() == [True, False, True]


def test_ascii_table_of_fits(tmp_path):
    columns = [
        fits.Column(name="id", format="A3", array=IDS),
        fits.Column(name="flux", format="E15.7", array=FLUX, unit="mJy"),
    ]
    fits.TableHDU.from_columns(columns).writeto(tmp_path / "c.fits")
    (piece,) = open_columns(tmp_path / "c.fits").pieces()
    assert words(piece, "id") == IDS
    assert numbers(piece, "flux") == pytest.approx(FLUX, rel=1e-6)


def test_extension_of_fits(tmp_path):
    path = fits_file(tmp_path / "c.fits", n={"format": "J", "array": np.arange(3)})
    for hdu in (None, 2):
        assert open_columns(path, hdu=hdu).n_rows == 3
    with pytest.raises(UserError, match=r"hdu = 1 is no table; the file has 0: IMAGE, 1: IMAGE"):
        open_columns(path, hdu=1)
    with pytest.raises(UserError, match=r"hdu = 7 is no table"):
        open_columns(path, hdu=7)
    with pytest.raises(UserError, match=r"read as csv, which has no hdu = 1"):
        open_columns(write("c.csv", tmp_path), hdu=1)


def test_what_a_fits_column_cannot_be(tmp_path):
    path = fits_file(
        tmp_path / "c.fits",
        pair={"format": "2E", "array": np.zeros((3, 2))},
        phase={"format": "C", "array": np.zeros(3, dtype=np.complex64)},
        ragged={"format": "PE()", "array": np.array([np.zeros(1), np.zeros(2), np.zeros(3)], dtype=object)},
    )
    (piece,) = open_columns(path).pieces()
    for name, what in (("pair", "2 values"), ("phase", "complex numbers"), ("ragged", "lists")):
        with pytest.raises(UserError, match=f"column {name!r} holds {what} a row; expected one value"):
            piece.column(name)


ECSV = b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\nb\n1\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.fits", b"id,flux\n1,2\n", r"cannot be read as FITS: it starts b'id,flux.*file_type = .*\"csv\""),
        ("c.parquet", b"id,flux\n1,2\n", r"cannot be read as PARQUET: it starts"),
        ("c.csv", b"id flux\n1 2\n", r"no comma in its header 'id flux'.*file_type = \"ascii\""),
        ("c.txt", b"1 2 3\n4 5 6\n", r"has no header: its first line is '1 2 3'"),
        ("c.txt", b"id flux\n1 2\n3 4 5\n", r"line 3: 3 words; expected 2, as in the header"),
        ("c.csv", "id,flux\nß,1\n".encode("latin-1"), r"not text in UTF-8.*iconv"),
        ("c.ecsv", ECSV, r"declares.*'a'.*'b'"),
        ("c.fits", b"SIMPLE  =" + b" " * 2871, r"FITS"),
        ("c.fits.gz", gzip.compress(b"nothing"), r"starts b'nothing'"),
    ],
)  # fmt: skip
def test_wrong_extensions_and_broken_headers(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_words(path)
    assert name in str(caught.value)


def test_stated_type_wins_over_the_name_but_not_over_the_content(tmp_path):
    path = write("basic.txt", tmp_path).rename(tmp_path / "basic.csv")
    (piece,) = open_columns(path, "ascii").pieces()
    assert words(piece, "id") == IDS
    with pytest.raises(UserError, match=r"is fits by its content; take out file_type = \"csv\""):
        open_columns(write("c.fits", tmp_path), "csv")


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("bars.txt", "lines.txt")])
def test_header_alone(tmp_path, name):
    path = tmp_path / name
    found = table()
    found["good"] = found["good"].astype(str)
    if name == "c.parquet":
        pq.write_table(pa.table({"a": pa.array([], pa.float64())}), path)
    elif name == "c.mrt":
        path.write_text(mrt(found).rsplit("-" * 40 + "\n", 1)[0] + "-" * 40 + "\n")
    else:
        WRITERS[name](found[:0], path)
    with pytest.raises(UserError, match=r"no rows|has no header"):
        list(open_columns(path).pieces())


def test_pattern_is_its_files_sorted(tmp_path):
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("id,x\n1,2\n")
    (tmp_path / "folder.csv").mkdir()
    a, b, c = (tmp_path / name for name in ("a.csv", "b.csv", "c.txt"))
    assert find_files([tmp_path / "*.csv"]) == (a, b)
    assert find_files([c, tmp_path / "*.csv", tmp_path / "[ab].*"]) == (a, b, c)
    with pytest.raises(UserError, match=r"no file matches the pattern .*\*\.cvs"):
        find_files([tmp_path / "*.cvs"])
    with pytest.raises(UserError, match=r"its folder .* is not there either"):
        find_files([tmp_path / "nowhere" / "*.csv"])
    with pytest.raises(UserError, match=r"a\.csv is listed twice"):
        find_files([a, a])
    with pytest.raises(UserError, match=r"path = \[\]"):
        find_files([])


def test_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    path = tmp_path / "ngc[628].csv"
    path.write_text("id,x\n1,2\n")
    assert find_files([path]) == (path,)


def test_checksum_follows_a_change(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("one")
    before = checksum(path)
    path.write_text("other")
    assert checksum(path) != before
