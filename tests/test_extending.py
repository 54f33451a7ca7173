"""docs/extending.md, step by step: names that it gives exist, and what it promises works."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from toy_runs import add_part, gaussian_draws

from batchflow.catalogue import read as read_module
from batchflow.catalogue.normalise import RawCatalogue
from batchflow.catalogue.read import read_catalogue
from batchflow.physics import engine as engine_module
from batchflow.physics.engine import Engine, open_engine
from batchflow.results import export as export_module
from batchflow.results.export import Request, export_run
from batchflow.settings.catalogue import CatalogueSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "name"), sorted(set(re.findall(r"`(batchflow/[\w/]+\.py)`: `(\w+)`", PAGE)))
)
def test_names_on_the_page_exist(path, name):
    assert hasattr(import_module(path.removesuffix(".py").replace("/", ".")), name)


def test_a_band_of_ones_own(tmp_path):
    wavelength = np.linspace(3300, 3700, 50)
    throughput = np.exp(-(((wavelength - 3500) / 80) ** 2))
    np.savetxt(tmp_path / "my_u.dat", np.stack([wavelength, throughput], 1))
    bands, curves = ["wfc3_f336w", "my_u"], {"my_u": tmp_path / "my_u.dat"}
    fluxes = open_engine({"bands": bands, "curves": curves}).fluxes({"log_age": [6.5], "ebv": [0.1]})
    assert 0.8 < fluxes[0, 1] / fluxes[0, 0] < 1.2  # 150 AA apart: nearly the same light


def test_a_catalogue_format(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("name,b\nx,1.5\ny,-1\n")

    def understand(file, entry, bands):
        from batchflow.catalogue.values import numbers, words

        flux = numbers(file, "b")
        nothing = np.full(file.n_rows, np.nan)
        return RawCatalogue(
            galaxy=["G"] * file.n_rows,
            object_id=words(file, "name"),
            ra=nothing,
            dec=nothing,
            distance_mpc=np.full(file.n_rows, 5.0),
            flux={bands[0]: flux},
            error={bands[0]: 0.1 * np.abs(flux)},
            limit={bands[0]: np.zeros(file.n_rows, bool)},
            published={},
            sentinels={},
            units={bands[0]: "mJy"},
            zero_points={},
        )

    monkeypatch.setitem(read_module.READERS, "mine", read_module._reader(understand))
    entry = CatalogueSettings(path=tmp_path / "a.csv").model_copy(update={"format": "mine"})
    table = read_catalogue(entry, ("wfc3_f555w",))
    assert table["object_id"].to_pylist() == ["x", "y"]
    np.testing.assert_allclose(table["flux_wfc3_f555w"].to_numpy(), [1.5, -1.0])


def test_an_engine(monkeypatch):
    class Grey:
        bands, parameters, limits = ("wfc3_f555w",), ("log_age", "ebv"), {"log_age": (6.0, 10.0)}

        def fluxes(self, parameters):
            return 10 ** -(0.4 * 3.1 * np.asarray(parameters["ebv"], float)[:, None])

    monkeypatch.setitem(engine_module.ENGINES, "embedded", lambda settings: Grey())
    opened: Engine = open_engine({"bands": ["wfc3_f555w"], "metallicity": 0.0123})
    np.testing.assert_allclose(opened.fluxes({"log_age": [7.0], "ebv": [1.0]}), [[10**-1.24]])


def test_an_export_format(tmp_path, monkeypatch):
    widths = {"log_age": 0.1, "log_mass": 0.1, "ebv": 0.1}
    add_part(
        tmp_path / "run",
        "g",
        gaussian_draws({"log_age": 7.0, "log_mass": 4.0, "ebv": 0.3}, widths, (3, 4), 1),
    )

    def write_ids(path, source):
        path.write_text(
            "\n".join(name for batch in source.batches() for name in batch["object_id"].to_pylist())
        )

    monkeypatch.setitem(export_module.FORMATS, ".ids", write_ids)
    export_run(tmp_path / "run", tmp_path / "a.ids", Request(columns=("object_id",)))
    assert (tmp_path / "a.ids").read_text().split() == ["0-0", "0-1", "0-2"]
