"""The command `model`: its numbers, its colours against published tracks, its picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchflow.config import load_job
from batchflow.errors import UserError
from batchflow.physics.bands import AB_MINUS_VEGA, load_band
from batchflow.physics.engine import open_engine
from batchflow.report.colour_pictures import colours
from batchflow.report.sed_pictures import chosen_points, draw_model, flux_table

LEGUS = ["wfc3_f275w", "wfc3_f336w", "wfc3_f438w", "wfc3_f555w", "wfc3_f814w"]
CATALOGUE = "object_id,ra,dec," + ",".join(f"flux_{band},error_{band}" for band in LEGUS)


def write_job(folder: Path, extra: str = "") -> Path:
    path = folder / "job.toml"
    path.write_text(f'name = "m"\noutput = "{folder}/run"\n[model]\nbands = {json.dumps(LEGUS)}\n{extra}')
    return path


def test_fluxes_are_the_engines_for_the_mass(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path))
    points = chosen_points(job, "log_age=7.3, ebv=0.2,log_mass=5")
    assert points == [{"log_mass": 5.0, "log_age": 7.3, "ebv": 0.2}]
    (row,) = flux_table(job, points).to_pylist()
    expected = 1e5 * open_engine(job.model).fluxes({"log_age": 7.3, "ebv": 0.2})[0]
    assert [row[f"flux_{band}"] for band in LEGUS] == pytest.approx(expected)


def test_without_a_choice_there_are_several_ages(tmp_path: Path) -> None:
    points = chosen_points(load_job(write_job(tmp_path)), "")
    assert [point["log_age"] for point in points] == [6.6, 7.0, 8.0, 9.0, 10.0]
    assert {point["ebv"] for point in points} == {0.0}


def test_a_parameter_that_varies_takes_a_middling_value(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path, "[prior]\nrv = {uniform = [2.5, 4.5]}\n"))
    assert {point["rv"] for point in chosen_points(job, "")} == {3.5}
    assert {point["rv"] for point in chosen_points(job, "rv=4")} == {4.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log_agee=7", "unknown parameter 'log_agee'; did you mean 'log_age'"),
        ("log_age=old", "'old' is no number"),
        ("log_age", "'' is no number"),
    ],
)
def test_a_wrong_choice_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        chosen_points(load_job(write_job(tmp_path)), text)


@pytest.mark.parametrize(("pair", "name"), [((3, 4), "vi"), ((2, 3), "bv")])
def test_colours_are_those_of_the_published_tracks(shared: Path, pair: tuple[int, int], name: str) -> None:
    folder = shared / "data" / "bc03_tracks"
    ages = np.log10(np.load(folder / "age_mod_sol.npy") * 1e6)
    fluxes = open_engine({"bands": LEGUS}).fluxes({"log_age": ages, "ebv": 0.0})
    found = colours(fluxes, LEGUS, *(LEGUS[place] for place in pair))
    difference = (found - np.load(folder / f"model_{name}_sol.npy"))[ages > 7.2]
    # Another edition of BC03: see test_embedded.py.
    assert np.abs(difference).max() < {"vi": 0.13, "bv": 0.015}[name]


def test_flat_spectrum_has_colour_zero_in_ab() -> None:
    bands = ("own_a", "own_b")  # without zero points
    assert colours(np.array([[2.0, 2.0], [1.0, -1.0]]), bands, *bands)[0] == 0
    assert np.isnan(colours(np.array([[1.0, -1.0]]), bands, *bands)[0])
    vega = colours(np.ones((1, 5)), LEGUS, LEGUS[3], LEGUS[4])[0]
    assert vega == pytest.approx(AB_MINUS_VEGA[LEGUS[4]] - AB_MINUS_VEGA[LEGUS[3]])


def test_picture_is_drawn_with_and_without_a_catalogue(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path))
    bare = draw_model(job, chosen_points(job, "log_age=7"))
    assert bare == tmp_path / "run" / "report" / "model.png"
    fluxes = open_engine(job.model).fluxes({"log_age": [6.5, 8.0, 9.0], "ebv": 0.1})
    rows = [
        f"{i},1,2," + ",".join(f"{flux:.6g},{0.1 * flux:.6g}" for flux in row) for i, row in enumerate(fluxes)
    ]
    (tmp_path / "c.csv").write_text("\n".join([CATALOGUE, *rows]))
    with_points = load_job(
        write_job(tmp_path, '[[catalogue]]\npath = "c.csv"\ngalaxy = "G"\ndistance_mpc = 5.0\n')
    )
    drawn = draw_model(with_points, chosen_points(with_points, "log_age=7"), tmp_path / "new" / "p.png")
    assert drawn.read_bytes()[:4] == b"\x89PNG"
    assert drawn.read_bytes() != bare.read_bytes()


def test_two_bands_have_a_picture_too(tmp_path: Path) -> None:
    job = load_job(write_job(tmp_path), ['model.bands=["wfc3_f555w", "wfc3_f814w"]'])
    assert draw_model(job, chosen_points(job, "")).is_file()


def test_spectrum_goes_through_its_band_fluxes() -> None:
    engine = open_engine({"bands": LEGUS, "covering": 0.5})
    for point in ({"log_age": 6.64, "ebv": 0.3}, {"log_age": 8.9, "ebv": 0.0}):
        wavelength, flux = engine.spectrum(point)  # type: ignore[attr-defined]  # the embedded one has it
        for band, found in zip(LEGUS, engine.fluxes(point)[0], strict=True):
            curve = load_band(band)
            weight = np.interp(wavelength, curve.wavelength, curve.throughput, left=0, right=0)
            weight *= wavelength * np.gradient(wavelength)
            seen = weight > 0
            density = np.average((flux / wavelength**2)[seen], weights=weight[seen]) * curve.pivot**2
            assert density == pytest.approx(found, rel=0.01)


def test_command_prints_json_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "batchflow", "model", str(write_job(tmp_path))),
            *("--plot", str(picture), "--at", "log_age=7", "--json"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = json.loads(done.stdout)
    assert row["log_age"] == 7
    assert picture.is_file()


def test_command_refuses_an_age_outside_the_model(tmp_path: Path) -> None:
    job = str(write_job(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "batchflow", "model", job, "--at", "log_age=11"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "log_age = 11" in done.stderr
    assert "5 to 10.3" in done.stderr
