"""Corner plots and SEDs of single clusters."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from report_runs import BANDS, DEPTH, DISTANCE, model_fluxes, noise, replace_column, write_run

from batchflow.errors import UserError
from batchflow.flow.features import Observations, noise_terms
from batchflow.report.cluster_pictures import corner_picture, sed_picture
from batchflow.report.data import ReportData
from batchflow.report.pictures import png
from batchflow.results.tables import Run, open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_run(tmp_path_factory.mktemp("clusters") / "run", {"A": 6, "B": 3}).root)


def test_corner_shows_the_weighted_posterior(run: Run) -> None:
    figure = corner_picture(run, "2", "A")
    panels = np.array(figure.axes).reshape(3, 3)
    row = next(
        row for row in run.posterior.to_arrow().to_pylist() if (row["galaxy"], row["object_id"]) == ("A", "2")
    )
    for panel, name in zip(panels.diagonal(), ("log_age", "log_mass", "ebv"), strict=True):
        drawn = [line.get_xdata()[0] for line in panel.lines if len(set(line.get_xdata())) == 1]
        assert set(np.float32(drawn)) >= {np.float32(row[f"{name}_{q}"]) for q in ("q16", "q50", "q84")}
        assert panel.get_xlim()[0] <= row[f"{name}_q16"] <= row[f"{name}_q84"] <= panel.get_xlim()[1]
    assert panels[2, 1].get_xlabel().startswith("log mass")
    assert png(figure).startswith(b"\x89PNG")


def test_corner_of_a_single_heavy_draw(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder.root, tmp_path / "run")
    path = next((folder / "draws").glob("galaxy=A/*.parquet"))
    table = pq.read_table(path, partitioning=None)
    weights = [[0.0] + [-np.inf] * (len(row) - 1) if row else [] for row in table["log_weight"].to_pylist()]
    replace_column(path, "log_weight", weights)
    assert png(corner_picture(open_run(folder), "1", "A")).startswith(b"\x89PNG")


def test_sed_is_the_engines_at_the_cluster_s_distance(run: Run) -> None:
    figure = sed_picture(run, "1", "A")
    above, below = figure.axes
    row = next(
        row for row in run.posterior.to_arrow().to_pylist() if (row["galaxy"], row["object_id"]) == ("A", "1")
    )
    best = model_fluxes({name: np.array([row[f"{name}_map"]]) for name in ("log_age", "log_mass", "ebv")})[0]
    (line,) = (line for line in above.lines if line.get_label() == "best model")
    assert line.get_ydata() == pytest.approx(best, rel=1e-5)
    (spectrum,) = (line for line in above.lines if str(line.get_label()).startswith("spectrum"))
    wavelength, flux = spectrum.get_data()
    near = np.array([np.mean(flux[np.abs(wavelength - pivot) < 200]) for pivot in line.get_xdata()])
    assert near == pytest.approx(best, rel=0.25)
    observed = catalogue_row(run, "1")
    sigma = np.hypot(DEPTH, np.hypot(0.01, 0.05) * best)
    residual = next(line for line in below.lines if line.get_marker() == "o").get_ydata()
    assert residual == pytest.approx((observed - best) / sigma, rel=0.1, abs=0.05)


def catalogue_row(run: Run, object_id: str) -> np.ndarray:
    rows = run.table("catalogue").to_arrow().to_pylist()
    row = next(row for row in rows if (row["galaxy"], row["object_id"]) == ("A", object_id))
    return np.array([row[f"flux_{band}"] for band in BANDS])


def test_sigma_is_that_of_the_likelihood(run: Run) -> None:
    light = ReportData(run).light
    assert light is not None
    rng = np.random.default_rng(1)
    flux, model = rng.uniform(1e-4, 1e-2, (2, len(BANDS)))
    error = rng.uniform(2e-5, 6e-5, len(BANDS))
    for survey, index in (("survey", 0), ("of nobody", -1)):
        measured = torch.ones(1, len(BANDS), dtype=torch.bool)
        seen = Observations(*(torch.tensor(x)[None] for x in (flux, error)), measured, ~measured)
        terms = noise_terms(noise(), seen, torch.tensor([index]))
        expected = terms.variance(torch.tensor(model)).sqrt()[0].numpy()
        assert light.sigma(survey, flux, error, model) == pytest.approx(expected, rel=1e-6)


def test_limits_and_fluxes_below_zero_are_drawn_as_limits(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder.root, tmp_path / "run")
    path = next((folder / "catalogue").glob("galaxy=A/*.parquet"))
    for name, value in (
        (f"flux_{BANDS[0]}", -1e-5),
        (f"limit_{BANDS[1]}", True),
        (f"flux_{BANDS[2]}", np.nan),
    ):
        replace_column(path, name, [value] * 6)
    above, below = sed_picture(open_run(folder), "1", "A").axes
    labels = set(above.get_legend_handles_labels()[1])
    assert {"upper limit", "flux below zero: + 3 sigma"} <= labels
    assert "4 bands" in above.figure.get_suptitle()
    assert sum(len(line.get_ydata()) for line in below.lines if line.get_marker() == "v") == 1


@pytest.mark.parametrize("draw", [corner_picture, sed_picture])
def test_what_cannot_be_drawn_is_said(run: Run, tmp_path: Path, draw: object) -> None:
    assert callable(draw)
    with pytest.raises(UserError, match=r"no cluster 'nobody'; nearest: "):
        draw(run, "nobody")
    with pytest.raises(UserError, match=r"no galaxy 'Z'"):
        draw(run, "1", "Z")
    with pytest.raises(UserError, match=r"'1' is a cluster of A and of B; say which: galaxy='A'"):
        draw(run, "1")
    with pytest.raises(UserError, match=r"has no (draws; its flags: NO_DISTANCE, NOT_INFERRED|distance)"):
        draw(run, "5")
    folder = shutil.copytree(run.folder.root, tmp_path / "run", ignore=shutil.ignore_patterns("draws"))
    with pytest.raises(UserError, match="no table 'draws'"):
        draw(open_run(folder), "4", "A")


def test_sed_without_photometry_or_model_is_said(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder.root, tmp_path / "run", ignore=shutil.ignore_patterns("catalogue"))
    with pytest.raises(UserError, match="no table 'catalogue'"):
        sed_picture(open_run(folder), "1", "A")
    shutil.rmtree(folder / "model")
    (folder / "job.toml").unlink()
    with pytest.raises(UserError, match="no model whose fluxes could be drawn"):
        sed_picture(open_run(folder), "1", "A")


def test_distance_is_the_run_s(run: Run) -> None:
    light = ReportData(run).light
    assert light is not None
    values = {"log_age": np.array([7.0]), "log_mass": np.array([4.0]), "ebv": np.array([0.1])}
    near, far = (light.band_fluxes(values, distance)[0] for distance in (DISTANCE, 2 * DISTANCE))
    assert near == pytest.approx(4 * far)
    assert near == pytest.approx(model_fluxes(values)[0], rel=1e-6)
