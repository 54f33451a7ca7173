"""Tables of CDS whose columns a ReadMe beside them describes, as astropy reads them."""

from __future__ import annotations

import gzip
import tomllib

import numpy as np
import pytest
from astropy.table import Table

from batchflow.catalogue.cds_readme import find_readme
from batchflow.catalogue.detect import detect_format
from batchflow.catalogue.opening import open_columns
from batchflow.catalogue.values import numbers, words
from batchflow.config import parse_job
from batchflow.errors import UserError
from batchflow.stages import catalogue_settings

RULE = "-" * 80 + "\n"
README = f"""J/ApJ/0/0           Star clusters                         (Author+, 2020)
{"=" * 80}
File Summary:
{RULE} FileName    Lrecl  Records   Explanations
{RULE}ReadMe         80        .   This file
table1.dat     20        3   Clusters
{RULE}
Byte-by-byte Description of file: other.dat
{RULE}   Bytes Format Units   Label     Explanations
{RULE}   1-  9  A9    ---     Wrong     Of another table
{RULE}
Byte-by-byte Description of file: table1.dat more*.dat
{RULE}   Bytes Format Units   Label     Explanations
{RULE}   1-  4  A4    ---     Name      Cluster,
                                  in two lines
   6- 11  F6.3  mag     F336W     [18/28]?=-9.999 Vega magnitude
  13- 17  F5.3  mag     e_F336W   ? Its error
      19  I1    ---     Class     Class
{RULE}Note (1): 1- 4 A4 --- Never  In a note
{RULE}
"""
ROWS = "a  1 20.125 0.050 1\n,b   -9.999       2\nc    21.500 0.100 3\n"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "ReadMe").write_text(README)
    path = tmp_path / "table1.dat"
    path.write_text(ROWS)
    return path


def check(path):
    (piece,) = open_columns(path).pieces()
    assert piece.names == ("Name", "F336W", "e_F336W", "Class")
    assert words(piece, "Name") == ["a  1", ",b", "c"]
    assert numbers(piece, "F336W") == pytest.approx([20.125, np.nan, 21.5], nan_ok=True)
    assert numbers(piece, "e_F336W") == pytest.approx([0.05, np.nan, 0.1], nan_ok=True)
    assert numbers(piece, "Class").tolist() == [1, 2, 3]
    assert piece.units == {"F336W": "mag", "e_F336W": "mag"}


def test_table_and_readme(table):
    check(table)
    assert detect_format(table, ("table", "legus"))[0] == "table"


def test_as_astropy_reads_it(table):
    expected = Table.read(table, format="ascii.cds", readme=str(table.parent / "ReadMe"))
    (piece,) = open_columns(table).pieces()
    for name in ("F336W", "e_F336W"):
        assert numbers(piece, name) == pytest.approx(np.ma.filled(expected[name], np.nan), nan_ok=True)


def test_compressed_table_and_one_of_several_files(table):
    for name in ("table1.dat.gz", "more7.dat.gz"):
        path = table.with_name(name)
        path.write_bytes(gzip.compress(ROWS.encode()))
        check(path)


def test_word_in_a_column_of_numbers_is_named_with_its_line(table):
    table.write_text(ROWS.replace("20.125", " faint"))
    (piece,) = open_columns(table).pieces()
    with pytest.raises(UserError, match=r"'F336W', line 1: found 'faint'"):
        numbers(piece, "F336W")


def test_without_its_readme(table):
    (table.parent / "ReadMe").unlink()
    table.write_text("1 2\n3 4\n")
    with pytest.raises(UserError, match=r"has no header.*or the ReadMe of a table of CDS into its folder"):
        open_columns(table)


def test_readme_of_other_tables_is_none(table):
    other = table.with_name("table2.dat")
    other.write_text("Name x\na 1\n")
    assert find_readme(other) is None
    assert open_columns(other).names == ("Name", "x")


def test_another_readme_is_another_catalogue(table):
    def settings():
        entry = f'path = "{table}"\nunit = "Vega"\n[catalogue.columns]\nflux = {{wfc3_f336w = "F336W"}}'
        values = tomllib.loads(
            f'name = "j"\noutput = "o"\n[model]\nbands = ["wfc3_f336w"]\n[[catalogue]]\n{entry}'
        )
        return catalogue_settings(parse_job(values, "job", table.parent))

    before = settings()
    (table.parent / "ReadMe").write_text(README.replace("?=-9.999", "?=-8.888"))
    assert settings() != before
