"""What a user may give by mistake, through `batchflow catalogue`: one message, or a flag and its count."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from typer.testing import CliRunner

from batchflow.catalogue.files import check_input
from batchflow.catalogue.read import CatalogueReader
from batchflow.cli import app
from batchflow.errors import UserError
from batchflow.settings.catalogue import CatalogueSettings

N_ROWS = 60
BANDS = ("wfc3_f275w", "wfc3_f336w", "wfc3_f555w")
FLUX, ERROR = "flux_wfc3_f275w", "error_wfc3_f275w"
WRITERS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable"}


def sound():
    generator = np.random.default_rng(1)
    found = Table({"object_id": [f"c{i}" for i in range(N_ROWS)], "galaxy": ["NGC 1"] * N_ROWS})
    found["distance_mpc"] = 5.0
    found["ra"], found["dec"] = 10 + 0.01 * generator.random((2, N_ROWS))
    for band in BANDS:
        found[f"flux_{band}"] = 10 ** generator.normal(-3, 1, N_ROWS)
        found[f"error_{band}"] = 1e-4
    return found


def save(path, table=None):
    table = sound() if table is None else table
    table.write(path, format=WRITERS[path.suffix[1:]], overwrite=True)
    return path


def described(*arguments):
    """What the command says, as JSON; a mistake of the user is raised, as `main` meets it."""
    done = CliRunner().invoke(app, ["catalogue", *map(str, arguments), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def flags(*arguments):
    return {item["flag"]: item["rows"] for item in described(*arguments)["flags"]}


def cut(path, share=0.5, pack=None):
    """A file of which the end is missing."""
    content = path.read_bytes() if pack is None else pack(path.read_bytes())
    path = path if pack is None else path.with_name(path.name + ".gz")
    path.write_bytes(content[: int(share * len(content))])
    return path


@pytest.mark.parametrize("kind", ["fits", "vot"])
def test_truncated(tmp_path, kind):
    with pytest.raises(UserError, match=rf"c\.{kind} is truncated: .*; fetch it again"):
        described(cut(save(tmp_path / f"c.{kind}"), 0.7))
    with pytest.raises(UserError, match=rf"c\.{kind}\.gz is truncated: .*; fetch it again"):
        described(cut(save(tmp_path / f"c.{kind}"), 0.7, gzip.compress))


def test_what_is_no_file_to_read(tmp_path, monkeypatch):
    (tmp_path / "c.fits").mkdir()
    with pytest.raises(UserError, match=r'c\.fits is a folder; .* give the pattern "c\.fits/\*"'):
        described(tmp_path / "c.fits")
    (tmp_path / "zero.fits").write_bytes(b"")
    with pytest.raises(UserError, match=r"zero\.fits is empty \(0 bytes\); was the download cut off\?"):
        described(tmp_path / "zero.fits")
    with pytest.raises(
        UserError, match=r"no file matches the pattern .*zer\*\.fit; did you mean 'zero\.fits'"
    ):
        described(tmp_path / "zer*.fit")
    path = save(tmp_path / "closed.csv")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(UserError, match=r"closed\.csv cannot be read: Permission denied"):
        check_input(path)


def test_wrong_extension(tmp_path):
    content = save(tmp_path / "c.fits").read_bytes()
    (tmp_path / "c.csv").write_bytes(content)
    assert described(tmp_path / "c.csv")["rows"] == N_ROWS
    (tmp_path / "text.fits").write_text("id,flux\n1,2\n")
    with pytest.raises(UserError, match=r"text\.fits cannot be read as FITS: it starts.*file_type ="):
        described(tmp_path / "text.fits")


@pytest.mark.parametrize("kind", ["fits", "vot"])
def test_byte_orders_and_precisions_may_be_mixed(tmp_path, kind):
    expected = described(save(tmp_path / f"c.{kind}"))
    mixed = sound()
    for i, name in enumerate(mixed.colnames[2:]):
        mixed[name] = mixed[name].astype(">f8" if i % 2 else "<f4")
    found = described(save(tmp_path / f"c.{kind}", mixed))
    for band, same in zip(found["bands"], expected["bands"], strict=True):
        assert band["signal"] == pytest.approx(same["signal"], rel=1e-4)


@pytest.mark.parametrize("kind", WRITERS)
def test_masked_values(tmp_path, kind):
    table = sound()
    table[FLUX] = MaskedColumn(table[FLUX], mask=np.arange(N_ROWS) < 7)
    table["ra"] = MaskedColumn(table["ra"], mask=np.arange(N_ROWS) < 3)
    assert flags(save(tmp_path / f"c.{kind}", table)) == {"MISSING_BAND": 7}


@pytest.mark.parametrize(
    ("kind", "place"), [("csv", "line 13"), ("ecsv", "line 28"), ("fits", "row 12"), ("vot", "row 12")]
)
def test_words_where_numbers_should_be(tmp_path, kind, place):
    table = sound()
    table[FLUX] = ["faint" if i == 11 else str(flux) for i, flux in enumerate(table[FLUX])]
    with pytest.raises(
        UserError, match=rf"c\.{kind}: column '{FLUX}', {place}: found 'faint'; expected a num"
    ):
        described(save(tmp_path / f"c.{kind}", table))


@pytest.mark.parametrize("kind", WRITERS)
def test_header_alone(tmp_path, kind):
    with pytest.raises(UserError, match=rf"c\.{kind} has a header of 11 columns but no rows"):
        described(save(tmp_path / f"c.{kind}", sound()[:0]))


@pytest.mark.parametrize("kind", ["ecsv", "fits", "vot"])
def test_unit_that_is_no_flux(tmp_path, kind):
    table = sound()
    table[FLUX].unit = "km/s"
    with pytest.raises(UserError, match=rf"c\.{kind}: column '{FLUX}' has the unit '(km s-1|km / s)'.*mend"):
        described(save(tmp_path / f"c.{kind}", table))


def test_two_galaxies_under_one_name_and_one_under_two(tmp_path):
    def said(table):
        return CliRunner().invoke(app, ["catalogue", str(save(tmp_path / "c.csv", table))]).stdout

    table = sound()
    table["ra"][30:] = 200
    assert "galaxy 'NGC 1': positions 1." in said(table)
    table = sound()
    table["distance_mpc"][30:] = 50
    assert "galaxy 'NGC 1': distances from 5 to 50 Mpc" in said(table)
    table = sound()
    table["galaxy"] = ["NGC 1", "NGC0001"] * (N_ROWS // 2)
    assert "galaxies 'NGC 1', 'NGC0001' differ in spelling alone" in said(table)


def test_positions_that_are_not_on_the_sky(tmp_path):
    table = sound()
    table["ra"][0], table["ra"][1], table["dec"][2] = 360.5, -999.0, 90.1
    table["ra"][3] = np.nan
    said = CliRunner().invoke(app, ["catalogue", str(save(tmp_path / "c.csv", table))]).stdout
    assert "galaxy 'NGC 1': 3 positions are not on the sky" in said
    table = sound()
    table["ra"] = table["ra"] - 360 * (table["ra"] > 180)
    said = CliRunner().invoke(app, ["catalogue", str(save(tmp_path / "c.csv", table))]).stdout
    assert "not on the sky" not in said


def test_ids_repeated_across_files_of_different_types(tmp_path):
    paths = [save(tmp_path / "a.csv"), save(tmp_path / "b.vot", sound()[:5])]
    assert flags(*paths) == {"DUPLICATE_ID": 10}


@pytest.mark.parametrize("kind", ["csv", "ecsv", "vot"])
def test_unicode(tmp_path, kind):
    table = sound()
    table["galaxy"] = ["Malin β 銀河"] * N_ROWS
    table["object_id"] = [f"Š{i}" for i in range(N_ROWS)]
    (galaxy,) = described(save(tmp_path / f"ß {kind}.{kind}", table))["galaxies"]
    assert galaxy["galaxy"] == "Malin β 銀河"


@pytest.mark.parametrize("kind", WRITERS)
def test_odd_numbers_have_a_reason(tmp_path, kind):
    table = sound()
    table["ra"][0] = table["dec"][1] = np.nan
    table[FLUX][2], table[FLUX][4] = np.inf, -1
    table[ERROR][3], table[ERROR][5], table[ERROR][6] = 0, -1, np.inf
    table["distance_mpc"][7], table["distance_mpc"][8] = np.nan, -3
    found = flags(save(tmp_path / f"c.{kind}", table))
    assert found == {"BAD_ERROR": 4, "NEGATIVE_FLUX": 1, "NO_DISTANCE": 2}


def test_magnitudes_of_99(tmp_path):
    table = sound()
    for band in BANDS:
        table[f"flux_{band}"], table[f"error_{band}"] = np.linspace(20, 21, N_ROWS), 0.1
    table[FLUX][:2] = 99.999
    table[ERROR][0], table[ERROR][2], table[ERROR][3] = 99.999, 0, 99.999
    path = save(tmp_path / "c.csv", table)
    found = described(path, "--set", "unit=Vega")
    assert {item["flag"]: item["rows"] for item in found["flags"]} == {"MISSING_BAND": 2, "BAD_ERROR": 2}
    assert found["bands"][0]["measured"] == N_ROWS - 4
    assert any("99.999" in text for text in found["assumed"])


def test_a_row_that_is_no_text_far_below_the_header_is_one_message(tmp_path, capfd):
    path = tmp_path / "c.csv"
    header = b"object_id,galaxy,distance_mpc,flux_wfc3_f275w,error_wfc3_f275w\n"
    path.write_bytes(header + 30_000 * b"1,g,3,1,0.1\n" + b"\xd4,g\n")
    entry = CatalogueSettings(path=path, name="s", unit="mJy")
    with pytest.raises(UserError, match=r"not text in UTF-8.*iconv"):
        list(CatalogueReader(entry, ("wfc3_f275w",)).pieces())
    assert capfd.readouterr().err == ""


def test_a_name_too_long_for_a_file_is_one_message(tmp_path):
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        check_input(tmp_path / ("x" * 300))
